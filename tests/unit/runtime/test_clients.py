import asyncio
import time

import pytest
from manpasik.v1 import shop_pb2_grpc, user_pb2, user_pb2_grpc

from domain.errors import ErrorKind, WrongState
from domain.principal import DEVELOPMENT, Principal, PrincipalKind, service_principal
from subgraphs.runtime.clients import (
    BREAKER_FAILURES,
    BREAKER_OPEN_S,
    CalleeAway,
    CalleeTooSlow,
    Channels,
    CircuitBreaker,
    ServiceClient,
    client_factory,
)
from subgraphs.runtime.context import OUTSIDE, RequestContext, enter
from subgraphs.runtime.settings import Settings
from subgraphs.runtime.tokens import CallNotAllowed
from tests.support.patience import PATIENCE_S
from tests.support.trust import service_tokens
from tests.unit.runtime.grpc_world import World, app_error_of, serving


def _ask(text: str = "hello") -> user_pb2.GetProfileRequest:
    return user_pb2.GetProfileRequest(user_id=text)


def _nowhere() -> tuple[ServiceClient, Channels]:
    settings = Settings.load({"USER_SERVICE_ADDR": "127.0.0.1:1"})
    channels = Channels(settings)
    return ServiceClient("gateway", channels=channels, tokens=service_tokens()), channels


# --- calls


async def test_a_call_carries_who_asks_and_where_it_comes_from() -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    user = Principal(PrincipalKind.USER, "u1")
    async with serving() as world:
        client = world.client("gateway")
        stub = client.stub("user", user_pb2_grpc.UserServiceStub)
        enter(RequestContext(user, "r-1", "ko", traceparent, deadline_s=2.0))
        await client.unary(stub.GetProfile, _ask(), timeout_s=10)
        enter(OUTSIDE)
        seen = world.seen.calls[0]
        assert seen.principal == service_principal("gateway", on_behalf_of=seen.principal.owner)
        assert (seen.principal.owner, seen.request_id, seen.locale, seen.traceparent) == (
            "u1",
            "r-1",
            "ko",
            traceparent,
        )
        assert 0 < (seen.deadline_s or 0) < 2.1  # gRPC rounds a deadline up on its way


@pytest.mark.parametrize(
    ("principal", "behalf"),
    [
        (Principal(PrincipalKind.DEVICE, "d1"), None),
        (service_principal("measurement"), None),
        (DEVELOPMENT, None),
        (OUTSIDE.principal, None),
    ],
)
async def test_a_call_with_no_person_behind_it_is_on_nobodys_behalf(principal: Principal, behalf: str | None) -> None:
    async with serving() as world:
        client = world.client()
        stub = client.stub("user", user_pb2_grpc.UserServiceStub)
        enter(RequestContext(principal, "r-1"))
        await client.unary(stub.GetProfile, _ask())
        enter(OUTSIDE)
        assert world.seen.calls[0].principal.owner == behalf


async def test_on_whose_behalf_a_call_is_goes_on_from_service_to_service() -> None:
    async with serving() as world:
        client = world.client("coaching")
        stub = client.stub("user", user_pb2_grpc.UserServiceStub)
        enter(RequestContext(service_principal("gateway", on_behalf_of=Principal(PrincipalKind.USER, "u1").user_id)))
        await client.unary(stub.GetProfile, _ask())
        enter(OUTSIDE)
        assert world.seen.calls[0].principal.user_id == "u1"


def test_a_call_that_the_catalogue_does_not_list_is_refused_before_it_is_made() -> None:
    client, _ = _nowhere()
    with pytest.raises(CallNotAllowed, match="gateway may not call gateway"):
        client.stub("gateway", shop_pb2_grpc.ShopServiceStub)
    with pytest.raises(KeyError):
        client_factory(Channels(Settings.load({})), service_tokens())("nobody")


async def test_an_error_of_the_callee_is_raised_as_the_callees() -> None:
    async with serving() as world:
        client = world.client()
        stub = client.stub("user", user_pb2_grpc.UserServiceStub)
        error = await app_error_of(client.unary(stub.GetProfile, _ask("closed")))
        assert isinstance(error, WrongState)
        assert (error.reason, error.message, error.details) == (
            "SESSION_CLOSED",
            "The session is closed.",
            {"session_id": "s1"},
        )


async def test_a_bug_of_the_callee_is_an_outage_to_its_caller() -> None:
    async with serving() as world:
        client = world.client()
        stub = client.stub("user", user_pb2_grpc.UserServiceStub)
        error = await app_error_of(client.unary(stub.GetProfile, _ask("bug")))
        assert (error.kind, "hunter2" in error.message) == (ErrorKind.UNAVAILABLE, False)


async def test_a_callee_that_is_not_there_is_named() -> None:
    client, channels = _nowhere()
    stub = client.stub("user", user_pb2_grpc.UserServiceStub)
    error = await app_error_of(client.unary(stub.GetProfile, _ask()))
    assert isinstance(error, CalleeAway)
    assert "user-service" in error.message
    await channels.close()


async def test_a_callee_that_is_too_slow_is_named() -> None:
    async with serving() as world:
        client = world.client()
        stub = client.stub("user", user_pb2_grpc.UserServiceStub)
        error = await app_error_of(client.unary(stub.GetProfile, _ask("wait"), timeout_s=1.0, safe=True))
        assert isinstance(error, CalleeTooSlow)
        assert "user-service" in error.message
        assert world.seen.texts == ["wait"]  # too slow is not tried again: there is no time left


async def test_a_call_waits_no_longer_than_the_request_in_hand() -> None:
    async with serving() as world:
        client = world.client()
        stub = client.stub("user", user_pb2_grpc.UserServiceStub)
        enter(RequestContext(deadline_s=0.2))
        started = time.monotonic()
        error = await app_error_of(client.unary(stub.GetProfile, _ask("wait"), timeout_s=30))
        enter(OUTSIDE)
        assert error.kind is ErrorKind.TIMEOUT
        assert time.monotonic() - started < 15


async def test_a_cancelled_caller_cancels_the_callee() -> None:
    async with serving() as world:
        client = world.client()
        stub = client.stub("user", user_pb2_grpc.UserServiceStub)
        call = asyncio.create_task(client.unary(stub.GetProfile, _ask("wait")))
        await asyncio.wait_for(world.seen.begun.wait(), PATIENCE_S)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(world.seen.cancelled.wait(), PATIENCE_S)


# --- retries


@pytest.mark.parametrize("failure", ["away once", "stops once"])
async def test_only_a_call_that_is_safe_is_made_again(failure: str) -> None:
    async with serving() as world:
        client = world.client()
        stub = client.stub("user", user_pb2_grpc.UserServiceStub)
        error = await app_error_of(client.unary(stub.GetProfile, _ask(failure)))
        assert isinstance(error, CalleeAway)
        assert world.seen.texts == [failure]
        world.seen.texts.clear()
        answer = await client.unary(stub.GetProfile, _ask(failure), safe=True)
        assert answer.user_id == failure
        assert world.seen.texts == [failure] * 2


async def test_a_safe_call_is_made_three_times_at_most() -> None:
    async with serving() as world:
        client = world.client()
        stub = client.stub("user", user_pb2_grpc.UserServiceStub)
        error = await app_error_of(client.unary(stub.GetProfile, _ask("away"), safe=True))
        assert (error.reason, world.seen.texts) == ("MODEL_AWAY", ["away"] * 3)
        world.seen.texts.clear()
        await app_error_of(client.unary(stub.GetProfile, _ask("closed"), safe=True))
        assert world.seen.texts == ["closed"]


# --- the breaker


async def _fail_until_open(world: World, client: ServiceClient, stub: user_pb2_grpc.UserServiceStub) -> None:
    for _ in range(BREAKER_FAILURES):
        await app_error_of(client.unary(stub.GetProfile, _ask("wait"), timeout_s=0.05))
    assert not world.channels.breakers["user"].allows()


async def test_a_callee_that_fails_too_often_is_left_alone_and_then_tried_once() -> None:
    async with serving() as world:
        client = world.client()
        now = 100.0
        stub = client.stub("user", user_pb2_grpc.UserServiceStub)
        world.channels.breakers["user"] = CircuitBreaker(clock=lambda: now)
        await _fail_until_open(world, client, stub)
        made = len(world.seen.texts)
        error = await app_error_of(client.unary(stub.GetProfile, _ask()))
        assert isinstance(error, CalleeAway)
        assert len(world.seen.texts) == made
        now += BREAKER_OPEN_S + 0.01
        assert (await client.unary(stub.GetProfile, _ask())).user_id == "hello"
        assert (await client.unary(stub.GetProfile, _ask())).user_id == "hello"


async def test_what_a_callee_says_shows_that_it_is_there() -> None:
    async with serving() as world:
        client = world.client()
        stub = client.stub("user", user_pb2_grpc.UserServiceStub)
        for text in ("away", "closed", "bug"):
            for _ in range(BREAKER_FAILURES):
                await app_error_of(client.unary(stub.GetProfile, _ask(text)))
        assert (await client.unary(stub.GetProfile, _ask())).user_id == "hello"


async def test_a_caller_in_a_hurry_says_nothing_about_the_callee() -> None:
    async with serving() as world:
        client = world.client()
        stub = client.stub("user", user_pb2_grpc.UserServiceStub)
        enter(RequestContext(deadline_s=0.02))
        for _ in range(BREAKER_FAILURES + 1):
            await app_error_of(client.unary(stub.GetProfile, _ask("wait")))
        enter(OUTSIDE)
        assert (await client.unary(stub.GetProfile, _ask())).user_id == "hello"


def test_a_breaker_opens_lets_one_call_try_and_closes() -> None:
    now = 0.0
    breaker = CircuitBreaker(clock=lambda: now)
    for _ in range(BREAKER_FAILURES - 1):
        breaker.record(failed=True)
    breaker.record(failed=False)  # failures must be in a row
    for _ in range(BREAKER_FAILURES - 1):
        breaker.record(failed=True)
    assert breaker.allows()
    breaker.record(failed=True)
    assert not breaker.allows()
    now = BREAKER_OPEN_S
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.record(failed=True)
    assert not breaker.allows()
    now = 2 * BREAKER_OPEN_S
    assert breaker.allows()
    breaker.record(failed=False)
    assert breaker.allows()
    assert breaker.allows()
