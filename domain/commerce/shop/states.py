"""The states of an order, and every move that it may make between them."""

from collections.abc import Mapping

from domain.commerce.shop.models import OrderKind, OrderStatus

MOVES: Mapping[OrderStatus, frozenset[OrderStatus]] = {
    # Refunded at once: its refund was heard of before its payment.
    OrderStatus.PENDING: frozenset({OrderStatus.PAID, OrderStatus.CANCELLED, OrderStatus.REFUNDED}),
    OrderStatus.PAID: frozenset({OrderStatus.SHIPPED, OrderStatus.CANCELLED, OrderStatus.REFUNDED}),
    OrderStatus.SHIPPED: frozenset({OrderStatus.DELIVERED, OrderStatus.REFUNDED}),
    OrderStatus.DELIVERED: frozenset({OrderStatus.REFUNDED}),
    # A capture that came too late was paid back.
    OrderStatus.CANCELLED: frozenset({OrderStatus.REFUNDED}),
    OrderStatus.REFUNDED: frozenset(),
}

PLAN_MOVES: Mapping[OrderStatus, frozenset[OrderStatus]] = {
    OrderStatus.PENDING: MOVES[OrderStatus.PENDING],
    OrderStatus.PAID: frozenset({OrderStatus.REFUNDED}),
    # A plan cannot run out: a capture after its order was given up is a sale all the same.
    OrderStatus.CANCELLED: frozenset({OrderStatus.PAID, OrderStatus.REFUNDED}),
    OrderStatus.REFUNDED: frozenset(),
}
"""A plan is not shipped, and it is cancelled as a subscription."""

UNSHIPPED = frozenset({OrderStatus.PENDING, OrderStatus.PAID, OrderStatus.CANCELLED})
"""What was ordered is still in the warehouse."""


def may_move(kind: OrderKind, current: OrderStatus, target: OrderStatus) -> bool:
    """Whether an order of this kind may go from one state to the other."""
    moves = MOVES if kind is OrderKind.GOODS else PLAN_MOVES
    return target in moves.get(current, frozenset())
