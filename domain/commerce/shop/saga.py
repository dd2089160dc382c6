"""Orders and their payments, as events tell of them: each may come twice, late, and before those it follows from.

Whatever the order in which they come, the end is the same: an order is paid by at most one payment, that of its buyer and
of its amount; money that no order asks for goes back; a payment that was paid back in full leaves the order refunded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.commerce.shop.lifecycle import OrderLifecycle
from domain.commerce.shop.models import CancelReason, Order, OrderItem, OrderKind, OrderStatus, TimelineKind
from domain.commerce.shop.plan_lines import PlanLine
from domain.commerce.shop.ports import Payments
from domain.commerce.shop.repository import CartRepository, OrderRepository
from domain.commerce.shop.states import may_move
from domain.commerce.terms import Cancellation
from domain.ids import UserId, new_id

PAY_WITHIN = timedelta(minutes=30)
"""An order of goods that is not paid by then is given up: others wait for its stock."""

PLAN_PAY_WITHIN = timedelta(days=1)
"""An order for a plan keeps nothing from anybody. Whether it is still owed, subscription says when it is paid."""

SWEEP_SIZE = 50
_LOOK_AGAIN_AFTER = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Charge:
    """What a subscription has to pay.

    Args:
        key: names the charge; there is one order for each.
        raised_at: when it came up: an older payment is not for it.
        pay_by: None for the usual time.
    """

    key: str
    subscription_id: str
    user_id: str
    line: PlanLine
    amount_krw: int
    raised_at: datetime
    pay_by: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReportedPayment:
    """A payment as an event tells of it. `order_id` or `subscription_id` may be empty; `at`: when that happened."""

    payment_id: str
    user_id: str
    order_id: str
    subscription_id: str
    amount_krw: int
    at: datetime


class OrderSaga:
    """What the events of payments and subscriptions mean for orders."""

    def __init__(self, clock: Clock, lifecycle: OrderLifecycle, *, payments: Payments) -> None:
        self._clock = clock
        self._lifecycle = lifecycle
        self._payments = payments

    async def open_for_plan(self, session: AsyncSession, charge: Charge) -> None:
        """Open the order of a charge, once. A payment that was heard of before the charge has made the order already."""
        orders = OrderRepository(session)
        await orders.lock_subscription(charge.subscription_id)
        if await orders.by_charge(charge.key) is not None:
            return
        for order in await orders.of_subscription(charge.subscription_id, amount_krw=charge.amount_krw):
            if order.charge_key is None and order.created_at >= charge.raised_at:
                order.charge_key = charge.key
                charge.line.name(*(await orders.items_of([order.order_id]))[order.order_id])
                await session.flush()
                return
        order, items = self._plan_order(
            user_id=charge.user_id,
            subscription_id=charge.subscription_id,
            amount_krw=charge.amount_krw,
            line=charge.line,
            created_at=self._clock.now(),
        )
        order.charge_key = charge.key
        order.expires_at = order.due_check_at = charge.pay_by or order.expires_at
        await self._lifecycle.open(session, order, items)

    async def payment_completed(self, session: AsyncSession, payment: ReportedPayment) -> None:
        """The order is paid; if it was given up meanwhile, the money goes back."""
        order = await self._order_of(session, payment)
        if order is None:
            return
        if not _is_for(order, payment):
            # A wrong amount or person, or a second payment: not a reason to give the order up.
            await self._payments.request_refund(
                session, payment_id=payment.payment_id, amount_krw=None, reason="No order asks for this payment."
            )
            return
        await self._lifecycle.tell(
            session,
            order,
            TimelineKind.PAID,
            reference=payment.payment_id,
            amount_krw=payment.amount_krw,
            at=payment.at,
        )
        order.payment_id = payment.payment_id
        if may_move(OrderKind(order.kind), OrderStatus(order.status), OrderStatus.PAID):
            await self._lifecycle.pay(session, order)
        elif order.status == OrderStatus.CANCELLED:
            await self._lifecycle.return_payment(session, order)
        await session.flush()

    async def payment_failed(self, session: AsyncSession, payment: ReportedPayment, *, code: str) -> None:
        """The order is given up, unless another payment of it is on its way."""
        order = await self._order_of(session, payment, open_plan=False)
        if order is None or order.user_id != payment.user_id:
            return
        told = await self._lifecycle.tell(
            session,
            order,
            TimelineKind.PAYMENT_FAILED,
            reference=payment.payment_id,
            amount_krw=payment.amount_krw,
            reason=code,
            at=payment.at,
        )
        if told and order.status == OrderStatus.PENDING and await self._give_payment_up(session, order):
            await self._lifecycle.cancel(session, order, CancelReason.PAYMENT_FAILED)

    async def payment_refunded(
        self, session: AsyncSession, payment: ReportedPayment, *, refund_id: str, amount_krw: int, total_krw: int
    ) -> None:
        """Note a refund of the order's payment; a full one ends the order.

        Args:
            amount_krw: of this refund; total_krw: of all refunds of the payment so far.
        """
        order = await self._order_of(session, payment)
        if order is None or not _is_for(order, payment):
            return
        order.payment_id = payment.payment_id
        order.refunded_krw = max(order.refunded_krw, min(total_krw, order.total_krw))
        order.updated_at = self._clock.now()
        await self._lifecycle.tell(
            session, order, TimelineKind.REFUNDED, reference=refund_id, amount_krw=amount_krw, at=payment.at
        )
        if order.refunded_krw == order.total_krw and order.status != OrderStatus.REFUNDED:
            await self._lifecycle.refund(session, order)
        await session.flush()

    async def claim_unpaid(self, session: AsyncSession) -> Sequence[str]:
        """Up to 50 orders whose time to pay is over, for `time_out`; no other process is given them meanwhile."""
        now = self._clock.now()
        return await OrderRepository(session).claim_unpaid(
            now=now, next_check_at=now + _LOOK_AGAIN_AFTER, limit=SWEEP_SIZE
        )

    async def time_out(self, session: AsyncSession, order_id: str) -> bool:
        """Give an order up whose time to pay is over; False when it is not open any more, or its payment under way."""
        order = await OrderRepository(session).get_for_update(order_id)
        if order is None or order.status != OrderStatus.PENDING or self._clock.now() < order.expires_at:
            return False
        if not await self._give_payment_up(session, order):
            return False
        await self._lifecycle.cancel(session, order, CancelReason.TIMED_OUT)
        return True

    async def drop(self, session: AsyncSession, user_id: UserId, until: datetime) -> None:
        """Drop what a person has put into the cart and ordered until a moment: an unproven holder of the account did it.

        Orders without a payment are cancelled; one whose payment is being captured is left to `time_out` or to its payment.
        What is paid stays as it is, without its address: before it is sent, its owner is asked, or takes it back.
        """
        await CartRepository(session).clear_until(user_id, until)
        orders = OrderRepository(session)
        for order_id in await orders.pending_until(user_id, until):
            order = await orders.get_for_update(order_id)
            if (
                order is not None
                and order.status == OrderStatus.PENDING
                and await self._give_payment_up(session, order)
            ):
                await self._lifecycle.cancel(session, order, CancelReason.ACCOUNT_PROVEN)
        await session.flush()
        await orders.forget_addresses(user_id, until)

    async def _give_payment_up(self, session: AsyncSession, order: Order) -> bool:
        """Whether no payment of the order can be captured any more."""
        outcome = await self._payments.cancel_open(session, order_id=order.order_id)
        return outcome in (Cancellation.CANCELLED, Cancellation.NOTHING_OPEN)

    async def _order_of(
        self, session: AsyncSession, payment: ReportedPayment, *, open_plan: bool = True
    ) -> Order | None:
        """The order that a payment is for, locked; None when it is none of ours.

        A payment for a plan need not name its order: then it is for the one that waits, or else a sale of its own.
        """
        orders = OrderRepository(session)
        order = await orders.get_for_update(payment.order_id) if payment.order_id else None
        if order is not None or not payment.subscription_id:
            return order
        await orders.lock_subscription(payment.subscription_id)
        found = await orders.of_subscription(payment.subscription_id, amount_krw=payment.amount_krw)
        own = [order for order in found if order.user_id == payment.user_id]
        for candidates in (
            [order for order in own if order.payment_id == payment.payment_id],
            [order for order in own if order.payment_id is None and order.status == OrderStatus.PENDING],
            [order for order in own if order.payment_id is None and order.status == OrderStatus.CANCELLED],
        ):
            if candidates:
                return candidates[0]
        if not open_plan:
            return None
        order, items = self._plan_order(
            user_id=payment.user_id,
            subscription_id=payment.subscription_id,
            amount_krw=payment.amount_krw,
            line=PlanLine(),
            created_at=payment.at,
        )
        await self._lifecycle.store(session, order, items)
        return order

    @staticmethod
    def _plan_order(
        *, user_id: str, subscription_id: str, amount_krw: int, line: PlanLine, created_at: datetime
    ) -> tuple[Order, Sequence[OrderItem]]:
        order = Order(
            order_id=new_id(),
            user_id=user_id,
            kind=OrderKind.SUBSCRIPTION,
            status=OrderStatus.PENDING,
            total_krw=amount_krw,
            payment_method="",
            subscription_id=subscription_id,
            refunded_krw=0,
            created_at=created_at,
            updated_at=created_at,
            expires_at=created_at + PLAN_PAY_WITHIN,
            due_check_at=created_at + PLAN_PAY_WITHIN,
        )
        item = OrderItem(order_id=order.order_id, position=0, quantity=1, unit_price_krw=amount_krw)
        line.name(item)
        return order, (item,)


def _is_for(order: Order, payment: ReportedPayment) -> bool:
    """Whether a payment is the one that the order asks for: its buyer's, of its amount, and no second one."""
    return (
        order.user_id == payment.user_id
        and order.total_krw == payment.amount_krw
        and order.payment_id in (None, payment.payment_id)
    )
