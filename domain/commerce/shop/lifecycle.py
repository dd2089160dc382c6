"""The moves of an order, each with all that belongs to it in one transaction: stock, add-ons, timeline, events.

Every method takes an order whose row is locked.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.commerce.shop import stock
from domain.commerce.shop.errors import OrderMoveRefused
from domain.commerce.shop.events import OrderCancelled, OrderCreated, OrderedItem
from domain.commerce.shop.models import (
    CancelReason,
    Order,
    OrderItem,
    OrderKind,
    OrderStatus,
    TimelineEntry,
    TimelineKind,
)
from domain.commerce.shop.ports import Plans
from domain.commerce.shop.repository import OrderRepository, TimelineRepository
from domain.commerce.shop.states import UNSHIPPED, may_move
from domain.ids import UserId
from domain.messaging import Outbox

_BY_SHOP = "shop"


class OrderLifecycle:
    """What becomes of orders, whoever asks for it."""

    def __init__(self, clock: Clock, *, plans: Plans) -> None:
        self._clock = clock
        self._plans = plans

    async def open(self, session: AsyncSession, order: Order, items: Sequence[OrderItem]) -> None:
        """Store a pending order, and tell that it waits for its payment."""
        await self.store(session, order, items)
        await Outbox(session).add(
            OrderCreated(
                order_id=order.order_id,
                user_id=order.user_id,
                subscription_id=order.subscription_id,
                amount_krw=order.total_krw,
                payment_method=order.payment_method,
                items=tuple(
                    OrderedItem(
                        product_id=item.product_id,
                        product_name=item.name_ko,
                        quantity=item.quantity,
                        unit_price_krw=item.unit_price_krw,
                    )
                    for item in items
                ),
                created_at=order.created_at,
                expires_at=order.expires_at,
            )
        )

    async def store(self, session: AsyncSession, order: Order, items: Sequence[OrderItem]) -> None:
        """Store an order whose payment is known of already: nobody has to be told to open one."""
        await OrderRepository(session).add(order, items)
        await self.tell(session, order, TimelineKind.CREATED, amount_krw=order.total_krw, at=order.created_at)

    async def pay(self, session: AsyncSession, order: Order) -> None:
        """Its payment (`order.payment_id`) was captured: what was bought is the buyer's.

        Raises:
            OrderMoveRefused: it is not waiting for a payment.
        """
        self._move(order, OrderStatus.PAID)
        order.cancel_reason = None  # of an order for a plan that was given up before
        for item in (await OrderRepository(session).items_of([order.order_id]))[order.order_id]:
            if item.addon_category_code is not None:
                await self._plans.grant_add_on(
                    session,
                    user_id=UserId(order.user_id),
                    category_code=item.addon_category_code,
                    type_index=item.addon_type_index or 0,
                    order_id=order.order_id,
                )
        await session.flush()

    async def cancel(self, session: AsyncSession, order: Order, reason: CancelReason) -> None:
        """Give an unshipped order up: its stock is free again, and what was captured for it is to be paid back.

        Raises:
            OrderMoveRefused: it was shipped, or is over already.
        """
        was_paid = order.status == OrderStatus.PAID
        self._move(order, OrderStatus.CANCELLED)
        order.cancel_reason = reason
        await self._take_back(session, order, was_paid=was_paid, release=True)
        await self.tell(session, order, TimelineKind.CANCELLED, reason=reason.value)
        if order.payment_id is None:
            await self._tell_cancelled(session, order, reason, payment_id="")
        else:
            await self.return_payment(session, order)

    async def return_payment(self, session: AsyncSession, order: Order) -> None:
        """Have the payment of a cancelled order paid back; asked for once."""
        left = order.total_krw - order.refunded_krw
        payment_id = order.payment_id
        if payment_id is None or order.cancel_reason is None or left == 0:
            return
        if await self.tell(session, order, TimelineKind.REFUND_REQUESTED, reference=payment_id, amount_krw=left):
            await self._tell_cancelled(session, order, CancelReason(order.cancel_reason), payment_id=payment_id)

    async def refund(self, session: AsyncSession, order: Order) -> None:
        """The whole payment was paid back: the order is over, and what was not shipped is in stock again."""
        before = OrderStatus(order.status)
        self._move(order, OrderStatus.REFUNDED)
        await self._take_back(session, order, was_paid=before is not OrderStatus.PENDING, release=before in UNSHIPPED)
        if order.kind == OrderKind.GOODS and before in (OrderStatus.PENDING, OrderStatus.PAID):
            order.cancel_reason = CancelReason.REFUNDED
            await self._tell_cancelled(session, order, CancelReason.REFUNDED, payment_id="")

    async def ship(self, session: AsyncSession, order: Order) -> None:
        """Raises: OrderMoveRefused: it is not paid, or nothing that is shipped."""
        self._move(order, OrderStatus.SHIPPED)
        await self.tell(session, order, TimelineKind.SHIPPED)
        await session.flush()

    async def deliver(self, session: AsyncSession, order: Order) -> None:
        """Raises: OrderMoveRefused: it was not shipped."""
        self._move(order, OrderStatus.DELIVERED)
        await self.tell(session, order, TimelineKind.DELIVERED)
        await session.flush()

    async def tell(
        self,
        session: AsyncSession,
        order: Order,
        kind: TimelineKind,
        *,
        reference: str = "",
        amount_krw: int | None = None,
        reason: str = "",
        at: datetime | None = None,
    ) -> bool:
        """Write down what happened; False when it was written before."""
        entry = TimelineEntry(
            order_id=order.order_id,
            kind=kind,
            reference=reference[:64],
            amount_krw=amount_krw,
            reason=reason[:64],
            happened_at=max(at or self._clock.now(), order.created_at),
        )
        return await TimelineRepository(session).add(entry)

    def _move(self, order: Order, target: OrderStatus) -> None:
        current = OrderStatus(order.status)
        if not may_move(OrderKind(order.kind), current, target):
            raise OrderMoveRefused(
                f"The order is {current}; it cannot become {target}.", order_id=order.order_id, status=current
            )
        order.status = target
        order.due_check_at = None
        order.updated_at = self._clock.now()

    async def _take_back(self, session: AsyncSession, order: Order, *, was_paid: bool, release: bool) -> None:
        await session.flush()
        if was_paid:
            await self._plans.revoke_add_ons(session, order_id=order.order_id)
        if release:
            await stock.release(session, order.order_id, by=_BY_SHOP, at=self._clock.now())

    async def _tell_cancelled(
        self, session: AsyncSession, order: Order, reason: CancelReason, *, payment_id: str
    ) -> None:
        await Outbox(session).add(
            OrderCancelled(
                order_id=order.order_id,
                user_id=order.user_id,
                subscription_id=order.subscription_id,
                payment_id=payment_id,
                amount_krw=order.total_krw,
                reason=reason.value,
                cancelled_at=self._clock.now(),
            )
        )
