"""Readers: who registers them, how they prove themselves, when they count as connected."""

import asyncio
import hashlib

import pytest

from domain.errors import AppError, Forbidden, InvalidInput
from domain.hardware.access import DeviceNotFound
from domain.hardware.device.errors import (
    CredentialRefused,
    DeviceClaimRefused,
    DeviceFieldInvalid,
    SerialNumberTaken,
    TooManyCommands,
)
from domain.hardware.device.models import CommandType, DeviceStatus, Heartbeat
from domain.hardware.device.service import MAX_PENDING_COMMANDS
from domain.ids import DeviceId
from domain.paging import PageRequest
from domain.principal import DEVELOPMENT
from tests.integration.hardware.conftest import ADMIN, ALICE, BOB, Hardware

BEAT = Heartbeat(status=None, battery_percent=80, signal_strength=-60)


async def beat(hardware: Hardware, heartbeat: Heartbeat = BEAT, device_id: str = "dev-1") -> DeviceStatus:
    async with hardware.database.transaction() as session:
        device = await hardware.services.devices.record_heartbeat(
            session, hardware.device(device_id), device_id=device_id, beat=heartbeat
        )
        return DeviceStatus(device.status)


async def status_of(hardware: Hardware, device_id: str = "dev-1") -> object:
    return (await hardware.fetch("SELECT status FROM devices WHERE device_id = $1", device_id))[0]["status"]


async def verify(hardware: Hardware, credential: str, device_id: str = "dev-1") -> str:
    async with hardware.database.read() as session:
        device = await hardware.services.devices.verify_credential(session, device_id=device_id, credential=credential)
        return device.owner_user_id


async def test_a_credential_is_stored_only_as_its_hash(hardware: Hardware) -> None:
    registration = await hardware.register()
    assert len(registration.credential) >= 43  # 256 bits in base64
    assert await verify(hardware, registration.credential) == "alice"
    rows = await hardware.fetch("SELECT secret_hash FROM device_credentials")
    assert rows == [{"secret_hash": hashlib.sha256(registration.credential.encode()).digest()}]
    everything = await hardware.fetch("SELECT to_jsonb(d) AS d, to_jsonb(c) AS c FROM devices d, device_credentials c")
    assert registration.credential not in str(everything)


async def test_wrong_and_unknown_credentials_are_refused_alike(hardware: Hardware) -> None:
    registration = await hardware.register()
    messages = set()
    for device_id, credential in (
        ("dev-1", registration.credential + "x"),
        ("dev-1", ""),
        ("dev-2", registration.credential),
        ("\0", "x"),
    ):
        with pytest.raises(CredentialRefused) as refusal:
            await verify(hardware, credential, device_id)
        messages.add(refusal.value.message)
    assert len(messages) == 1


async def test_registering_again_issues_a_new_credential_and_revokes_the_old_one(hardware: Hardware) -> None:
    first = await hardware.register(firmware="1.0.0")
    second = await hardware.register(firmware="1.1.0")
    assert await verify(hardware, second.credential) == "alice"
    with pytest.raises(CredentialRefused):
        await verify(hardware, first.credential)
    rows = await hardware.fetch("SELECT firmware_version, count(*) OVER () AS devices FROM devices")
    assert rows == [{"firmware_version": "1.1.0", "devices": 1}]


async def test_registering_the_same_device_at_once_leaves_one_device_with_one_credential(hardware: Hardware) -> None:
    answers = await asyncio.gather(*(hardware.register() for _ in range(8)))
    valid = 0
    for answer in answers:
        try:
            await verify(hardware, answer.credential)
            valid += 1
        except CredentialRefused:
            continue
    assert valid == 1


async def test_another_person_cannot_take_a_device_nor_its_serial_number(hardware: Hardware) -> None:
    registration = await hardware.register()
    with pytest.raises(DeviceClaimRefused):
        await hardware.register(BOB)
    with pytest.raises(DeviceClaimRefused):
        await hardware.register(BOB, "dev-2", serial="SN-dev-1")
    with pytest.raises(SerialNumberTaken):
        await hardware.register(ALICE, "dev-1", serial="SN-other")
    assert await verify(hardware, registration.credential) == "alice"  # the owner's still works


async def test_the_development_network_may_hand_a_device_over(hardware: Hardware) -> None:
    old = await hardware.register()
    async with hardware.database.transaction() as session:
        new = await hardware.services.devices.register(
            session, DEVELOPMENT, device_id="dev-1", serial_number="SN-dev-1", firmware_version="1.0.0", user_id="bob"
        )
    assert await verify(hardware, new.credential) == "bob"
    with pytest.raises(CredentialRefused):
        await verify(hardware, old.credential)


@pytest.mark.parametrize(
    ("device_id", "serial", "firmware"),
    [
        ("-dev", "SN", "1.0.0"),
        ("a" * 65, "SN", "1.0.0"),
        ("기기", "SN", "1.0.0"),
        ("dev\0", "SN", "1.0.0"),
        ("dev", "S N", "1.0.0"),
        ("dev", "SN", "one"),
    ],
)
async def test_ids_serials_and_versions_that_no_device_has_are_refused(
    hardware: Hardware, device_id: str, serial: str, firmware: str
) -> None:
    with pytest.raises(InvalidInput):
        await hardware.register(ALICE, device_id, serial=serial, firmware=firmware)


async def test_a_heartbeat_brings_a_device_online_and_silence_takes_it_offline_after_the_grace(
    hardware: Hardware,
) -> None:
    await hardware.register()
    assert await status_of(hardware) == "unknown"
    assert await beat(hardware) is DeviceStatus.ONLINE
    assert await beat(hardware, Heartbeat(DeviceStatus.MEASURING, 79, 0)) is DeviceStatus.MEASURING
    assert await beat(hardware) is DeviceStatus.MEASURING  # unknown in a heartbeat changes nothing
    hardware.clock.advance(seconds=90)
    assert await sweep(hardware) == []
    hardware.clock.advance(seconds=1)
    assert await sweep(hardware) == ["dev-1"]
    assert await sweep(hardware) == []
    assert await beat(hardware) is DeviceStatus.ONLINE


async def sweep(hardware: Hardware) -> list[str]:
    async with hardware.database.transaction() as session:
        return list(await hardware.services.devices.mark_silent_offline(session))


async def test_two_processes_that_sweep_at_once_share_the_work(hardware: Hardware) -> None:
    for number in range(20):
        await hardware.register(device_id=f"dev-{number}")
        await beat(hardware, device_id=f"dev-{number}")
    hardware.clock.advance(minutes=5)
    async with hardware.database.transaction() as one, hardware.database.transaction() as other:
        # The first one's rows are locked and not committed: the second must neither wait for them nor count them.
        first = await hardware.services.devices.mark_silent_offline(one)
        second = await asyncio.wait_for(hardware.services.devices.mark_silent_offline(other), timeout=5)
    assert (len(first), len(second)) == (20, 0)


@pytest.mark.parametrize(("battery", "signal"), [(-1, 0), (101, 0), (50, -128), (50, 101)])
async def test_values_that_no_device_reports_are_refused(hardware: Hardware, battery: int, signal: int) -> None:
    await hardware.register()
    with pytest.raises(DeviceFieldInvalid):
        await beat(hardware, Heartbeat(DeviceStatus.ONLINE, battery, signal))
    assert await status_of(hardware) == "unknown"


@pytest.mark.parametrize("text", ["online", "ONLINE", " Online ", "DEVICE_STATUS_ONLINE", "device_status_online"])
async def test_a_status_is_taken_by_its_name_in_any_case(hardware: Hardware, text: str) -> None:
    await hardware.register()
    async with hardware.database.transaction() as session:
        await hardware.services.devices.set_status(session, ALICE, device_id="dev-1", status=text)
    assert await status_of(hardware) == "online"


@pytest.mark.parametrize("text", ["", "unknown", "on", "DEVICE_STATUS_", "7"])
async def test_a_status_that_there_is_not_is_refused(hardware: Hardware, text: str) -> None:
    await hardware.register()
    async with hardware.database.transaction() as session:
        with pytest.raises(DeviceFieldInvalid):
            await hardware.services.devices.set_status(session, ALICE, device_id="dev-1", status=text)


async def test_a_devices_own_credential_neither_renames_nor_removes_it(hardware: Hardware) -> None:
    await hardware.register()
    async with hardware.database.transaction() as session:
        with pytest.raises(Forbidden):
            await hardware.services.devices.rename(session, hardware.device(), device_id="dev-1", name="mine")
        with pytest.raises(Forbidden):
            await hardware.services.devices.remove(session, hardware.device(), device_id="dev-1")
    assert await hardware.fetch("SELECT name FROM devices") == [{"name": "SN-dev-1"}]


async def test_a_device_that_lists_its_owners_devices_sees_itself(hardware: Hardware) -> None:
    await hardware.register()
    await hardware.register(device_id="dev-2")
    async with hardware.database.read() as session:
        listed = await hardware.services.devices.list_owned(session, hardware.device(), user_id="alice")
        assert [device.device_id for device in listed] == ["dev-1"]
        with pytest.raises(Forbidden):
            await hardware.services.devices.pages_owned(
                session, hardware.device(), user_ids=["alice"], page=PageRequest(first=5)
            )


async def test_only_the_owner_the_device_itself_and_trusted_callers_act_on_a_device(hardware: Hardware) -> None:
    await hardware.register()
    for allowed in (ALICE, hardware.device(), ADMIN, DEVELOPMENT):
        async with hardware.database.transaction() as session:
            await hardware.services.devices.set_status(session, allowed, device_id="dev-1", status="online")
    for refused in (BOB, hardware.device("dev-2", "alice")):
        async with hardware.database.transaction() as session:
            with pytest.raises(Forbidden):
                await hardware.services.devices.set_status(session, refused, device_id="dev-1", status="error")
    async with hardware.database.transaction() as session:
        with pytest.raises(DeviceNotFound):
            await hardware.services.devices.set_status(session, ALICE, device_id="none", status="error")
    assert await status_of(hardware) == "online"


async def test_a_removed_device_is_forgotten_with_its_credential(hardware: Hardware) -> None:
    registration = await hardware.register()
    async with hardware.database.transaction() as session:
        await hardware.services.devices.remove(session, ALICE, device_id="dev-1")
    with pytest.raises(CredentialRefused):
        await verify(hardware, registration.credential)
    await hardware.register(BOB)  # free for the next owner


async def test_commands_wait_until_they_arrive_or_expire(hardware: Hardware) -> None:
    await hardware.register()
    devices = hardware.services.devices

    async def waiting(sent: frozenset[str] = frozenset()) -> list[str]:
        async with hardware.database.transaction() as session:
            commands = await devices.deliver_commands(session, DeviceId("dev-1"), sent=sent)
            return [command.command_id for command in commands]

    ids = []
    for command_type in (CommandType.REBOOT, CommandType.CALIBRATE):
        async with hardware.database.transaction() as session:
            command = await devices.send_command(
                session, ALICE, device_id="dev-1", command_type=command_type, payload={"delay_s": 5}
            )
            ids.append(command.command_id)
    assert await waiting() == ids
    assert await waiting(frozenset(ids[:1])) == ids[1:]  # the rest of the same stream
    assert await waiting() == ids  # a new stream: at least once, under the same ids
    async with hardware.database.transaction() as session:
        await devices.acknowledge_commands(session, ids[:1])
    assert await waiting() == ids[1:]
    hardware.clock.advance(hours=24)
    assert await waiting() == []


async def test_a_device_that_fetches_nothing_is_sent_only_so_many_commands(hardware: Hardware) -> None:
    await hardware.register()

    async def send() -> None:
        async with hardware.database.transaction() as session:
            await hardware.services.devices.send_command(
                session, ALICE, device_id="dev-1", command_type=CommandType.REBOOT, payload={}
            )

    for _ in range(MAX_PENDING_COMMANDS):
        await send()
    with pytest.raises(TooManyCommands):
        await send()


async def test_a_command_needs_the_owner(hardware: Hardware) -> None:
    await hardware.register()
    for principal in (BOB, hardware.device()):
        async with hardware.database.transaction() as session:
            with pytest.raises(AppError) as refusal:
                await hardware.services.devices.send_command(
                    session, principal, device_id="dev-1", command_type=CommandType.REBOOT, payload={}
                )
            assert isinstance(refusal.value, Forbidden)
