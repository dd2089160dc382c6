"""An ended sign-in ends in another process as well: its tokens are refused, its open calls and subscriptions end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc.aio
import pytest
from manpasik.v1 import ai_inference_pb2, ai_inference_pb2_grpc, auth_pb2, user_pb2
from sqlalchemy import text

from domain.catalog import Group
from domain.clock import SystemClock
from domain.errors import Unauthenticated, Unavailable
from domain.identity.auth.service import AuthService
from domain.principal import Principal, PrincipalKind, Role
from domain.sealing import Sealer
from subgraphs.runtime import revocation
from subgraphs.runtime.auth import Authenticator, RemoteKeys, issuers_of
from subgraphs.runtime.revocation import RemoteEndedSignIns, Revocations, SignInEnded
from subgraphs.runtime.settings import Settings
from tests.integration.identity.conftest import EMAIL, PASSWORD
from tests.integration.identity.test_faces import Served, bearer, refusal, served_with
from tests.support.postgres import DatabaseFor
from tests.support.trust import service_tokens
from tests.unit.runtime.grpc_world import World, serving

_WAIT_S = 20.0  # a bound of the test and not of the platform


@pytest.fixture
async def served(database_for: DatabaseFor, sealer: Sealer) -> AsyncIterator[Served]:
    async for running in served_with(await database_for(Group.IDENTITY), sealer, grpc_auth="strict"):
        yield running


@asynccontextmanager
async def other_process(served: Served) -> AsyncIterator[World]:
    """A server without the database of auth: it learns of keys and ended sign-ins over HTTP."""
    revocations = Revocations(RemoteEndedSignIns(f"{served.url}/.well-known/ended-sign-ins"))
    keys = RemoteKeys(f"{served.url}/.well-known/jwks.json")
    gate = Authenticator(
        issuers_of(Settings.load({}).tokens, keys),
        services=service_tokens(),
        devices=None,
        revocations=revocations,
    )
    following = asyncio.create_task(revocations.follow())
    async with serving(authenticator=gate) as world:
        yield world
    following.cancel()


async def _logout(served: Served, tokens: auth_pb2.LoginResponse) -> None:
    await served.auth.Logout(auth_pb2.LogoutRequest(), metadata=bearer(tokens))


async def _change_password(served: Served, tokens: auth_pb2.LoginResponse) -> None:
    answer = await served.graphql(
        "mutation($input: ChangePasswordInput!) { changePassword(input: $input) { accessToken } }",
        tokens.access_token,
        input={"currentPassword": PASSWORD, "newPassword": "Another-horse8"},
    )
    assert "errors" not in answer, answer


async def _disable(served: Served, _tokens: auth_pb2.LoginResponse) -> None:
    async with served.database.transaction() as session:
        await _commands(served).set_disabled(session, user_id=await _user(served), disabled=True)


async def _change_role(served: Served, _tokens: auth_pb2.LoginResponse) -> None:
    async with served.database.transaction() as session:
        await _commands(served).grant_role(session, email=EMAIL, role=Role.DOCTOR)


async def _reuse(served: Served, tokens: auth_pb2.LoginResponse) -> None:
    request = auth_pb2.RefreshTokenRequest(refresh_token=tokens.refresh_token)
    await served.auth.RefreshToken(request)
    with pytest.raises(grpc.aio.AioRpcError):
        await served.auth.RefreshToken(request)


def _commands(served: Served) -> AuthService:
    """The commands of operators, which need nothing but a clock."""
    unused: Any = None
    return AuthService(
        clock=SystemClock(),
        sessions=served.database,
        passwords=unused,
        access_tokens=unused,
        refresh_ttl=timedelta(days=1),
        failed_sign_ins=unused,
        reset_requests=unused,
        registrations=unused,
        social=unused,
        profiles=unused,
    )


async def _user(served: Served) -> Any:
    async with served.database.read() as session:
        return await session.scalar(text("SELECT id FROM accounts"))


Cause = Callable[[Served, auth_pb2.LoginResponse], Awaitable[None]]


@pytest.mark.parametrize("cause", [_logout, _change_password, _disable, _change_role, _reuse])
async def test_a_stream_in_another_process_ends_with_its_sign_in(served: Served, cause: Cause) -> None:
    await served.register()
    tokens = await served.login()
    async with other_process(served) as world:
        chat = ai_inference_pb2_grpc.AiInferenceServiceStub(world.channel)
        stream = chat.StreamChat(ai_inference_pb2.StreamChatRequest(message="one wait"), metadata=bearer(tokens))
        first: Any = await stream.read()
        assert first.chunk == "one"
        await cause(served, tokens)
        async with asyncio.timeout(_WAIT_S):
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await stream.read()
        assert refusal(ended.value) == ("UNAUTHENTICATED", "SIGN_IN_ENDED")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await world.users.GetProfile(user_pb2.GetProfileRequest(), metadata=bearer(tokens))
        assert refusal(refused.value) == ("UNAUTHENTICATED", "SIGN_IN_ENDED")


async def test_a_process_that_starts_late_knows_what_ended_before(served: Served) -> None:
    await served.register()
    tokens = await served.login()
    await _logout(served, tokens)
    going_on = await served.login()
    async with other_process(served) as world:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await world.users.GetProfile(user_pb2.GetProfileRequest(), metadata=bearer(tokens))
        assert refusal(refused.value) == ("UNAUTHENTICATED", "SIGN_IN_ENDED")
        await world.users.GetProfile(user_pb2.GetProfileRequest(), metadata=bearer(going_on))


async def test_all_pages_of_ended_sign_ins_are_read(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation, "PAGE", 2)
    monkeypatch.setattr("subgraphs.identity.auth.ended.PAGE", 2)
    await served.register()
    many = [await served.login() for _ in range(5)]
    await _logout(served, many[0])
    async with other_process(served) as world:
        for tokens in many:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await world.users.GetProfile(user_pb2.GetProfileRequest(), metadata=bearer(tokens))
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_process_that_knows_of_no_revocation_yet_takes_no_token_and_a_silent_source_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    revocations = Revocations(RemoteEndedSignIns("http://127.0.0.1:1/.well-known/ended-sign-ins"))
    with pytest.raises(Unavailable):
        await revocations.require(Principal(PrincipalKind.USER, "u1", sign_in="s1"))
    await revocations.check()
    monkeypatch.setattr(revocation, "SILENT_AFTER_S", -1.0)
    with pytest.raises(Unavailable):
        await revocations.check()


async def test_what_a_reader_has_open_ends_with_its_credential() -> None:
    reader, valid = Principal(PrincipalKind.DEVICE, "d1"), True

    async def verify() -> None:
        if not valid:
            raise Unauthenticated("The device credential does not hold.")

    async def stream() -> None:
        async with Revocations().while_valid(reader, verify):
            begun.set()
            await asyncio.Event().wait()

    begun = asyncio.Event()
    streaming = asyncio.create_task(stream())
    await begun.wait()
    valid = False
    async with asyncio.timeout(_WAIT_S):
        with pytest.raises(SignInEnded):
            await streaming


async def test_a_cancellation_by_the_caller_stays_one() -> None:
    async def stream() -> None:
        async with Revocations().while_valid(Principal(PrincipalKind.USER, "u1", sign_in="s1")):
            begun.set()
            await asyncio.Event().wait()

    begun = asyncio.Event()
    streaming = asyncio.create_task(stream())
    await begun.wait()
    streaming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await streaming
