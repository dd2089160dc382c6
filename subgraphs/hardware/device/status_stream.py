"""One open status stream: heartbeats come in, commands go out."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import orjson
from manpasik.v1 import device_pb2 as pb

from domain.errors import InvalidInput
from domain.hardware.device.delivery import Delivery
from domain.hardware.device.models import CommandType, DeviceStatus, Heartbeat, QueuedCommand
from domain.hardware.device.service import DeviceService
from domain.ids import DeviceId
from domain.principal import Principal
from subgraphs.runtime.database import Database
from subgraphs.runtime.signals import Signals

_STATUS_FROM_WIRE = {
    pb.DEVICE_STATUS_UNKNOWN: None,
    pb.DEVICE_STATUS_ONLINE: DeviceStatus.ONLINE,
    pb.DEVICE_STATUS_OFFLINE: DeviceStatus.OFFLINE,
    pb.DEVICE_STATUS_MEASURING: DeviceStatus.MEASURING,
    pb.DEVICE_STATUS_UPDATING: DeviceStatus.UPDATING,
    pb.DEVICE_STATUS_ERROR: DeviceStatus.ERROR,
}
_COMMAND_TO_WIRE = {
    CommandType.START_MEASUREMENT: pb.COMMAND_TYPE_START_MEASUREMENT,
    CommandType.STOP_MEASUREMENT: pb.COMMAND_TYPE_STOP_MEASUREMENT,
    CommandType.CALIBRATE: pb.COMMAND_TYPE_CALIBRATE,
    CommandType.REBOOT: pb.COMMAND_TYPE_REBOOT,
    CommandType.OTA_UPDATE: pb.COMMAND_TYPE_OTA_UPDATE,
}


class StatusStream:
    """Serves one stream of one reader.

    That the stream closes says nothing of the reader: it becomes offline only when its heartbeats stay away.
    """

    def __init__(self, devices: DeviceService, database: Database, signals: Signals, principal: Principal) -> None:
        self._devices = devices
        self._database = database
        self._signals = signals
        self._principal = principal
        self._delivery = Delivery()

    async def serve(self, updates: AsyncIterator[pb.DeviceStatusUpdate]) -> AsyncIterator[pb.DeviceCommand]:
        """Commands for the reader, as long as it sends heartbeats.

        Raises:
            InvalidInput: a heartbeat out of range, of an unknown state, or of another reader than the first.
            DeviceNotFound, Forbidden: the reader is not registered, or not the caller's.
        """
        first = await anext(updates, None)
        if first is None:
            return
        device_id = await self._take(DeviceId(first.device_id), first)
        with self._signals.subscribe(device_id) as wake:
            wake.set()
            reading = asyncio.create_task(self._read(device_id, updates, wake))
            try:
                while True:
                    await wake.wait()
                    wake.clear()
                    ended = reading.done()
                    if ended:
                        await reading  # raises what a heartbeat was refused for
                    for command in await self._deliver(device_id):
                        yield command
                    if ended:
                        return
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _read(
        self, device_id: DeviceId, updates: AsyncIterator[pb.DeviceStatusUpdate], wake: asyncio.Event
    ) -> None:
        try:
            async for update in updates:
                await self._take(device_id, update)
                wake.set()
        finally:
            asyncio.get_running_loop().call_soon(wake.set)  # once this task counts as done

    async def _take(self, device_id: DeviceId, update: pb.DeviceStatusUpdate) -> DeviceId:
        """Record a heartbeat; answers the reader's id as it is registered."""
        if update.device_id.casefold() != device_id.casefold():
            raise InvalidInput("A stream reports for one device.", field="device_id")
        if update.status not in _STATUS_FROM_WIRE:
            raise InvalidInput(f"status is {update.status}, which is no device status.", field="status")
        beat = Heartbeat(
            status=_STATUS_FROM_WIRE[update.status],
            battery_percent=update.battery_percent,
            signal_strength=update.signal_strength,
        )
        arrived = self._delivery.record_heartbeat()
        async with self._database.transaction() as session:
            device = await self._devices.record_heartbeat(session, self._principal, device_id=device_id, beat=beat)
            await self._devices.acknowledge_commands(session, arrived)
        return DeviceId(device.device_id)

    async def _deliver(self, device_id: DeviceId) -> Sequence[pb.DeviceCommand]:
        async with self._database.transaction() as session:
            commands = await self._devices.deliver_commands(session, device_id, sent=self._delivery.sent)
        self._delivery.record_sent(command.command_id for command in commands)
        return [_command(command) for command in commands]


def _command(command: QueuedCommand) -> pb.DeviceCommand:
    return pb.DeviceCommand(
        command_id=command.command_id,
        command_type=_COMMAND_TO_WIRE[CommandType(command.command_type)],
        payload=orjson.dumps(command.payload) if command.payload else b"",
    )
