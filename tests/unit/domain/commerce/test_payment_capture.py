"""What the provider's word means for a request of ours."""

from dataclasses import replace
from datetime import timedelta

import pytest

from domain.commerce.payment.capture import (
    Asking,
    Captured,
    Mismatched,
    NothingCaptured,
    Refused,
    Unclear,
    back_off,
    judge,
)
from domain.commerce.payment.ports import ProviderPayment, ProviderState

ASKING = Asking(
    attempt_id="a", payment_id="payment-1", payment_key="key-1", amount_krw=29_900, idempotency_key="idempotency-1"
)
FOUND = ProviderPayment(
    reference="payment-1",
    payment_key="key-1",
    transaction_id="t",
    state=ProviderState.CAPTURED,
    amount_krw=29_900,
    balance_krw=29_900,
    method="card",
    approved_at=None,
)


@pytest.mark.parametrize("state", [ProviderState.CAPTURED, ProviderState.PARTLY_REFUNDED, ProviderState.REFUNDED])
def test_what_was_captured_in_our_amount_is_captured(state: ProviderState) -> None:
    found = replace(FOUND, state=state)
    assert judge(found, ASKING) == Captured(found)
    wrong = replace(found, amount_krw=29_901)
    assert judge(wrong, ASKING) == Mismatched(wrong)


@pytest.mark.parametrize("state", ProviderState)
def test_what_is_said_of_another_payment_says_nothing_of_ours(state: ProviderState) -> None:
    assert judge(replace(FOUND, state=state, reference="payment-2"), ASKING) == Unclear()


def test_a_refusal_of_an_earlier_approval_is_none_of_this_one() -> None:
    refused = replace(FOUND, state=ProviderState.REFUSED, failure_code="REJECT_CARD_PAYMENT", failure_message="no")
    assert judge(refused, ASKING) == Refused("REJECT_CARD_PAYMENT", "no")
    assert judge(replace(refused, failure_code=""), ASKING) == Refused("REFUSED", "no")
    assert judge(replace(refused, payment_key="key-0"), ASKING) == NothingCaptured()


def test_what_was_only_begun_is_not_captured() -> None:
    assert judge(replace(FOUND, state=ProviderState.WAITING), ASKING) == NothingCaptured()


def test_who_is_silent_is_asked_less_and_less_often() -> None:
    pauses = [back_off(tries) for tries in (1, 2, 3, 9, 1000)]
    assert pauses == [timedelta(seconds=s) for s in (2, 4, 8, 300, 300)]
