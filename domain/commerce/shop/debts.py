"""What payment asks of orders: what is owed, and whether it is still in the warehouse."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from domain.commerce.shop.models import OrderStatus, TimelineEntry, TimelineKind
from domain.commerce.shop.repository import OrderRepository, TimelineRepository
from domain.commerce.terms import Debt
from domain.ids import UserId


async def debt_of_order(session: AsyncSession, order_id: str) -> Debt | None:
    """None: the shop has no such order.

    The order is not locked: payment may hold a payment's row by now, and orders are locked before payments. Whoever pays
    an order that is given up at this moment is paid back.
    """
    order = await OrderRepository(session).get(order_id)
    if order is None:
        return None
    return Debt(
        user_id=UserId(order.user_id),
        amount_krw=order.total_krw,
        is_open=order.status == OrderStatus.PENDING,
        subscription_id=order.subscription_id,
    )


async def is_shipped(session: AsyncSession, order_id: str) -> bool:
    """Whether what was ordered has left the warehouse, so that its buyer cannot be paid back without returning it."""
    order = await OrderRepository(session).get(order_id)
    return order is not None and order.status in (OrderStatus.SHIPPED, OrderStatus.DELIVERED)


async def payment_opened(
    session: AsyncSession, order_id: str, *, payment_id: str, amount_krw: int, at: datetime
) -> None:
    """Write into an order's timeline that its payment waits; once for a payment, and nothing for an unknown order."""
    entry = TimelineEntry(
        order_id=order_id,
        kind=TimelineKind.PAYMENT_OPENED,
        reference=payment_id,
        amount_krw=amount_krw,
        reason="",
        happened_at=at,
    )
    await TimelineRepository(session).add_if_known(entry)
