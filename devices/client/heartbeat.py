"""Presence of a reader: heartbeats up, commands down, over one stream that is reopened whenever it breaks."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import grpc
import orjson
import structlog
from manpasik.v1 import device_pb2, device_pb2_grpc

from devices.client.credentials import DeviceCredential
from devices.client.retry import Backoff, LostConnection, cancelled_by_peer, classify

_log = structlog.get_logger(__name__)

# Commands come at least once; a reader that has seen this many newer ones no longer expects an old one again.
_REMEMBERED_COMMANDS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderHealth:
    """What a heartbeat tells. ``signal_dbm`` is 0 when wired or unknown."""

    status: device_pb2.DeviceStatus.ValueType
    battery_percent: int
    signal_dbm: int = 0


@dataclass(frozen=True, slots=True)
class Command:
    """Something the platform asks of the reader."""

    command_id: str
    kind: device_pb2.CommandType.ValueType
    arguments: Mapping[str, object]


CommandHandler = Callable[[Command], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PresencePolicy:
    """``interval_s``: seconds between heartbeats."""

    interval_s: float = 10.0
    backoff: Backoff = field(default_factory=Backoff)


class Presence:
    """Keeps a reader present and carries out its commands, one after another, each once.

    Args:
        health: asked before each heartbeat.
        handlers: by kind. A command without handler is logged and dropped; so is the error of a handler, because a
            reader that cannot obey one command must go on being present.
    """

    def __init__(
        self,
        stub: device_pb2_grpc.DeviceServiceStub,
        credential: DeviceCredential,
        *,
        health: Callable[[], ReaderHealth],
        handlers: Mapping[device_pb2.CommandType.ValueType, CommandHandler],
        policy: PresencePolicy,
    ) -> None:
        self._stub = stub
        self._credential = credential
        self._health = health
        self._handlers = handlers
        self._policy = policy
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._due: asyncio.Queue[Command] = asyncio.Queue()

    async def run(self) -> None:
        """Runs until cancelled.

        Raises:
            CallRejected: the platform refuses this reader, e.g. its credential was withdrawn.
        """
        worker = asyncio.create_task(self._work())
        try:
            await self._keep_connected()
        finally:
            worker.cancel()
            await asyncio.wait([worker])

    async def _keep_connected(self) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            opened_at = loop.time()
            try:
                await self._converse()
            except LostConnection as lost:
                # A stream that lasted longer than the longest wait was a working one.
                failures = 0 if loop.time() - opened_at > self._policy.backoff.max_s else failures + 1
                wait_s = self._policy.backoff.wait_s(failures)
                _log.info("presence_lost", device_id=self._credential.device_id, cause=str(lost), retry_in_s=wait_s)
                await asyncio.sleep(wait_s)

    async def _converse(self) -> None:
        call = self._stub.StreamDeviceStatus(self._heartbeats(), metadata=await self._credential.metadata())
        try:
            async for command in call:
                self._take(command)
        except grpc.aio.AioRpcError as error:
            raise classify("StreamDeviceStatus", error) from error
        except asyncio.CancelledError:
            if not cancelled_by_peer():
                raise
            raise LostConnection("cancelled by the platform") from None
        finally:
            call.cancel()
        raise LostConnection("the platform ended the stream")

    async def _heartbeats(self) -> AsyncIterator[device_pb2.DeviceStatusUpdate]:
        while True:
            health = self._health()
            update = device_pb2.DeviceStatusUpdate(
                device_id=self._credential.device_id,
                status=health.status,
                battery_percent=health.battery_percent,
                signal_strength=health.signal_dbm,
            )
            update.timestamp.GetCurrentTime()
            yield update
            await asyncio.sleep(self._policy.interval_s)

    def _take(self, message: device_pb2.DeviceCommand) -> None:
        if message.command_id in self._seen:
            return
        self._seen[message.command_id] = None
        if len(self._seen) > _REMEMBERED_COMMANDS:
            self._seen.popitem(last=False)
        arguments = _read_arguments(message.payload)
        if arguments is None:
            _log.warning("command_unreadable", command_id=message.command_id)
            return
        self._due.put_nowait(Command(message.command_id, message.command_type, arguments))

    async def _work(self) -> None:
        while True:
            command = await self._due.get()
            handler = self._handlers.get(command.kind)
            if handler is None:
                _log.warning("command_unhandled", command_id=command.command_id, kind=command.kind)
                continue
            try:
                await handler(command)
            except Exception:  # noqa: BLE001 - the boundary to the caller's code
                _log.exception("command_failed", command_id=command.command_id, kind=command.kind)


def _read_arguments(payload: bytes) -> Mapping[str, object] | None:
    if not payload:
        return {}
    try:
        arguments = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    return arguments if isinstance(arguments, dict) else None
