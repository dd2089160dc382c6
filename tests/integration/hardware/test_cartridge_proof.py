"""What a stranger who knows a uid can do to the cartridge of another: nothing. What the factory says counts."""

import datetime as dt
import math
import struct
import zlib
from dataclasses import replace

import pytest

from devices.nfc_signature import CmacLot, Ed25519Lot
from devices.nfc_tag import TagV2, encode_v2
from domain.errors import AppError, Forbidden
from domain.hardware.cartridge.errors import (
    CartridgeBelongsToAnother,
    CartridgeNotFound,
    CartridgeUsedUp,
    SessionNotRecorded,
)
from domain.hardware.cartridge.models import CartridgeDetail, Proof, Refusal
from domain.hardware.cartridge.nfc_tag import TagForged, TagInvalid
from domain.principal import ANONYMOUS, DEVELOPMENT, Principal, service_principal
from tests.integration.hardware.conftest import (
    ADMIN,
    ALICE,
    BOB,
    GLUCOSE_TAG,
    LOT,
    LOT_LINE,
    MEASUREMENT,
    SIGNED_TAG,
    Hardware,
)

UID = GLUCOSE_TAG.cartridge_uid
REGISTERED = f"LOT-A,1,1,ed25519,{LOT.public_key.hex()},,{UID.lower()},0.91,0.003,-0.002,20,2027-12-31"
"""A line of a lot file with the uid of the tag, and other values than the tag's."""
WITHOUT_KEY = f"LOT-A,1,1,,,,{UID},0.91,0.003,-0.002,20,2027-12-31"


async def read(hardware: Hardware, tag: TagV2 | bytes, principal: Principal = ALICE) -> CartridgeDetail:
    raw = tag if isinstance(tag, bytes) else encode_v2(tag)
    async with hardware.database.transaction() as session:
        return await hardware.services.cartridges.read(session, principal, tag=raw)


async def known(hardware: Hardware, principal: Principal = ALICE, *, user_id: str = "") -> CartridgeDetail:
    async with hardware.database.read() as session:
        return await hardware.services.cartridges.get(session, principal, UID.lower(), user_id=user_id)


async def use(
    hardware: Hardware, session_id: str, principal: Principal = MEASUREMENT, *, user_id: str = "alice"
) -> int:
    async with hardware.database.transaction() as session:
        cartridge = await hardware.services.cartridges.record_usage(
            session, principal, user_id=user_id, session_id=session_id, uid=UID
        )
        return cartridge.remaining_uses


def facts(detail: CartridgeDetail) -> tuple[Proof, float | None, float | None, float | None, int]:
    found = detail.cartridge
    return (found.proof, found.alpha, found.temp_coefficient, found.humidity_coefficient, found.max_uses)


async def test_an_unsigned_tag_of_an_unknown_uid_runs_unverified_and_none_of_its_numbers_is_used(
    hardware: Hardware,
) -> None:
    detail = await read(hardware, GLUCOSE_TAG)
    assert facts(detail)[:4] == (Proof.NONE, None, None, None)
    assert (detail.cartridge.verified, detail.cartridge.required_channels, detail.refusal) == (False, None, None)
    assert detail.type is not None  # what it measures is as far as a tag is believed
    assert detail.type.name_en == "Glucose"


async def test_a_tag_with_the_signature_of_its_lot_is_verified_with_its_own_numbers(hardware: Hardware) -> None:
    await hardware.import_lots()
    assert facts(await read(hardware, SIGNED_TAG)) == (Proof.SIGNATURE, 0.93, 0.002, -0.001, 10)


@pytest.mark.parametrize("tag", [GLUCOSE_TAG, SIGNED_TAG], ids=["unsigned", "signed"])
@pytest.mark.parametrize("line", [REGISTERED, WITHOUT_KEY], ids=["lot with key", "lot without key"])
async def test_the_registrys_values_win_over_those_of_any_tag(hardware: Hardware, tag: TagV2, line: str) -> None:
    await hardware.import_lots(line)
    forged = replace(tag, category=1, type_index=2, alpha=0.1, max_uses=500, remaining_uses=500)
    detail = await read(hardware, forged)
    assert facts(detail) == (Proof.REGISTRY, 0.91, 0.003, -0.002, 20)
    assert (detail.cartridge.type_index, detail.cartridge.remaining_uses) == (1, 20)
    assert detail.cartridge.expires_on == dt.date(2027, 12, 31)


async def test_a_version_1_tag_is_verified_by_the_registry_alone(hardware: Hardware) -> None:
    raw = bytes.fromhex(UID) + b"\x01"
    assert facts(await read(hardware, raw))[:2] == (Proof.NONE, None)
    await hardware.import_lots(REGISTERED)
    assert facts(await read(hardware, raw, BOB)) == (Proof.REGISTRY, 0.91, 0.003, -0.002, 20)
    assert (await known(hardware, BOB)).cartridge.remaining_uses == 20


async def test_a_lot_with_a_secret_key_verifies_its_tags_and_no_others(hardware: Hardware) -> None:
    lot = CmacLot("LOT-C", bytes(range(16)))
    await hardware.import_lots(f"LOT-C,1,1,aes-cmac,{lot.key.hex()},,,,,,,")
    stored = await hardware.fetch("SELECT sealed_key FROM cartridge_lots")
    assert lot.key not in bytes(str(stored), "utf-8")
    assert lot.key.hex() not in str(stored)
    other = CmacLot("LOT-C", bytes(16)).sign(replace(GLUCOSE_TAG, cartridge_uid="00000000000000BB"))
    assert (await read(hardware, lot.sign(GLUCOSE_TAG))).cartridge.proof is Proof.SIGNATURE
    assert (await read(hardware, other)).cartridge.proof is Proof.NONE


async def test_a_signature_of_another_lot_or_of_another_type_or_content_verifies_nothing(hardware: Hardware) -> None:
    await hardware.import_lots(LOT_LINE, f"LOT-B,1,2,ed25519,{LOT.public_key.hex()},,,,,,,")
    stolen = SIGNED_TAG.extended_calibration
    stranger = Ed25519Lot.of_seed("LOT-A", bytes(32))
    for tag in (
        stranger.sign(GLUCOSE_TAG),
        replace(GLUCOSE_TAG, cartridge_uid="00000000000000BB", extended_calibration=stolen),
        replace(SIGNED_TAG, alpha=0.5),
        replace(SIGNED_TAG, max_uses=500),
        replace(SIGNED_TAG, expires_on=dt.date(2030, 1, 1)),
        Ed25519Lot("LOT-B", LOT.key).sign(GLUCOSE_TAG),  # signed for lot B, which is of another type
        Ed25519Lot("LOT-X", LOT.key).sign(GLUCOSE_TAG),  # a lot that was not imported
    ):
        assert (await read(hardware, tag)).cartridge.proof is Proof.NONE
        await hardware.fetch("DELETE FROM cartridges")


async def test_the_remaining_uses_may_be_written_without_breaking_the_signature(hardware: Hardware) -> None:
    await hardware.import_lots()
    detail = await read(hardware, replace(SIGNED_TAG, remaining_uses=3))
    assert (detail.cartridge.proof, detail.cartridge.remaining_uses) == (Proof.SIGNATURE, 3)


# --- what strangers try


async def test_what_a_stranger_reads_before_or_after_changes_nothing_of_the_owners(hardware: Hardware) -> None:
    await hardware.import_lots()
    emptied = replace(GLUCOSE_TAG, remaining_uses=0, alpha=0.1, type_index=2, expires_on=dt.date(2020, 1, 1))
    await read(hardware, emptied, BOB)  # pre-registered
    owners = await read(hardware, SIGNED_TAG)
    assert facts(owners) == (Proof.SIGNATURE, 0.93, 0.002, -0.001, 10)
    await read(hardware, emptied, BOB)  # emptied
    assert (await known(hardware)).cartridge == owners.cartridge
    assert await use(hardware, "session-1") == 9


@pytest.mark.parametrize("line", [REGISTERED, WITHOUT_KEY], ids=["lot with key", "lot without key"])
async def test_a_stranger_who_guesses_a_registered_uid_takes_none_of_the_owners_uses(
    hardware: Hardware, line: str
) -> None:
    await hardware.import_lots(line)
    await read(hardware, replace(GLUCOSE_TAG, remaining_uses=1), BOB)
    await use(hardware, "bobs-session", user_id="bob")
    with pytest.raises(CartridgeUsedUp):
        await use(hardware, "bobs-next", user_id="bob")
    assert (await read(hardware, replace(GLUCOSE_TAG, max_uses=30, remaining_uses=30))).cartridge.remaining_uses == 20
    assert await use(hardware, "alices-session") == 19


async def test_the_first_to_show_a_signed_tag_has_it_alone(hardware: Hardware) -> None:
    await hardware.import_lots()
    await read(hardware, GLUCOSE_TAG, BOB)
    await read(hardware, SIGNED_TAG)
    with pytest.raises(CartridgeBelongsToAnother):
        await read(hardware, SIGNED_TAG, BOB)
    assert (await known(hardware, BOB)).cartridge.proof is Proof.NONE
    async with hardware.database.transaction() as session:
        with pytest.raises(Forbidden):
            await hardware.services.cartridges.release(session, ALICE, UID)
        assert await hardware.services.cartridges.release(session, ADMIN, UID)
    assert (await read(hardware, SIGNED_TAG, BOB)).cartridge.proof is Proof.SIGNATURE


async def test_who_takes_over_a_released_cartridge_has_the_uses_that_are_left(hardware: Hardware) -> None:
    await hardware.import_lots()
    await read(hardware, SIGNED_TAG)
    for number in range(9):
        await use(hardware, f"session-{number}")
    async with hardware.database.transaction() as session:
        assert await hardware.services.cartridges.release(session, ADMIN, UID)
        assert not await hardware.services.cartridges.release(session, ADMIN, UID)
    assert (await known(hardware)).cartridge.proof is Proof.NONE
    assert (await read(hardware, SIGNED_TAG, BOB)).cartridge.remaining_uses == 1
    with pytest.raises(CartridgeBelongsToAnother):
        await read(hardware, SIGNED_TAG)


async def test_a_registered_uid_is_no_longer_anybodys_once_its_signed_tag_was_shown(hardware: Hardware) -> None:
    await hardware.import_lots(REGISTERED)
    await read(hardware, GLUCOSE_TAG, BOB)
    await read(hardware, SIGNED_TAG)
    assert facts(await known(hardware)) == (Proof.SIGNATURE, 0.91, 0.003, -0.002, 20)
    assert facts(await known(hardware, BOB))[:2] == (Proof.NONE, None)


async def test_a_stranger_learns_nothing_of_a_cartridge(hardware: Hardware) -> None:
    await hardware.import_lots(REGISTERED)
    await read(hardware, SIGNED_TAG)
    with pytest.raises(CartridgeNotFound):
        await known(hardware, BOB)
    with pytest.raises(Forbidden):
        await known(hardware, BOB, user_id="alice")
    async with hardware.database.read() as session:
        cartridges = hardware.services.cartridges
        assert await cartridges.details(session, BOB, [UID]) == {}
        validation = await cartridges.validate(session, BOB, uid=UID)
        assert (validation.refusal, validation.detail) == (Refusal.UNKNOWN, None)


@pytest.mark.parametrize("who", [BOB, DEVELOPMENT, service_principal("device"), ANONYMOUS], ids=lambda p: p.kind.value)
async def test_invented_sessions_take_nothing_from_another_person(hardware: Hardware, who: Principal) -> None:
    await hardware.import_lots()
    await read(hardware, SIGNED_TAG)
    for user_id in ("", "bob"):
        with pytest.raises(AppError):
            await use(hardware, "invented", who, user_id=user_id)
    assert (await known(hardware)).cartridge.remaining_uses == 10
    if who is BOB:
        with pytest.raises(Forbidden):
            await use(hardware, "invented", who, user_id="alice")
        await read(hardware, GLUCOSE_TAG, BOB)
        with pytest.raises(SessionNotRecorded):
            await use(hardware, "invented", who, user_id="")


async def test_the_owner_may_ask_for_a_use_again_and_invents_none(hardware: Hardware) -> None:
    await read(hardware, GLUCOSE_TAG)
    assert await use(hardware, "session-1") == 9
    assert await use(hardware, "session-1", ALICE) == 9
    with pytest.raises(SessionNotRecorded):
        await use(hardware, "session-2", ALICE)
    await read(hardware, GLUCOSE_TAG, BOB)
    with pytest.raises(SessionNotRecorded):  # of Alice's session
        await use(hardware, "session-1", BOB, user_id="")
    with pytest.raises(SessionNotRecorded):
        await use(hardware, "session-1", MEASUREMENT, user_id="bob")


async def test_a_tag_that_says_otherwise_than_the_signed_one_is_refused(hardware: Hardware) -> None:
    await hardware.import_lots()
    await read(hardware, SIGNED_TAG)
    with pytest.raises(TagForged):
        await read(hardware, replace(GLUCOSE_TAG, alpha=0.5))
    assert facts(await known(hardware))[:2] == (Proof.SIGNATURE, 0.93)


async def test_a_signed_tag_that_is_read_as_version_1_stays_what_it_is(hardware: Hardware) -> None:
    await hardware.import_lots()
    before = (await read(hardware, SIGNED_TAG)).cartridge
    for legacy_code, refused in ((1, False), (2, True)):
        raw = bytes.fromhex(UID) + bytes([legacy_code])
        if refused:
            with pytest.raises(TagForged):
                await read(hardware, raw)
        else:
            assert (await read(hardware, raw)).cartridge == before
    assert (await known(hardware)).cartridge == before


async def test_an_unsigned_reading_takes_no_uses_of_the_signed_one_that_follows(hardware: Hardware) -> None:
    await hardware.import_lots()
    await read(hardware, bytes.fromhex(UID) + b"\x01")  # a version 1 reading: one use
    assert await use(hardware, "session-1") == 0
    assert (await read(hardware, SIGNED_TAG)).cartridge.remaining_uses == 9


async def test_invented_tags_are_kept_in_a_limited_number_and_used_ones_for_good(
    hardware: Hardware, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domain.hardware.cartridge.service.MAX_UNUSED_READINGS", 3)
    await hardware.import_lots()
    await read(hardware, SIGNED_TAG)
    await read(hardware, GLUCOSE_TAG, BOB)
    for number in range(6):
        hardware.clock.advance(seconds=1)
        await read(hardware, replace(GLUCOSE_TAG, cartridge_uid=f"{number:016X}", extended_calibration=bytes(4000)))
        if number == 0:
            async with hardware.database.transaction() as session:
                await hardware.services.cartridges.record_usage(
                    session, MEASUREMENT, user_id="alice", session_id="s-0", uid=f"{number:016X}"
                )
    rows = await hardware.fetch(
        "SELECT uid, length(extended_calibration) AS n FROM cartridges WHERE owner_user_id = 'alice'"
    )
    assert {row["uid"] for row in rows} == {UID, *(f"{number:016X}" for number in (0, 3, 4, 5))}
    assert sum(int(str(row["n"])) for row in rows) == len(SIGNED_TAG.extended_calibration)
    assert (await known(hardware, BOB)).cartridge.proof is Proof.NONE


# --- ranges


@pytest.mark.parametrize(
    ("offset", "layout", "value"),
    [
        (36, "<d", 1e300),
        (36, "<d", -0.1),
        (36, "<d", math.nan),
        (44, "<d", 1.5),
        (44, "<d", math.inf),
        (52, "<d", -1.5),
        (30, "<H", 0),
        (32, ">H", 100),
        (20, "8s", b"99991231"),
        (20, "8s", b"19991231"),
    ],
)
async def test_a_tag_with_numbers_that_no_cartridge_has_is_refused(
    hardware: Hardware, offset: int, layout: str, value: object
) -> None:
    raw = bytearray(encode_v2(replace(GLUCOSE_TAG, remaining_uses=0)))
    struct.pack_into(layout, raw, offset, value)
    struct.pack_into("<I", raw, 60, zlib.crc32(raw[:60]))
    with pytest.raises(TagInvalid):
        await read(hardware, bytes(raw))
    with pytest.raises(CartridgeNotFound):
        await known(hardware)
