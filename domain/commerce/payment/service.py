"""The rules of payments: who may open, confirm and pay back what."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.commerce.payment import balances
from domain.commerce.payment.capture import MISMATCH, Asking, Capture
from domain.commerce.payment.errors import (
    AmountMismatch,
    OrderNotPayable,
    OutcomePending,
    PaymentDeclined,
    PaymentFieldInvalid,
    PaymentNotCaptured,
    PaymentNotFound,
    PaymentNotPending,
    RefundDeclined,
    RefundExceedsPayment,
    RefundNotAllowed,
)
from domain.commerce.payment.fields import (
    MAX_METHOD,
    MAX_REASON,
    require_amount,
    require_id,
    require_key,
    require_text,
)
from domain.commerce.payment.models import CarriedOutRefund, Opening, Payment, PaymentType, RefundStatus
from domain.commerce.payment.opening import cancel, open_payment
from domain.commerce.payment.owed import debt_for, require_owed
from domain.commerce.payment.ports import Debts, PaymentGateway
from domain.commerce.payment.reading import PaymentReading, as_settled, require_visible
from domain.commerce.payment.refunds import PayingBack, Refunds
from domain.commerce.payment.repository import PaymentRepository, RefundRepository
from domain.commerce.payment.settle import Settlement
from domain.commerce.payment.states import SETTLED, PaymentStatus
from domain.commerce.terms import REFUND_WINDOW, Cancellation, SettledPayment, approval_key
from domain.ids import UserId
from domain.principal import Principal, Role, Scope
from domain.sessions import Sessions

_log = structlog.get_logger("payment")

PATIENCE_S = 20.0
"""For how long a call waits for the provider: less than the 30 s that callers wait for us."""

_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.05, 0.5


class PaymentService(PaymentReading):
    """Commands and queries of the payment service. One for the process.

    Args:
        patience_s: for how long one call waits for an outcome.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        sessions: Sessions,
        gateway: PaymentGateway,
        debts: Debts,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._clock = clock
        self._sessions = sessions
        self._gateway = gateway
        self._debts = debts
        self._patience_s = patience_s
        self._capture = Capture(clock, sessions=sessions, gateway=gateway, patience_s=patience_s)
        self._refunds = Refunds(clock, sessions=sessions, gateway=gateway, patience_s=patience_s)
        self._settlement = Settlement(clock, sessions=sessions, capture=self._capture, refunds=self._refunds)

    async def create(
        self,
        session: AsyncSession,
        principal: Principal,
        *,
        user_id: str,
        order_id: str,
        subscription_id: str,
        payment_type: PaymentType,
        amount_krw: int,
        payment_method: str,
    ) -> Payment:
        """The payer's live payment for an order or for what a subscription owes, opened unless it is there.

        A one-time payment without an order is a payment of its own: each call opens another one.

        Raises:
            PaymentFieldInvalid: no such text, amount or combination.
            OrderNotFound: it is somebody else's.
            OrderNotPayable: it is paid, given up, or owes nothing.
            AmountMismatch: something else is owed.
        """
        principal.require_scope(Scope.COMMERCE_WRITE)
        payer = UserId(require_id(principal.acting_for(user_id), field="user_id", least=1))
        is_plan = payment_type is PaymentType.SUBSCRIPTION
        if not is_plan and subscription_id:
            raise PaymentFieldInvalid("A one-time payment has no subscription_id.", field="subscription_id")
        opening = Opening(
            user_id=payer,
            order_id=require_id(order_id, field="order_id"),
            subscription_id=require_id(subscription_id, field="subscription_id", least=1 if is_plan else 0),
            payment_type=payment_type,
            amount_krw=require_amount(amount_krw),
            payment_method=require_text(payment_method, field="payment_method", most=MAX_METHOD),
        )
        debt = await debt_for(self._debts, session, opening)
        require_owed(opening, debt)
        if debt is not None and debt.subscription_id:  # a plan's order, by whichever of its names
            opening = replace(opening, subscription_id=debt.subscription_id, payment_type=PaymentType.SUBSCRIPTION)
        return await self._open(session, opening)

    async def open_for_order(
        self,
        session: AsyncSession,
        *,
        order_id: str,
        user_id: str,
        subscription_id: str,
        amount_krw: int,
        payment_method: str,
    ) -> Payment | None:
        """Open the payment of an order that was just made; None when there is nothing to pay (any more)."""
        if amount_krw == 0:
            return None
        debt = await self._debts.of_order(session, order_id)
        if debt is not None and not debt.is_open:
            return None
        opening = Opening(
            user_id=user_id,
            order_id=order_id,
            subscription_id=subscription_id,
            payment_type=PaymentType.SUBSCRIPTION if subscription_id else PaymentType.ONE_TIME,
            amount_krw=require_amount(amount_krw),
            payment_method=payment_method[:MAX_METHOD],
        )
        try:
            return await self._open(session, opening)
        except OrderNotPayable:  # told once more, after it was paid
            return None

    async def confirm(
        self,
        principal: Principal,
        *,
        payment_id: str,
        payment_key: str,
        pg_provider: str = "",
        pg_transaction_id: str = "",
    ) -> Payment:
        """Capture what the payer has approved, once; in transactions of its own.

        A payment that was captured before is answered as it is, and who comes while it is being captured gets the same
        outcome.

        Raises:
            PaymentFieldInvalid: no key, or not our provider.
            PaymentNotFound: none, or somebody else's.
            PaymentNotPending: it was given up.
            OrderNotPayable, AmountMismatch: the order has changed, or the provider captured something else.
            PaymentKeyUsed: the key has paid, or is paying, for another payment.
            PaymentDeclined: the provider has refused.
            OutcomePending: the outcome is not known yet.
            ProviderUnavailable: payments are not set up.
        """
        principal.require_scope(Scope.COMMERCE_WRITE)
        require_key(payment_key, field="payment_key", least=1)
        require_key(pg_transaction_id, field="pg_transaction_id")
        if pg_provider not in ("", self._gateway.name):
            raise PaymentFieldInvalid(f"pg_provider must be {self._gateway.name}, or empty.", field="pg_provider")
        async with self._sessions.transaction() as session:
            payment = require_visible(
                principal, payment_id, await PaymentRepository(session).get_for_update(payment_id)
            )
            asking = None
            if payment.status == PaymentStatus.PENDING:
                require_owed(payment, await debt_for(self._debts, session, payment))
                key = approval_key(principal, payment_key, payment_id)
                asking = await self._capture.begin(session, payment, key)
        return await self._outcome(payment_id, asking)

    async def charge(
        self, *, user_id: UserId, subscription_id: str, amount_krw: int, payment_key: str
    ) -> SettledPayment:
        """Open a payment for a subscription and capture it. See `domain.commerce.subscription.ports.Payments`."""
        require_key(payment_key, field="payment_id", least=1)
        opening = Opening(
            user_id=user_id,
            order_id="",
            subscription_id=subscription_id,
            payment_type=PaymentType.SUBSCRIPTION,
            amount_krw=require_amount(amount_krw),
            payment_method="",
        )
        async with self._sessions.transaction() as session:
            payments = PaymentRepository(session)
            await payments.lock_subscription(subscription_id)
            asking = None
            payment = await payments.live_with_key(subscription_id, payment_key)
            if payment is None:
                payment = await open_payment(session, self._clock, opening, pg_provider=self._gateway.name)
                if payment.status == PaymentStatus.PENDING:
                    asking = await self._capture.begin(session, payment, payment_key)
            if payment.amount_krw != amount_krw or payment.user_id != user_id:
                raise AmountMismatch("This approval has paid for something else.", payment_id=payment.payment_id)
        paid = await self._outcome(payment.payment_id, asking)
        async with self._sessions.read() as session:
            return await as_settled(session, paid)

    async def refund(
        self, principal: Principal, *, payment_id: str, amount_krw: int | None, reason: str
    ) -> CarriedOutRefund:
        """Pay back a part of a captured payment, or all that is left (None); in transactions of its own.

        Raises:
            PaymentFieldInvalid: an amount below 1 won, or no such reason.
            PaymentNotFound: none, or somebody else's.
            RefundNotAllowed: the payer asks too late, after shipping or a move to a lower plan, or for a part of a
                purchase.
            PaymentNotCaptured, RefundExceedsPayment: so much is not there.
            RefundDeclined: the provider has refused.
            OutcomePending: the outcome is not known yet; it is carried out.
        """
        principal.require_scope(Scope.COMMERCE_WRITE)
        require_text(reason, field="reason", most=MAX_REASON)
        if amount_krw is not None:
            require_amount(amount_krw)
        async with self._sessions.transaction() as session:
            payment = require_visible(
                principal, payment_id, await PaymentRepository(session).get_for_update(payment_id)
            )
            await self._require_refundable(session, principal, payment, amount_krw=amount_krw)
            promised = await self._refunds.promise(
                session, payment, amount_krw=amount_krw, reason=reason, requested_by=principal.subject
            )
        await self._refunds.carry_out(PayingBack.of(promised, payment_key=payment.payment_key))
        async with self._sessions.read() as session:
            refund = await RefundRepository(session).get(promised.refund_id)
            status = PaymentStatus((await self._existing(session, payment_id)).status)
        if refund.status == RefundStatus.FAILED:
            raise RefundDeclined(code=refund.code, message=refund.message)
        if refund.ended_at is None:
            raise OutcomePending(payment_id)
        return CarriedOutRefund(refund=refund, payment_status=status, refunded_at=refund.ended_at)

    async def request_refund(
        self, session: AsyncSession, *, payment_id: str, amount_krw: int | None, reason: str
    ) -> None:
        """Have a captured payment paid back (None: all that is left), in the background once the session has committed.

        What is paid back already, or was never captured, leaves nothing to do.
        """
        payment = await PaymentRepository(session).get_for_update(payment_id)
        if payment is None:
            _log.error("refund of an unknown payment", payment_id=payment_id)
            return
        try:
            await self._refunds.promise(
                session,
                payment,
                amount_krw=amount_krw,
                reason=reason[:MAX_REASON],
                requested_by="",
                lease=timedelta(0),
            )
        except (PaymentNotCaptured, RefundExceedsPayment) as nothing:
            _log.info("nothing to pay back", payment_id=payment_id, reason=nothing.reason)

    async def cancel_open(
        self, session: AsyncSession, *, order_id: str = "", subscription_id: str = ""
    ) -> Cancellation:
        """Give the open payment of an order, or else of a subscription, up in the session's transaction."""
        payments = PaymentRepository(session)
        if order_id:
            debt = await self._debts.of_order(session, order_id)
            payment = await payments.live_of_order(order_id, user_id=debt.user_id if debt else None)
        else:
            payment = await payments.open_of_subscription(subscription_id)
        if payment is None:
            return Cancellation.NOTHING_OPEN
        match PaymentStatus(payment.status):
            case PaymentStatus.PENDING:
                cancel(payment, self._clock)
                await session.flush()
                return Cancellation.CANCELLED
            case PaymentStatus.CONFIRMING:
                return Cancellation.IN_FLIGHT
            case _:
                return Cancellation.COMPLETED

    async def is_given_back(self, session: AsyncSession, payment_id: str) -> bool:
        """Whether nothing of a captured payment is left, refunds in hand included; it stays so for the transaction."""
        payment = await PaymentRepository(session).get_for_update(payment_id)
        if payment is None:
            return False
        return balances.left_krw(payment.amount_krw, await RefundRepository(session).of(payment_id)) <= 0

    async def settle_unclear(self) -> int:
        """Find out what became of captures and refunds that were left unclear; how many were looked at."""
        return await self._settlement.run_once()

    async def _open(self, session: AsyncSession, opening: Opening) -> Payment:
        """The live payment for this, of which the order's story tells. Raises: see `open_payment`."""
        payment = await open_payment(session, self._clock, opening, pg_provider=self._gateway.name)
        if payment.order_id:
            await self._debts.payment_opened(
                session,
                order_id=payment.order_id,
                payment_id=payment.payment_id,
                amount_krw=payment.amount_krw,
                at=payment.created_at,
            )
        return payment

    async def _require_refundable(
        self, session: AsyncSession, principal: Principal, payment: Payment, *, amount_krw: int | None
    ) -> None:
        if principal.is_trusted or principal.role is Role.ADMIN:
            return
        if payment.completed_at and self._clock.now() - payment.completed_at > REFUND_WINDOW:
            raise RefundNotAllowed(f"A payment can be taken back within {REFUND_WINDOW.days} days.")
        # Else all but a won would go back, and the goods or the plan be kept.
        if amount_krw is not None and await self._is_purchase(session, payment):
            left_krw = balances.left_krw(payment.amount_krw, await RefundRepository(session).of(payment.payment_id))
            if amount_krw < left_krw:
                raise RefundNotAllowed("A purchase is taken back whole; ask the shop to pay back a part of it.")
        if payment.order_id and await self._debts.is_shipped(session, payment.order_id):
            raise RefundNotAllowed("The order is on its way; send it back to be refunded.")
        if payment.subscription_id and await self._debts.is_exchanged(
            session, payment.subscription_id, payment_id=payment.payment_id
        ):
            raise RefundNotAllowed("What this paid for was exchanged for a lower plan and credit since.")

    async def _is_purchase(self, session: AsyncSession, payment: Payment) -> bool:
        """Whether it paid for something of ours, and not for an order that another shop has brought."""
        if payment.subscription_id:
            return True
        return bool(payment.order_id) and await self._debts.of_order(session, payment.order_id) is not None

    async def _outcome(self, payment_id: str, asking: Asking | None) -> Payment:
        """The payment once it is no longer being captured: by us, or by somebody else, for whom we wait."""
        pause_s, left_s = _FIRST_LOOK_S, self._patience_s
        if asking is not None:
            payment = await self._capture.carry_out(asking)
            if payment is not None and payment.status != PaymentStatus.CONFIRMING:
                return _captured(payment)
            left_s = 0.0  # it was patient for us
        while True:
            async with self._sessions.read() as session:
                payment = await self._existing(session, payment_id)
            if payment.status != PaymentStatus.CONFIRMING:
                return _captured(payment)
            if left_s <= 0:
                raise OutcomePending(payment_id)
            await asyncio.sleep(pause_s)
            left_s -= pause_s
            pause_s = min(pause_s * 1.5, _LONGEST_LOOK_S)

    @staticmethod
    async def _existing(session: AsyncSession, payment_id: str) -> Payment:
        payment = await PaymentRepository(session).get(payment_id)
        if payment is None:
            raise PaymentNotFound(payment_id)
        return payment


def _captured(payment: Payment) -> Payment:
    """The payment, if it was captured. Raises what a confirmation says of one that was not."""
    if payment.status in SETTLED:
        return payment
    if payment.status == PaymentStatus.FAILED and payment.failure_code == MISMATCH:
        raise AmountMismatch("The provider captured another amount than this payment's.", payment_id=payment.payment_id)
    if payment.status == PaymentStatus.FAILED:
        raise PaymentDeclined(code=payment.failure_code, message=payment.failure_message)
    raise PaymentNotPending(payment.payment_id, payment.status)
