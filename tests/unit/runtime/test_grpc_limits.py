"""What a caller of a gRPC port may send, and how much of it: refused before it costs anything."""

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from manpasik.v1 import ai_inference_pb2, ai_inference_pb2_grpc, device_pb2, device_pb2_grpc, user_pb2

from domain.errors import InvalidInput
from domain.ids import UserId
from domain.principal import ANONYMOUS, Principal, PrincipalKind
from subgraphs.runtime import grpc_server
from subgraphs.runtime.bounds import MAX_ITEMS, check_message
from subgraphs.runtime.grpc_requests import PUBLIC_MESSAGE_BYTES, MessageLate, Requests
from subgraphs.runtime.slots import SlotLimits, Slots, TooManyOpen
from tests.support.patience import PATIENCE_S
from tests.unit.runtime.grpc_world import USER_SERVICE, World, serving, status_of

_PUBLIC = frozenset({"GetProfile"})
_READER = (("authorization", "Device d1:secret"),)


def _of_bytes(size: int) -> bytes:
    """A request of exactly so many bytes, none of them in a field that we know."""
    unknown = b"\xfa\x07"  # field 127, length-delimited
    for digits in range(1, 6):
        payload = size - len(unknown) - digits
        length = _varint(payload)
        if len(length) == digits:
            return unknown + length + b"a" * payload
    raise AssertionError(size)


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


async def _raw(world: World, request: bytes, **options: Any) -> Any:
    call: Any = world.channel.unary_unary(f"/{USER_SERVICE}/GetProfile")
    return await call(request, timeout=15, **options)


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_a_message_without_a_credential_takes_64_kb_after_decompression(compression: grpc.Compression) -> None:
    async with serving(public=_PUBLIC) as world:
        assert await _raw(world, _of_bytes(PUBLIC_MESSAGE_BYTES), compression=compression) is not None
        for size in (PUBLIC_MESSAGE_BYTES + 1, 15_000_000):
            error = await status_of(_raw(world, _of_bytes(size), compression=compression))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(world.seen.calls) == 1


async def test_a_public_method_takes_no_more_from_a_caller_with_a_credential() -> None:
    async with serving(public=_PUBLIC) as world:
        error = await status_of(_raw(world, _of_bytes(PUBLIC_MESSAGE_BYTES + 1), metadata=_READER))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_caller_without_a_credential_is_refused_before_its_message_is_read() -> None:
    async with serving() as world:
        call: Any = world.channel.stream_unary(f"/{USER_SERVICE}/GetProfile")
        error = await status_of(call())  # sends no message at all, and does not end
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_each_message_of_a_stream_is_measured(compression: grpc.Compression) -> None:
    async with serving() as world:
        for lengths in ([5_001], [20, 5_001], [15_000_000], [20, 15_000_000]):
            stub = device_pb2_grpc.DeviceServiceStub(world.channel)
            stream: Any = stub.StreamDeviceStatus(metadata=_READER, compression=compression)
            for length in lengths:
                await stream.write(device_pb2.DeviceStatusUpdate(device_id="x" * length))
            error = await status_of(_read_all(stream))
            assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)


async def _read_all(stream: Any) -> None:
    async for _ in stream:
        pass


async def test_a_message_that_does_not_come_ends_the_call() -> None:
    async def silent() -> Any:
        await asyncio.Event().wait()
        yield b""

    requests = Requests(user_pb2.GetProfileRequest.FromString, 1000, within_s=0.01, idle_s=0.01)
    with pytest.raises(MessageLate):
        await requests.single(silent(), ANONYMOUS)
    with pytest.raises(MessageLate):
        await anext(requests.stream(silent(), ANONYMOUS))


async def test_a_call_without_its_message_is_refused() -> None:
    async with serving(public=_PUBLIC) as world:
        call: Any = world.channel.stream_unary(f"/{USER_SERVICE}/GetProfile")

        async def none() -> Any:
            return
            yield b""

        assert (await status_of(call(none()))).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_metadata_beyond_the_limit_is_refused() -> None:
    async with serving(public=_PUBLIC) as world:
        metadata = tuple((f"x-{number}", "v" * 1000) for number in range(60))
        error = await status_of(_raw(world, b"", metadata=metadata))
        assert error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
        assert world.seen.calls == []


# --- streams


async def test_one_account_holds_no_more_than_its_share_of_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_server, "STREAMS", SlotLimits(account=3, reader=2, network=2, total=100))
    async with serving() as world:
        stub = device_pb2_grpc.DeviceServiceStub(world.channel)
        opened = [await _opened(stub, "d1"), await _opened(stub, "d1")]
        error = await status_of(_opened(stub, "d1"))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "of this reader" in (error.details() or "")
        opened.append(await _opened(stub, "d2"))
        error = await status_of(_opened(stub, "d3"))
        assert "of this account" in (error.details() or "")  # all of them are readers of one person
        opened[0].cancel()
        await asyncio.wait_for(world.seen.closed.wait(), PATIENCE_S)
        assert await _opened(stub, "d3")


async def _opened(stub: Any, reader: str) -> Any:
    stream = stub.StreamDeviceStatus(metadata=(("authorization", f"Device {reader}:secret"),))
    await stream.write(device_pb2.DeviceStatusUpdate(device_id="hello"))
    if await stream.read() is grpc.aio.EOF:
        await stream  # raises
        await _read_all(stream)
    return stream


async def test_answer_streams_count_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_server, "STREAMS", SlotLimits(account=1, reader=1, network=1, total=1))
    async with serving() as world:
        stub = ai_inference_pb2_grpc.AiInferenceServiceStub(world.channel)
        first: Any = stub.StreamChat(ai_inference_pb2.StreamChatRequest(message="a wait"), metadata=world.metadata())
        assert (await first.read()).chunk == "a"
        second: Any = stub.StreamChat(ai_inference_pb2.StreamChatRequest(message="b"), metadata=world.metadata())
        assert (await status_of(_read_all(second))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("principals", "peers", "taken"),
    [
        ([Principal(PrincipalKind.USER, "u1")], ["10.0.0.1", "10.9.0.1"], 2),
        ([Principal(PrincipalKind.DEVICE, "d1", owner=UserId("u1"))], ["10.0.0.1"], 1),
        ([ANONYMOUS], ["10.0.0.1", "10.0.0.250"], 3),
        ([ANONYMOUS], ["2001:db8::1", "2001:db8::ffff:0:0:1"], 3),
        ([ANONYMOUS], ["10.0.0.1", "10.0.1.1"], 4),
        ([Principal(PrincipalKind.SERVICE, "gateway")], [""], 4),
    ],
    ids=["account", "reader", "network", "network of IPv6", "two networks", "total"],
)
def test_what_is_open_is_counted(principals: list[Principal], peers: list[str], taken: int) -> None:
    slots = Slots(SlotLimits(account=2, reader=1, network=3, total=4), what="streams")
    held = []
    with pytest.raises(TooManyOpen):
        for number in range(10):
            hold = slots.hold(principals[number % len(principals)], peers[number % len(peers)])
            hold.__enter__()
            held.append(hold)
    assert len(held) == taken
    for hold in held:
        hold.__exit__(None, None, None)
    assert slots.total == 0


# --- bounds of every field


@pytest.mark.parametrize(
    "change",
    [
        lambda m: setattr(m, "device_id", "x" * 5_001),
        lambda m: setattr(m.timestamp, "seconds", 253_402_300_800),
        lambda m: setattr(m.timestamp, "nanos", -1),
        lambda m: setattr(m.timestamp, "seconds", -62_135_596_801),
    ],
)
def test_a_field_out_of_bounds_is_named(change: Callable[[Any], None]) -> None:
    message = device_pb2.DeviceStatusUpdate()
    check_message(message)
    change(message)
    with pytest.raises(InvalidInput) as caught:
        check_message(message)
    assert re.fullmatch(r"[a-z_.]+", caught.value.details["field"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    check_message(user_pb2.UpdateProfileRequest(height_cm=1e300))
    with pytest.raises(InvalidInput, match="height_cm"):
        check_message(user_pb2.UpdateProfileRequest(height_cm=value))


def test_lists_and_what_they_hold_are_bounded() -> None:
    message: Any = user_pb2.UpdateProfileRequest()
    lists = [field for field in message.DESCRIPTOR.fields if field.is_repeated]
    for field in lists:
        getattr(message, field.name).extend(["x"] * (MAX_ITEMS + 1))
        with pytest.raises(InvalidInput, match=field.name):
            check_message(message)
        message.ClearField(field.name)


# --- health


@pytest.mark.parametrize("name", ["", "user", "user-service", USER_SERVICE])
async def test_health_knows_every_name_of_a_service_and_follows_readiness(name: str) -> None:
    async with serving() as world:
        health: Any = health_pb2_grpc.HealthStub(world.channel)
        request = health_pb2.HealthCheckRequest(service=name)
        states = health_pb2.HealthCheckResponse
        watch = health.Watch(request)
        assert (await health.Check(request)).status == states.SERVING == (await watch.read()).status
        world.server.set_serving(False)
        assert (await health.Check(request)).status == states.NOT_SERVING == (await watch.read()).status
        world.server.set_serving(True)
        assert (await health.Check(request)).status == states.SERVING == (await watch.read()).status


@pytest.mark.parametrize("name", ["auth", "auth-service", "User", "manpasik.v1.AuthService", "x" * 4_000])
async def test_health_does_not_know_what_is_not_served(name: str) -> None:
    async with serving() as world:
        health: Any = health_pb2_grpc.HealthStub(world.channel)
        request = health_pb2.HealthCheckRequest(service=name)
        assert (await status_of(health.Check(request))).code() is grpc.StatusCode.NOT_FOUND
        assert (await health.Watch(request).read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.mark.parametrize("frames_before", [0, 1])
async def test_messages_of_a_stream_that_inflate_are_told_from_a_fault_of_ours(frames_before: int) -> None:
    """By a client that shows the status as it was sent: grpc.aio's replaces it by INTERNAL when a write meets the end.

    Source: https://github.com/grpc/grpc/issues/36066
    """

    def bombs() -> Iterator[device_pb2.DeviceStatusUpdate]:
        for number in range(frames_before):
            yield device_pb2.DeviceStatusUpdate(device_id=str(number))
        for _ in range(4):
            yield device_pb2.DeviceStatusUpdate(device_id="x" * 15_000_000)

    def send(port: int) -> grpc.StatusCode:
        with grpc.insecure_channel(f"127.0.0.1:{port}", compression=grpc.Compression.Gzip) as channel:
            method: Any = channel.stream_stream(
                "/manpasik.v1.DeviceService/StreamDeviceStatus",
                request_serializer=device_pb2.DeviceStatusUpdate.SerializeToString,
            )
            call = method(bombs(), metadata=_READER, timeout=60)
            with pytest.raises(grpc.RpcError):
                list(call)
            code: grpc.StatusCode = call.code()
            return code

    async with serving() as world:
        codes = [await asyncio.to_thread(send, world.port) for _ in range(5)]
    assert set(codes) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
