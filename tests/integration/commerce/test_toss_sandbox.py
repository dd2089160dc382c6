"""The emulator of the payment provider keeps to the provider's contract, over restarts too."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from infra.sandbox.toss import DECLINED_CARDS, TossSandbox

AUTH = {"Authorization": "Basic dGVzdF9za19zYW5kYm94Og=="}  # test_sk_sandbox and a colon


async def send(
    toss: TossSandbox, method: str, path: str, body: object = None, *, key: str = "", auth: Mapping[str, str] = AUTH
) -> tuple[int, Any]:
    headers = {**auth, **({"Idempotency-Key": key} if key else {})}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, toss.url + path, json=body, headers=headers) as response,
    ):
        return response.status, await response.json()


async def confirm(
    toss: TossSandbox, payment_key: str = "test-k", order_id: str = "o-1", amount: int = 1_000, *, key: str = ""
) -> tuple[int, Any]:
    request = {"paymentKey": payment_key, "orderId": order_id, "amount": amount}
    return await send(toss, "POST", "/v1/payments/confirm", request, key=key)


async def cancel(toss: TossSandbox, payment_key: str, amount: int, *, key: str = "") -> tuple[int, Any]:
    request = {"cancelReason": "r", "cancelAmount": amount}
    return await send(toss, "POST", f"/v1/payments/{payment_key}/cancel", request, key=key)


async def test_the_secret_key_is_asked_for(toss: TossSandbox) -> None:
    for auth in ({}, {"Authorization": "Basic d3Jvbmc6"}):
        status, body = await send(toss, "GET", "/v1/payments/orders/o-1", auth=auth)
        assert (status, body["code"]) == (401, "UNAUTHORIZED_KEY")


async def test_one_idempotency_key_has_one_effect_and_one_answer(toss: TossSandbox) -> None:
    first = await confirm(toss, key="i-1")
    assert first[0] == 200
    assert await confirm(toss, key="i-1") == first
    assert (await confirm(toss, amount=2, key="i-1"))[1]["code"] == "INVALID_IDEMPOTENCY_KEY"
    assert (await confirm(toss, key="i-2"))[1]["code"] == "ALREADY_PROCESSED_PAYMENT"
    assert (await confirm(toss, key="x" * 301))[1]["code"] == "INVALID_IDEMPOTENCY_KEY"
    payment_key = first[1]["paymentKey"]
    back = await cancel(toss, payment_key, 300, key="i-3")
    assert await cancel(toss, payment_key, 300, key="i-3") == back
    assert (await cancel(toss, payment_key, 300))[1]["balanceAmount"] == 400
    (payment,) = toss.ledger.everything()
    assert [c.amount for c in payment.cancels] == [300, 300]


async def test_a_request_in_hand_is_not_begun_again(toss: TossSandbox) -> None:
    first = asyncio.create_task(confirm(toss, "test-late", key="i-1"))
    await asyncio.sleep(0.5)
    assert (await confirm(toss, "test-late", key="i-1"))[1]["code"] == "IDEMPOTENT_REQUEST_PROCESSING"
    assert (await first)[0] == 200
    assert len(toss.ledger.everything()) == 1


async def test_no_more_is_paid_back_than_was_captured(toss: TossSandbox) -> None:
    _, payment = await confirm(toss)
    payment_key = payment["paymentKey"]
    for amount in (1_001, 0, -5):
        assert (await cancel(toss, payment_key, amount))[1]["code"] == "NOT_CANCELABLE_AMOUNT"
    status, whole = await send(toss, "POST", f"/v1/payments/{payment_key}/cancel", {"cancelReason": "r"})
    assert (status, whole["status"], whole["balanceAmount"]) == (200, "CANCELED", 0)
    assert (await cancel(toss, payment_key, 1))[1]["code"] == "ALREADY_CANCELED_PAYMENT"


@pytest.mark.parametrize("request_body", [[], {}, {"paymentKey": 1, "orderId": "o", "amount": 1}, "text"])
async def test_what_is_no_request_is_refused(toss: TossSandbox, request_body: object) -> None:
    status, body = await send(toss, "POST", "/v1/payments/confirm", request_body)
    assert (status, body["code"]) == (400, "INVALID_REQUEST")


async def test_an_approval_holds_for_its_order_and_amount(toss: TossSandbox) -> None:
    request = {"orderId": "o-1", "amount": 1_000, "cardNumber": "4242 4242 4242 4242"}
    _, approval = await send(toss, "POST", "/sandbox/approve", request, auth={})
    assert approval["sandbox"] is True
    payment_key = approval["paymentKey"]
    assert (await confirm(toss, payment_key, amount=999))[1]["code"] == "INVALID_REQUEST"
    assert (await confirm(toss, payment_key, "o-2"))[1]["code"] == "INVALID_REQUEST"
    status, payment = await confirm(toss, payment_key)
    assert (status, payment["paymentKey"], payment["totalAmount"]) == (200, payment_key, 1_000)
    assert (await confirm(toss, payment_key, "o-2"))[1]["code"] == "ALREADY_PROCESSED_PAYMENT"
    assert (await confirm(toss, "sandbox_nobody"))[1]["code"] == "NOT_FOUND_PAYMENT_SESSION"
    assert (await confirm(toss, "live_key"))[1]["code"] == "NOT_FOUND_PAYMENT_SESSION"


@pytest.mark.parametrize("card", DECLINED_CARDS)
async def test_some_cards_are_refused(toss: TossSandbox, card: str) -> None:
    request = {"orderId": "o-1", "amount": 1_000, "cardNumber": card}
    _, approval = await send(toss, "POST", "/sandbox/approve", request, auth={})
    status, body = await confirm(toss, approval["paymentKey"])
    assert (status, body["code"]) == DECLINED_CARDS[card]
    assert toss.ledger.everything() == []


async def test_the_books_outlive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "sandbox" / "toss.sqlite"
    before = TossSandbox(path)
    await before.start()
    status, payment = await confirm(before, key="i-1")
    assert status == 200
    await cancel(before, payment["paymentKey"], 300)
    await before.stop()
    after = TossSandbox(path)
    await after.start()
    try:
        assert await confirm(after, key="i-1") == (200, payment)
        assert (await send(after, "GET", "/v1/payments/orders/o-1"))[1]["balanceAmount"] == 700
        assert (await send(after, "GET", "/sandbox/ledger", auth={}))[1] == {
            "sandbox": True,
            "orders": {"o-1": {"captures": 1, "captured": 1_000, "canceled": 300, "cancels": 1}},
        }
    finally:
        await after.stop()
