"""Profiles: who sees and changes them, what is sealed, and what is logged."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import event, select

from domain.audit import AccessLog, HealthDataAccess
from domain.errors import Forbidden, InvalidInput, NotFound, Unauthenticated
from domain.identity.person import Gender, HealthDetails
from domain.identity.user.errors import InvalidProfile
from domain.identity.user.models import PlanLimits, SubscriptionTier, WholeProfile
from domain.identity.user.service import ProfileChange
from domain.ids import UserId
from domain.principal import (
    ANONYMOUS,
    DEVELOPMENT,
    Principal,
    PrincipalKind,
    Role,
    service_principal,
)
from domain.sealing import SealBroken
from domain.units import ResultUnits
from tests.integration.identity.conftest import EMAIL, Identity, user_principal
from tests.support.outbox import payloads_of

HEALTH = HealthDetails(
    birth_date="1990-05-17",
    gender=Gender.FEMALE,
    blood_type="AB-",
    height_cm=164.5,
    weight_kg=58.2,
    medical_conditions=("type 2 diabetes",),
    allergies=("penicillin",),
    emergency_contact_name="김영희",
    emergency_contact_phone="+821012345678",
)


async def get(identity: Identity, principal: Principal, user_id: str = "") -> WholeProfile:
    async with identity.database.transaction() as session:
        return await identity.users.get(session, principal, user_id)


async def update(identity: Identity, principal: Principal, change: ProfileChange, user_id: str = "") -> WholeProfile:
    async with identity.database.transaction() as session:
        return await identity.users.update(session, principal, change, user_id=user_id)


async def reads(identity: Identity) -> list[tuple[str, str, str]]:
    async with identity.database.read() as session:
        rows = await session.scalars(select(HealthDataAccess).order_by(HealthDataAccess.id))
        return [(row.actor_kind, row.actor, row.action) for row in rows]


async def test_a_person_sees_what_was_registered(identity: Identity) -> None:
    user_id = (await identity.register(health=HEALTH, display_name="길동", language="en-US")).user_id
    profile = await get(identity, user_principal(user_id))
    assert profile.health == HEALTH
    person = profile.person
    assert (person.display_name, person.language, person.timezone) == ("길동", "en-US", "Asia/Seoul")
    assert (person.account.email, person.account.role, person.account.social_provider) == (EMAIL, "user", None)
    assert (person.subscription_tier, person.created_at) == (SubscriptionTier.FREE, identity.clock.now())


async def test_health_details_are_sealed_and_bound_to_their_person(identity: Identity) -> None:
    first = (await identity.register(health=HEALTH)).user_id
    second = (await identity.register("other@example.com", health=HEALTH)).user_id
    sealed = await identity.scalar(f"SELECT health FROM profiles WHERE user_id = '{first}'")
    assert isinstance(sealed, bytes)
    for plain in ("AB-", "164.5", "58.2", "diabetes", "penicillin", "김영희", "+821012345678", "1990-05-17", "female"):
        assert plain.encode() not in sealed
    row = str(await identity.scalar(f"SELECT profiles::text FROM profiles WHERE user_id = '{first}'"))
    assert "김영희" not in row
    async with identity.database.raw() as connection:
        await connection.execute("UPDATE profiles SET health = $1 WHERE user_id = $2", sealed, second)
    with pytest.raises(SealBroken):
        await get(identity, user_principal(second))


async def test_a_profile_without_health_details_holds_nothing_sealed(identity: Identity) -> None:
    await identity.register()
    assert await identity.scalar("SELECT health IS NULL FROM profiles")


async def test_others_see_nothing_but_services_administrators_and_the_development_network_do(
    identity: Identity,
) -> None:
    user_id = (await identity.register(health=HEALTH)).user_id
    powerless = replace(user_principal(user_id), scopes=frozenset())
    reader = Principal(kind=PrincipalKind.DEVICE, subject="device-1", owner=UserId(user_id))
    for principal, error in (
        (ANONYMOUS, Unauthenticated),
        (user_principal("somebody"), Forbidden),
        (user_principal("doctor", Role.DOCTOR), Forbidden),
        (powerless, Forbidden),
        (reader, Forbidden),
    ):
        with pytest.raises(error):
            await get(identity, principal, user_id)
        with pytest.raises(error):
            await update(identity, principal, ProfileChange(display_name="x"), user_id)
    for principal in (service_principal("coaching"), user_principal("boss", Role.ADMIN), DEVELOPMENT):
        assert (await get(identity, principal, user_id)).health == HEALTH
    with pytest.raises(InvalidInput):
        await get(identity, DEVELOPMENT)


async def test_each_look_at_health_details_is_logged_in_a_chain(identity: Identity) -> None:
    user_id = (await identity.register(health=HEALTH)).user_id
    own = user_principal(user_id)
    await get(identity, own)
    await get(identity, service_principal("coaching"), user_id)
    await update(identity, own, ProfileChange(display_name="길동"))
    with pytest.raises(Forbidden):
        await get(identity, user_principal("somebody"), user_id)
    assert await reads(identity) == [
        ("user", user_id, "read"),
        ("service", "coaching", "read"),
        ("user", user_id, "update"),
    ]
    async with identity.database.transaction() as session:
        assert await AccessLog(session).seal() == 3
        assert await AccessLog(session).first_broken(user_id) is None


async def test_a_look_without_health_details_is_not_logged(identity: Identity) -> None:
    user_id = (await identity.register()).user_id
    await get(identity, user_principal(user_id))
    async with identity.database.transaction() as session:
        await identity.users.me(session, user_principal(user_id))
        await identity.users.people(session, user_principal(user_id), [UserId(user_id)])
    assert await reads(identity) == []


async def test_an_update_changes_what_is_stated_and_leaves_the_rest(identity: Identity) -> None:
    user_id = (await identity.register(health=HEALTH)).user_id
    identity.clock.advance(days=1)
    change = ProfileChange(
        display_name=" 길동 ",
        timezone="Europe/Berlin",
        health=HealthDetails(weight_kg=60.0, allergies=("dust", "nuts")),
    )
    updated = await update(identity, user_principal(user_id), change)
    assert updated.health == replace(HEALTH, weight_kg=60.0, allergies=("dust", "nuts"))
    assert (updated.person.display_name, updated.person.timezone) == ("길동", "Europe/Berlin")
    assert await get(identity, user_principal(user_id)) == updated
    assert await identity.scalar("SELECT updated_at - created_at FROM profiles") == identity.clock.now() - datetime(
        2026, 11, 22, 9, 0, tzinfo=UTC
    )


async def test_the_kind_of_unit_that_a_person_chooses_is_kept_and_told_once(identity: Identity) -> None:
    person = user_principal((await identity.register()).user_id)
    assert (await get(identity, person)).person.result_units is ResultUnits.AS_MEASURED
    for chosen in (ResultUnits.AMOUNT, ResultUnits.AMOUNT, None, ResultUnits.MASS):
        await update(identity, person, ProfileChange(display_name="길동", result_units=chosen))
    assert (await get(identity, person)).person.result_units is ResultUnits.MASS
    told = await payloads_of(identity.database, "profile.result_units_chosen")
    assert [(event["user_id"], event["result_units"]) for event in told] == [
        (person.subject, "amount"),
        (person.subject, "mass"),
    ]


async def test_cleared_details_are_gone(identity: Identity) -> None:
    user_id = (await identity.register(health=HEALTH)).user_id
    everything = frozenset(HealthDetails.__dataclass_fields__) | {"avatar_url"}
    updated = await update(identity, user_principal(user_id), ProfileChange(cleared=everything))
    assert updated.health.is_empty
    assert await identity.scalar("SELECT health IS NULL FROM profiles")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (ProfileChange(display_name="x" * 101), "display_name"),
        (ProfileChange(display_name=" "), "display_name"),
        (ProfileChange(avatar_url="http://x.example"), "avatar_url"),
        (ProfileChange(language="??"), "language"),
        (ProfileChange(timezone="Mars/Base"), "timezone"),
        (ProfileChange(health=HealthDetails(height_cm=1.0)), "height_cm"),
        (ProfileChange(health=HealthDetails(height_cm=0.0)), "height_cm"),
        (ProfileChange(health=HealthDetails(weight_kg=0.0)), "weight_kg"),
        (ProfileChange(health=HealthDetails(weight_kg=float("nan"))), "weight_kg"),
    ],
)
async def test_a_refused_update_changes_nothing(identity: Identity, change: ProfileChange, field: str) -> None:
    user_id = (await identity.register(health=HEALTH)).user_id
    before = await get(identity, user_principal(user_id))
    with pytest.raises(InvalidProfile) as refused:
        await update(identity, user_principal(user_id), replace(change, language=change.language or "en"))
    assert refused.value.details["field"] == field
    assert await get(identity, user_principal(user_id)) == before


async def test_updates_at_once_lose_nothing(identity: Identity) -> None:
    own = user_principal((await identity.register()).user_id)
    await asyncio.gather(
        update(identity, own, ProfileChange(health=HealthDetails(blood_type="A+"))),
        update(identity, own, ProfileChange(health=HealthDetails(height_cm=170.0))),
        update(identity, own, ProfileChange(health=HealthDetails(weight_kg=70.0))),
    )
    assert (await get(identity, own)).health == HealthDetails(blood_type="A+", height_cm=170.0, weight_kg=70.0)


async def test_many_people_are_loaded_by_two_statements_and_only_the_visible_ones(identity: Identity) -> None:
    ids = [(await identity.register(f"person{n}@example.com", health=HEALTH)).user_id for n in range(5)]
    statements: list[str] = []
    async with identity.database.transaction() as session:
        engine = identity.database.engine.sync_engine
        event.listen(engine, "before_cursor_execute", lambda c, cur, sql, *rest: statements.append(sql))
        found = await identity.users.people(session, service_principal("coaching"), [*ids, UserId("unknown")])
    assert set(found) == set(ids)
    assert len(statements) == 2  # profiles; accounts with their first providers
    assert not any("profiles.health" in sql for sql in statements)
    async with identity.database.read() as session:
        assert set(await identity.users.people(session, user_principal(ids[0]), ids)) == {ids[0]}
        assert await identity.users.people(session, ANONYMOUS, ids) == {}


async def test_without_a_plan_a_person_is_on_the_free_one(identity: Identity) -> None:
    user_id = (await identity.register()).user_id
    async with identity.database.transaction() as session:
        free = await identity.users.subscription(session, user_principal(user_id))
    assert (free.tier, free.started_at, free.expires_at) == (SubscriptionTier.FREE, identity.clock.now(), None)
    assert free.limits == PlanLimits(1, 1, ai_coaching=False, telemedicine=False)


async def test_whom_keycloak_signed_in_gets_a_profile_at_the_first_call(identity: Identity) -> None:
    person = replace(user_principal("f3b1e2c0-1111-4222-8333-444455556666"), email="kim@clinic.local")
    await asyncio.gather(*(get(identity, person) for _ in range(3)))
    profile = await get(identity, person)
    assert (profile.person.display_name, profile.person.account.email) == ("kim", "kim@clinic.local")
    assert await identity.scalar("SELECT count(*) FROM profiles") == 1


async def test_nobody_else_brings_a_profile_into_being(identity: Identity) -> None:
    for principal in (service_principal("coaching"), DEVELOPMENT, user_principal("boss", Role.ADMIN)):
        with pytest.raises(NotFound):
            await get(identity, principal, "unknown")
    assert await identity.scalar("SELECT count(*) FROM profiles") == 0
