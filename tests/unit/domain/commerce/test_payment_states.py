"""A payment moves by the table, and by nothing else."""

import pytest

from domain.commerce.payment.states import LIVE, MOVES, OPEN, SETTLED, MoveNotAllowed, PaymentStatus, move

PENDING, CONFIRMING, COMPLETED, FAILED, CANCELLED, PARTIAL_REFUND, REFUNDED = PaymentStatus

ALLOWED = {
    (PENDING, CONFIRMING),
    (PENDING, CANCELLED),
    (CONFIRMING, COMPLETED),
    (CONFIRMING, FAILED),
    (CONFIRMING, PENDING),
    (COMPLETED, PARTIAL_REFUND),
    (COMPLETED, REFUNDED),
    (PARTIAL_REFUND, PARTIAL_REFUND),
    (PARTIAL_REFUND, REFUNDED),
}


@pytest.mark.parametrize("current", PaymentStatus)
@pytest.mark.parametrize("to", PaymentStatus)
def test_a_move_is_made_or_refused_by_the_table(current: PaymentStatus, to: PaymentStatus) -> None:
    if (current, to) in ALLOWED:
        assert move(current, to) is to
        return
    with pytest.raises(MoveNotAllowed) as refused:
        move(current, to)
    assert refused.value.details == {"current": current.value, "to": to.value}


def test_money_that_was_captured_is_never_forgotten() -> None:
    """From a captured state only captured states are reached; from the others none but through the provider's word."""
    for current, reached in MOVES.items():
        if current in SETTLED:
            assert reached <= SETTLED
        elif current is not CONFIRMING:
            assert not reached & SETTLED


def test_what_is_over_is_not_live() -> None:
    assert {status for status in PaymentStatus if not MOVES[status]} == set(PaymentStatus) - LIVE
    assert OPEN <= LIVE
