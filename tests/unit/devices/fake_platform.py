"""A small platform in memory behind real gRPC servers and sockets, and a TCP relay that can cut connections."""
# ruff: noqa: N802 - gRPC names its methods

import asyncio
import datetime as dt
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import grpc
import numpy as np
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from manpasik.v1 import calibration_pb2, cartridge_pb2, device_pb2, measurement_pb2

from devices.client.messages import timestamp_us_of
from devices.client.platform import Platform, PlatformAddresses
from devices.errors import TagError
from devices.nfc_tag import TagV2, decode_v2
from devices.simulator.forward_model import env_factor

USER_TOKEN = "user-token"
TECHNICIAN_TOKEN = "technician-token"

RequestT = TypeVar("RequestT", bound=Message)


class Context(Protocol):
    """What the servicers below use of a gRPC context."""

    def invocation_metadata(self) -> "grpc.aio.Metadata | None": ...

    async def abort(self, code: grpc.StatusCode, details: str = ...) -> None: ...


@dataclass
class StoredSession:
    session_id: str
    device_id: str
    cartridge_id: str
    frames: dict[int, measurement_pb2.MeasurementData] = field(default_factory=dict)
    received_us: list[int] = field(default_factory=list)
    ended_at: Timestamp | None = None


@dataclass
class Faults:
    """What the platform does wrong; each is consumed as it happens."""

    break_after_frames: list[int] = field(default_factory=list)
    """Counts of received frames (over all streams) at which the stream breaks: stored, not answered."""
    refuse_us: dict[int, grpc.StatusCode] = field(default_factory=dict)
    refuse_next_frame: grpc.StatusCode | None = None
    failures: list[grpc.StatusCode] = field(default_factory=list)
    """What the next starts and frames fail with, one after another."""
    lost_start_answers: int = 0
    lost_end_answers: int = 0
    unavailable_starts: int = 0
    streams_ended_early: int = 0
    answers_for_another_session: bool = False
    frames_without_value: int = 0


class FakePlatform:
    """The services' state, which survives a restart of the server, and their methods."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.credentials: dict[str, str] = {}
        self.claim_codes: dict[str, str] = {}
        self.sessions: dict[str, StoredSession] = {}
        self.session_by_key: dict[str, str] = {}
        self.cartridges: dict[str, TagV2] = {}
        self.calibrations: dict[str, calibration_pb2.RegisterFactoryCalibrationRequest] = {}
        self.heartbeats: list[device_pb2.DeviceStatusUpdate] = []
        self.commands: list[device_pb2.DeviceCommand] = []
        self.heard = asyncio.Condition()
        self.streams = 0
        self.status_streams = 0
        self.received = 0
        self.most_unanswered = 0
        self.answering = asyncio.Event()
        self.answering.set()

    async def wait_until(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        async with asyncio.timeout(timeout_s), self.heard:
            await self.heard.wait_for(condition)

    async def _notify(self) -> None:
        async with self.heard:
            self.heard.notify_all()

    async def RegisterDevice(
        self, request: device_pb2.RegisterDeviceRequest, context: Context
    ) -> device_pb2.RegisterDeviceResponse:
        await self._require(context, f"Bearer {USER_TOKEN}")
        self.claim_codes[request.device_id] = _metadata(context).get("x-claim-code", "")
        secret = f"secret-{request.device_id}-{len(self.credentials)}"
        self.credentials[request.device_id] = secret
        return device_pb2.RegisterDeviceResponse(device_id=request.device_id, registration_token=secret)

    async def RequestOtaUpdate(self, request: device_pb2.OtaRequest, context: Context) -> device_pb2.OtaResponse:
        await self._device(context)
        return device_pb2.OtaResponse(update_id="u1", download_url=f"http://127.0.0.1/{request.target_version}")

    async def StreamDeviceStatus(
        self, requests: AsyncIterator[device_pb2.DeviceStatusUpdate], context: Context
    ) -> AsyncIterator[device_pb2.DeviceCommand]:
        await self._device(context)
        self.status_streams += 1
        async for update in requests:
            self.heartbeats.append(update)
            await self._notify()
            for command in self.commands:  # at least once: the same ones again with every heartbeat
                yield command

    async def StartSession(
        self, request: measurement_pb2.StartSessionRequest, context: Context
    ) -> measurement_pb2.StartSessionResponse:
        device_id = await self._device(context)
        await self._fail_as_told(context)
        if self.faults.unavailable_starts > 0:
            self.faults.unavailable_starts -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        if request.cartridge_id == "expired":
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the cartridge is expired")
        key = _metadata(context).get("idempotency-key", "")
        session_id = self.session_by_key.setdefault(key, f"session-{len(self.sessions) + 1}")
        self.sessions.setdefault(session_id, StoredSession(session_id, device_id, request.cartridge_id))
        if self.faults.lost_start_answers > 0:
            self.faults.lost_start_answers -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "answer lost")
        return measurement_pb2.StartSessionResponse(session_id=session_id)

    async def StreamMeasurement(
        self, requests: AsyncIterator[measurement_pb2.MeasurementData], context: Context
    ) -> AsyncIterator[measurement_pb2.MeasurementResult]:
        device_id = await self._device(context)
        self.streams += 1
        due: asyncio.Queue[measurement_pb2.MeasurementData | None] = asyncio.Queue()

        async def take() -> None:
            async for frame in requests:
                due.put_nowait(frame)
                self.received += 1
                self.most_unanswered = max(self.most_unanswered, due.qsize())
                await self._notify()
            due.put_nowait(None)

        taking = asyncio.create_task(take())
        try:
            while True:
                await self.answering.wait()
                frame = await due.get()
                if frame is None:
                    return
                yield await self._measure(frame, device_id, context)
                if self.faults.streams_ended_early > 0:
                    self.faults.streams_ended_early -= 1
                    return
        finally:
            taking.cancel()
            await asyncio.wait([taking])

    async def _measure(
        self, frame: measurement_pb2.MeasurementData, device_id: str, context: Context
    ) -> measurement_pb2.MeasurementResult:
        session = self.sessions.get(frame.session_id)
        if session is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no session {frame.session_id}")
        assert session is not None
        if session.device_id != device_id:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "a session of another reader")
        if session.ended_at is not None:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the session has ended")
        at_us = timestamp_us_of(frame)
        if self.faults.refuse_next_frame is not None:
            self.faults.refuse_us[at_us], self.faults.refuse_next_frame = self.faults.refuse_next_frame, None
        await self._fail_as_told(context)
        if at_us in self.faults.refuse_us:
            await context.abort(self.faults.refuse_us[at_us], f"frame at {at_us} refused")
        session.received_us.append(at_us)
        session.frames.setdefault(at_us, frame)
        stored = sum(len(each.received_us) for each in self.sessions.values())
        if stored in self.faults.break_after_frames:
            self.faults.break_after_frames.remove(stored)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "connection broke")
        value = self._value(session, frame)
        if self.faults.frames_without_value:
            self.faults.frames_without_value -= 1
            value = math.nan
        answer_for = "another" if self.faults.answers_for_another_session else frame.session_id
        return measurement_pb2.MeasurementResult(
            session_id=answer_for, primary_value=value, unit="mg/dL", confidence=0.9
        )

    def _value(self, session: StoredSession, frame: measurement_pb2.MeasurementData) -> float:
        """The documented inverse where tag and calibration are known; else the time, which tells frames apart."""
        tag, calibration = self.cartridges.get(session.cartridge_id), self.calibrations.get(session.device_id)
        if tag is None or calibration is None:
            return float(timestamp_us_of(frame))
        corrected = np.array(frame.raw_channels) - tag.alpha * frame.differential.s_ref
        air = frame.env_meta
        env = env_factor(air.temp_c, air.humidity_pct, tag.temp_coefficient, tag.humidity_coefficient)
        values = np.array(calibration.channel_gains) * corrected / env + np.array(calibration.channel_offsets)
        return float(np.median(values))

    async def EndSession(
        self, request: measurement_pb2.EndSessionRequest, context: Context
    ) -> measurement_pb2.EndSessionResponse:
        await self._device(context)
        session = self.sessions[request.session_id]
        if session.ended_at is None:
            session.ended_at = Timestamp()
            session.ended_at.GetCurrentTime()
            await self._notify()
        if self.faults.lost_end_answers > 0:
            self.faults.lost_end_answers -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "answer lost")
        return measurement_pb2.EndSessionResponse(
            session_id=request.session_id, total_measurements=len(session.frames), ended_at=session.ended_at
        )

    async def ReadCartridge(
        self, request: cartridge_pb2.ReadCartridgeRequest, context: Context
    ) -> cartridge_pb2.CartridgeDetail:
        await self._require(context, f"Bearer {USER_TOKEN}")
        try:
            tag = decode_v2(request.nfc_tag_data)
        except TagError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise
        self.cartridges[tag.cartridge_uid] = tag
        valid = tag.expires_on >= dt.datetime.now(dt.UTC).date()
        return cartridge_pb2.CartridgeDetail(
            cartridge_uid=tag.cartridge_uid, is_valid=valid, validation_message="" if valid else "expired"
        )

    async def RegisterFactoryCalibration(
        self, request: calibration_pb2.RegisterFactoryCalibrationRequest, context: Context
    ) -> calibration_pb2.CalibrationRecord:
        await self._require(context, f"Bearer {TECHNICIAN_TOKEN}")
        self.calibrations[request.device_id] = request
        return calibration_pb2.CalibrationRecord(device_id=request.device_id, calibration_id="c1")

    async def _fail_as_told(self, context: Context) -> None:
        if self.faults.failures:
            await context.abort(self.faults.failures.pop(0), "something went wrong")

    async def _require(self, context: Context, authorization: str) -> None:
        if _metadata(context).get("authorization") != authorization:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

    async def _device(self, context: Context) -> str:
        scheme, _, credential = _metadata(context).get("authorization", "").partition(" ")
        device_id, _, secret = credential.partition(":")
        if scheme != "Device" or self.credentials.get(device_id) != secret:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "unknown reader")
        return device_id

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        def unary(
            method: Callable[[RequestT, Context], Awaitable[Message]], request: type[RequestT]
        ) -> "grpc.RpcMethodHandler[RequestT, Message]":
            return grpc.unary_unary_rpc_method_handler(
                method, request_deserializer=request.FromString, response_serializer=_serialize
            )

        def stream(
            method: Callable[[AsyncIterator[RequestT], Context], AsyncIterator[Message]], request: type[RequestT]
        ) -> "grpc.RpcMethodHandler[RequestT, Message]":
            return grpc.stream_stream_rpc_method_handler(
                method, request_deserializer=request.FromString, response_serializer=_serialize
            )

        # The handlers of a service differ in their message types.
        services: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {
            "DeviceService": {
                "RegisterDevice": unary(self.RegisterDevice, device_pb2.RegisterDeviceRequest),
                "RequestOtaUpdate": unary(self.RequestOtaUpdate, device_pb2.OtaRequest),
                "StreamDeviceStatus": stream(self.StreamDeviceStatus, device_pb2.DeviceStatusUpdate),
            },
            "MeasurementService": {
                "StartSession": unary(self.StartSession, measurement_pb2.StartSessionRequest),
                "StreamMeasurement": stream(self.StreamMeasurement, measurement_pb2.MeasurementData),
                "EndSession": unary(self.EndSession, measurement_pb2.EndSessionRequest),
            },
            "CartridgeService": {"ReadCartridge": unary(self.ReadCartridge, cartridge_pb2.ReadCartridgeRequest)},
            "CalibrationService": {
                "RegisterFactoryCalibration": unary(
                    self.RegisterFactoryCalibration, calibration_pb2.RegisterFactoryCalibrationRequest
                )
            },
        }
        return [
            grpc.method_handlers_generic_handler(f"manpasik.v1.{name}", methods) for name, methods in services.items()
        ]


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _metadata(context: Context) -> dict[str, str]:
    return {key: str(value) for key, value in context.invocation_metadata() or ()}


class Server:
    """A gRPC server of the fake platform that can be killed and started again on the same port."""

    def __init__(self, platform: FakePlatform) -> None:
        self._platform = platform
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers(self._platform.handlers())
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def kill(self) -> None:
        assert self._server is not None
        await self._server.stop(grace=None)


class Relay:
    """Forwards TCP to a port; `cut` resets all connections, `refuse` keeps new ones from coming through.

    A new connection comes through after `delay_s`, as over a slow line; `accepted` counts them.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.refuse = False
        self.delay_s = 0.0
        self.accepted = 0
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.transport.abort()
            return
        self.accepted += 1
        await asyncio.sleep(self.delay_s)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._writers |= {writer, up_writer}
        await asyncio.gather(_pump(reader, up_writer), _pump(up_reader, writer))
        self._writers -= {writer, up_writer}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()


@asynccontextmanager
async def serving(platform: FakePlatform) -> AsyncIterator[Server]:
    server = Server(platform)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Platform]:
    address = f"127.0.0.1:{port}"
    addresses = PlatformAddresses(device=address, measurement=address, cartridge=address, calibration=address)
    async with Platform(addresses) as platform:
        yield platform
