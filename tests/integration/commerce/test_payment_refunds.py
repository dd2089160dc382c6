"""Paying back: never more than was paid, once however often it is asked for, and by whom and until when."""

import asyncio
from typing import Any

import pytest

from domain.commerce.payment.capture import LEASE
from domain.commerce.payment.errors import (
    OutcomePending,
    PaymentFieldInvalid,
    PaymentNotCaptured,
    ProviderUnavailable,
    RefundDeclined,
    RefundExceedsPayment,
    RefundNotAllowed,
)
from domain.commerce.payment.models import CarriedOutRefund
from domain.commerce.payment.states import PaymentStatus
from domain.errors import AppError
from domain.principal import DEVELOPMENT, Principal
from infra.sandbox.toss import TossSandbox
from tests.integration.commerce.conftest import ADMIN, ALICE, Commerce
from tests.integration.commerce.paying import (
    PRICE_KRW,
    Instance,
    KnownDebts,
    assert_books_balance,
    instance,
    told,
)
from tests.integration.commerce.test_payment_captures import PowerFailure, crash


async def refund(
    one: Instance, payment_id: str, amount_krw: int | None = None, *, by: Principal = ALICE, reason: str = ""
) -> CarriedOutRefund:
    return await one.payments.refund(by, payment_id=payment_id, amount_krw=amount_krw, reason=reason)


async def test_parts_are_paid_back_up_to_the_whole(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        paid = await one.paid()
        first = await refund(one, paid.payment_id, 10_000, reason="하나 반품")
        assert (first.refund.amount_krw, first.payment_status) == (10_000, PaymentStatus.PARTIAL_REFUND)
        with pytest.raises(RefundExceedsPayment) as refused:
            await refund(one, paid.payment_id, PRICE_KRW)
        assert refused.value.details == {"asked_krw": "29900", "left_krw": "19900"}
        assert (await refund(one, paid.payment_id, 9_900)).payment_status == PaymentStatus.PARTIAL_REFUND
        rest = await refund(one, paid.payment_id)
        assert (rest.refund.amount_krw, rest.payment_status) == (10_000, PaymentStatus.REFUNDED)
        with pytest.raises(RefundExceedsPayment):
            await refund(one, paid.payment_id)
        async with commerce.database.read() as session:
            settled = await one.payments.settled(session, paid.payment_id)
        assert settled is not None
        assert (settled.amount_krw, settled.refunded_krw) == (PRICE_KRW, PRICE_KRW)
    events = await told(commerce, "payment.refunded")
    assert [(e["refund_amount_krw"], e["refunded_total_krw"], e["is_full"]) for e in events] == [
        (10_000, 10_000, False),
        (9_900, 19_900, False),
        (10_000, 29_900, True),
    ]
    (payment,) = toss.ledger.everything()
    assert [cancel.amount for cancel in payment.cancels] == [10_000, 9_900, 10_000]
    assert payment.cancels[0].reason == "하나 반품"
    await assert_books_balance(commerce, toss)


async def test_many_at_once_never_get_more_than_was_paid(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one, instance(commerce, toss) as other:
        paid = await one.paid(amount_krw=1_000)
        answers = await asyncio.gather(
            *(refund(one if n % 2 else other, paid.payment_id, 300) for n in range(20)), return_exceptions=True
        )
    done = [answer for answer in answers if isinstance(answer, CarriedOutRefund)]
    refused = [answer.reason for answer in answers if isinstance(answer, AppError)]
    assert (len(done), refused) == (3, ["REFUND_EXCEEDS_PAYMENT"] * 17)
    (payment,) = toss.ledger.everything()
    assert payment.balance == 100
    await assert_books_balance(commerce, toss)


async def test_what_is_in_hand_counts_as_paid_back(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one, instance(commerce, toss) as other:
        paid = await one.paid()
        refused: list[Any] = []

        async def ask_meanwhile() -> None:
            refused.extend(await asyncio.gather(refund(other, paid.payment_id, 1), return_exceptions=True))

        one.wire.before_refund = ask_meanwhile
        await refund(one, paid.payment_id)
    assert isinstance(refused[0], RefundExceedsPayment)
    await assert_books_balance(commerce, toss)


@pytest.mark.parametrize("key", ["test-refund-timeout", "test-refund-hang", "test-refund-500", "test-refund-error"])
async def test_a_lost_answer_is_asked_for_again_and_takes_effect_once(
    commerce: Commerce, toss: TossSandbox, key: str
) -> None:
    async with instance(commerce, toss, timeout_s=0.5) as one:
        paid = await one.paid(key=key)
        done = await refund(one, paid.payment_id, 9_900)
        assert done.payment_status == PaymentStatus.PARTIAL_REFUND
        assert [cancel.amount for cancel in toss.ledger.everything()[0].cancels] == [9_900]
    await assert_books_balance(commerce, toss)


@pytest.mark.parametrize("key", ["test-refund-timeout", "test-refund-hang", "test-refund-500", "test-refund-error"])
async def test_without_patience_the_background_carries_it_out_once(
    commerce: Commerce, toss: TossSandbox, key: str
) -> None:
    async with instance(commerce, toss, timeout_s=0.2, patience_s=0.1) as one:
        paid = await one.paid(key=key)
        with pytest.raises(OutcomePending):
            await refund(one, paid.payment_id, 9_900)
    async with instance(commerce, toss) as other, instance(commerce, toss) as third:
        commerce.clock.advance(minutes=1)
        claimed = await asyncio.gather(other.payments.settle_unclear(), third.payments.settle_unclear())
        assert sorted(claimed) == [0, 1]
        assert (await other.get(paid.payment_id)).status == PaymentStatus.PARTIAL_REFUND
    assert [cancel.amount for cancel in toss.ledger.everything()[0].cancels] == [9_900]
    assert len(await told(commerce, "payment.refunded")) == 1
    await assert_books_balance(commerce, toss)


@pytest.mark.parametrize("step", ["before the provider", "after the provider", "before the commit"])
async def test_a_crash_in_the_middle_is_settled_by_another_process(
    commerce: Commerce, toss: TossSandbox, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    async with instance(commerce, toss) as one:
        paid = await one.paid()
        match step:
            case "before the provider":
                one.wire.before_refund = crash
            case "after the provider":
                one.wire.after_refund = crash
            case _:
                monkeypatch.setattr(one.payments._refunds, "record", crash)
        with pytest.raises(PowerFailure):
            await refund(one, paid.payment_id, 900)
    async with instance(commerce, toss) as other:
        assert await other.payments.settle_unclear() == 0  # it could still be at it
        with pytest.raises(RefundExceedsPayment):
            await refund(other, paid.payment_id, PRICE_KRW)
        commerce.clock.advance(seconds=LEASE.total_seconds())
        assert await other.payments.settle_unclear() == 1
    assert [cancel.amount for cancel in toss.ledger.everything()[0].cancels] == [900]
    await assert_books_balance(commerce, toss)


async def test_a_refusal_leaves_the_amount_with_the_payment(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        paid = await one.paid(key="test-refund-decline")
        for _ in range(2):
            with pytest.raises(RefundDeclined) as refused:
                await refund(one, paid.payment_id)
            assert refused.value.code == "NOT_CANCELABLE_PAYMENT"
        assert (await one.get(paid.payment_id)).status == PaymentStatus.COMPLETED
    assert await told(commerce, "payment.refunded") == []
    await assert_books_balance(commerce, toss)


async def test_a_key_of_ours_that_is_refused_promises_nothing(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        paid = await one.paid()
        secret, toss.secret_key = toss.secret_key, "test_sk_of_yesterday"
        async with instance(commerce, toss) as misconfigured:
            with pytest.raises(ProviderUnavailable):
                await refund(misconfigured, paid.payment_id)
        toss.secret_key = secret
        assert (await refund(one, paid.payment_id)).payment_status == PaymentStatus.REFUNDED
    await assert_books_balance(commerce, toss)


async def test_nothing_is_paid_back_that_was_not_captured(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        opened = await one.open()
        with pytest.raises(PaymentNotCaptured):
            await refund(one, opened.payment_id)
    assert await commerce.fetch("SELECT 1 FROM refunds") == []


@pytest.mark.parametrize(("amount_krw", "reason"), [(-1, ""), (2**31, ""), (100, "x" * 201), (100, "a\0")])
async def test_refunds_that_cannot_be_meant_are_refused(
    commerce: Commerce, toss: TossSandbox, amount_krw: int, reason: str
) -> None:
    async with instance(commerce, toss) as one:
        paid = await one.paid()
        with pytest.raises(PaymentFieldInvalid):
            await refund(one, paid.payment_id, amount_krw, reason=reason)


async def test_a_payer_has_seven_days_and_an_administrator_has_longer(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        paid = await one.paid()
        commerce.clock.advance(days=7)
        assert (await refund(one, paid.payment_id, 100)).payment_status == PaymentStatus.PARTIAL_REFUND
        commerce.clock.advance(seconds=1)
        with pytest.raises(RefundNotAllowed, match="7 days"):
            await refund(one, paid.payment_id, 100)
        assert (await refund(one, paid.payment_id, 100, by=ADMIN)).refund.requested_by == "admin"
        assert (await refund(one, paid.payment_id, 100, by=DEVELOPMENT)).refund.amount_krw == 100
    await assert_books_balance(commerce, toss)


async def test_a_payer_does_not_take_back_what_is_on_its_way(commerce: Commerce, toss: TossSandbox) -> None:
    debts = KnownDebts()
    async with instance(commerce, toss, debts=debts) as one:
        paid = await one.paid()
        debts.shipped.add(paid.order_id)
        with pytest.raises(RefundNotAllowed, match="on its way"):
            await refund(one, paid.payment_id)
        assert (await refund(one, paid.payment_id, by=ADMIN)).payment_status == PaymentStatus.REFUNDED


async def test_a_requested_refund_is_carried_out_after_the_commit(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        paid = await one.paid()
        for _ in range(2):  # asked for again, there is nothing left to do
            async with commerce.database.transaction() as session:
                await one.payments.request_refund(session, payment_id=paid.payment_id, amount_krw=None, reason="")
                assert toss.ledger.everything()[0].cancels == ()
        with pytest.raises(PowerFailure):
            async with commerce.database.transaction() as session:
                await one.payments.request_refund(session, payment_id=paid.payment_id, amount_krw=None, reason="")
                raise PowerFailure
        assert await one.payments.settle_unclear() == 1
        async with commerce.database.transaction() as session:  # also after it, and of what never was
            await one.payments.request_refund(session, payment_id=paid.payment_id, amount_krw=None, reason="")
            await one.payments.request_refund(session, payment_id="unknown", amount_krw=None, reason="")
        assert await one.payments.settle_unclear() == 0
        assert (await one.get(paid.payment_id)).status == PaymentStatus.REFUNDED
    assert [cancel.amount for cancel in toss.ledger.everything()[0].cancels] == [PRICE_KRW]
    await assert_books_balance(commerce, toss)


async def test_what_the_provider_has_forgotten_is_not_repeated_but_told(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        paid = await one.paid()
        async with commerce.database.transaction() as session:
            await one.payments.request_refund(session, payment_id=paid.payment_id, amount_krw=None, reason="")
        commerce.clock.advance(days=14)
        assert await one.payments.settle_unclear() == 0
        assert toss.ledger.everything()[0].cancels == ()
