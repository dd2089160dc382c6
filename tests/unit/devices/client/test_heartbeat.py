import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
from manpasik.v1 import device_pb2

from devices.client.credentials import DeviceCredential
from devices.client.errors import CallRejected
from devices.client.heartbeat import Command, CommandHandler, ReaderHealth
from devices.client.platform import Platform
from devices.client.reader import ReaderClient
from tests.support.patience import PATIENCE_S
from tests.unit.devices.client.registered import known_reader, quick_policy
from tests.unit.devices.fake_platform import FakePlatform, Server, connected


def _healthy() -> ReaderHealth:
    return ReaderHealth(status=device_pb2.DEVICE_STATUS_ONLINE, battery_percent=81, signal_dbm=-67)


def _command(number: int, kind: device_pb2.CommandType.ValueType, payload: bytes = b"") -> device_pb2.DeviceCommand:
    return device_pb2.DeviceCommand(command_id=f"command-{number}", command_type=kind, payload=payload)


@asynccontextmanager
async def present(
    client: ReaderClient,
    handlers: dict[device_pb2.CommandType.ValueType, CommandHandler] | None = None,
    health: Callable[[], ReaderHealth] = _healthy,
) -> AsyncIterator[None]:
    task = asyncio.create_task(client.keep_present(health, handlers or {}))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_heartbeats_tell_the_readers_health_as_it_changes(platform: Platform, fake: FakePlatform) -> None:
    battery = iter(range(80, 0, -1))

    def health() -> ReaderHealth:
        return ReaderHealth(status=device_pb2.DEVICE_STATUS_MEASURING, battery_percent=next(battery), signal_dbm=-50)

    async with present(known_reader(fake, platform), health=health):
        await fake.wait_until(lambda: len(fake.heartbeats) >= 3)
    assert [beat.battery_percent for beat in fake.heartbeats[:3]] == [80, 79, 78]
    assert {(beat.device_id, beat.status, beat.signal_strength) for beat in fake.heartbeats} == {
        ("dev-1", device_pb2.DEVICE_STATUS_MEASURING, -50)
    }
    assert all(beat.timestamp.seconds > 0 for beat in fake.heartbeats)


async def test_a_command_that_comes_again_and_again_is_done_once(platform: Platform, fake: FakePlatform) -> None:
    done: list[Command] = []

    async def update(command: Command) -> None:
        done.append(command)

    fake.commands = [_command(1, device_pb2.COMMAND_TYPE_OTA_UPDATE, b'{"target_version": "1.1.0"}')]
    handlers: dict[device_pb2.CommandType.ValueType, CommandHandler] = {device_pb2.COMMAND_TYPE_OTA_UPDATE: update}
    async with present(known_reader(fake, platform), handlers):
        await fake.wait_until(lambda: len(fake.heartbeats) >= 5)
    assert done == [Command("command-1", device_pb2.COMMAND_TYPE_OTA_UPDATE, {"target_version": "1.1.0"})]


async def test_commands_that_fail_or_make_no_sense_do_not_end_the_presence(
    platform: Platform, fake: FakePlatform
) -> None:
    done = asyncio.Event()

    async def fail(command: Command) -> None:
        raise RuntimeError("the pump is stuck")

    async def stop(command: Command) -> None:
        done.set()

    fake.commands = [
        _command(1, device_pb2.COMMAND_TYPE_CALIBRATE),
        _command(2, device_pb2.COMMAND_TYPE_STOP_MEASUREMENT, b"not json"),
        _command(3, device_pb2.COMMAND_TYPE_STOP_MEASUREMENT, b"[1]"),
        _command(4, device_pb2.COMMAND_TYPE_UNKNOWN),
        _command(5, device_pb2.COMMAND_TYPE_STOP_MEASUREMENT),
    ]
    handlers: dict[device_pb2.CommandType.ValueType, CommandHandler] = {
        device_pb2.COMMAND_TYPE_CALIBRATE: fail,
        device_pb2.COMMAND_TYPE_STOP_MEASUREMENT: stop,
    }
    async with present(known_reader(fake, platform), handlers), asyncio.timeout(PATIENCE_S):
        await done.wait()


async def test_presence_comes_back_after_a_restart_of_the_platform(server: Server, fake: FakePlatform) -> None:
    done: list[str] = []

    async def reboot(command: Command) -> None:
        done.append(command.command_id)

    fake.commands = [_command(1, device_pb2.COMMAND_TYPE_REBOOT)]
    handlers: dict[device_pb2.CommandType.ValueType, CommandHandler] = {device_pb2.COMMAND_TYPE_REBOOT: reboot}
    async with connected(server.port) as platform, present(known_reader(fake, platform), handlers):
        await fake.wait_until(lambda: len(fake.heartbeats) >= 2)
        await server.kill()
        before = len(fake.heartbeats)
        await server.start()
        await fake.wait_until(lambda: len(fake.heartbeats) >= before + 3)
    assert fake.status_streams >= 2
    assert done == ["command-1"]


async def test_a_withdrawn_credential_ends_the_presence(platform: Platform) -> None:
    client = ReaderClient(platform, DeviceCredential("dev-1", "withdrawn"), policy=quick_policy())
    with pytest.raises(CallRejected) as caught:
        await client.keep_present(_healthy, {})
    assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
