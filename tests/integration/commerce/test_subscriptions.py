"""Plans are started, changed and ended; what has to be paid is paid to the won before a plan is in force."""

import asyncio
from datetime import timedelta

import pytest

from domain.commerce.payment.errors import PaymentDeclined
from domain.commerce.subscription.errors import (
    PaymentInProgress,
    PaymentNotUsable,
    SubscriptionFieldInvalid,
    SubscriptionNotFound,
    SubscriptionOver,
    SubscriptionRunning,
    SubscriptionUnpaid,
)
from domain.commerce.subscription.models import ChargeKind, SubscriptionStatus
from domain.commerce.terms import Tier
from domain.errors import Forbidden, Unauthenticated
from domain.principal import ANONYMOUS, DEVELOPMENT
from infra.sandbox.toss import TossSandbox
from tests.integration.commerce.conftest import ADMIN, ALICE, BOB, Commerce
from tests.integration.commerce.subscribing import (
    KEY,
    cancel,
    create,
    deliver_payments,
    get,
    open_payment,
    pay,
    settle_refunds,
    subscribed,
    sweep,
    told,
    update,
)

PRICES_KRW = {Tier.BASIC: 9900, Tier.PRO: 29900, Tier.CLINICAL: 59900}


async def test_the_free_plan_is_in_force_at_once_and_a_key_of_the_provider_pays_for_a_higher_one(
    commerce: Commerce, toss: TossSandbox
) -> None:
    free = await create(commerce, Tier.FREE)
    assert (free.standing.status, free.standing.tier, free.due) == (SubscriptionStatus.ACTIVE, Tier.FREE, None)
    assert free.standing.subscription.expires_at is None
    pro = await update(commerce, Tier.PRO, "test-pay-001")
    assert pro.standing.plan.ai_coaching_enabled
    assert pro.due is None
    found = (await get(commerce)).standing
    assert (found.tier, found.status, found.auto_renew) == (Tier.PRO, SubscriptionStatus.ACTIVE, True)
    assert found.monthly_price_krw == PRICES_KRW[Tier.PRO]
    async with commerce.database.read() as session:
        decision = await commerce.services.plans.check_feature(session, ALICE, user_id="", feature="ai_coaching")
    assert (decision.allowed, decision.required_tier) == (True, Tier.PRO)
    cancelled = await cancel(commerce)
    assert cancelled.effective_until == found.subscription.expires_at
    assert cancelled.effective_until > commerce.clock.now() + timedelta(days=27)
    assert [payment.amount for payment in toss.ledger.everything()] == [PRICES_KRW[Tier.PRO]]


async def test_the_same_change_made_again_takes_no_more_money(commerce: Commerce, toss: TossSandbox) -> None:
    await create(commerce, Tier.FREE)
    first = await update(commerce, Tier.PRO, "test-pay-001")
    again = await update(commerce, Tier.PRO, "test-pay-001")
    await deliver_payments(commerce)
    assert again.standing.subscription.revision == first.standing.subscription.revision
    assert len(toss.ledger.everything()) == 1
    assert (await get(commerce)).standing.tier is Tier.PRO


async def test_a_paid_plan_is_in_force_once_its_exact_price_is_captured(commerce: Commerce) -> None:
    owed = await create(commerce, Tier.PRO)
    assert owed.standing.status is SubscriptionStatus.AWAITING
    assert owed.standing.tier is Tier.FREE
    assert owed.due is not None
    assert (owed.due.kind, owed.due.amount_krw) == (ChargeKind.START, PRICES_KRW[Tier.PRO])
    (created,) = await told(commerce, "subscription.created")
    assert (created["status"], created["amount_due_krw"]) == ("suspended", PRICES_KRW[Tier.PRO])
    await pay(commerce, owed)
    assert (await get(commerce)).standing.tier is Tier.FREE  # nobody was told yet
    await deliver_payments(commerce)
    active = (await get(commerce)).standing
    assert (active.tier, active.status) == (Tier.PRO, SubscriptionStatus.ACTIVE)
    assert active.subscription.expires_at == commerce.clock.now() + timedelta(days=30)  # 22 November to 22 December
    (changed,) = await told(commerce, "subscription.changed")
    assert (changed["reason"], changed["tier"], changed["previous_tier"]) == ("activated", "pro", "free")
    assert (changed["max_devices"], changed["max_family_members"], changed["ai_coaching_enabled"]) == (5, 6, True)


async def test_an_upgrade_without_payment_leaves_the_plan_until_the_difference_is_paid(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.BASIC)
    commerce.clock.advance(days=10)
    owed = await update(commerce, Tier.PRO)
    assert owed.standing.tier is Tier.BASIC
    assert owed.due is not None
    assert owed.due.amount_krw == 13_333  # 20 000 * 20 of 30 days
    (due,) = await told(commerce, "subscription.payment_due")
    assert (due["kind"], due["amount_krw"], due["charge_id"]) == ("upgrade", 13_333, owed.due.charge_id)
    again = (await update(commerce, Tier.PRO)).due
    assert again is not None
    assert again.charge_id == owed.due.charge_id
    end = owed.standing.subscription.expires_at
    await pay(commerce, owed)
    await deliver_payments(commerce)
    upgraded = (await get(commerce)).standing
    assert (upgraded.tier, upgraded.subscription.expires_at) == (Tier.PRO, end)


async def test_an_upgrade_with_a_completed_payment_does_not_wait_for_its_event(commerce: Commerce) -> None:
    await create(commerce, Tier.FREE)
    payment_id = await pay(commerce, await update(commerce, Tier.PRO))
    assert (await update(commerce, Tier.PRO, payment_id)).standing.tier is Tier.PRO
    assert (await update(commerce, Tier.PRO, payment_id)).standing.tier is Tier.PRO
    await deliver_payments(commerce)
    await deliver_payments(commerce)
    assert len(await told(commerce, "subscription.changed")) == 2  # free, and pro
    assert await commerce.fetch("SELECT 1 FROM refunds") == []


async def test_a_downgrade_leaves_credit_that_lowers_the_next_charges(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.CLINICAL)
    commerce.clock.advance(days=14, hours=12)
    lower = await update(commerce, Tier.BASIC)
    assert (lower.standing.tier, lower.due) == (Tier.BASIC, None)
    assert lower.standing.subscription.credit_krw == 25_000  # 50 000 * 15 whole days of 30
    owed = await update(commerce, Tier.PRO)
    assert owed.due is None  # 20 000 * 16 of 30 days are covered by credit
    assert owed.standing.tier is Tier.PRO
    assert owed.standing.subscription.credit_krw == 25_000 - 10_667


async def test_moving_to_the_free_plan_is_a_cancellation(commerce: Commerce) -> None:
    paid = await subscribed(commerce, Tier.PRO)
    moved = (await update(commerce, Tier.FREE)).standing
    assert (moved.status, moved.tier) == (SubscriptionStatus.CANCELLED, Tier.PRO)
    assert moved.subscription.expires_at == paid.standing.subscription.expires_at
    assert len(await told(commerce, "subscription.cancelled")) == 1


async def test_a_cancelled_plan_is_taken_up_again_by_choosing_it(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.PRO)
    await cancel(commerce)
    resumed = (await update(commerce, Tier.PRO)).standing
    assert (resumed.status, resumed.subscription.cancelled_at) == (SubscriptionStatus.ACTIVE, None)


async def test_cancelling_twice_answers_the_same(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.PRO)
    first = await cancel(commerce)
    commerce.clock.advance(days=1)
    assert await cancel(commerce) == first
    assert len(await told(commerce, "subscription.cancelled")) == 1


async def test_a_plan_that_nothing_was_paid_for_ends_at_once(commerce: Commerce) -> None:
    await create(commerce, Tier.FREE)
    assert (await cancel(commerce)).effective_until == commerce.clock.now()
    with pytest.raises(SubscriptionOver):
        await cancel(commerce)
    owed = await create(commerce, Tier.PRO)
    payment = await open_payment(commerce, owed)
    await cancel(commerce)
    (row,) = await commerce.fetch("SELECT status FROM payments WHERE payment_id = $1", payment.payment_id)
    assert row["status"] == "cancelled"
    assert (await create(commerce, Tier.FREE)).standing.status is SubscriptionStatus.ACTIVE


async def test_one_plan_at_a_time_also_when_two_start_at_once(commerce: Commerce) -> None:
    outcomes = await asyncio.gather(*(create(commerce, Tier.PRO) for _ in range(4)), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["PlanChange", *["SubscriptionRunning"] * 3]
    with pytest.raises(SubscriptionRunning):
        await create(commerce, Tier.FREE)
    assert len(await told(commerce, "subscription.created")) == 1


async def test_a_plan_can_be_started_anew_when_the_one_before_is_over(commerce: Commerce) -> None:
    first = await subscribed(commerce, Tier.PRO)
    await cancel(commerce)
    with pytest.raises(SubscriptionRunning):
        await create(commerce, Tier.FREE)
    commerce.clock.advance(days=31)  # the scheduler has not come by
    second = await create(commerce, Tier.BASIC)
    assert second.standing.subscription.subscription_id != first.standing.subscription.subscription_id
    assert second.standing.subscription.revision > first.standing.subscription.revision
    assert [row["reason"] for row in await told(commerce, "subscription.changed")] == ["activated", "expired"]


async def test_credit_goes_on_to_the_next_subscription(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.CLINICAL)
    await update(commerce, Tier.PRO)  # at once: 30 000 won
    await cancel(commerce)
    commerce.clock.advance(days=31)
    again = await create(commerce, Tier.PRO)
    assert again.standing.tier is Tier.PRO  # 29 900 won were there
    assert again.standing.subscription.credit_krw == 100


async def test_nobody_gets_or_sees_anothers_plan(commerce: Commerce) -> None:
    subscriptions = commerce.services.subscriptions
    await subscribed(commerce, Tier.PRO, BOB)
    async with commerce.database.transaction() as session:
        with pytest.raises(Unauthenticated):
            await subscriptions.get(session, ANONYMOUS, user_id="bob")
        with pytest.raises(Forbidden):
            await subscriptions.get(session, ALICE, user_id="bob")
        with pytest.raises(Forbidden):
            await subscriptions.create(session, ALICE, user_id="carol", tier=Tier.FREE)
        with pytest.raises(Forbidden):
            await subscriptions.cancel(session, ALICE, user_id="bob", reason="")
        with pytest.raises(Forbidden):
            await subscriptions.update(ALICE, user_id="bob", new_tier=Tier.FREE)
        with pytest.raises(SubscriptionNotFound):
            await subscriptions.get(session, ALICE, user_id="")
        assert (await subscriptions.get(session, ADMIN, user_id="bob")).standing.tier is Tier.PRO
        for hostile in ("a" * 65, "nul\0", "line\nbreak"):
            with pytest.raises(SubscriptionFieldInvalid):
                await subscriptions.get(session, DEVELOPMENT, user_id=hostile)


async def test_the_price_list_of_today_does_not_change_what_was_bought(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.PRO)
    await commerce.fetch("UPDATE plans SET monthly_price_krw = 99000 WHERE tier = 'pro'")
    assert (await get(commerce)).standing.monthly_price_krw == PRICES_KRW[Tier.PRO]
    assert (await update(commerce, Tier.BASIC)).standing.subscription.credit_krw == 20_000


# Nobody grants themselves a tier


async def test_a_payment_that_is_not_captured_pays_for_nothing(commerce: Commerce) -> None:
    await create(commerce, Tier.FREE)
    payment = await open_payment(commerce, await update(commerce, Tier.PRO))
    with pytest.raises(PaymentNotUsable):
        await update(commerce, Tier.PRO, payment.payment_id)
    assert (await get(commerce)).standing.tier is Tier.FREE


async def test_the_payment_of_somebody_else_pays_for_nothing(commerce: Commerce) -> None:
    await create(commerce, Tier.FREE, BOB)
    theirs = await pay(commerce, await update(commerce, Tier.PRO, who=BOB), BOB)
    await create(commerce, Tier.FREE)
    with pytest.raises(PaymentNotUsable):
        await update(commerce, Tier.PRO, theirs)
    assert (await get(commerce)).standing.tier is Tier.FREE


async def test_a_payment_of_another_amount_pays_for_nothing(commerce: Commerce) -> None:
    await create(commerce, Tier.FREE)
    cheap = await pay(commerce, await update(commerce, Tier.BASIC))
    with pytest.raises(PaymentInProgress):
        await update(commerce, Tier.CLINICAL, cheap)
    assert (await get(commerce)).standing.tier is Tier.FREE
    await deliver_payments(commerce)
    assert (await get(commerce)).standing.tier is Tier.BASIC


async def test_a_payment_of_less_than_the_price_pays_for_nothing(commerce: Commerce) -> None:
    await create(commerce, Tier.FREE)
    cheap = await pay(commerce, await update(commerce, Tier.BASIC))
    await commerce.fetch("UPDATE subscription_charges SET status = 'void'")  # nothing else is open in its way
    with pytest.raises(PaymentNotUsable):
        await update(commerce, Tier.PRO, cheap)
    assert (await get(commerce)).standing.tier is Tier.FREE


async def test_a_payment_by_another_payer_for_ones_own_subscription_pays_for_nothing(commerce: Commerce) -> None:
    await create(commerce, Tier.FREE)
    payment_id = await pay(commerce, await update(commerce, Tier.PRO))
    await commerce.fetch("UPDATE payments SET user_id = 'bob'")
    with pytest.raises(PaymentNotUsable):
        await update(commerce, Tier.PRO, payment_id)
    assert (await get(commerce)).standing.tier is Tier.FREE


async def test_a_payment_is_used_once(commerce: Commerce) -> None:
    await create(commerce, Tier.FREE)
    payment_id = await pay(commerce, await update(commerce, Tier.PRO))
    await update(commerce, Tier.PRO, payment_id)
    await update(commerce, Tier.BASIC)
    commerce.clock.advance(days=12)
    for tier in (Tier.PRO, Tier.CLINICAL):
        with pytest.raises(PaymentNotUsable):
            await update(commerce, tier, payment_id)
    assert (await get(commerce)).standing.tier is Tier.BASIC


async def test_a_key_is_used_once(commerce: Commerce, toss: TossSandbox) -> None:
    await create(commerce, Tier.FREE)
    await update(commerce, Tier.BASIC, "test-pay-001")
    with pytest.raises(Exception, match="approval"):
        await update(commerce, Tier.PRO, "test-pay-001")
    assert (await get(commerce)).standing.tier is Tier.BASIC
    assert len(toss.ledger.everything()) == 1


async def test_a_refunded_payment_pays_for_nothing(commerce: Commerce) -> None:
    await create(commerce, Tier.FREE)
    payment_id = await pay(commerce, await update(commerce, Tier.PRO))
    await commerce.services.payments.refund(ADMIN, payment_id=payment_id, amount_krw=1, reason="")
    with pytest.raises(PaymentNotUsable):
        await update(commerce, Tier.PRO, payment_id)
    assert (await get(commerce)).standing.tier is Tier.FREE


async def test_a_payment_of_an_earlier_subscription_pays_for_nothing(commerce: Commerce) -> None:
    await create(commerce, Tier.FREE)
    payment_id = await pay(commerce, await update(commerce, Tier.PRO))
    await commerce.fetch("UPDATE subscription_charges SET status = 'void'")  # given up just before
    await cancel(commerce)
    await create(commerce, Tier.FREE)
    with pytest.raises(PaymentNotUsable):
        await update(commerce, Tier.PRO, payment_id)
    await deliver_payments(commerce)
    await settle_refunds(commerce)
    assert (await get(commerce)).standing.tier is Tier.FREE
    (row,) = await commerce.fetch("SELECT status FROM payments WHERE payment_id = $1", payment_id)
    assert row["status"] == "refunded"


async def test_a_plan_that_was_just_paid_is_not_cancelled_before_that_is_known(commerce: Commerce) -> None:
    await create(commerce, Tier.FREE)
    await pay(commerce, await update(commerce, Tier.PRO))
    with pytest.raises(PaymentInProgress):
        await cancel(commerce)
    await deliver_payments(commerce)
    await cancel(commerce)
    assert (await get(commerce)).standing.tier is Tier.PRO


async def test_a_refused_key_leaves_the_plan_and_nothing_owed(commerce: Commerce, toss: TossSandbox) -> None:
    await subscribed(commerce, Tier.BASIC)
    with pytest.raises(PaymentDeclined):
        await update(commerce, Tier.PRO, "test-decline")
    after = await get(commerce)
    assert (after.standing.tier, after.due) == (Tier.BASIC, None)
    await deliver_payments(commerce)
    assert (await get(commerce)).standing.tier is Tier.BASIC
    assert len(toss.ledger.everything()) == 1


async def test_what_waits_for_its_first_payment_is_paid_for_before_it_is_changed(commerce: Commerce) -> None:
    await create(commerce, Tier.PRO)
    for tier in (Tier.BASIC, Tier.CLINICAL):
        with pytest.raises(SubscriptionUnpaid):
            await update(commerce, tier)
    assert (await update(commerce, Tier.PRO, KEY)).standing.tier is Tier.PRO


async def test_a_first_period_that_is_not_paid_in_time_is_given_up(commerce: Commerce) -> None:
    await create(commerce, Tier.PRO)
    commerce.clock.advance(hours=23)
    assert await sweep(commerce) == 0
    commerce.clock.advance(hours=1)
    assert await sweep(commerce) == 1
    after = await get(commerce)
    assert (after.standing.status, after.due) == (SubscriptionStatus.EXPIRED, None)


async def test_clients_that_change_at_once_pay_once(commerce: Commerce, toss: TossSandbox) -> None:
    await create(commerce, Tier.FREE)
    await asyncio.gather(*(update(commerce, Tier.PRO, f"test-{n}") for n in range(4)), return_exceptions=True)
    await deliver_payments(commerce)
    await settle_refunds(commerce)
    assert (await get(commerce)).standing.tier is Tier.PRO
    assert sum(payment.balance for payment in toss.ledger.everything()) == PRICES_KRW[Tier.PRO]
