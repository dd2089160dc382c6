"""Cartridges: what a reading stores, what is refused, and that a use counts once."""

import asyncio
import datetime as dt
from dataclasses import replace

import pytest

from devices.nfc_tag import TagV2, encode_v2
from domain.errors import Forbidden, Unauthenticated
from domain.hardware.cartridge.errors import (
    CartridgeExpired,
    CartridgeNotFound,
    CartridgeTypeMismatch,
    CartridgeTypeNotFound,
    CartridgeUsedUp,
    RegistryEntryInvalid,
)
from domain.hardware.cartridge.models import CartridgeDetail, PlanLevel, PlanRule, Refusal, Validation
from domain.hardware.cartridge.nfc_tag import TagForged
from domain.hardware.cartridge.registry import (
    CategoryDefinition,
    LegacyCodeTaken,
    TypeDefinition,
)
from domain.hardware.cartridge.registry_data import TYPES
from domain.hardware.codes import CartridgeCode
from domain.principal import ANONYMOUS, Principal
from tests.integration.hardware.conftest import (
    ADMIN,
    ALICE,
    BOB,
    GLUCOSE_TAG,
    MEASUREMENT,
    SIGNED_TAG,
    TECHNICIAN,
    Hardware,
)

UID = GLUCOSE_TAG.cartridge_uid


async def read(hardware: Hardware, tag: TagV2 | bytes, principal: Principal = ALICE) -> CartridgeDetail:
    raw = tag if isinstance(tag, bytes) else encode_v2(tag)
    async with hardware.database.transaction() as session:
        return await hardware.services.cartridges.read(session, principal, tag=raw)


async def use(hardware: Hardware, session_id: str, person: str = "alice", *, category: int = 0) -> int:
    """As measurement-service records it when a session starts."""
    async with hardware.database.transaction() as session:
        cartridge = await hardware.services.cartridges.record_usage(
            session, MEASUREMENT, user_id=person, session_id=session_id, uid=UID, category=category
        )
        return cartridge.remaining_uses


async def validate(hardware: Hardware, *, category: int = 0, type_index: int = 0) -> Validation:
    async with hardware.database.read() as session:
        return await hardware.services.cartridges.validate(
            session, ALICE, uid=UID, category=category, type_index=type_index
        )


@pytest.mark.parametrize(
    "rule",
    [
        PlanRule(PlanLevel.INCLUDED, allowed=True),
        PlanRule(PlanLevel.RESTRICTED, allowed=False),
        None,  # nobody can say
    ],
)
async def test_what_a_plan_says_of_a_cartridge_is_told_and_refuses_nothing(
    hardware: Hardware, rule: PlanRule | None
) -> None:
    await read(hardware, GLUCOSE_TAG)
    if rule is not None:
        hardware.plans.rules["alice"] = rule
    found = await hardware.services.cartridges.under_plan(ALICE, await validate(hardware))
    assert (found.refusal, found.plan) == (None, rule)


async def test_a_tag_is_answered_with_its_type_from_the_registry(hardware: Hardware) -> None:
    await hardware.import_lots()
    detail = await read(hardware, SIGNED_TAG)
    assert detail.type is not None
    assert (detail.type.name_en, detail.type.unit, detail.type.critical_low) == ("Glucose", "mg/dL", 54)
    assert (detail.cartridge.uid, detail.cartridge.alpha, detail.cartridge.remaining_uses) == (UID, 0.93, 10)
    assert detail.refusal is None


async def test_fifty_sessions_at_once_take_exactly_the_ten_uses_that_are_left(hardware: Hardware) -> None:
    await read(hardware, GLUCOSE_TAG)
    outcomes = await asyncio.gather(
        *(use(hardware, f"session-{number}") for number in range(50)), return_exceptions=True
    )
    taken = sorted(outcome for outcome in outcomes if isinstance(outcome, int))
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert taken == list(range(10))
    assert len(refused) == 40
    assert {type(outcome) for outcome in refused} == {CartridgeUsedUp}
    assert await hardware.fetch("SELECT count(*) AS used FROM cartridge_usages") == [{"used": 10}]


async def test_a_session_takes_one_use_however_often_and_at_once_it_is_recorded(hardware: Hardware) -> None:
    await read(hardware, replace(GLUCOSE_TAG, remaining_uses=1))
    assert set(await asyncio.gather(*(use(hardware, "session-1") for _ in range(20)))) == {0}
    assert await use(hardware, "session-1") == 0  # also now that it is used up
    with pytest.raises(CartridgeUsedUp):
        await use(hardware, "session-2")


async def test_a_tag_lowers_the_count_and_never_raises_it(hardware: Hardware) -> None:
    await read(hardware, GLUCOSE_TAG)
    await use(hardware, "session-1")
    assert (await read(hardware, GLUCOSE_TAG)).cartridge.remaining_uses == 9
    assert (await read(hardware, replace(GLUCOSE_TAG, remaining_uses=3))).cartridge.remaining_uses == 3
    assert (await read(hardware, GLUCOSE_TAG)).cartridge.remaining_uses == 3


@pytest.mark.parametrize(
    "forged",
    [
        replace(GLUCOSE_TAG, max_uses=100, remaining_uses=100),
        replace(GLUCOSE_TAG, expires_on=dt.date(2030, 1, 1)),
        replace(GLUCOSE_TAG, type_index=2),
    ],
)
async def test_a_rewritten_tag_with_a_fitting_checksum_takes_nothing_back(hardware: Hardware, forged: TagV2) -> None:
    await read(hardware, GLUCOSE_TAG)
    with pytest.raises(TagForged):
        await read(hardware, forged)
    assert (await validate(hardware)).refusal is None


async def test_an_unsigned_tag_may_be_corrected_until_the_first_use(hardware: Hardware) -> None:
    await read(hardware, GLUCOSE_TAG)
    await read(hardware, replace(GLUCOSE_TAG, alpha=0.9))
    await use(hardware, "session-1")
    with pytest.raises(TagForged):
        await read(hardware, replace(GLUCOSE_TAG, alpha=0.5))


async def test_a_damaged_tag_stores_nothing(hardware: Hardware) -> None:
    raw = bytearray(encode_v2(GLUCOSE_TAG))
    raw[36] ^= 1
    with pytest.raises(TagForged) as refusal:
        await read(hardware, bytes(raw))
    assert refusal.value.reason == "CARTRIDGE_TAG_FORGED"
    assert (await validate(hardware)) == Validation(Refusal.UNKNOWN, None)


async def test_a_cartridge_is_good_through_its_last_day(hardware: Hardware) -> None:
    await read(hardware, replace(GLUCOSE_TAG, expires_on=dt.date(2026, 11, 22)))
    hardware.clock.advance(hours=14, minutes=59)  # 23:59 of that day
    assert (await validate(hardware)).refusal is None
    hardware.clock.advance(minutes=1)
    detail = await read(hardware, replace(GLUCOSE_TAG, expires_on=dt.date(2026, 11, 22)))
    assert detail.refusal is Refusal.EXPIRED
    assert (await validate(hardware)).refusal is Refusal.EXPIRED
    with pytest.raises(CartridgeExpired) as refusal:
        await use(hardware, "session-1")
    assert refusal.value.reason == "CARTRIDGE_EXPIRED"


async def test_a_used_up_cartridge_is_read_as_such_and_refused(hardware: Hardware) -> None:
    assert (await read(hardware, replace(GLUCOSE_TAG, remaining_uses=0))).refusal is Refusal.USED_UP
    assert (await validate(hardware)).refusal is Refusal.USED_UP
    assert Refusal.USED_UP.message("ko") != Refusal.USED_UP.message("en")


async def test_version_1_tags_find_their_type_by_the_legacy_code(hardware: Hardware) -> None:
    detail = await read(hardware, bytes.fromhex("AA00000000000001") + b"\x22")
    assert detail.type is not None
    assert (detail.type.name_en, detail.cartridge.remaining_uses, detail.cartridge.expiry_text) == ("Radon", 1, "")
    with pytest.raises(CartridgeTypeNotFound):
        await read(hardware, bytes.fromhex("AA00000000000002") + b"\x77")


async def test_a_type_that_nobody_knows_yet_becomes_usable_when_it_is_registered(hardware: Hardware) -> None:
    tag = replace(GLUCOSE_TAG, category=0xF3, type_index=9)
    assert (await read(hardware, tag)).refusal is Refusal.TYPE_UNKNOWN
    definition = TypeDefinition(
        category=0xF3,
        type_index=9,
        name_en="Lactate",
        name_ko="젖산",
        required_channels=88,
        measurement_s=20,
        unit="mmol/L",
        loinc_code="2524-7",
        manufacturer="Acme",
    )
    async with hardware.database.transaction() as session:
        await hardware.services.registry.upsert_type(session, ADMIN, definition)
    assert (await validate(hardware)).refusal is None
    async with hardware.database.transaction() as session:
        await hardware.services.registry.upsert_type(session, ADMIN, replace(definition, is_active=False))
    assert (await validate(hardware)).refusal is Refusal.TYPE_INACTIVE


async def test_the_type_that_a_caller_names_must_be_the_cartridges(hardware: Hardware) -> None:
    await read(hardware, GLUCOSE_TAG)
    assert (await validate(hardware, category=1, type_index=1)).refusal is None
    assert (await validate(hardware, category=1, type_index=2)).refusal is Refusal.TYPE_MISMATCH
    with pytest.raises(CartridgeTypeMismatch):
        await use(hardware, "session-1", category=2)


async def test_nobody_reads_the_uses_of_others(hardware: Hardware) -> None:
    await read(hardware, GLUCOSE_TAG)
    await read(hardware, GLUCOSE_TAG, BOB)
    assert await use(hardware, "session-1") == 9
    assert await use(hardware, "session-2", "bob") == 9
    async with hardware.database.read() as session:
        usages, total = await hardware.services.cartridges.usage_history(
            session, ALICE, user_id="alice", limit=0, offset=0
        )
        with pytest.raises(Forbidden):
            await hardware.services.cartridges.usage_history(session, ALICE, user_id="bob", limit=0, offset=0)
    assert (total, [(usage.session_id, name) for usage, name in usages]) == (1, [("session-1", "혈당")])


async def test_unknown_cartridges_have_no_uses(hardware: Hardware) -> None:
    with pytest.raises(CartridgeNotFound):
        await use(hardware, "session-1")


async def test_strangers_read_nothing(hardware: Hardware) -> None:
    with pytest.raises(Unauthenticated):
        await read(hardware, GLUCOSE_TAG, ANONYMOUS)


async def test_the_registry_is_changed_by_those_who_may_and_only_to_what_makes_sense(hardware: Hardware) -> None:
    good = TypeDefinition(
        category=1,
        type_index=0x20,
        name_en="Ketone",
        name_ko="케톤",
        required_channels=88,
        measurement_s=10,
        unit="mmol/L",
    )
    registry = hardware.services.registry
    async with hardware.database.transaction() as session:
        for principal in (ALICE, TECHNICIAN):
            with pytest.raises(Forbidden):
                await registry.upsert_type(session, principal, good)
        for change in (
            {"required_channels": 100},
            {"unit": "mmol L"},
            {"loinc_code": "2524-8"},
            {"critical_high": 3.0},  # without a source
            {"reference_low": 2.0, "reference_high": 1.0, "source": "a source of ranges"},
            {"measurement_s": 256},
            {"name_ko": ""},
        ):
            with pytest.raises(RegistryEntryInvalid):
                await registry.upsert_type(session, ADMIN, replace(good, **change))
        with pytest.raises(LegacyCodeTaken):
            await registry.upsert_type(session, ADMIN, replace(good, legacy_code=1))
        with pytest.raises(CartridgeTypeNotFound):
            await registry.upsert_type(session, ADMIN, replace(good, category=0x30))
        await registry.upsert_type(session, ADMIN, good)
        assert (await registry.type(session, 1, 0x20)).name_en == "Ketone"


async def test_categories_count_their_types_and_a_makers_code_can_get_a_name(hardware: Hardware) -> None:
    registry = hardware.services.registry
    async with hardware.database.transaction() as session:
        before = {s.category.name_en: s.type_count for s in await registry.categories(session)}
        acme = CategoryDefinition(code=0xF3, last_code=0xF3, name_en="Acme", name_ko="아크메")
        await registry.upsert_category(session, ADMIN, acme)
        await registry.upsert_type(
            session,
            ADMIN,
            TypeDefinition(
                category=0xF3,
                type_index=1,
                name_en="Lactate",
                name_ko="젖산",
                required_channels=88,
                measurement_s=20,
                unit="mmol/L",
            ),
        )
        after = {s.category.name_en: s.type_count for s in await registry.categories(session)}
    assert (len(before), before["HealthBiomarker"], before["ThirdParty"]) == (15, 14, 0)
    assert (len(after), after["Acme"], after["ThirdParty"]) == (16, 1, 0)


async def test_the_unit_of_a_version_cannot_change_and_another_unit_is_the_next_version(hardware: Hardware) -> None:
    glucose = next(t for t in TYPES if t.name_en == "Glucose")
    molar = replace(
        glucose,
        unit="mmol/L",
        loinc_code="15074-8",
        reference_low=3.9,
        reference_high=5.5,
        critical_low=3.0,
        critical_high=22.2,
        measuring_low=1.1,
        measuring_high=33.3,
        decimal_places=1,
    )
    registry, code = hardware.services.registry, CartridgeCode(1, 1)
    async with hardware.database.transaction() as session:
        await registry.upsert_type(session, ADMIN, glucose)
        for refused in (molar, replace(molar, version=1), replace(molar, version=3), replace(glucose, version=0)):
            with pytest.raises(RegistryEntryInvalid, match=r"unit|version"):
                await registry.upsert_type(session, ADMIN, refused)
    for _ in range(2):  # repeated, it makes no further version
        async with hardware.database.transaction() as session:
            made = await registry.upsert_type(session, ADMIN, replace(molar, version=2))
        assert (made.version, made.unit) == (2, "mmol/L")
    async with hardware.database.read() as session:
        before = await registry.type_in(session, code, unit="mg/dL")
        now = await registry.type_in(session, code, unit="mmol/L")
        with pytest.raises(CartridgeTypeNotFound):
            await registry.type_in(session, code, unit="g/L")
    assert (before.version, before.critical_high, before.loinc_code, before.name_ko) == (1, 400, "2339-0", "혈당")
    assert (before.decimal_places, before.measuring_high, before.reference_high) == (0, 600, 99)
    assert (now.version, now.critical_high, now.loinc_code) == (2, 22.2, "15074-8")
    async with hardware.database.transaction() as session:  # a third version, back in the first's unit
        await registry.upsert_type(session, ADMIN, replace(glucose, version=3, critical_high=380))
    async with hardware.database.read() as session:
        assert (await registry.type_in(session, code, unit="mg/dL")).critical_high == 380
        assert (await registry.type_in(session, code, unit="mmol/L")).version == 2
