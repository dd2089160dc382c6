"""The real adapter over real sockets, against servers that do not behave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from domain.commerce.payment.errors import ProviderUnavailable
from domain.commerce.payment.ports import Declined, OutcomeUnclear
from infra.local.process import free_port
from infra.sandbox.toss import TossSandbox
from subgraphs.commerce.payment.adapters.toss import TossPayments
from subgraphs.runtime.settings import TossSettings
from tests.integration.commerce.conftest import toss_settings

Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(speak: Speak) -> AsyncIterator[TossPayments]:
    """The adapter, with a server that answers as `speak` does."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await speak(reader, writer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    gateway = TossPayments(
        TossSettings(secret_key=SecretStr("key"), api_url=f"http://127.0.0.1:{port}/", timeout_seconds=0.5)
    )
    try:
        yield gateway
    finally:
        await gateway.close()
        listening.close()


def answer(status: str, body: bytes, *, length: int | None = None) -> Speak:
    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length or len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return speak


async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def say_nothing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(2)


UNCLEAR: dict[str, Speak] = {
    "hangs up": hang_up,
    "says nothing": say_nothing,
    "speaks no HTTP": answer("what?", b""),
    "ends in the middle": answer("200 OK", b'{"paymentKey": "k"', length=500),
    "answers with a page": answer("200 OK", b"<html>"),
    "answers with nothing": answer("200 OK", b""),
    "sends elsewhere": answer("302 Found", b"{}"),
    "is a proxy without a backend": answer("502 Bad Gateway", b"<html>"),
    "limits": answer("429 Too Many Requests", b'{"code": "TOO_MANY_REQUESTS", "message": ""}'),
}


@pytest.mark.parametrize("name", UNCLEAR)
async def test_whatever_is_no_answer_leaves_the_outcome_open(name: str) -> None:
    async with server(UNCLEAR[name]) as gateway:
        with pytest.raises(OutcomeUnclear):
            await gateway.confirm(reference="p", payment_key="k", amount_krw=1, idempotency_key="i")
        with pytest.raises(OutcomeUnclear):
            await gateway.find("p")
        with pytest.raises(OutcomeUnclear):
            await gateway.refund(payment_key="k", amount_krw=1, reason="r", idempotency_key="i")


async def test_nobody_there_leaves_the_outcome_open() -> None:
    gateway = TossPayments(
        TossSettings(secret_key=SecretStr("key"), api_url=f"http://127.0.0.1:{free_port()}", timeout_seconds=1)
    )
    with pytest.raises(OutcomeUnclear):
        await gateway.find("p")
    await gateway.close()


async def test_a_refusal_to_tell_is_not_that_there_is_nothing() -> None:
    async with server(answer("403 Forbidden", b'{"code": "SOMETHING", "message": ""}')) as gateway:
        with pytest.raises(OutcomeUnclear):
            await gateway.find("p")
    async with server(answer("404 Not Found", b"<html>no such page</html>")) as gateway:
        with pytest.raises(OutcomeUnclear):  # a proxy's page: the provider says it in its own words
            await gateway.find("p")


async def test_keys_and_references_are_quoted_in_addresses(toss: TossSandbox) -> None:
    gateway = TossPayments(toss_settings(toss))
    for hostile in ("../sandbox/ledger", "a/../../x", "k?x=1", "k#x", "%2e%2e", "결제 키"):
        assert await gateway.find(hostile) is None
        with pytest.raises(Declined) as refused:
            await gateway.refund(payment_key=hostile, amount_krw=1, reason="r", idempotency_key=f"i-{hash(hostile)}")
        assert refused.value.code == "NOT_FOUND_PAYMENT"
    await gateway.close()


async def test_a_payment_is_found_with_its_refunds(toss: TossSandbox) -> None:
    gateway = TossPayments(toss_settings(toss))
    assert await gateway.find("payment-1") is None
    captured = await gateway.confirm(
        reference="payment-1", payment_key="test-k", amount_krw=1_000, idempotency_key="capture"
    )
    refunded = await gateway.refund(
        payment_key=captured.payment_key, amount_krw=400, reason="왜", idempotency_key="refund"
    )
    assert refunded.cancels == {refunded.transaction_id: 400}
    found = await gateway.find("payment-1")
    assert found == refunded
    assert (found.amount_krw, found.balance_krw, found.method) == (1_000, 600, "card")
    await gateway.close()


async def test_what_was_processed_under_another_idempotency_key_is_found(toss: TossSandbox) -> None:
    gateway = TossPayments(toss_settings(toss))
    first = await gateway.confirm(reference="payment-1", payment_key="test-k", amount_krw=1, idempotency_key="one")
    again = await gateway.confirm(reference="payment-1", payment_key="test-k", amount_krw=1, idempotency_key="two")
    assert again == first
    assert len(toss.ledger.everything()) == 1
    await gateway.close()


async def test_another_key_than_the_providers_is_our_own_fault(toss: TossSandbox) -> None:
    gateway = TossPayments(TossSettings(secret_key=SecretStr("wrong"), api_url=toss.url))
    with pytest.raises(ProviderUnavailable):
        await gateway.confirm(reference="p", payment_key="test-k", amount_krw=1, idempotency_key="i")
    assert toss.ledger.everything() == []
    await gateway.close()
