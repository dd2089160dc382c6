"""Registration of readers: the claim code proves possession, and every refusal gives the same answer."""

import asyncio

import pytest

from domain.errors import AppError, Forbidden, Unauthenticated
from domain.hardware.calibration.models import CalibrationKind
from domain.hardware.codes import CartridgeCode
from domain.hardware.device.claims import claim_hash, normal_code
from domain.hardware.device.errors import (
    CredentialRefused,
    DeviceClaimRefused,
    DeviceFileInvalid,
    DeviceLimitReached,
    SerialNumberTaken,
    TooManyClaims,
)
from domain.hardware.device.models import Heartbeat
from domain.hardware.device.records import RecordImport
from domain.principal import ANONYMOUS, DEVELOPMENT, Principal
from subgraphs.hardware.device.adapters.claim_attempts import REFUSALS_PER_HOUR
from tests.integration.hardware.conftest import ADMIN, ALICE, BOB, MEASUREMENT, TECHNICIAN, Hardware
from tests.integration.hardware.test_calibrations import factory, field

CODE = "ABCD-EFGH-JKMN-2345"
OTHER_CODE = "ZZZZ-EFGH-JKMN-2345"


def record(serial: str = "SN-dev-1", *, code: str = CODE, device_id: str = "") -> str:
    return f"{serial},{claim_hash(serial, normal_code(code) or '').hex()},{device_id}"


async def devices(hardware: Hardware) -> list[tuple[object, ...]]:
    rows = await hardware.fetch("SELECT device_id, owner_user_id, verified FROM devices ORDER BY device_id")
    return [tuple(row.values()) for row in rows]


@pytest.mark.parametrize("code", [CODE, CODE.lower(), CODE.replace("-", ""), CODE.replace("-", " ")])
async def test_the_claim_code_of_the_factorys_record_registers_a_reader(production: Hardware, code: str) -> None:
    await production.import_devices(record("sn-DEV-1"))
    registration = await production.register(claim_code=code)
    assert registration.credential
    assert await devices(production) == [("dev-1", "alice", True)]


async def test_every_claim_that_does_not_hold_gets_the_same_answer(production: Hardware) -> None:
    await production.import_devices(
        record(),
        record("SN-dev-2", device_id="dev-2"),
        record("SN-dev-3", device_id="dev-3"),
    )
    await production.register(claim_code=CODE)
    answers = set()
    for device_id, serial, code in (
        ("dev-1", "SN-dev-1", CODE),  # another person's, and the right code
        ("dev-1", "SN-dev-1", OTHER_CODE),
        ("dev-9", "SN-dev-1", CODE),  # under another id
        ("dev-1", "SN-dev-2", CODE),  # a right code for another person's id
        ("dev-2", "SN-dev-2", OTHER_CODE),
        ("dev-2", "SN-dev-2", ""),
        ("dev-2", "SN-dev-3", CODE),  # the id of another reader of the factory's
        ("dev-4", "SN-dev-4", CODE),  # without a factory record
    ):
        with pytest.raises(DeviceClaimRefused) as refusal:
            await production.register(BOB, device_id, serial=serial, claim_code=code)
        answers.add((refusal.value.reason, refusal.value.message, tuple(refusal.value.details.items())))
    assert len(answers) == 1
    assert await devices(production) == [("dev-1", "alice", True)]


async def test_guessing_ends_after_some_refusals_for_the_account_and_for_no_other(hardware: Hardware) -> None:
    await hardware.import_devices(record())
    await hardware.register(BOB, "bobs")
    for _ in range(REFUSALS_PER_HOUR):
        with pytest.raises(DeviceClaimRefused):
            await hardware.register(BOB, claim_code=OTHER_CODE)
    with pytest.raises(TooManyClaims):
        await hardware.register(BOB, claim_code=CODE)
    await hardware.register(BOB, "bobs")  # of his own reader nothing is to be guessed
    with pytest.raises(TooManyClaims):
        await hardware.register(BOB, "bobs", claim_code=CODE)
    await hardware.register(ALICE, claim_code=CODE)


async def test_guesses_made_at_once_are_counted_like_others(hardware: Hardware) -> None:
    await hardware.import_devices(record())
    answers = await asyncio.gather(
        *(hardware.register(BOB, claim_code=OTHER_CODE) for _ in range(3 * REFUSALS_PER_HOUR)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, DeviceClaimRefused)]
    assert len(refused) == REFUSALS_PER_HOUR
    assert len([a for a in answers if isinstance(a, TooManyClaims)]) == 2 * REFUSALS_PER_HOUR


async def test_of_two_who_hold_the_code_at_once_one_gets_the_reader(production: Hardware) -> None:
    await production.import_devices(record())
    people = [Principal(kind=ALICE.kind, subject=f"person-{n}", scopes=ALICE.scopes) for n in range(4)]
    answers = await asyncio.gather(
        *(production.register(who, claim_code=CODE) for who in people), return_exceptions=True
    )
    assert len([a for a in answers if isinstance(a, DeviceClaimRefused)]) == 3
    assert len(await devices(production)) == 1


async def test_a_reader_that_somebody_registered_without_the_code_goes_to_the_one_who_has_it(
    hardware: Hardware,
) -> None:
    squatter = await hardware.register(BOB, "DEV-1", serial="sn-DEV-1")
    await hardware.import_devices(record())
    with pytest.raises(DeviceClaimRefused):
        await hardware.register()
    await hardware.register(claim_code=CODE)
    assert await devices(hardware) == [("dev-1", "alice", True)]
    async with hardware.database.read() as session:
        with pytest.raises(CredentialRefused):
            await hardware.services.devices.verify_credential(
                session, device_id="DEV-1", credential=squatter.credential
            )


async def test_a_squatted_serial_number_under_another_id_goes_to_the_one_who_has_the_code(hardware: Hardware) -> None:
    await hardware.register(BOB, "other", serial="SN-DEV-1")
    await hardware.register(BOB, "dev-1", serial="SN-other")
    await hardware.import_devices(record())
    await hardware.register(claim_code=CODE)
    assert await devices(hardware) == [("dev-1", "alice", True)]


async def test_a_verified_owner_keeps_the_reader_until_it_is_removed(production: Hardware) -> None:
    await production.import_devices(record())
    await production.register(claim_code=CODE)
    for _ in range(2):
        with pytest.raises(DeviceClaimRefused):
            await production.register(BOB, claim_code=CODE)
    async with production.database.transaction() as session:
        await production.services.devices.remove(session, ALICE, device_id="DEV-1")
    await production.register(BOB, claim_code=CODE)
    assert await devices(production) == [("dev-1", "bob", True)]


async def test_the_owner_registers_again_without_the_code_and_proves_it_later(hardware: Hardware) -> None:
    await hardware.register()
    await hardware.import_devices(record())
    await hardware.register(firmware="1.1.0")
    assert await devices(hardware) == [("dev-1", "alice", False)]
    with pytest.raises(DeviceClaimRefused):
        await hardware.register(claim_code=OTHER_CODE)
    await hardware.register(claim_code=CODE)
    await hardware.register()
    assert await devices(hardware) == [("dev-1", "alice", True)]


async def test_a_reader_that_names_no_id_gets_the_factorys(production: Hardware) -> None:
    await production.import_devices(record(device_id="mps-0001"))
    registration = await production.register(device_id="", serial="SN-dev-1", claim_code=CODE)
    assert registration.device.device_id == "mps-0001"


async def test_a_development_network_takes_unknown_readers_and_hands_over_no_proven_one(hardware: Hardware) -> None:
    async def hand_over() -> None:
        async with hardware.database.transaction() as session:
            await hardware.services.devices.register(
                session,
                DEVELOPMENT,
                device_id="dev-1",
                serial_number="SN-dev-1",
                firmware_version="1.0.0",
                user_id="bob",
            )

    await hardware.register()
    await hand_over()
    assert await devices(hardware) == [("dev-1", "bob", False)]
    await hardware.import_devices(record())
    await hardware.register(claim_code=CODE)
    with pytest.raises(DeviceClaimRefused):
        await hand_over()


async def test_the_id_of_a_factorys_reader_is_taken_by_no_other_serial_number(hardware: Hardware) -> None:
    await hardware.import_devices(record("SN-1", device_id="mps-1"), record("SN-2"))
    with pytest.raises(DeviceClaimRefused):
        await hardware.register(BOB, "MPS-1", serial="SN-without-a-record")
    with pytest.raises(DeviceClaimRefused):
        await hardware.register(BOB, "mps-1", serial="SN-2", claim_code=CODE)
    await hardware.register(ALICE, "mps-1", serial="SN-1", claim_code=CODE)


# --- without case


@pytest.mark.parametrize(("device_id", "serial"), [("DEV-1", "SN-other"), ("dev-2", "sn-DEV-1"), ("Dev-1", "Sn-Dev-1")])
async def test_case_makes_no_other_reader(hardware: Hardware, device_id: str, serial: str) -> None:
    await hardware.register()
    with pytest.raises(DeviceClaimRefused):
        await hardware.register(BOB, device_id, serial=serial)
    assert await devices(hardware) == [("dev-1", "alice", False)]


async def test_a_reader_is_found_by_its_id_in_any_case(hardware: Hardware) -> None:
    registration = await hardware.register()
    service = hardware.services.devices
    async with hardware.database.transaction() as session:
        found = await service.verify_credential(session, device_id="DEV-1", credential=registration.credential)
        assert found.device_id == "dev-1"
        assert (await service.get(session, ALICE, "Dev-1")).device_id == "dev-1"
        assert set(await service.visible(session, ALICE, ["DEV-1", "dev-1", "DEV-2"])) == {"DEV-1", "dev-1"}
        assert await service.owners_of(session, ["DEV-1"]) == {"DEV-1": "alice"}
        await service.record_heartbeat(
            session, hardware.device("DEV-1"), device_id="dEV-1", beat=Heartbeat(None, 50, 0)
        )
        with pytest.raises(Forbidden):
            await service.get(session, BOB, "DEV-1")
    assert await hardware.fetch("SELECT battery_percent FROM devices") == [{"battery_percent": 50}]
    again = await hardware.register(device_id="DEV-1", serial="sn-dev-1")
    assert again.device.device_id == "dev-1"


# --- plans


async def test_a_plan_of_one_holds_when_thirty_are_registered_at_once(hardware: Hardware) -> None:
    hardware.plans.allowed["alice"] = 1
    answers = await asyncio.gather(
        *(hardware.register(device_id=f"dev-{number}") for number in range(30)), return_exceptions=True
    )
    assert len([answer for answer in answers if isinstance(answer, DeviceLimitReached)]) == 29
    [(device_id, _, _)] = await devices(hardware)
    await hardware.register(device_id=str(device_id))  # again is not one more
    async with hardware.database.transaction() as session:
        await hardware.services.devices.remove(session, ALICE, device_id=str(device_id))
    await hardware.register(device_id="dev-99")


async def test_a_development_network_is_warned_of_its_plan(hardware: Hardware) -> None:
    hardware.plans.allowed["alice"] = 1
    for number in range(2):
        async with hardware.database.transaction() as session:
            await hardware.services.devices.register(
                session,
                DEVELOPMENT,
                device_id=f"dev-{number}",
                serial_number=f"SN-{number}",
                firmware_version="1.0.0",
                user_id="alice",
                max_devices=1,
            )
    assert len(await devices(hardware)) == 2


# --- what an earlier owner leaves behind


async def test_what_an_earlier_owner_has_fitted_does_not_bend_what_the_next_one_measures(hardware: Hardware) -> None:
    await hardware.register(BOB)
    made = await factory(hardware)
    await field(hardware, principal=BOB)
    async with hardware.database.transaction() as session:
        await hardware.services.devices.remove(session, BOB, device_id="dev-1")
    await hardware.register(ALICE, "DEV-1", serial="SN-dev-1")
    async with hardware.database.read() as session:
        calibrations = hardware.services.calibrations
        current = await calibrations.in_force(session, ALICE, device_id="Dev-1", code=CartridgeCode(1, 1))
        records, total = await calibrations.history(session, ALICE, device_id="dev-1", limit=10, offset=0)
    assert (current.calibration_id, current.kind) == (made.calibration_id, CalibrationKind.FACTORY)
    assert ([found.calibration_id for found in records], total) == ([made.calibration_id], 1)


# --- records


async def test_the_same_records_again_change_nothing_and_others_only_when_that_is_asked_for(hardware: Hardware) -> None:
    assert await hardware.import_devices(record(), record("SN-2")) == RecordImport(2, 0, 0)
    assert await hardware.import_devices(record(), record("SN-3")) == RecordImport(1, 0, 1)
    with pytest.raises(DeviceFileInvalid, match="line 3: reader SN-2 is stored with other values"):
        await hardware.import_devices(record("SN-4"), record("SN-2", code=OTHER_CODE))
    assert await hardware.fetch("SELECT serial_key FROM device_records WHERE serial_key = 'sn-4'") == []
    done = await hardware.import_devices(record("SN-4"), record("SN-2", code=OTHER_CODE), replace=True)
    assert done == RecordImport(1, 1, 0)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (",00,", "serial_number"),
        ("S N,00,", "serial_number"),
        ("SN-9,abc,", "claim_code_hash must have 64"),
        (f"SN-9,{'0' * 64},-x", "device_id"),
        (record("sn-1"), "line 2 already"),
        (record("SN-9", device_id="DEV-A"), "device_id DEV-A is in line 2 already"),
        (record("SN-9", device_id="DEV-B"), "device_id DEV-B is stored with another serial number"),
    ],
)
async def test_a_wrong_record_is_told_with_its_line_and_nothing_is_stored(
    hardware: Hardware, line: str, says: str
) -> None:
    await hardware.import_devices(record("SN-0", device_id="dev-b"))
    with pytest.raises(DeviceFileInvalid, match="line 3: ") as refusal:
        await hardware.import_devices(record("SN-1", device_id="dev-a"), line)
    assert says in refusal.value.message
    assert await hardware.fetch("SELECT serial_key FROM device_records") == [{"serial_key": "sn-0"}]


@pytest.mark.parametrize(
    "who", [ALICE, TECHNICIAN, MEASUREMENT, DEVELOPMENT, ANONYMOUS], ids=lambda who: f"{who.kind}-{who.subject}"
)
async def test_only_the_factory_and_administrators_import(hardware: Hardware, who: Principal) -> None:
    with pytest.raises((Forbidden, Unauthenticated)):
        await hardware.import_devices(record(), principal=who)
    await hardware.import_devices(record(), principal=ADMIN)


@pytest.mark.parametrize("code", ["", "short", "0" * 65, "ABCD-EFGH-JKMN-234\u0665", "\0" * 20, "x" * 1_000_000])
async def test_what_is_no_claim_code_is_a_wrong_one(production: Hardware, code: str) -> None:
    await production.import_devices(record())
    with pytest.raises(AppError) as refusal:
        await production.register(claim_code=code)
    assert isinstance(refusal.value, DeviceClaimRefused)


async def test_the_owners_reader_keeps_its_serial_number_and_its_id(hardware: Hardware) -> None:
    await hardware.register()
    with pytest.raises(SerialNumberTaken):
        await hardware.register(device_id="dev-2", serial="sn-dev-1")
    with pytest.raises(SerialNumberTaken):
        await hardware.register(serial="SN-other")
