"""Opening payments: one live payment for a person's order, one open payment for a subscription."""

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.commerce.payment.errors import OrderNotPayable, PaymentInProgress
from domain.commerce.payment.models import Opening, Payment
from domain.commerce.payment.repository import PaymentRepository
from domain.commerce.payment.states import SETTLED, PaymentStatus, move
from domain.errors import Conflict
from domain.ids import new_id

_TRIES = 5
MAX_OPEN_OF_ITS_OWN = 20
"""Pending payments of a person that are for no order and no subscription; the oldest is cancelled for a new one."""


async def open_payment(session: AsyncSession, clock: Clock, opening: Opening, *, pg_provider: str) -> Payment:
    """The live payment for this, opened unless it is there; locked.

    Asked again, it is the same payment. One that is open with another amount is given up for the new one: what is owed has
    changed, or the payer of an order that is not the shop's has. An open payment of the subscription that has no order
    yet takes the order on.

    Raises:
        OrderNotPayable: it is paid.
        PaymentInProgress: another amount is just being captured.
    """
    payments = PaymentRepository(session)
    if not opening.order_id and not opening.subscription_id:
        await payments.cancel_oldest_of_its_own(opening.user_id, keep=MAX_OPEN_OF_ITS_OWN - 1, at=clock.now())
    if opening.subscription_id:
        await payments.lock_subscription(opening.subscription_id)
    for _ in range(_TRIES):
        standing = await _standing(payments, opening)
        if standing is not None:
            if kept := _kept(standing, opening):
                await session.flush()
                return kept
            cancel(standing, clock)
            await session.flush()
        if added := await payments.add(_fresh(clock, opening, pg_provider=pg_provider)):
            return added
    raise Conflict("Somebody else opened a payment for this at the same time; try again.")


async def _standing(payments: PaymentRepository, opening: Opening) -> Payment | None:
    if opening.order_id and (live := await payments.live_of_order(opening.order_id, user_id=opening.user_id)):
        return live
    if opening.subscription_id:
        return await payments.open_of_subscription(opening.subscription_id)
    return None


def _kept(standing: Payment, opening: Opening) -> Payment | None:
    """The payment that stands, where it is for the same; None where it is to be given up."""
    status = PaymentStatus(standing.status)
    if status in SETTLED:
        raise OrderNotPayable("This is paid already.", payment_id=standing.payment_id)
    same_order = opening.order_id in ("", standing.order_id) or standing.order_id == ""
    if standing.amount_krw == opening.amount_krw and same_order:
        standing.order_id = standing.order_id or opening.order_id
        if status is PaymentStatus.PENDING and opening.payment_method:
            standing.payment_method = opening.payment_method
        return standing
    if status is PaymentStatus.CONFIRMING:
        raise PaymentInProgress("Another payment for this is being captured; try again.")
    return None


def cancel(payment: Payment, clock: Clock) -> None:
    """Give a pending payment up. Raises: MoveNotAllowed: it is not pending."""
    payment.status = move(PaymentStatus(payment.status), PaymentStatus.CANCELLED)
    payment.closed_at = clock.now()


def _fresh(clock: Clock, opening: Opening, *, pg_provider: str) -> Payment:
    return Payment(
        payment_id=new_id(),
        user_id=opening.user_id,
        order_id=opening.order_id,
        subscription_id=opening.subscription_id,
        payment_type=opening.payment_type,
        amount_krw=opening.amount_krw,
        status=PaymentStatus.PENDING,
        payment_method=opening.payment_method,
        pg_provider=pg_provider,
        pg_transaction_id="",
        payment_key="",
        failure_code="",
        failure_message="",
        created_at=clock.now(),
    )
