"""Balances are counted from the refunds, in any order, and never go below nothing."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from domain.commerce.payment.balances import captured_krw, left_krw, refunded_krw, reserved_krw, status_after
from domain.commerce.payment.models import RefundStatus
from domain.commerce.payment.states import SETTLED, PaymentStatus

STARTED, SUCCEEDED, FAILED = RefundStatus


@dataclass(frozen=True)
class Row:
    amount_krw: int
    status: RefundStatus


ROWS = st.lists(st.builds(Row, amount_krw=st.integers(1, 1000), status=st.sampled_from(RefundStatus)))


def test_what_is_open_counts_as_promised_and_what_failed_does_not() -> None:
    rows = [Row(100, SUCCEEDED), Row(20, STARTED), Row(3, FAILED)]
    assert (refunded_krw(rows), reserved_krw(rows), left_krw(1000, rows)) == (100, 120, 880)


@given(ROWS)
def test_the_order_of_refunds_does_not_matter(rows: list[Row]) -> None:
    amount = reserved_krw(rows) + 1
    assert left_krw(amount, rows) == left_krw(amount, sorted(rows, key=lambda row: row.amount_krw)) == 1
    assert refunded_krw(rows) <= reserved_krw(rows)


@given(ROWS, st.integers(0, 1000))
def test_the_state_follows_from_the_refunds(rows: list[Row], rest: int) -> None:
    paid_back = refunded_krw(rows)
    amount = paid_back + rest
    status = status_after(amount, rows)
    assert status in SETTLED
    assert (status is PaymentStatus.COMPLETED) == (paid_back == 0)
    assert (status is PaymentStatus.REFUNDED) == (paid_back > 0 and rest == 0)
    assert captured_krw(status, amount) == amount


def test_nothing_is_captured_before_it_is_settled() -> None:
    assert [captured_krw(status, 5) for status in PaymentStatus if status not in SETTLED] == [0, 0, 0, 0]
