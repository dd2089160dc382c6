"""The states of a payment, and which follows which. Nothing else changes a payment's state than `move`."""

from collections.abc import Mapping
from enum import StrEnum

from domain.errors import WrongState


class PaymentStatus(StrEnum):
    """State of a payment. CONFIRMING is PENDING to the outside: nobody knows yet whether the provider has captured."""

    PENDING = "pending"
    CONFIRMING = "confirming"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PARTIAL_REFUND = "partial_refund"
    REFUNDED = "refunded"


MOVES: Mapping[PaymentStatus, frozenset[PaymentStatus]] = {
    PaymentStatus.PENDING: frozenset({PaymentStatus.CONFIRMING, PaymentStatus.CANCELLED}),
    # Back to pending: the request was surely never carried out, such as with a key of ours that the provider refuses.
    PaymentStatus.CONFIRMING: frozenset({PaymentStatus.COMPLETED, PaymentStatus.FAILED, PaymentStatus.PENDING}),
    PaymentStatus.COMPLETED: frozenset({PaymentStatus.PARTIAL_REFUND, PaymentStatus.REFUNDED}),
    PaymentStatus.PARTIAL_REFUND: frozenset({PaymentStatus.PARTIAL_REFUND, PaymentStatus.REFUNDED}),
    PaymentStatus.FAILED: frozenset(),
    PaymentStatus.CANCELLED: frozenset(),
    PaymentStatus.REFUNDED: frozenset(),
}
"""Every move that there is."""

OPEN = frozenset({PaymentStatus.PENDING, PaymentStatus.CONFIRMING})
"""It could still be captured."""

SETTLED = frozenset({PaymentStatus.COMPLETED, PaymentStatus.PARTIAL_REFUND, PaymentStatus.REFUNDED})
"""It was captured, whatever was paid back since."""

LIVE = OPEN | {PaymentStatus.COMPLETED, PaymentStatus.PARTIAL_REFUND}
"""It stands for its order: there is no second one beside it."""


class MoveNotAllowed(WrongState):
    """The payment's state does not lead to the other one."""

    reason = "PAYMENT_MOVE_NOT_ALLOWED"

    def __init__(self, current: PaymentStatus, to: PaymentStatus) -> None:
        super().__init__(f"A payment that is {current} does not become {to}.", current=current, to=to)


def move(current: PaymentStatus, to: PaymentStatus) -> PaymentStatus:
    """The state after the move.

    Raises:
        MoveNotAllowed: there is no such move.
    """
    if to not in MOVES[current]:
        raise MoveNotAllowed(current, to)
    return to
