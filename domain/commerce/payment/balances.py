"""What is left of a payment: always counted from its refunds, never kept as a number that could drift.

- refunded: the sum of the refunds that succeeded.
- reserved: the sum of those that succeeded and those whose outcome is open; a refund that is not known to have failed
  may have been paid out.
- left: the payment's amount less what is reserved; only that much can be promised to anybody.
"""

from collections.abc import Iterable
from typing import Protocol

from domain.commerce.payment.models import RefundStatus
from domain.commerce.payment.states import SETTLED, PaymentStatus


class RefundLike(Protocol):
    """What counts of a refund."""

    @property
    def amount_krw(self) -> int: ...

    @property
    def status(self) -> str: ...


def refunded_krw(refunds: Iterable[RefundLike]) -> int:
    """What was paid back, in whole won."""
    return sum(refund.amount_krw for refund in refunds if refund.status == RefundStatus.SUCCEEDED)


def reserved_krw(refunds: Iterable[RefundLike]) -> int:
    """What was paid back or may have been, in whole won."""
    return sum(refund.amount_krw for refund in refunds if refund.status != RefundStatus.FAILED)


def left_krw(amount_krw: int, refunds: Iterable[RefundLike]) -> int:
    """What can still be paid back, in whole won."""
    return amount_krw - reserved_krw(refunds)


def status_after(amount_krw: int, refunds: Iterable[RefundLike]) -> PaymentStatus:
    """The state that a captured payment has with these refunds."""
    paid_back = refunded_krw(refunds)
    if paid_back == 0:
        return PaymentStatus.COMPLETED
    return PaymentStatus.REFUNDED if paid_back >= amount_krw else PaymentStatus.PARTIAL_REFUND


def captured_krw(status: PaymentStatus, amount_krw: int) -> int:
    """What was captured of a payment in this state, in whole won."""
    return amount_krw if status in SETTLED else 0
