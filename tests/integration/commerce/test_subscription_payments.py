"""What payments mean for plans: told twice, in any order, and taken back."""

from collections.abc import Mapping
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.commerce.payment.errors import PaymentDeclined
from domain.commerce.subscription.models import PlanChange, SubscriptionStatus
from domain.commerce.terms import Tier
from infra.sandbox.toss import TossSandbox
from tests.integration.commerce.conftest import ADMIN, ALICE, Commerce, person
from tests.integration.commerce.subscribing import (
    cancel,
    create,
    deliver,
    deliver_payments,
    events,
    get,
    open_payment,
    pay,
    settle_refunds,
    subscribed,
    sweep,
    told,
    update,
)

Event = tuple[str, Mapping[str, Any]]

_names = count()


def completed(payment_id: str, owed: PlanChange, amount_krw: int, at: str = "2026-11-22T09:00:00Z") -> Event:
    return "payment.completed", {**_of(payment_id, owed, amount_krw), "completed_at": at}


def failed(payment_id: str, owed: PlanChange, amount_krw: int) -> Event:
    return "payment.failed", {**_of(payment_id, owed, amount_krw), "failed_at": "2026-11-22T09:00:00Z"}


def refunded(payment_id: str, owed: PlanChange, amount_krw: int, total_krw: int) -> Event:
    return "payment.refunded", {
        **_of(payment_id, owed, amount_krw),
        "refunded_total_krw": total_krw,
        "is_full": total_krw == amount_krw,
        "refunded_at": "2026-11-22T09:00:00Z",
    }


def _of(payment_id: str, owed: PlanChange, amount_krw: int) -> Mapping[str, Any]:
    subscription = owed.standing.subscription
    return {
        "payment_id": payment_id,
        "user_id": subscription.user_id,
        "subscription_id": subscription.subscription_id,
        "amount_krw": amount_krw,
    }


async def state(commerce: Commerce, user_id: str) -> tuple[object, ...]:
    """Everything that must not depend on the order in which events came."""
    shown = await get(commerce, person(user_id))
    row = shown.standing.subscription
    charges = await commerce.fetch(
        "SELECT status, amount_krw, payment_id, refunded_krw, period_ends_at FROM subscription_charges "
        "WHERE subscription_id = $1 AND status <> 'failed' ORDER BY status, payment_id",
        row.subscription_id,
    )
    fates = await commerce.fetch(
        "SELECT payment_id, fate FROM subscription_payments WHERE subscription_id = $1 ORDER BY payment_id",
        row.subscription_id,
    )
    return shown.standing.status, shown.standing.tier, row.expires_at, row.credit_krw, charges, fates


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_a_refused_and_a_captured_payment_leave_the_same_plan_in_every_order(
    commerce: Commerce, data: st.DataObject
) -> None:
    """A first try was refused, a second one captured, and perhaps paid back."""
    number = next(_names)
    user_id = f"person-{number}"
    total_krw = data.draw(st.sampled_from([0, 10_000, 29_900]))
    owed = await create(commerce, Tier.PRO, person(user_id))
    first, second = f"{number}-a", f"{number}-b"
    told_once: list[Event] = [failed(first, owed, 29_900), completed(second, owed, 29_900)]
    if total_krw:
        told_once.append(refunded(second, owed, 29_900, total_krw))
    if total_krw == 29_900 and data.draw(st.booleans()):
        told_once.append(refunded(second, owed, 29_900, 10_000))
    in_order = [*told_once]
    shuffled = data.draw(st.permutations([*told_once, *told_once]))
    await deliver(commerce, shuffled)
    seen = await state(commerce, user_id)

    twin_id = f"twin-{number}"
    twin = await create(commerce, Tier.PRO, person(twin_id))
    renamed = [
        (topic, {**payload, **_of(payload["payment_id"].replace(str(number), f"t{number}", 1), twin, 29_900)})
        for topic, payload in in_order
    ]
    await deliver(commerce, renamed)
    expected = await state(commerce, twin_id)
    assert _without_names(seen) == _without_names(expected)


def _without_names(seen: tuple[object, ...]) -> tuple[object, ...]:
    *plain, charges, fates = seen
    assert isinstance(charges, list)
    assert isinstance(fates, list)
    return (
        *plain,
        [{**row, "payment_id": (row["payment_id"] or "")[-2:]} for row in charges],
        [{**row, "payment_id": row["payment_id"][-2:]} for row in fates],
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_payments_that_are_not_owed_go_back_in_every_order(commerce: Commerce, data: st.DataObject) -> None:
    """Of two payments for one period and one of another amount, one is taken, and the other two are paid back."""
    number = next(_names)
    user_id = f"person-{number}"
    owed = await create(commerce, Tier.PRO, person(user_id))
    payments = [completed(f"{number}-a", owed, 29_900), completed(f"{number}-b", owed, 29_900)]
    odd = completed(f"{number}-c", owed, 29_899)
    shuffled = data.draw(st.permutations([*payments, odd, *payments, odd]))
    await deliver(commerce, shuffled)
    status, tier, expires_at, credit_krw, charges, fates = await state(commerce, user_id)
    assert (status, tier, credit_krw) == (SubscriptionStatus.ACTIVE, Tier.PRO, 0)
    assert expires_at == commerce.clock.now() + timedelta(days=30)
    assert isinstance(charges, list)
    assert len(charges) == 1
    assert isinstance(fates, list)
    assert sorted(row["fate"] for row in fates) == ["applied", "returned", "returned"]
    assert fates[2]["fate"] == "returned"


async def test_a_payment_that_is_not_owed_is_paid_back_whole(commerce: Commerce, toss: TossSandbox) -> None:
    owed = await create(commerce, Tier.PRO)
    await pay(commerce, owed)
    await commerce.fetch("UPDATE subscription_charges SET status = 'void'")  # given up meanwhile
    await deliver_payments(commerce)
    await deliver_payments(commerce)
    await settle_refunds(commerce)
    (payment,) = toss.ledger.everything()
    assert (payment.amount, payment.balance) == (29_900, 0)
    assert (await get(commerce)).standing.tier is Tier.FREE


async def test_a_refused_first_payment_leaves_the_free_plan_and_another_start(commerce: Commerce) -> None:
    owed = await create(commerce, Tier.PRO)
    payment = await open_payment(commerce, owed)
    with pytest.raises(PaymentDeclined):
        await commerce.services.payments.confirm(ALICE, payment_id=payment.payment_id, payment_key="test-decline")
    await deliver_payments(commerce)
    after = await get(commerce)
    assert (after.standing.status, after.standing.tier, after.due) == (SubscriptionStatus.EXPIRED, Tier.FREE, None)
    assert (await create(commerce, Tier.PRO)).due is not None


async def test_a_late_payment_does_not_start_a_plan_beside_another_one(commerce: Commerce) -> None:
    owed = await create(commerce, Tier.PRO)
    await deliver(commerce, [failed("a", owed, 29_900)])
    again = await create(commerce, Tier.BASIC)
    await deliver(commerce, [completed("b", owed, 29_900)])
    assert (await get(commerce)).standing.subscription.subscription_id == again.standing.subscription.subscription_id
    assert (await commerce.fetch("SELECT fate FROM subscription_payments WHERE payment_id = 'b'"))[0][
        "fate"
    ] == "returned"


async def test_a_refused_upgrade_leaves_the_plan(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.BASIC)
    owed = await update(commerce, Tier.PRO)
    await deliver(commerce, [failed("a", owed, 20_000)])
    after = await get(commerce)
    assert (after.standing.status, after.standing.tier, after.due) == (SubscriptionStatus.ACTIVE, Tier.BASIC, None)


async def test_credit_that_a_refused_upgrade_had_taken_comes_back(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.PRO)
    commerce.clock.advance(days=15)
    assert (await update(commerce, Tier.BASIC)).standing.subscription.credit_krw == 10_000
    owed = await update(commerce, Tier.CLINICAL)
    assert owed.due is not None
    assert (owed.due.amount_krw, owed.due.credit_used_krw) == (15_000, 10_000)
    assert (await get(commerce)).standing.subscription.credit_krw == 0
    await deliver(commerce, [failed("a", owed, 15_000)])
    assert (await get(commerce)).standing.subscription.credit_krw == 10_000


async def test_a_plan_that_was_paid_back_ends_at_once(commerce: Commerce, toss: TossSandbox) -> None:
    paid = await subscribed(commerce, Tier.BASIC)
    await update(commerce, Tier.PRO, "test-upgrade")
    (first,) = await commerce.fetch("SELECT payment_id FROM subscription_charges WHERE kind = 'start'")
    commerce.clock.advance(days=2)
    await commerce.services.payments.refund(ALICE, payment_id=str(first["payment_id"]), amount_krw=None, reason="")
    await deliver_payments(commerce)
    await settle_refunds(commerce)
    await deliver_payments(commerce)
    after = (await get(commerce)).standing
    assert (after.status, after.tier) == (SubscriptionStatus.EXPIRED, Tier.FREE)
    assert after.subscription.subscription_id == paid.standing.subscription.subscription_id
    assert sum(payment.balance for payment in toss.ledger.everything()) == 0  # the upgrade went back with it
    assert (await told(commerce, "subscription.changed"))[-1]["reason"] == "refunded"
    assert len([row for row in await told(commerce, "subscription.changed") if row["reason"] == "refunded"]) == 1


async def test_an_upgrade_that_was_paid_back_leaves_the_plan_before(commerce: Commerce) -> None:
    paid = await subscribed(commerce, Tier.BASIC)
    await update(commerce, Tier.PRO, "test-upgrade")
    (upgrade,) = await commerce.fetch("SELECT payment_id FROM subscription_charges WHERE kind = 'upgrade'")
    await commerce.services.payments.refund(ALICE, payment_id=str(upgrade["payment_id"]), amount_krw=None, reason="")
    await deliver_payments(commerce)
    after = (await get(commerce)).standing
    assert (after.status, after.tier, after.subscription.credit_krw) == (SubscriptionStatus.ACTIVE, Tier.BASIC, 0)
    assert after.subscription.expires_at == paid.standing.subscription.expires_at


async def test_the_worth_of_an_upgrade_is_not_had_twice(commerce: Commerce, toss: TossSandbox) -> None:
    """Down again for credit, and then the upgrade's money back: the credit goes, and so does the plan."""
    await subscribed(commerce, Tier.BASIC)
    await update(commerce, Tier.CLINICAL, "test-upgrade")
    assert (await update(commerce, Tier.BASIC)).standing.subscription.credit_krw == 50_000
    (upgrade,) = await commerce.fetch("SELECT payment_id FROM subscription_charges WHERE kind = 'upgrade'")
    await commerce.services.payments.refund(ADMIN, payment_id=str(upgrade["payment_id"]), amount_krw=None, reason="")
    await deliver_payments(commerce)
    await settle_refunds(commerce)
    after = (await get(commerce)).standing
    assert (after.tier, after.subscription.credit_krw) == (Tier.FREE, 0)
    assert sum(payment.balance for payment in toss.ledger.everything()) == 0


async def test_a_part_that_is_paid_back_takes_its_days(commerce: Commerce) -> None:
    """Nobody keeps a month for the won that was not paid back."""
    owed = await create(commerce, Tier.PRO)
    await deliver(commerce, [completed("a", owed, 29_900)])
    await deliver(commerce, [refunded("a", owed, 29_900, 14_950)])
    after = (await get(commerce)).standing
    assert after.subscription.expires_at == commerce.clock.now() + timedelta(days=15)
    assert after.tier is Tier.PRO
    await deliver(commerce, [refunded("a", owed, 29_900, 29_899)])
    after = (await get(commerce)).standing
    assert (after.status, after.tier) == (SubscriptionStatus.EXPIRED, Tier.FREE)


async def test_a_renewal_that_is_paid_back_is_taken_off(commerce: Commerce) -> None:
    paid = await subscribed(commerce, Tier.PRO)
    first_end = paid.standing.subscription.expires_at
    assert first_end is not None
    commerce.clock.advance(days=28)
    await sweep(commerce)
    renewal = await pay(commerce, await get(commerce))
    await deliver_payments(commerce)
    extended = (await get(commerce)).standing.subscription.expires_at
    assert extended is not None
    assert extended > first_end + timedelta(days=27)
    await commerce.services.payments.refund(ADMIN, payment_id=renewal, amount_krw=None, reason="")
    await deliver_payments(commerce)
    after = (await get(commerce)).standing
    assert (after.status, after.tier, after.subscription.expires_at) == (SubscriptionStatus.ACTIVE, Tier.PRO, first_end)


async def test_a_period_that_is_taken_out_of_the_middle_moves_the_later_ones_up(commerce: Commerce) -> None:
    owed = await create(commerce, Tier.PRO)
    await deliver(commerce, [completed("a", owed, 29_900), refunded("a", owed, 29_900, 28_000)])  # one day is left
    now = commerce.clock.now()
    for name in ("b", "c"):
        await sweep(commerce)
        asked = await get(commerce)
        assert asked.due is not None
        await deliver(commerce, [completed(name, asked, 29_900)])
        if name == "b":  # one more day: the next renewal is asked for already
            await deliver(commerce, [refunded("b", asked, 29_900, 28_000)])
    before = (await get(commerce)).standing.subscription.expires_at
    assert before is not None
    await deliver(commerce, [refunded("b", owed, 29_900, 29_900)])
    after = (await get(commerce)).standing
    assert after.subscription.expires_at == before - timedelta(days=1)
    rows = await commerce.fetch(
        "SELECT payment_id, period_starts_at, period_ends_at FROM subscription_charges WHERE status = 'paid' ORDER BY 1"
    )
    assert [(row["payment_id"], row["period_starts_at"]) for row in rows] == [
        ("a", now),
        ("c", now + timedelta(days=1)),
    ]
    assert rows[-1]["period_ends_at"] == after.subscription.expires_at


async def test_refunds_of_periods_that_are_over_change_nothing(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.PRO)
    (first,) = await commerce.fetch("SELECT payment_id FROM subscription_charges")
    commerce.clock.advance(days=28)
    await sweep(commerce)
    await pay(commerce, await get(commerce))
    await deliver_payments(commerce)
    commerce.clock.advance(days=5)
    before = (await get(commerce)).standing
    await commerce.services.payments.refund(ADMIN, payment_id=str(first["payment_id"]), amount_krw=None, reason="")
    await deliver_payments(commerce)
    after = (await get(commerce)).standing
    assert (after.status, after.tier) == (SubscriptionStatus.ACTIVE, Tier.PRO)
    assert after.subscription.expires_at == before.subscription.expires_at


async def test_payments_of_goods_are_none_of_its_business(commerce: Commerce) -> None:
    owed = await create(commerce, Tier.PRO)
    topic, payload = completed("a", owed, 29_900)
    await deliver(commerce, [(topic, {**payload, "subscription_id": ""})])
    assert (await get(commerce)).standing.tier is Tier.FREE
    assert await commerce.fetch("SELECT 1 FROM subscription_payments") == []


async def test_a_payment_in_anothers_name_is_paid_back(commerce: Commerce) -> None:
    owed = await create(commerce, Tier.PRO)
    topic, payload = completed("a", owed, 29_900)
    await deliver(commerce, [(topic, {**payload, "user_id": "mallory"})])
    assert (await get(commerce)).standing.tier is Tier.FREE
    assert (await commerce.fetch("SELECT fate FROM subscription_payments"))[0]["fate"] == "returned"


async def test_a_plan_cannot_be_taken_from_under_a_payment(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.PRO)
    commerce.clock.advance(days=28)
    await sweep(commerce)
    payment = await open_payment(commerce, await get(commerce))
    await commerce.fetch("UPDATE payments SET status = 'confirming' WHERE payment_id = $1", payment.payment_id)
    with pytest.raises(Exception, match="being processed"):
        await cancel(commerce)
    assert (await get(commerce)).standing.status is SubscriptionStatus.ACTIVE
    assert await events(commerce, "subscription.cancelled") == []
