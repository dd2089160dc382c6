import asyncio
import time
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from manpasik.v1 import ai_inference_pb2, ai_inference_pb2_grpc, device_pb2, device_pb2_grpc, user_pb2
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from subgraphs.runtime.auth import Authenticator
from subgraphs.runtime.errors import BUG_MESSAGE, STATUS_DETAILS, from_grpc, told_by_callee
from subgraphs.runtime.faces import GrpcServicer
from subgraphs.runtime.grpc_server import GrpcServer, access_of
from tests.support.patience import PATIENCE_S
from tests.unit.runtime.grpc_world import USER_SERVICE, World, app_error_of, serving, status_of

Untyped = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]

_PERMISSIVE = {"GRPC_AUTH": "permissive"}
_DEVICES = "manpasik.v1.DeviceService"
_CHAT = "manpasik.v1.AiInferenceService"


def _ask(text: str = "hello") -> user_pb2.GetProfileRequest:
    return user_pb2.GetProfileRequest(user_id=text)


def _chat(
    world: World, words: str
) -> "grpc.aio.UnaryStreamCall[ai_inference_pb2.StreamChatRequest, ai_inference_pb2.StreamChatResponse]":
    stub = ai_inference_pb2_grpc.AiInferenceServiceStub(world.channel)
    return stub.StreamChat(ai_inference_pb2.StreamChatRequest(message=words), metadata=world.metadata())


def _status_stream(
    world: World,
) -> "grpc.aio.StreamStreamCall[device_pb2.DeviceStatusUpdate, device_pb2.DeviceCommand]":
    return device_pb2_grpc.DeviceServiceStub(world.channel).StreamDeviceStatus(metadata=world.metadata())


async def _read(call: Any) -> Any:
    """The next answer of a stream; the stubs say no more of it than that it is an object."""
    return await call.read()


def _metric(name: str, service: str, method: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"service": service, "method": method, **labels}) or 0.0


def _open_streams(service: str, method: str) -> float:
    return _metric("grpc_server_open_streams", service, method)


async def _until(condition: object, *, within_s: float = 15.0) -> None:
    """Wait until a function answers true."""
    assert callable(condition)
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        await asyncio.sleep(0.01)


# --- who may call


@pytest.mark.parametrize("environ", [{}, {**_PERMISSIVE, "ENVIRONMENT": "development"}])
async def test_a_service_that_the_catalogue_lets_in_is_served(environ: dict[str, str]) -> None:
    async with serving(environ) as world:
        answer = await world.users.GetProfile(_ask(), metadata=world.metadata("gateway", behalf="u1"))
        assert (answer.display_name, answer.email) == ("service", "gateway")
        assert world.seen.calls[0].principal.user_id == "u1"


@pytest.mark.parametrize("environ", [{}, _PERMISSIVE])
async def test_a_service_that_the_catalogue_does_not_let_in_is_refused(environ: dict[str, str]) -> None:
    async with serving(environ) as world:
        error = await status_of(world.users.GetProfile(_ask(), metadata=world.metadata("payment")))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert from_grpc(error).reason == "CALL_NOT_ALLOWED"
        assert world.seen.calls == []


async def test_strict_refuses_a_call_without_a_credential() -> None:
    async with serving() as world:
        error = await status_of(world.users.GetProfile(_ask()))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert world.seen.calls == []


async def test_permissive_takes_a_call_without_a_credential_for_the_development_networks() -> None:
    async with serving(_PERMISSIVE) as world:
        assert (await world.users.GetProfile(_ask())).display_name == "development"


_NOT_HOLDING = ("Bearer junk", "Device d1:guess", "Service junk", "Basic dTpw")


@pytest.mark.parametrize("environ", [{}, _PERMISSIVE])
async def test_a_credential_that_does_not_hold_is_refused(environ: dict[str, str]) -> None:
    async with serving(environ) as world:
        for sent in _NOT_HOLDING:
            error = await status_of(world.users.GetProfile(_ask(), metadata=(("authorization", sent),)))
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert world.seen.calls == []


async def test_a_public_method_takes_a_caller_whose_credential_does_not_hold_for_anonymous() -> None:
    async with serving(public=frozenset({"GetProfile"})) as world:
        for sent in _NOT_HOLDING:
            answer = await world.users.GetProfile(_ask(), metadata=(("authorization", sent),))
            assert answer.display_name == "anonymous"


async def test_a_public_method_takes_anonymous_callers_and_the_others_do_not() -> None:
    async with serving(public=frozenset({"GetProfile"})) as world:
        assert (await world.users.GetProfile(_ask())).display_name == "anonymous"
        error = await status_of(world.users.GetSubscription(user_pb2.GetSubscriptionRequest()))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_public_method_knows_a_caller_who_says_who_it_is() -> None:
    async with serving(public=frozenset({"GetProfile"})) as world:
        answer = await world.users.GetProfile(_ask(), metadata=(("authorization", "Device d1:secret"),))
        assert (answer.display_name, answer.email) == ("device", "d1")


@pytest.mark.parametrize("environ", [{}, _PERMISSIVE])
async def test_a_service_for_services_refuses_everybody_else(environ: dict[str, str]) -> None:
    async with serving(environ, service_only=True, public=frozenset({"GetProfile"})) as world:
        for metadata in ((), (("authorization", "Device d1:secret"),)):
            error = await status_of(world.users.GetProfile(_ask(), metadata=metadata))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert (await world.users.GetProfile(_ask(), metadata=world.metadata())).display_name == "service"


async def test_a_stream_is_refused_like_a_call() -> None:
    async with serving() as world:
        stub = device_pb2_grpc.DeviceServiceStub(world.channel)
        error = await status_of(stub.StreamDeviceStatus().read())
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert world.seen.calls == []
        assert _open_streams(_DEVICES, "StreamDeviceStatus") == 0


# --- errors


async def test_an_error_of_the_domain_arrives_with_its_details() -> None:
    async with serving() as world:
        error = await status_of(world.users.GetProfile(_ask("closed"), metadata=world.metadata()))
        assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "The session is closed.")
        told = told_by_callee(error)
        assert told is not None
        assert (told.reason, dict(told.metadata)) == ("SESSION_CLOSED", {"session_id": "s1"})


async def test_a_bug_is_told_in_a_fixed_text_and_logged_whole() -> None:
    before = _metric("grpc_server_handled_total", USER_SERVICE, "GetProfile", code="INTERNAL")
    async with serving() as world:
        with capture_logs() as logs:
            error = await status_of(world.users.GetProfile(_ask("bug"), metadata=world.metadata()))
        assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, BUG_MESSAGE)
        assert STATUS_DETAILS not in dict(error.trailing_metadata() or ())
        assert "hunter2" not in repr(error)
        assert [str(log["exc_info"]) for log in logs if log["event"] == "call failed"] == ["password=hunter2"]
    assert _metric("grpc_server_handled_total", USER_SERVICE, "GetProfile", code="INTERNAL") == before + 1


async def test_an_outage_beneath_a_service_is_told_as_one() -> None:
    async with serving() as world:
        error = await status_of(world.users.GetProfile(_ask("database down"), metadata=world.metadata()))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "10.0.0.7" not in (error.details() or "")


async def test_bytes_that_are_no_message_are_the_callers_fault() -> None:
    async with serving() as world:
        raw: Untyped = world.channel.unary_unary(f"/{USER_SERVICE}/GetProfile")
        error = await status_of(raw(b"\xff\xff\xff", metadata=world.metadata()))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        told = told_by_callee(error)
        assert told is not None
        assert told.reason == "MESSAGE_MALFORMED"
        stranger = await status_of(raw(b"\xff\xff\xff"))
        assert stranger.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_servicer_may_end_a_call_by_itself() -> None:
    async with serving() as world:
        error = await status_of(world.users.GetProfile(_ask("abort"), metadata=world.metadata()))
        assert (error.code(), error.details()) == (grpc.StatusCode.OUT_OF_RANGE, "by itself")


async def test_a_method_that_is_not_written_is_unimplemented() -> None:
    async with serving() as world:
        missing: Untyped = world.channel.unary_unary("/manpasik.v1.UserService/Imagined")
        assert (await status_of(missing(b"", metadata=world.metadata()))).code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(("word", "code"), [("bug", "INTERNAL"), ("closed", "FAILED_PRECONDITION")])
async def test_an_error_ends_a_stream_after_what_was_answered(word: str, code: str) -> None:
    async with serving() as world:
        call = _chat(world, f"one two {word}")
        answers = [await _read(call), await _read(call)]
        assert [answer.chunk for answer in answers] == ["one", "two"]
        error = await status_of(call.read())
        assert error.code().name == code
        assert "hunter2" not in repr(error)
        await _until(lambda: _open_streams(_CHAT, "StreamChat") == 0)


async def test_an_error_ends_a_stream_that_reads_and_writes() -> None:
    async with serving() as world:
        call = _status_stream(world)
        await call.write(device_pb2.DeviceStatusUpdate(device_id="d1"))
        assert (await _read(call)).command_id == "d1"
        await call.write(device_pb2.DeviceStatusUpdate(device_id="closed"))
        error = await status_of(call.read())
        assert from_grpc(error).reason == "SESSION_CLOSED"


async def test_a_stream_that_the_caller_ends_is_answered_to_its_end() -> None:
    async with serving() as world:
        call = _status_stream(world)
        for number in range(3):
            await call.write(device_pb2.DeviceStatusUpdate(device_id=str(number)))
            assert (await _read(call)).command_id == str(number)
        assert _open_streams(_DEVICES, "StreamDeviceStatus") == 1
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        await _until(lambda: _open_streams(_DEVICES, "StreamDeviceStatus") == 0)


# --- deadlines and cancellation


async def test_a_call_ends_at_its_callers_deadline() -> None:
    async with serving() as world:
        error = await status_of(world.users.GetProfile(_ask("wait"), metadata=world.metadata(), timeout=1.0))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(world.seen.cancelled.wait(), PATIENCE_S)
        # The client sends what is left rounded up to a unit of its own.
        assert 0 < (world.seen.calls[0].deadline_s or 0) < 1.1


@pytest.mark.parametrize("timeout_s", [None, 60.0])
async def test_a_call_without_a_near_deadline_ends_at_ours(timeout_s: float | None) -> None:
    async with serving({"GRPC_DEADLINE_SECONDS": "0.2"}) as world:
        error = await status_of(world.users.GetProfile(_ask("wait"), metadata=world.metadata(), timeout=timeout_s))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert from_grpc(error).reason == "TIMEOUT"
        assert world.seen.cancelled.is_set()
        assert world.seen.calls[0].deadline_s == 0.2


async def test_a_stream_outlives_the_deadline_of_calls() -> None:
    async with serving({"GRPC_DEADLINE_SECONDS": "0.1"}) as world:
        call = _chat(world, "one wait two")
        assert (await _read(call)).chunk == "one"
        await asyncio.sleep(0.2)
        world.seen.release.set()
        assert (await _read(call)).chunk == "wait"


async def test_a_caller_that_hangs_up_frees_the_handler() -> None:
    before = _metric("grpc_server_handled_total", USER_SERVICE, "GetProfile", code="CANCELLED")
    async with serving() as world:
        call = world.users.GetProfile(_ask("wait"), metadata=world.metadata())
        await asyncio.wait_for(world.seen.begun.wait(), PATIENCE_S)
        call.cancel()
        await asyncio.wait_for(world.seen.cancelled.wait(), PATIENCE_S)
        await _until(
            lambda: _metric("grpc_server_handled_total", USER_SERVICE, "GetProfile", code="CANCELLED") == before + 1
        )


@pytest.mark.parametrize("words", ["one wait", "flood"])
async def test_a_caller_that_hangs_up_ends_a_generator(words: str) -> None:
    """Also one that is held up in writing, because the caller did not read."""
    async with serving() as world:
        call = _chat(world, words)
        await call.read()
        await _until(lambda: _open_streams(_CHAT, "StreamChat") == 1)
        call.cancel()
        await asyncio.wait_for(world.seen.closed.wait(), PATIENCE_S)
        await _until(lambda: _open_streams(_CHAT, "StreamChat") == 0)


async def test_a_caller_that_hangs_up_ends_a_stream_that_reads_and_writes() -> None:
    async with serving() as world:
        call = _status_stream(world)
        await call.write(device_pb2.DeviceStatusUpdate(device_id="d1"))
        await call.read()
        call.cancel()
        await asyncio.wait_for(world.seen.closed.wait(), PATIENCE_S)
        await _until(lambda: _open_streams(_DEVICES, "StreamDeviceStatus") == 0)


# --- context


async def test_the_request_in_hand_is_known_to_the_handler() -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with serving() as world:
        metadata = (
            *world.metadata(),
            ("x-request-id", "r-1"),
            ("traceparent", traceparent),
            ("accept-language", "ko-KR,ko;q=0.9,en;q=0.8"),
        )
        await world.users.GetProfile(_ask(), metadata=metadata)
        context = world.seen.calls[0]
        assert (context.request_id, context.traceparent, context.locale) == ("r-1", traceparent, "ko")
        assert context.peer == "127.0.0.1"


async def test_requests_without_an_id_get_one_each_and_odd_traces_are_dropped() -> None:
    async with serving() as world:
        for sent in (("x-request-id", "x" * 1000), ("traceparent", "x" * 55)):
            await world.users.GetProfile(_ask(), metadata=(*world.metadata(), sent))
        first, second = world.seen.calls
        assert len(first.request_id) == len(second.request_id) == 36
        assert first.request_id != second.request_id
        assert second.traceparent == ""


async def test_calls_at_the_same_time_have_contexts_of_their_own() -> None:
    async with serving() as world:
        calls = [
            world.users.GetProfile(_ask(), metadata=(*world.metadata(behalf=f"u{i}"), ("x-request-id", f"r{i}")))
            for i in range(20)
        ]
        await asyncio.gather(*calls)
        assert {(c.request_id, c.principal.owner) for c in world.seen.calls} == {(f"r{i}", f"u{i}") for i in range(20)}


# --- the server


async def test_messages_beyond_the_limit_are_refused() -> None:
    async with serving({"GRPC_MAX_MESSAGE_BYTES": "100000"}) as world:
        error = await status_of(world.users.GetProfile(_ask("x" * 100_001), metadata=world.metadata()))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        error = await status_of(world.users.GetProfile(_ask("large"), metadata=world.metadata()))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await world.users.GetProfile(_ask("x" * 5_000), metadata=world.metadata())).user_id


async def test_a_stop_finishes_the_call_in_hand_and_takes_no_new_one() -> None:
    async with serving() as world:
        in_hand = asyncio.ensure_future(world.users.GetProfile(_ask("wait"), metadata=world.metadata()))
        await asyncio.wait_for(world.seen.begun.wait(), PATIENCE_S)
        stopping = asyncio.create_task(world.server.stop(30))
        await asyncio.sleep(0.1)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{world.port}") as late:
            method: Untyped = late.unary_unary(f"/{USER_SERVICE}/GetProfile")
            assert (
                await status_of(method(b"", metadata=world.metadata(), timeout=15))
            ).code() is grpc.StatusCode.UNAVAILABLE
        assert not stopping.done()
        world.seen.release.set()
        assert (await in_hand).user_id == "wait"
        await asyncio.wait_for(stopping, PATIENCE_S)


async def test_a_stop_cancels_what_does_not_end_in_time() -> None:
    async with serving() as world:
        in_hand = asyncio.ensure_future(status_of(world.users.GetProfile(_ask("wait"), metadata=world.metadata())))
        await asyncio.wait_for(world.seen.begun.wait(), PATIENCE_S)
        started = time.monotonic()
        await world.server.stop(0.2)
        assert time.monotonic() - started < 2
        await asyncio.wait_for(world.seen.cancelled.wait(), PATIENCE_S)
        assert (await in_hand).code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


async def test_health_says_serving_and_then_not() -> None:
    async with serving() as world:
        health: Any = health_pb2_grpc.HealthStub(world.channel)
        for name in ("", USER_SERVICE):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        unknown = await status_of(health.Check(health_pb2.HealthCheckRequest(service="imagined")))
        assert unknown.code() is grpc.StatusCode.NOT_FOUND
        watch = health.Watch(health_pb2.HealthCheckRequest(service=USER_SERVICE))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        stopping = asyncio.create_task(world.server.stop(0.5))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await stopping


async def test_reflection_lists_the_services() -> None:
    async with serving() as world:
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(world.channel)  # type: ignore[arg-type]  # no asynchronous stubs
        call = reflection.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await call.read()
        await call.done_writing()
        listed = {service.name for service in answer.list_services_response.service}
        assert {USER_SERVICE, _DEVICES, "grpc.health.v1.Health"} <= listed


async def test_a_port_in_use_is_an_error() -> None:
    async with serving() as world:
        settings = world.settings.service

        access = access_of("user", (), Authenticator({}, services=world.tokens, devices=None), settings)
        second = GrpcServer(f"127.0.0.1:{world.port}", (), access, settings)
        with pytest.raises(RuntimeError):
            await second.start()
        await second.stop(0)  # and one that never started can be let go of


@pytest.mark.parametrize(
    ("names", "reason"), [((), None), (("gateway",), None), (("shop-service",), "CERTIFICATE_OF_ANOTHER_SERVICE")]
)
async def test_a_callers_certificate_must_name_the_service_of_its_token(
    names: tuple[str, ...], reason: str | None
) -> None:
    async with serving() as world:
        authenticator = Authenticator({}, services=world.tokens, devices=None)
        servicers = (GrpcServicer(USER_SERVICE, lambda _: None),)
        access = access_of("user", servicers, authenticator, world.settings.service)
        authorization = f"Service {world.tokens.issue('gateway', 'user')}"
        call = access.principal(USER_SERVICE, "GetProfile", authorization, peer_names=names)
        if reason is None:
            assert (await call).subject == "gateway"
        else:
            assert (await app_error_of(call)).reason == reason
