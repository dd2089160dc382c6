"""Paying back: a refund is promised under the lock of its payment, carried out outside, and written down once.

As with captures, a refund whose outcome is unclear is repeated with the *same* idempotency key until the provider has
said what became of it; meanwhile its amount counts as paid back, so that all refunds together never exceed the payment.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.commerce.payment import balances
from domain.commerce.payment.capture import LEASE, back_off
from domain.commerce.payment.errors import PaymentNotCaptured, ProviderUnavailable, RefundExceedsPayment
from domain.commerce.payment.events import PaymentRefunded
from domain.commerce.payment.models import Payment, PaymentType, Refund, RefundStatus
from domain.commerce.payment.ports import Declined, OutcomeUnclear, PaymentGateway, ProviderPayment
from domain.commerce.payment.repository import PaymentRepository, RefundRepository
from domain.commerce.payment.states import SETTLED, PaymentStatus, move
from domain.ids import new_id
from domain.messaging import Outbox
from domain.sessions import Sessions

_log = structlog.get_logger("payment")

DEFAULT_REASON = "요청에 따른 환불"  # the provider wants one, and prints it
_PAUSES_S = (0.1, 0.3, 0.7, 1.5, 3.0)


@dataclass(frozen=True, slots=True)
class PayingBack:
    """A refund, as it is sent; the same every time."""

    refund_id: str
    payment_id: str
    payment_key: str
    amount_krw: int
    reason: str
    idempotency_key: str

    @classmethod
    def of(cls, refund: Refund, *, payment_key: str) -> "PayingBack":
        return cls(
            refund_id=refund.refund_id,
            payment_id=refund.payment_id,
            payment_key=payment_key,
            amount_krw=refund.amount_krw,
            reason=refund.reason,
            idempotency_key=refund.idempotency_key,
        )


Outcome = ProviderPayment | Declined | None
"""The provider has paid back, has refused, or has not said."""


class Refunds:
    """Promises refunds and carries them out.

    Args:
        patience_s: for how long one call asks about an outcome that is unclear.
    """

    def __init__(self, clock: Clock, *, sessions: Sessions, gateway: PaymentGateway, patience_s: float) -> None:
        self._clock = clock
        self._sessions = sessions
        self._gateway = gateway
        self._patience_s = patience_s

    async def promise(
        self,
        session: AsyncSession,
        payment: Payment,
        *,
        amount_krw: int | None,
        reason: str,
        requested_by: str,
        lease: timedelta = LEASE,
    ) -> Refund:
        """Note a refund of a payment that the session has locked.

        Args:
            amount_krw: None for all that is left.
            lease: for how long the background leaves it to the caller; nothing: it carries it out.
        Raises:
            PaymentNotCaptured: nothing was captured.
            RefundExceedsPayment: less is left, refunds in hand included.
        """
        if payment.status not in SETTLED:
            raise PaymentNotCaptured(payment.payment_id, outward(PaymentStatus(payment.status)))
        refunds = RefundRepository(session)
        left_krw = balances.left_krw(payment.amount_krw, await refunds.of(payment.payment_id))
        wanted_krw = left_krw if amount_krw is None else amount_krw
        if not 0 < wanted_krw <= left_krw:
            raise RefundExceedsPayment(asked_krw=wanted_krw, left_krw=left_krw)
        now = self._clock.now()
        refund = Refund(
            refund_id=new_id(),
            payment_id=payment.payment_id,
            amount_krw=wanted_krw,
            reason=reason or DEFAULT_REASON,
            status=RefundStatus.STARTED,
            requested_by=requested_by,
            idempotency_key=new_id(),
            requested_at=now,
            settle_after=now + lease,
        )
        await refunds.add(refund)
        return refund

    async def carry_out(self, paying: PayingBack) -> None:
        """Have the provider pay back, once the promise has committed. Without an outcome in time it is left behind.

        Raises:
            ProviderUnavailable: the provider does not know us; the promise is withdrawn.
        """
        try:
            async with asyncio.timeout(self._patience_s):
                outcome = await self._until_clear(paying)
        except TimeoutError:
            outcome = None
        except ProviderUnavailable:
            await self._conclude(paying, Declined("UNAVAILABLE", "The provider does not know us."), tries=1)
            raise
        await self._conclude(paying, outcome, tries=1)

    async def settle(self, paying: PayingBack, *, tries: int) -> bool:
        """Carry out a refund that waits for it, or whose outcome is unclear; whether it is known now."""
        try:
            async with asyncio.timeout(self._patience_s):
                outcome = await self._request(paying)
        except (TimeoutError, ProviderUnavailable):
            outcome = None
        return await self._conclude(paying, outcome, tries=tries)

    async def _until_clear(self, paying: PayingBack) -> Outcome:
        outcome = await self._request(paying)
        pauses = iter(_PAUSES_S)
        while outcome is None:
            await asyncio.sleep(next(pauses, _PAUSES_S[-1]))
            try:
                outcome = await self._request(paying)
            except ProviderUnavailable:  # it knew us a moment ago, and may have paid back then
                outcome = None
        return outcome

    async def _request(self, paying: PayingBack) -> Outcome:
        try:
            found = await self._gateway.refund(
                payment_key=paying.payment_key,
                amount_krw=paying.amount_krw,
                reason=paying.reason,
                idempotency_key=paying.idempotency_key,
            )
        except Declined as declined:
            return declined
        except OutcomeUnclear as unclear:
            _log.warning("refund unclear", refund_id=paying.refund_id, why=str(unclear))
            return None
        told_krw = found.cancels.get(found.transaction_id)
        if found.reference != paying.payment_id or told_krw != paying.amount_krw:
            _log.error(
                "provider paid back something else",
                refund_id=paying.refund_id,
                asked_krw=paying.amount_krw,
                told_krw=told_krw,
                told=found.reference,
            )
            return None
        return found

    async def _conclude(self, paying: PayingBack, outcome: Outcome, *, tries: int) -> bool:
        async with self._sessions.transaction() as session:
            if outcome is None:
                later = self._clock.now() + back_off(tries)
                await RefundRepository(session).settle_after(paying.refund_id, later)
                return False
            await self.record(session, paying, outcome)
        return True

    async def record(self, session: AsyncSession, paying: PayingBack, outcome: ProviderPayment | Declined) -> None:
        """Write an outcome down, with its event. Only the first one who comes does."""
        payment = await PaymentRepository(session).get_for_update(paying.payment_id)
        refunds = RefundRepository(session)
        refund = await refunds.get_for_update(paying.refund_id)
        if payment is None or refund.status != RefundStatus.STARTED:
            return
        now = self._clock.now()
        refund.ended_at = now
        if isinstance(outcome, Declined):
            _log.error("refund declined", refund_id=refund.refund_id, payment_id=payment.payment_id, code=outcome.code)
            refund.status = RefundStatus.FAILED
            refund.code, refund.message = outcome.code[:100], outcome.message[:500]
            return
        refund.status = RefundStatus.SUCCEEDED
        refund.pg_transaction_id = outcome.transaction_id
        await session.flush()
        every = await refunds.of(payment.payment_id)
        payment.status = move(PaymentStatus(payment.status), balances.status_after(payment.amount_krw, every))
        await session.flush()
        await Outbox(session).add(_refunded(payment, refund, balances.refunded_krw(every)))


def outward(status: PaymentStatus) -> PaymentStatus:
    """The state as the world sees it: what is being captured is still pending."""
    return PaymentStatus.PENDING if status is PaymentStatus.CONFIRMING else status


def _refunded(payment: Payment, refund: Refund, total_krw: int) -> PaymentRefunded:
    assert refund.ended_at is not None  # noqa: S101 - it was just set
    return PaymentRefunded(
        payment_id=payment.payment_id,
        user_id=payment.user_id,
        order_id=payment.order_id,
        subscription_id=payment.subscription_id,
        payment_type=PaymentType(payment.payment_type).value,
        amount_krw=payment.amount_krw,
        refund_id=refund.refund_id,
        refund_amount_krw=refund.amount_krw,
        refunded_total_krw=total_krw,
        is_full=total_krw >= payment.amount_krw,
        reason=refund.reason,
        refunded_at=refund.ended_at,
    )
