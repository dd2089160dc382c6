"""Which cartridges a person may use now: plan, add-ons that were bought, and uses that were counted."""

from datetime import UTC, datetime

import pytest
from sqlalchemy.exc import IntegrityError

from domain.commerce.subscription.access import NO_LIMIT, AccessDecision, CartridgeKind
from domain.commerce.subscription.cartridges import RuleDefinition
from domain.commerce.subscription.errors import AccessRuleInvalid, PlanFieldInvalid, SubscriptionFieldInvalid
from domain.commerce.subscription.models import AccessLevel, CartridgeAccessRule
from domain.commerce.subscription.plan_data import PLANS
from domain.commerce.subscription.plans import PlanDefinition
from domain.commerce.terms import Tier
from domain.errors import Forbidden
from domain.ids import UserId
from domain.principal import Principal
from subgraphs.commerce.services import GroupPlans
from tests.integration.commerce.conftest import ADMIN, ALICE, BOB, Commerce
from tests.integration.commerce.subscribing import cancel, create, deliver, subscribed, update

GLUCOSE, URIC_ACID, RADON = CartridgeKind(1, 1), CartridgeKind(1, 4), CartridgeKind(2, 3)


async def check(commerce: Commerce, kind: CartridgeKind, who: Principal = ALICE) -> AccessDecision:
    async with commerce.database.read() as session:
        return await commerce.services.cartridges.check(
            session, who, user_id="", category=kind.category, type_index=kind.type_index
        )


async def measure(
    commerce: Commerce, session_id: str, at: datetime, kind: CartridgeKind = GLUCOSE, user_id: str = "alice"
) -> None:
    event = {
        "session_id": session_id,
        "user_id": user_id,
        "category_code": kind.category,
        "type_index": kind.type_index,
        "measured_at": at.isoformat(),
    }
    await deliver(commerce, [("measurement.completed", event)])


async def set_rule(commerce: Commerce, rule: RuleDefinition, who: Principal = ADMIN) -> None:
    async with commerce.database.transaction() as session:
        await commerce.services.cartridges.set_rule(session, who, rule)


async def test_without_a_plan_the_three_common_types_are_open_three_times_a_day(commerce: Commerce) -> None:
    glucose = await check(commerce, GLUCOSE)
    assert (glucose.allowed, glucose.level) == (True, AccessLevel.LIMITED)
    assert (glucose.remaining_daily, glucose.remaining_monthly) == (3, NO_LIMIT)
    uric_acid = await check(commerce, URIC_ACID)
    assert (uric_acid.allowed, uric_acid.level, uric_acid.required_tier) == (False, AccessLevel.RESTRICTED, Tier.BASIC)


async def test_each_type_is_counted_by_itself_and_each_measurement_once(commerce: Commerce) -> None:
    now = commerce.clock.now()
    for number in (1, 2, 2, 1, 2):
        await measure(commerce, f"session-{number}", now)
    await measure(commerce, "another type", now, CartridgeKind(1, 2))
    await measure(commerce, "another person", now, user_id="bob")
    assert (await check(commerce, GLUCOSE)).remaining_daily == 1
    assert (await check(commerce, CartridgeKind(1, 2))).remaining_daily == 2
    assert (await check(commerce, CartridgeKind(1, 3))).remaining_daily == 3
    await measure(commerce, "session-3", now)
    used_up = await check(commerce, GLUCOSE)
    assert (used_up.allowed, used_up.remaining_daily, used_up.required_tier) == (False, 0, Tier.FREE)


async def test_a_day_begins_at_midnight_in_seoul(commerce: Commerce) -> None:
    """The clock says 18:00 in Seoul on 22 November; midnight there is 15:00 UTC."""
    for number, at in enumerate(("21T14:59:59", "21T15:00:00", "22T08:00:00", "22T15:00:00")):
        await measure(commerce, f"session-{number}", datetime.fromisoformat(f"2026-11-{at}+00:00"))
    assert (await check(commerce, GLUCOSE)).remaining_daily == 1
    commerce.clock.advance(hours=6)
    assert (await check(commerce, GLUCOSE)).remaining_daily == 2
    commerce.clock.advance(days=1)
    assert (await check(commerce, GLUCOSE)).remaining_daily == 3


async def test_a_month_is_counted_beside_the_day(commerce: Commerce) -> None:
    await set_rule(commerce, RuleDefinition(1, 1, 1, Tier.FREE, AccessLevel.LIMITED, daily_limit=2, monthly_limit=4))
    for number, day in enumerate(("2026-10-31T14:00", "2026-11-01T00:00", "2026-11-21T00:00", "2026-11-22T01:00")):
        await measure(commerce, f"session-{number}", datetime.fromisoformat(f"{day}+00:00"))
    glucose = await check(commerce, GLUCOSE)
    assert (glucose.remaining_daily, glucose.remaining_monthly) == (1, 1)
    await measure(commerce, "the fourth", datetime(2026, 11, 20, tzinfo=UTC))
    spent = await check(commerce, GLUCOSE)
    assert (spent.allowed, spent.remaining_daily, spent.remaining_monthly) == (False, 1, 0)


async def test_measurements_of_nobody_are_not_counted(commerce: Commerce) -> None:
    for user_id, kind in (("", GLUCOSE), ("x" * 65, GLUCOSE), ("alice", CartridgeKind(0, 0))):
        await measure(commerce, f"of {user_id[:5]} {kind}", commerce.clock.now(), kind, user_id)
    assert await commerce.fetch("SELECT 1 FROM cartridge_uses") == []


async def test_the_plan_in_force_decides(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.PRO)
    for number in range(5):
        await measure(commerce, f"session-{number}", commerce.clock.now())
    glucose = await check(commerce, GLUCOSE)
    assert (glucose.level, glucose.remaining_daily, glucose.current_tier) == (AccessLevel.INCLUDED, NO_LIMIT, Tier.PRO)
    await cancel(commerce)
    commerce.clock.advance(days=31)
    assert (await check(commerce, GLUCOSE)).level is AccessLevel.LIMITED


async def test_what_is_not_paid_opens_nothing(commerce: Commerce) -> None:
    await create(commerce, Tier.CLINICAL)
    assert (await check(commerce, CartridgeKind(0xFE, 1))).level is AccessLevel.RESTRICTED
    await update(commerce, Tier.CLINICAL, "test-key")
    assert (await check(commerce, CartridgeKind(0xFE, 1))).level is AccessLevel.BETA


async def test_an_add_on_opens_a_category_until_its_order_is_paid_back(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.BASIC)
    before = await check(commerce, RADON)
    (sold,) = await commerce.fetch("SELECT price_krw FROM products WHERE addon_category_code = 2")
    assert (before.allowed, before.level, before.add_on_price_krw) == (False, AccessLevel.ADD_ON, sold["price_krw"])
    plans = GroupPlans(commerce.services.subscriptions, commerce.services.cartridges)
    async with commerce.database.transaction() as session:
        for _ in range(2):
            await plans.grant_add_on(
                session, user_id=UserId("alice"), category_code=2, type_index=0, order_id="order-1"
            )
    after = await check(commerce, RADON)
    assert (after.allowed, after.remaining_daily) == (True, NO_LIMIT)
    await subscribed(commerce, Tier.BASIC, BOB)
    assert not (await check(commerce, RADON, BOB)).allowed
    async with commerce.database.transaction() as session:
        await plans.revoke_add_ons(session, order_id="order-1")
        # Told late, after the order was paid back: it stays closed.
        await plans.grant_add_on(session, user_id=UserId("alice"), category_code=2, type_index=0, order_id="order-1")
    assert not (await check(commerce, RADON)).allowed


async def test_every_type_is_listed_with_what_the_plan_says(commerce: Commerce) -> None:
    await measure(commerce, "session-1", commerce.clock.now())
    async with commerce.database.read() as session:
        listed = await commerce.services.cartridges.list_all(session, ALICE, user_id="")
    assert len(listed) == 30
    kinds = [one.decision.kind for one in listed]
    assert kinds == sorted(kinds)
    for one in listed:
        assert one.decision == await check(commerce, one.decision.kind)
    assert (listed[0].name.name_en, listed[0].name.name_ko, listed[0].decision.remaining_daily) == (
        "Glucose",
        "혈당",
        2,
    )


async def test_administrators_change_the_rules(commerce: Commerce) -> None:
    await set_rule(commerce, RuleDefinition(0x09, 0x0C, 0, Tier.FREE, AccessLevel.INCLUDED))
    assert (await check(commerce, CartridgeKind(0x0A, 7))).allowed
    await set_rule(commerce, RuleDefinition(0x0A, 0x0A, 7, Tier.FREE, AccessLevel.RESTRICTED))
    assert not (await check(commerce, CartridgeKind(0x0A, 7))).allowed
    await set_rule(commerce, RuleDefinition(0x09, 0x0C, 0, Tier.FREE, AccessLevel.LIMITED, daily_limit=1))
    assert (await check(commerce, CartridgeKind(0x0B, 1))).remaining_daily == 1
    async with commerce.database.read() as session:
        with pytest.raises(Forbidden):
            await commerce.services.cartridges.rules(session, ALICE)
        assert len(await commerce.services.cartridges.rules(session, ADMIN)) == 12 + 11 * 4 + 2
    with pytest.raises(Forbidden):
        await set_rule(commerce, RuleDefinition(1, 1, 0, Tier.FREE, AccessLevel.INCLUDED), ALICE)


@pytest.mark.parametrize(
    "rule",
    [
        RuleDefinition(0, 1, 0, Tier.FREE, AccessLevel.INCLUDED),
        RuleDefinition(2, 1, 0, Tier.FREE, AccessLevel.INCLUDED),
        RuleDefinition(1, 256, 0, Tier.FREE, AccessLevel.INCLUDED),
        RuleDefinition(1, 1, 256, Tier.FREE, AccessLevel.INCLUDED),
        RuleDefinition(1, 1, -1, Tier.FREE, AccessLevel.INCLUDED),
        RuleDefinition(1, 2, 1, Tier.FREE, AccessLevel.INCLUDED),
        RuleDefinition(1, 1, 0, Tier.FREE, AccessLevel.LIMITED),
        RuleDefinition(1, 1, 0, Tier.FREE, AccessLevel.INCLUDED, daily_limit=3),
        RuleDefinition(1, 1, 0, Tier.FREE, AccessLevel.LIMITED, daily_limit=0),
        RuleDefinition(1, 1, 0, Tier.FREE, AccessLevel.LIMITED, monthly_limit=2**31),
    ],
)
async def test_rules_that_contradict_themselves_are_refused(commerce: Commerce, rule: RuleDefinition) -> None:
    with pytest.raises(AccessRuleInvalid):
        await set_rule(commerce, rule)


async def test_the_database_takes_no_such_rule_either(commerce: Commerce) -> None:
    for bad in ({"type_index": 1, "last_category": 2}, {"level": "limited"}, {"daily_limit": 1}, {"first_category": 0}):
        good = {
            "first_category": 1,
            "last_category": 1,
            "type_index": 9,
            "tier": Tier.FREE,
            "level": AccessLevel.INCLUDED,
        }
        with pytest.raises(IntegrityError):
            async with commerce.database.transaction() as session:
                session.add(CartridgeAccessRule(**{**good, **bad}))


async def test_codes_of_anothers_and_of_no_tag_are_refused(commerce: Commerce) -> None:
    async with commerce.database.read() as session:
        with pytest.raises(Forbidden):
            await commerce.services.cartridges.check(session, ALICE, user_id="bob", category=1, type_index=1)
        with pytest.raises(Forbidden):
            await commerce.services.cartridges.list_all(session, ALICE, user_id="bob")
        with pytest.raises(SubscriptionFieldInvalid):
            await commerce.services.cartridges.check(session, ALICE, user_id="", category=0, type_index=1)


async def test_administrators_change_plans(commerce: Commerce) -> None:
    await subscribed(commerce, Tier.PRO)
    seeded = {entry.tier: entry for entry in PLANS}[Tier.PRO]
    values = {name: getattr(seeded, name) for name in PlanDefinition.__dataclass_fields__}
    changed = PlanDefinition(**{**values, "monthly_price_krw": 31_900, "ai_coaching_enabled": False})
    async with commerce.database.transaction() as session:
        with pytest.raises(Forbidden):
            await commerce.services.plans.set_plan(session, ALICE, changed)
        await commerce.services.plans.set_plan(session, ADMIN, changed)
    async with commerce.database.read() as session:
        plans = await commerce.services.plans.all(session)
        decision = await commerce.services.plans.check_feature(session, ALICE, user_id="", feature="ai_coaching")
    assert [plan.monthly_price_krw for plan in plans] == [0, 9_900, 31_900, 59_900]
    assert (decision.allowed, decision.required_tier) == (False, Tier.CLINICAL)


@pytest.mark.parametrize(
    "bad",
    [
        {"monthly_price_krw": -1},
        {"monthly_price_krw": 2**31},
        {"max_devices": 0},
        {"max_family_members": 0},
        {"name_en": ""},
        {"name_ko": "x" * 81},
        {"description_en": "nul\0"},
        {"tier": Tier.FREE, "monthly_price_krw": 1},
    ],
)
async def test_plans_that_cannot_be_are_refused(commerce: Commerce, bad: dict[str, object]) -> None:
    seeded = {entry.tier: entry for entry in PLANS}[Tier.PRO]
    values: dict[str, object] = {name: getattr(seeded, name) for name in PlanDefinition.__dataclass_fields__}
    definition = PlanDefinition(**{**values, **bad})  # type: ignore[arg-type]  # the types are those of the fields
    async with commerce.database.transaction() as session:
        with pytest.raises(PlanFieldInvalid):
            await commerce.services.plans.set_plan(session, ADMIN, definition)
