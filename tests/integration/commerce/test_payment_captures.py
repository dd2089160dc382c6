"""A payment is charged exactly once: by many at once, over broken connections, through crashes, in any number of processes."""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.pool import QueuePool
from structlog.testing import capture_logs

from domain.commerce.books import PAYMENT_CHECKS, check_books
from domain.commerce.payment.capture import LEASE
from domain.commerce.payment.errors import (
    AmountMismatch,
    OutcomePending,
    PaymentDeclined,
    PaymentKeyUsed,
    ProviderUnavailable,
)
from domain.commerce.payment.models import Payment
from domain.commerce.payment.ports import Declined, OutcomeUnclear, ProviderPayment
from domain.commerce.payment.states import PaymentStatus
from infra.sandbox.toss import TossSandbox
from infra.sandbox.toss_ledger import Approval
from tests.integration.commerce.conftest import ALICE, Commerce
from tests.integration.commerce.paying import KEY, PRICE_KRW, Instance, assert_books_balance, instance, told
from tests.support.patience import PATIENCE_S
from tests.support.postgres import PostgresServer

ROOT = Path(__file__).resolve().parents[3]


class PowerFailure(BaseException):
    """The process ends here; nothing catches it."""


async def crash(*_: Any) -> None:
    raise PowerFailure


async def confirm(one: Instance, payment_id: str, key: str = KEY) -> Payment:
    return await one.payments.confirm(ALICE, payment_id=payment_id, payment_key=key)


async def assert_charged_once(commerce: Commerce, toss: TossSandbox, payment_id: str) -> None:
    (charged,) = toss.ledger.everything()
    assert (charged.order_id, charged.amount, charged.balance) == (payment_id, PRICE_KRW, PRICE_KRW)
    (event,) = await told(commerce, "payment.completed")
    assert (event["payment_id"], event["amount_krw"]) == (payment_id, PRICE_KRW)
    assert await told(commerce, "payment.failed") == []
    await assert_books_balance(commerce, toss)


async def test_fifty_clients_at_once_charge_once_and_get_the_same_answer(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one, instance(commerce, toss) as other:
        opened = await one.open()
        answers = await asyncio.gather(
            *(confirm(one if n % 2 else other, opened.payment_id, f"test-client-{n}") for n in range(50))
        )
    assert {(a.status, a.pg_transaction_id) for a in answers} == {("completed", answers[0].pg_transaction_id)}
    await assert_charged_once(commerce, toss, opened.payment_id)


async def test_who_comes_while_it_is_captured_waits_for_the_outcome(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one, instance(commerce, toss) as other:
        opened = await one.open()
        waiting: list[asyncio.Task[Payment]] = []

        async def somebody_else_comes() -> None:
            waiting.append(asyncio.create_task(confirm(other, opened.payment_id)))
            await asyncio.sleep(0.3)
            assert not waiting[0].done()

        one.wire.before_confirm = somebody_else_comes
        mine = await confirm(one, opened.payment_id)
        theirs = await waiting[0]
    assert theirs.pg_transaction_id == mine.pg_transaction_id
    await assert_charged_once(commerce, toss, opened.payment_id)


async def test_confirming_again_later_changes_nothing(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        paid = await one.paid()
        again = await confirm(one, paid.payment_id, "test-another-key")
        assert again.pg_transaction_id == paid.pg_transaction_id
        await assert_charged_once(commerce, toss, paid.payment_id)
        await one.payments.refund(ALICE, payment_id=paid.payment_id, amount_krw=None, reason="")
        assert (await confirm(one, paid.payment_id)).status == PaymentStatus.REFUNDED
    assert len(toss.ledger.everything()) == 1


@pytest.mark.parametrize("key", ["test-timeout", "test-hang", "test-500", "test-error", "test-late"])
async def test_whatever_the_wire_does_one_call_finds_the_outcome_out(
    commerce: Commerce, toss: TossSandbox, key: str
) -> None:
    async with instance(commerce, toss, timeout_s=0.5) as one:
        opened = await one.open()
        paid = await confirm(one, opened.payment_id, key)
        assert len(one.wire.idempotency_keys) == 1  # however often it was asked
    assert paid.status == PaymentStatus.COMPLETED
    await assert_charged_once(commerce, toss, opened.payment_id)


@pytest.mark.parametrize("key", ["test-timeout", "test-hang", "test-500", "test-error", "test-late"])
async def test_without_patience_the_background_finds_it_out(commerce: Commerce, toss: TossSandbox, key: str) -> None:
    async with instance(commerce, toss, timeout_s=0.3, patience_s=0.1) as one:
        opened = await one.open()
        with pytest.raises(OutcomePending) as pending:
            await confirm(one, opened.payment_id, key)
        assert pending.value.details == {"payment_id": opened.payment_id}
        assert await one.payments.settle_unclear() == 0  # not at once: it has its time
    async with instance(commerce, toss) as other:
        commerce.clock.advance(minutes=1)
        deadline = time.monotonic() + 30  # the late answer is late by the provider's clock, not by ours
        while (await other.get(opened.payment_id)).status != PaymentStatus.COMPLETED:
            assert time.monotonic() < deadline
            assert await other.payments.settle_unclear() == 1
            commerce.clock.advance(minutes=6)
            await asyncio.sleep(0.1)
        assert (await confirm(other, opened.payment_id)).status == PaymentStatus.COMPLETED
    await assert_charged_once(commerce, toss, opened.payment_id)


@pytest.mark.parametrize("step", ["before the provider", "after the provider", "before the commit"])
async def test_a_crash_in_the_middle_is_settled_by_another_process(
    commerce: Commerce, toss: TossSandbox, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    async with instance(commerce, toss) as one:
        opened = await one.open()
        match step:
            case "before the provider":
                one.wire.before_confirm = crash
            case "after the provider":
                one.wire.after_confirm = crash
            case _:
                recorded = one.payments._capture.record

                async def record(session: AsyncSession, *rest: Any) -> None:
                    await recorded(session, *rest)
                    raise PowerFailure

                monkeypatch.setattr(one.payments._capture, "record", record)
        with pytest.raises(PowerFailure):
            await confirm(one, opened.payment_id)
    async with instance(commerce, toss, patience_s=0.2) as other:
        assert (await other.get(opened.payment_id)).status == PaymentStatus.CONFIRMING
        assert await other.payments.settle_unclear() == 0  # it could still be at it
        with pytest.raises(OutcomePending):
            await confirm(other, opened.payment_id)
    async with instance(commerce, toss) as other, instance(commerce, toss) as third:
        commerce.clock.advance(seconds=LEASE.total_seconds())
        claimed = await asyncio.gather(other.payments.settle_unclear(), third.payments.settle_unclear())
        assert sorted(claimed) == [0, 1]
        assert (await confirm(other, opened.payment_id)).status == PaymentStatus.COMPLETED
    await assert_charged_once(commerce, toss, opened.payment_id)


@pytest.mark.parametrize("key", ["test-timeout", "test-hang"])  # killed after the capture, and before it
async def test_a_process_killed_while_the_provider_is_asked_charges_once(
    commerce: Commerce, toss: TossSandbox, postgres: PostgresServer, key: str
) -> None:
    async with instance(commerce, toss) as one:
        opened = await one.open()
        told_settings = postgres.settings.model_dump(mode="json", by_alias=True)
        told_settings["DB_PASSWORD"] = postgres.settings.password.get_secret_value()
        arguments = (commerce.database.name, toss.url, toss.secret_key, opened.payment_id, key)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.commerce.payer", json.dumps(told_settings), *arguments),
            env={"PYTHONPATH": ".:proto", "PATH": "/usr/bin:/bin"},
            cwd=ROOT,
        )
        deadline = time.monotonic() + 60
        while not toss.ledger.was_asked(f"confirm {key} {opened.payment_id}"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        process.kill()
        await process.wait()
        assert (await one.get(opened.payment_id)).status == PaymentStatus.CONFIRMING
        assert len(toss.ledger.everything()) == (key == "test-timeout")
        commerce.clock.advance(seconds=(datetime.now(UTC) - commerce.clock.now()).total_seconds())  # its clock was real
        assert await one.payments.settle_unclear() == 0
        commerce.clock.advance(seconds=LEASE.total_seconds())
        assert await one.payments.settle_unclear() == 1
        assert (await confirm(one, opened.payment_id)).status == PaymentStatus.COMPLETED
    await assert_charged_once(commerce, toss, opened.payment_id)


async def test_a_client_that_hangs_up_in_the_middle_is_charged_once(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        opened = await one.open()
        asked = asyncio.Event()

        async def take_long() -> None:
            asked.set()
            await asyncio.sleep(60)

        one.wire.after_confirm = take_long
        call = asyncio.create_task(confirm(one, opened.payment_id))
        await asyncio.wait_for(asked.wait(), PATIENCE_S)
        call.cancel()
        await asyncio.wait([call])
        commerce.clock.advance(seconds=LEASE.total_seconds())
        assert await one.payments.settle_unclear() == 1
        assert (await confirm(one, opened.payment_id)).status == PaymentStatus.COMPLETED
    await assert_charged_once(commerce, toss, opened.payment_id)


async def test_two_at_work_on_one_attempt_do_no_harm(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as slow, instance(commerce, toss) as other:
        opened = await slow.open()

        async def be_overtaken() -> None:
            commerce.clock.advance(seconds=LEASE.total_seconds())
            assert await other.payments.settle_unclear() == 1

        slow.wire.after_confirm = be_overtaken
        assert (await confirm(slow, opened.payment_id)).status == PaymentStatus.COMPLETED
    await assert_charged_once(commerce, toss, opened.payment_id)


async def test_no_connection_is_held_while_the_provider_is_asked(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        opened = await one.open()
        held: list[int] = []
        pool = commerce.database.engine.pool
        assert isinstance(pool, QueuePool)

        async def look() -> None:
            held.append(pool.checkedout())

        one.wire.before_confirm = one.wire.after_confirm = one.wire.before_refund = look
        await confirm(one, opened.payment_id)
        await one.payments.refund(ALICE, payment_id=opened.payment_id, amount_krw=None, reason="")
    assert held == [0, 0, 0]


async def test_a_refusal_fails_the_payment_for_all_who_ask_and_is_told(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        opened = await one.open()
        answers = await asyncio.gather(
            *(confirm(one, opened.payment_id, "test-decline") for _ in range(5)), return_exceptions=True
        )
        assert [getattr(a, "details", a) for a in answers] == [{"provider_code": "REJECT_CARD_PAYMENT"}] * 5
        with pytest.raises(PaymentDeclined, match="잔액부족"):
            await confirm(one, opened.payment_id)  # it stays refused
        failed = await one.get(opened.payment_id)
        assert (failed.status, failed.failure_code) == ("failed", "REJECT_CARD_PAYMENT")
        (event,) = await told(commerce, "payment.failed")
        assert (event["code"], event["payment_id"]) == ("REJECT_CARD_PAYMENT", opened.payment_id)
        assert await told(commerce, "payment.completed") == []
        assert (await one.open()).payment_id != opened.payment_id  # the payer may try with another card
    await assert_books_balance(commerce, toss)


async def test_a_refusal_is_not_believed_when_the_first_request_has_captured_meanwhile(
    commerce: Commerce, toss: TossSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with instance(commerce, toss) as one:
        opened = await one.open()
        real, asked = one.wire.real.confirm, 0

        async def arrive_late(**request: Any) -> ProviderPayment:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise OutcomeUnclear("on its way")
            await real(**request)  # the first request arrives, and then the second one is refused for it
            raise Declined("NOT_FOUND_PAYMENT_SESSION", "too late")

        monkeypatch.setattr(one.wire.real, "confirm", arrive_late)
        assert (await confirm(one, opened.payment_id)).status == PaymentStatus.COMPLETED
    await assert_charged_once(commerce, toss, opened.payment_id)


async def test_an_unknown_key_is_a_refusal(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        opened = await one.open()
        with pytest.raises(PaymentDeclined) as refused:
            await confirm(one, opened.payment_id, "nobody/approved?this#../../")
    assert refused.value.code == "NOT_FOUND_PAYMENT_SESSION"


async def test_an_approval_pays_for_one_payment_only(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        first = await one.open(order_id="order-1")
        second = await one.open(order_id="order-2")
        approval = toss.ledger.approve(_approval(first.payment_id))
        assert (await confirm(one, first.payment_id, approval)).status == PaymentStatus.COMPLETED
        with pytest.raises(PaymentKeyUsed):
            await confirm(one, second.payment_id, approval)
    assert [payment.order_id for payment in toss.ledger.everything()] == [first.payment_id]
    await assert_books_balance(commerce, toss)


async def test_what_a_provider_captured_wrongly_is_refused_and_logged(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        opened = await one.open()
        with capture_logs() as logs, pytest.raises(AmountMismatch):
            await confirm(one, opened.payment_id, "test-lie")
        assert [entry for entry in logs if entry["log_level"] == "error"] == [
            {
                "event": "provider captured another amount",
                "log_level": "error",
                "payment_id": opened.payment_id,
                "asked_krw": PRICE_KRW,
                "captured_krw": PRICE_KRW + 1,
            }
        ]
        with pytest.raises(AmountMismatch):
            await confirm(one, opened.payment_id)
        assert (await one.get(opened.payment_id)).status == PaymentStatus.FAILED
    (event,) = await told(commerce, "payment.failed")
    assert event["code"] == "AMOUNT_MISMATCH"
    async with commerce.database.read() as session:
        (difference,) = await check_books(session, PAYMENT_CHECKS)  # the money is still there
    assert difference.subject == opened.payment_id
    assert "settled by hand" in difference.says


async def test_what_a_provider_says_of_another_payment_is_not_believed(
    commerce: Commerce, toss: TossSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with instance(commerce, toss) as one:
        opened = await one.open()
        monkeypatch.setattr(one.wire.real, "confirm", _confused(one.wire.real.confirm))
        with capture_logs() as logs:
            paid = await confirm(one, opened.payment_id)
        assert paid.status == PaymentStatus.COMPLETED  # for it was asked what it has under our reference
        assert "provider speaks of another payment" in [entry["event"] for entry in logs]
    await assert_charged_once(commerce, toss, opened.payment_id)


async def test_a_key_of_ours_that_is_refused_fails_nobody(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        opened = await one.open()
        secret, toss.secret_key = toss.secret_key, "test_sk_of_yesterday"
        async with instance(commerce, toss) as misconfigured:
            with capture_logs() as logs, pytest.raises(ProviderUnavailable):
                await confirm(misconfigured, opened.payment_id)
        assert [entry["log_level"] for entry in logs] == ["error"]
        assert "test_sk_of_yesterday" not in str(logs)
        assert (await one.get(opened.payment_id)).status == PaymentStatus.PENDING
        toss.secret_key = secret
        assert (await confirm(one, opened.payment_id)).status == PaymentStatus.COMPLETED
    await assert_charged_once(commerce, toss, opened.payment_id)


async def test_a_key_that_is_refused_after_a_lost_answer_leaves_the_outcome_open(
    commerce: Commerce, toss: TossSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with instance(commerce, toss, patience_s=1.0) as one:
        opened = await one.open()

        async def lose_the_answer_and_the_key() -> None:
            async def refused(_reference: str) -> ProviderPayment | None:
                raise ProviderUnavailable

            monkeypatch.setattr(one.wire.real, "find", refused)
            raise OutcomeUnclear("lost")

        one.wire.after_confirm = lose_the_answer_and_the_key
        with pytest.raises(OutcomePending):
            await confirm(one, opened.payment_id)
        assert (await one.get(opened.payment_id)).status == PaymentStatus.CONFIRMING
    async with instance(commerce, toss) as other:
        commerce.clock.advance(minutes=1)
        assert await other.payments.settle_unclear() == 1
    await assert_charged_once(commerce, toss, opened.payment_id)


async def test_one_outcome_that_cannot_be_written_down_keeps_no_other_waiting(
    commerce: Commerce, toss: TossSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with instance(commerce, toss, timeout_s=0.3, patience_s=0.1) as one:
        ids = []
        for number in range(3):
            ids.append((await one.open(order_id=f"order-{number}")).payment_id)
            with pytest.raises(OutcomePending):
                await confirm(one, ids[-1], f"test-timeout-{number}")
    async with instance(commerce, toss) as other:
        recorded = other.payments._capture.record

        async def record(session: AsyncSession, asking: Any, verdict: Any) -> None:
            if asking.payment_id == ids[0]:
                raise RuntimeError("a bug")
            await recorded(session, asking, verdict)

        monkeypatch.setattr(other.payments._capture, "record", record)
        commerce.clock.advance(minutes=1)
        with pytest.raises(ExceptionGroup, match="could not be settled"):
            await other.payments.settle_unclear()
        states = [(await other.get(payment_id)).status for payment_id in ids]
    assert states == ["confirming", "completed", "completed"]


def _approval(payment_id: str) -> Approval:
    return Approval(order_id=payment_id, amount=PRICE_KRW, card_number="", approved_at=time.time())


def _confused(real: Callable[..., Any]) -> Callable[..., Any]:
    async def confirm(**request: Any) -> ProviderPayment:
        answer: ProviderPayment = await real(**request)
        return replace(answer, reference="somebody-elses")

    return confirm
