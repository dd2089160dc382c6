"""How the provider's answers are read: what is a refusal, what is our own fault, and what is still open."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from domain.commerce.payment.errors import ProviderUnavailable
from domain.commerce.payment.ports import Declined, OutcomeUnclear, ProviderState
from subgraphs.commerce.payment.adapters.toss import TossPayments, error_of, read_payment
from subgraphs.runtime.settings import ServiceSettings, Settings, SettingsError, TossSettings

PAYMENT: dict[str, Any] = {
    "mId": "tosspayments",
    "paymentKey": "5zJ4xY7m0kODnyRpQWGrN2xqGlNvLrKwv1M9ENjbeoPaZdL6",
    "orderId": "payment-1",
    "currency": "KRW",
    "method": "카드",
    "status": "DONE",
    "approvedAt": "2026-11-27T21:05:09+09:00",
    "lastTransactionKey": "B7103F204998813B889C77C043D09502",
    "totalAmount": 15000,
    "balanceAmount": 15000,
    "suppliedAmount": 13636,
    "cancels": None,
    "failure": None,
    "card": {"number": "12345678****000*"},
}


def read(**changed: object) -> Any:
    return read_payment(orjson.dumps(PAYMENT | changed))


def test_a_captured_payment_is_read() -> None:
    found = read()
    assert (found.reference, found.state) == ("payment-1", ProviderState.CAPTURED)
    assert (found.amount_krw, found.balance_krw, found.method) == (15_000, 15_000, "card")
    assert found.transaction_id == PAYMENT["lastTransactionKey"]
    assert found.approved_at is not None


def test_its_refunds_are_read() -> None:
    cancels = [{"transactionKey": "A", "cancelAmount": 1_000}, {"transactionKey": "B", "cancelAmount": 2_000}]
    found = read(status="PARTIAL_CANCELED", cancels=cancels, balanceAmount=12_000)
    assert (found.state, found.cancels) == (ProviderState.PARTLY_REFUNDED, {"A": 1_000, "B": 2_000})


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("READY", ProviderState.WAITING),
        ("IN_PROGRESS", ProviderState.WAITING),
        ("WAITING_FOR_DEPOSIT", ProviderState.WAITING),
        ("CANCELED", ProviderState.REFUNDED),
        ("ABORTED", ProviderState.REFUSED),
        ("EXPIRED", ProviderState.REFUSED),
    ],
)
def test_states_are_told_apart(status: str, state: ProviderState) -> None:
    assert read(status=status, failure={"code": "X\n", "message": "왜\0"}).state is state


def test_texts_of_the_provider_are_made_fit_to_be_stored() -> None:
    found = read(status="ABORTED", failure={"code": "X", "message": "a\0b\n" + "y" * 1000}, method="카\0드")
    assert found.failure_message == ("a b " + "y" * 1000)[:500]
    assert found.method == ""


@pytest.mark.parametrize(
    "changed",
    [
        {"status": "SOMETHING_NEW"},
        {"currency": "USD"},
        {"totalAmount": "15000"},
        {"totalAmount": 15000.5},
        {"totalAmount": -1},
        {"totalAmount": 2**31},
        {"orderId": None},
        {"paymentKey": ""},
        {"approvedAt": "yesterday"},
        {"cancels": [{"cancelAmount": 1}]},
    ],
)
def test_an_answer_that_cannot_be_relied_on_leaves_it_open(changed: dict[str, object]) -> None:
    with pytest.raises(OutcomeUnclear):
        read(**changed)


@given(st.binary(max_size=200) | st.builds(orjson.dumps, st.dictionaries(st.text(max_size=5), st.integers(-9, 9))))
def test_what_is_no_answer_of_this_api_leaves_it_open(body: bytes) -> None:
    with pytest.raises(OutcomeUnclear):
        read_payment(body)
    assert isinstance(error_of(400, body), OutcomeUnclear)


def error(status: int, code: str, message: str = "안 됩니다") -> Exception:
    return error_of(status, orjson.dumps({"code": code, "message": message}))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "REJECT_CARD_PAYMENT"),
        (400, "INVALID_STOPPED_CARD"),
        (404, "NOT_FOUND_PAYMENT_SESSION"),
        (400, "NOT_CANCELABLE_AMOUNT"),
    ],
)
def test_a_refusal_is_what_the_provider_calls_one(status: int, code: str) -> None:
    declined = error(status, code)
    assert isinstance(declined, Declined)
    assert (declined.code, declined.message) == (code, "안 됩니다")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "FAILED_INTERNAL_SYSTEM_PROCESSING"),
        (500, "REJECT_CARD_PAYMENT"),
        (502, ""),
        (429, "TOO_MANY_REQUESTS"),
        (408, "TIMEOUT"),
        (409, "IDEMPOTENT_REQUEST_PROCESSING"),
        (400, "ALREADY_PROCESSED_PAYMENT"),
        (400, "PROVIDER_ERROR"),
        (400, "DUPLICATED_ORDER_ID"),
        (302, "REJECT_CARD_PAYMENT"),
        (201, "REJECT_CARD_PAYMENT"),
    ],
)
def test_what_may_have_taken_effect_is_open(status: int, code: str) -> None:
    assert isinstance(error(status, code), OutcomeUnclear)


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "UNAUTHORIZED_KEY"), (401, ""), (400, "INVALID_API_KEY"), (403, "INCORRECT_BASIC_AUTH_FORMAT")],
)
def test_what_is_wrong_with_our_key_is_no_refusal(status: int, code: str) -> None:
    assert isinstance(error(status, code), ProviderUnavailable)


async def test_without_a_key_nothing_is_sent() -> None:
    gateway = TossPayments(TossSettings(api_url="http://127.0.0.1:1"))
    with pytest.raises(ProviderUnavailable):
        await gateway.find("payment-1")
    await gateway.close()


def production(**toss: Any) -> Settings:
    return Settings(service=ServiceSettings(environment="production"), toss=TossSettings(**toss))


def test_production_does_not_start_without_a_key_or_in_clear() -> None:
    with pytest.raises(SettingsError, match="TOSS_SECRET_KEY"):
        TossPayments.of(production())
    with pytest.raises(SettingsError, match="TOSS_API_URL"):
        TossPayments.of(production(secret_key=SecretStr("live"), api_url="http://toss.example"))
    assert TossPayments.of(production(secret_key=SecretStr("live"))).name == "toss"
    assert TossPayments.of(Settings()).name == "toss"  # development: it starts, and nothing can be paid
