"""Charging a plan with the key of an approval: the same key and subscription move money once."""

import asyncio

import pytest

from domain.commerce.payment.errors import (
    AmountMismatch,
    OutcomePending,
    PaymentDeclined,
    PaymentFieldInvalid,
    PaymentKeyUsed,
)
from domain.commerce.payment.models import Payment, PaymentType
from domain.commerce.payment.repository import PaymentRepository
from domain.commerce.payment.states import PaymentStatus
from domain.commerce.terms import Debt, SettledPayment
from domain.ids import UserId
from infra.sandbox.toss import TossSandbox
from tests.integration.commerce.conftest import ALICE, Commerce
from tests.integration.commerce.paying import Instance, KnownDebts, assert_books_balance, instance, told

KEY = "test-pay-001"
PRO_KRW = 29_900


async def charge(
    one: Instance, key: str = KEY, *, subscription_id: str = "sub-1", amount_krw: int = PRO_KRW, user_id: str = "alice"
) -> SettledPayment:
    return await one.payments.charge(
        user_id=UserId(user_id), subscription_id=subscription_id, amount_krw=amount_krw, payment_key=key
    )


async def test_a_charge_is_a_captured_subscription_payment(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        charged = await charge(one)
        async with commerce.database.read() as session:
            assert await one.payments.settled(session, charged.payment_id) == charged
            assert await one.payments.settled(session, "unknown") is None
    assert (charged.amount_krw, charged.refunded_krw, charged.subscription_id) == (PRO_KRW, 0, "sub-1")
    (event,) = await told(commerce, "payment.completed")
    assert (event["payment_type"], event["subscription_id"]) == ("subscription", "sub-1")
    await assert_books_balance(commerce, toss)


async def test_charging_again_with_the_same_key_moves_nothing(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        first = await charge(one)
        assert await charge(one) == first
        with pytest.raises(AmountMismatch):
            await charge(one, amount_krw=1)
        with pytest.raises(AmountMismatch):
            await charge(one, user_id="bob")
        with pytest.raises(PaymentKeyUsed):
            await charge(one, subscription_id="sub-2")
    assert len(toss.ledger.everything()) == 1


async def test_many_charges_at_once_move_money_once(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one, instance(commerce, toss) as other:
        charged = await asyncio.gather(*(charge(one if n % 2 else other) for n in range(20)))
    assert len({payment.payment_id for payment in charged}) == 1
    assert len(toss.ledger.everything()) == 1
    await assert_books_balance(commerce, toss)


async def test_a_charge_that_begins_between_look_up_and_opening_moves_nothing_more(
    commerce: Commerce, toss: TossSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with instance(commerce, toss) as one, instance(commerce, toss) as other:
        looked_up, overtaking = PaymentRepository.live_with_key, list[asyncio.Task[SettledPayment]]()

        async def be_overtaken(self: PaymentRepository, subscription_id: str, payment_key: str) -> Payment | None:
            found = await looked_up(self, subscription_id, payment_key)
            if not overtaking:
                overtaking.append(asyncio.create_task(charge(other)))
                await asyncio.wait(overtaking, timeout=0.5)
            return found

        monkeypatch.setattr(PaymentRepository, "live_with_key", be_overtaken)
        mine = await charge(one)
        assert await overtaking[0] == mine
    assert len(toss.ledger.everything()) == 1


async def test_a_lost_answer_is_found_by_charging_again(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss, timeout_s=0.2, patience_s=0.1) as one:
        with pytest.raises(OutcomePending):
            await charge(one, "test-timeout")
    async with instance(commerce, toss) as one:
        commerce.clock.advance(minutes=1)
        answers = await asyncio.gather(charge(one, "test-timeout"), one.payments.settle_unclear())
        assert answers[0].amount_krw == PRO_KRW
    assert len(toss.ledger.everything()) == 1
    await assert_books_balance(commerce, toss)


async def test_a_refused_charge_can_be_made_with_another_card(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        with pytest.raises(PaymentDeclined):
            await charge(one, "test-decline")
        with pytest.raises(PaymentDeclined):
            await charge(one, "no-approval-of-anybody")
        with pytest.raises(PaymentFieldInvalid):
            await charge(one, "")
        assert (await charge(one)).amount_krw == PRO_KRW
    await assert_books_balance(commerce, toss)


async def test_a_refunded_charge_can_be_made_again_with_another_key(commerce: Commerce, toss: TossSandbox) -> None:
    async with instance(commerce, toss) as one:
        first = await charge(one)
        await one.payments.refund(ALICE, payment_id=first.payment_id, amount_krw=None, reason="")
        with pytest.raises(PaymentKeyUsed):
            await charge(one)
        assert (await charge(one, "test-pay-002")).payment_id != first.payment_id
    await assert_books_balance(commerce, toss)


async def test_the_newer_wish_replaces_an_open_payment_of_another_amount(commerce: Commerce, toss: TossSandbox) -> None:
    debts = KnownDebts(subscriptions={"sub-1": Debt(UserId("alice"), 9_900, is_open=True)})
    async with instance(commerce, toss, debts=debts) as one:
        async with commerce.database.transaction() as session:
            waiting = await one.payments.create(
                session,
                ALICE,
                user_id="",
                order_id="",
                subscription_id="sub-1",
                payment_type=PaymentType.SUBSCRIPTION,
                amount_krw=9_900,
                payment_method="card",
            )
        assert (await charge(one)).amount_krw == PRO_KRW
        assert (await one.get(waiting.payment_id)).status == PaymentStatus.CANCELLED
    await assert_books_balance(commerce, toss)
