"""What becomes due by itself: renewals are asked for, unpaid plans pause and end, by several schedulers at once."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from domain.commerce.subscription.models import ChargeKind, PlanChange, SubscriptionStatus
from domain.commerce.terms import Tier
from domain.principal import Principal
from subgraphs.commerce.subscription.renewals import RenewalSweep
from tests.integration.commerce.conftest import ALICE, Commerce, person
from tests.integration.commerce.subscribing import (
    cancel,
    create,
    deliver,
    deliver_payments,
    get,
    open_payment,
    pay,
    subscribed,
    sweep,
    told,
    update,
)


async def renewal_of(commerce: Commerce, who: Principal = ALICE) -> PlanChange:
    """Somebody who is asked for the next month of their plan, three days before this one ends."""
    await subscribed(commerce, Tier.PRO, who)
    commerce.clock.advance(days=27)
    assert await sweep(commerce) == 1
    return await get(commerce, who)


async def reasons(commerce: Commerce) -> list[str]:
    return [str(event["reason"]) for event in await told(commerce, "subscription.changed")]


async def test_a_renewal_is_asked_for_before_the_period_ends(commerce: Commerce) -> None:
    paid = await subscribed(commerce, Tier.PRO)
    commerce.clock.advance(days=26, hours=23)
    assert await sweep(commerce) == 0
    commerce.clock.advance(hours=1)
    assert await sweep(commerce) == 1
    assert await sweep(commerce) == 0  # asked for once
    asked = await get(commerce)
    assert asked.due is not None
    assert (asked.due.kind, asked.due.amount_krw) == (ChargeKind.RENEWAL, 29_900)
    end = paid.standing.subscription.expires_at
    assert end is not None
    assert asked.due.due_at == end + timedelta(days=3)
    (event,) = await told(commerce, "subscription.payment_due")
    assert (event["kind"], event["amount_krw"], event["tier"]) == ("renewal", 29_900, "pro")


async def test_a_renewal_that_is_paid_early_adds_a_whole_month_to_the_end(commerce: Commerce) -> None:
    asked = await renewal_of(commerce)
    await pay(commerce, asked)
    await deliver_payments(commerce)
    renewed = (await get(commerce)).standing
    assert renewed.subscription.expires_at == datetime(2027, 1, 22, 9, 0, tzinfo=UTC)
    assert (renewed.status, renewed.tier) == (SubscriptionStatus.ACTIVE, Tier.PRO)
    assert await reasons(commerce) == ["activated", "renewed"]
    commerce.clock.advance(days=4)  # into the second month
    assert await sweep(commerce) == 0
    assert (await get(commerce)).standing.tier is Tier.PRO


async def test_an_upgrade_after_an_early_renewal_is_charged_for_both_months(commerce: Commerce) -> None:
    asked = await renewal_of(commerce)
    await pay(commerce, asked)
    await deliver_payments(commerce)
    owed = await update(commerce, Tier.CLINICAL)
    assert owed.due is not None
    assert owed.due.amount_krw == 33_000  # 30 000 * (3 of 30 days, and the whole next month)


async def test_a_plan_that_is_not_renewed_pauses_and_then_ends(commerce: Commerce) -> None:
    asked = await renewal_of(commerce)
    commerce.clock.advance(days=3)
    assert (await get(commerce)).standing.tier is Tier.FREE  # by the clock, before the scheduler has come by
    assert await sweep(commerce) == 1
    paused = await get(commerce)
    assert (paused.standing.status, paused.standing.tier) == (SubscriptionStatus.SUSPENDED, Tier.FREE)
    assert paused.due is not None
    assert asked.due is not None
    assert paused.due.charge_id == asked.due.charge_id
    assert await sweep(commerce) == 0
    commerce.clock.advance(days=3)
    assert await sweep(commerce) == 1
    over = await get(commerce)
    assert (over.standing.status, over.standing.tier, over.due) == (SubscriptionStatus.EXPIRED, Tier.FREE, None)
    assert await reasons(commerce) == ["activated", "suspended", "expired"]


async def test_a_paused_plan_goes_on_from_the_day_of_its_payment(commerce: Commerce) -> None:
    await renewal_of(commerce)
    commerce.clock.advance(days=4)
    await sweep(commerce)
    await pay(commerce, await get(commerce))
    await deliver_payments(commerce)
    renewed = (await get(commerce)).standing
    assert (renewed.status, renewed.tier) == (SubscriptionStatus.ACTIVE, Tier.PRO)
    assert renewed.subscription.expires_at == datetime(2027, 1, 23, 9, 0, tzinfo=UTC)


async def test_a_payment_in_time_whose_event_is_late_loses_no_day(commerce: Commerce) -> None:
    asked = await renewal_of(commerce)
    await pay(commerce, asked)
    commerce.clock.advance(days=4)
    await sweep(commerce)
    assert (await get(commerce)).standing.status is SubscriptionStatus.SUSPENDED
    await deliver_payments(commerce)
    renewed = (await get(commerce)).standing
    assert (renewed.status, renewed.tier) == (SubscriptionStatus.ACTIVE, Tier.PRO)
    assert renewed.subscription.expires_at == datetime(2027, 1, 22, 9, 0, tzinfo=UTC)


async def test_a_refused_renewal_is_asked_for_again_until_the_grace_ends(commerce: Commerce) -> None:
    asked = await renewal_of(commerce)
    subscription = asked.standing.subscription
    refusal = {
        "payment_id": "a",
        "user_id": "alice",
        "subscription_id": subscription.subscription_id,
        "amount_krw": 29_900,
        "failed_at": "2026-12-19T09:00:00Z",
    }
    await deliver(commerce, [("payment.failed", refusal), ("payment.failed", refusal)])
    again = await get(commerce)
    assert again.due is not None
    assert asked.due is not None
    assert again.due.charge_id != asked.due.charge_id
    assert (again.due.amount_krw, again.due.due_at) == (asked.due.amount_krw, asked.due.due_at)
    assert len(await told(commerce, "subscription.payment_due")) == 2
    await pay(commerce, again)
    await deliver_payments(commerce)
    assert (await get(commerce)).standing.subscription.expires_at == datetime(2027, 1, 22, 9, 0, tzinfo=UTC)


async def test_a_cancelled_plan_ends_with_its_period_and_is_not_asked_for(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.PRO)
    await cancel(commerce)
    commerce.clock.advance(days=29)
    assert await sweep(commerce) == 0
    assert (await get(commerce)).standing.tier is Tier.PRO
    commerce.clock.advance(days=1)
    assert (await get(commerce)).standing.tier is Tier.FREE
    assert await sweep(commerce) == 1
    assert (await get(commerce)).standing.status is SubscriptionStatus.EXPIRED
    assert await told(commerce, "subscription.payment_due") == []


async def test_cancelling_gives_the_open_renewal_up(commerce: Commerce) -> None:
    asked = await renewal_of(commerce)
    payment = await open_payment(commerce, asked)
    await cancel(commerce)
    assert (await get(commerce)).due is None
    (row,) = await commerce.fetch("SELECT status FROM payments WHERE payment_id = $1", payment.payment_id)
    assert row["status"] == "cancelled"


async def test_who_was_never_asked_has_the_whole_grace_after_a_long_downtime(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.PRO)
    commerce.clock.advance(days=60)
    assert await sweep(commerce) == 1
    asked = await get(commerce)
    assert asked.standing.status is SubscriptionStatus.SUSPENDED
    assert asked.due is not None
    assert asked.due.due_at == commerce.clock.now() + timedelta(days=3)
    await pay(commerce, asked)
    await deliver_payments(commerce)
    renewed = (await get(commerce)).standing
    assert renewed.tier is Tier.PRO
    assert renewed.subscription.expires_at == datetime(2027, 2, 21, 9, 0, tzinfo=UTC)
    assert len(await told(commerce, "subscription.payment_due")) == 1  # not one for each month that was missed


async def test_what_was_asked_for_before_a_long_downtime_is_over_after_it(commerce: Commerce) -> None:
    await renewal_of(commerce)
    commerce.clock.advance(days=60)
    assert await sweep(commerce) == 1
    assert (await get(commerce)).standing.status is SubscriptionStatus.EXPIRED
    assert await reasons(commerce) == ["activated", "expired"]
    assert await sweep(commerce) == 0


async def test_an_upgrade_that_is_not_paid_in_time_leaves_the_plan(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.BASIC)
    owed = await update(commerce, Tier.PRO)
    payment = await open_payment(commerce, owed)
    commerce.clock.advance(days=1)
    assert await sweep(commerce) == 1
    after = await get(commerce)
    assert (after.standing.tier, after.standing.status, after.due) == (Tier.BASIC, SubscriptionStatus.ACTIVE, None)
    (row,) = await commerce.fetch("SELECT status FROM payments WHERE payment_id = $1", payment.payment_id)
    assert row["status"] == "cancelled"


async def test_an_open_upgrade_does_not_keep_a_renewal_from_being_asked_for(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.BASIC)
    commerce.clock.advance(days=26, hours=20)
    await update(commerce, Tier.PRO)
    commerce.clock.advance(days=1)
    await sweep(commerce)
    asked = await get(commerce)
    assert asked.due is not None
    assert (asked.due.kind, asked.due.tier, asked.due.amount_krw) == (ChargeKind.RENEWAL, Tier.BASIC, 9_900)


async def test_an_upgrade_replaces_a_renewal_that_is_then_asked_for_at_the_new_price(commerce: Commerce) -> None:
    await renewal_of(commerce)
    await update(commerce, Tier.CLINICAL, "test-upgrade")
    await sweep(commerce)
    asked = await get(commerce)
    assert asked.due is not None
    assert (asked.due.kind, asked.due.tier, asked.due.amount_krw) == (ChargeKind.RENEWAL, Tier.CLINICAL, 59_900)


async def test_credit_pays_for_a_renewal(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.CLINICAL)
    await update(commerce, Tier.BASIC)  # 50 000 won
    for month in range(1, 6):
        commerce.clock.advance(days=31)
        while await sweep(commerce):
            pass
        standing = (await get(commerce)).standing
        assert (standing.tier, standing.subscription.credit_krw) == (Tier.BASIC, 50_000 - month * 9_900)
    commerce.clock.advance(days=31)
    await sweep(commerce)
    asked = await get(commerce)
    assert asked.due is not None
    assert (asked.due.amount_krw, asked.due.credit_used_krw) == (9_400, 500)


async def test_a_payment_that_is_being_captured_is_waited_for(commerce: Commerce) -> None:
    asked = await renewal_of(commerce)
    payment = await open_payment(commerce, asked)
    await commerce.fetch("UPDATE payments SET status = 'confirming' WHERE payment_id = $1", payment.payment_id)
    commerce.clock.advance(days=7)
    assert await sweep(commerce) == 1
    assert (await get(commerce)).due is not None
    assert await sweep(commerce) == 0  # not again at once
    commerce.clock.advance(minutes=1)
    await commerce.fetch("UPDATE payments SET status = 'pending' WHERE payment_id = $1", payment.payment_id)
    assert await sweep(commerce) == 1
    assert (await get(commerce)).standing.status is SubscriptionStatus.EXPIRED


async def test_a_captured_payment_that_was_not_told_yet_is_waited_for(commerce: Commerce) -> None:
    """The broker may be away just when the grace ends."""
    await pay(commerce, await renewal_of(commerce))
    commerce.clock.advance(days=7)
    assert await sweep(commerce) == 1
    await deliver_payments(commerce)
    renewed = (await get(commerce)).standing
    assert (renewed.status, renewed.tier) == (SubscriptionStatus.ACTIVE, Tier.PRO)


async def test_periods_end_on_the_day_on_which_they_began_where_the_month_has_it(commerce: Commerce) -> None:
    commerce.clock.advance(days=70, hours=-10)  # 31 January 2027 in Seoul
    paid = await subscribed(commerce, Tier.PRO)
    ends = [paid.standing.subscription.expires_at]
    for _ in range(3):
        last = ends[-1]
        assert last is not None
        commerce.clock.advance(seconds=(last - timedelta(days=3) - commerce.clock.now()).total_seconds())
        await sweep(commerce)
        await pay(commerce, await get(commerce))
        await deliver_payments(commerce)
        ends.append((await get(commerce)).standing.subscription.expires_at)
    seoul = [(end.month, end.day, end.hour) for end in ends if end is not None]  # 23:00 UTC is 8:00 of the next day
    assert seoul == [(2, 27, 23), (3, 30, 23), (4, 29, 23), (5, 30, 23)]


async def test_two_schedulers_at_once_renew_once(commerce: Commerce) -> None:
    people = [person(f"person-{number}") for number in range(12)]
    for who in people:
        await subscribed(commerce, Tier.PRO, who)
    commerce.clock.advance(days=27)
    sweeps = [RenewalSweep(commerce.services.renewals, commerce.database) for _ in range(4)]
    looked_at = await asyncio.gather(*(one.sweep() for one in sweeps))
    looked_at += [await sweeps[0].sweep()]
    assert sum(looked_at) == len(people)
    due = await told(commerce, "subscription.payment_due")
    assert sorted(event["user_id"] for event in due) == sorted(f"person-{number}" for number in range(12))


async def test_one_that_fails_does_not_hold_the_others_up(commerce: Commerce, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bad", "good"):
        await subscribed(commerce, Tier.PRO, person(name))
    bad = (await get(commerce, person("bad"))).standing.subscription.subscription_id
    commerce.clock.advance(days=27)
    renew = commerce.services.renewals.renew

    async def fails_for_one(session: object, subscription_id: str) -> None:
        await renew(session, subscription_id)  # type: ignore[arg-type]  # handed on as it is
        if subscription_id == bad:
            raise ZeroDivisionError

    monkeypatch.setattr(commerce.services.renewals, "renew", fails_for_one)
    assert await sweep(commerce) == 2
    assert [event["user_id"] for event in await told(commerce, "subscription.payment_due")] == ["good"]
    assert await sweep(commerce) == 0
    monkeypatch.undo()
    commerce.clock.advance(minutes=10)
    assert await sweep(commerce) == 1
    assert [event["user_id"] for event in await told(commerce, "subscription.payment_due")] == ["good", "bad"]


async def test_the_free_plan_has_nothing_due(commerce: Commerce) -> None:
    await create(commerce, Tier.FREE)
    commerce.clock.advance(days=400)
    assert await sweep(commerce) == 0
    assert (await get(commerce)).standing.status is SubscriptionStatus.ACTIVE
