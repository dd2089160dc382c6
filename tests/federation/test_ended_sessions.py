"""A sign-in that ends before its token expires: requests are refused, and what is open ends."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from router.errors import ClientError
from router.serving.app import create_app
from router.serving.identity import ANONYMOUS, Identity, LoginSession
from router.serving.service import RouterService
from router.serving.settings import RouterSettings
from router.serving.tokens import JwtAuthenticator
from tests.federation.serve import serve
from tests.federation.test_access import authenticator, token
from tests.federation.test_event_streams import MULTIPART, SSE, all_of, body, streamed, tick
from tests.federation.test_subscriptions import SUPERGRAPH
from tests.federation.test_websocket_rules import closing_code, opened
from tests.federation.ticker import ticking
from tests.support.patience import PATIENCE_S

__all__ = ["authenticator"]  # the fixture


class Session:
    def __init__(self, calls: list[Callable[[], None]]) -> None:
        self._calls = calls

    def on_end(self, call: Callable[[], None]) -> Callable[[], None]:
        self._calls.append(call)
        return lambda: self._calls.remove(call)


class Sessions:
    """Sessions by name, which a test ends; `watched` are those that something is to happen at the end of."""

    def __init__(self) -> None:
        self.watched: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)
        self.ended: set[str] = set()
        self.is_current = True

    async def of(self, claims: Mapping[str, Any]) -> LoginSession | None:
        name = claims.get("sid")
        if name is None:
            return None
        if name in self.ended:
            raise ClientError("The sign-in has ended.", code="UNAUTHENTICATED", status=401)
        return Session(self.watched[name])

    async def authenticate(self, headers: Mapping[str, str]) -> Identity:
        """The token is the session's name."""
        name = headers.get("authorization")
        if name is None:
            return ANONYMOUS
        return Identity(authenticated=True, subject=name, session=await self.of({"sid": name}))

    def end(self, name: str) -> None:
        self.ended.add(name)
        for call in tuple(self.watched[name]):
            call()

    async def forgotten(self, name: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.watched[name]:  # noqa: ASYNC110  the end of a connection travels through the server
                await asyncio.sleep(0.01)


async def test_a_websocket_is_closed_when_its_sign_in_ends_and_that_of_another_stays() -> None:
    sessions = Sessions()
    async with (
        ticking("sse", authenticator=sessions) as (router, ticker),
        opened(router) as hers,
        opened(router) as his,
    ):
        for socket, name in ((hers, "ann"), (his, "bob")):
            await socket.send_json({"type": "connection_init", "payload": {"authorization": name}})
            assert await socket.receive_json(timeout=PATIENCE_S) == {"type": "connection_ack"}
        await hers.send_json({"id": "a", "type": "subscribe", "payload": body(0)})
        await asyncio.wait_for(ticker.started.wait(), PATIENCE_S)
        sessions.end("ann")
        message = await hers.receive(timeout=PATIENCE_S)
        if message.type.name == "TEXT":  # the subscription may be told first
            assert message.json()["payload"][0]["extensions"]["code"] == "UNAUTHENTICATED"
            assert await closing_code(hers) == 4403
        else:
            assert message.data == 4403
        await ticker.closed()
        await sessions.forgotten("ann")
        await his.send_json({"type": "ping"})
        assert await his.receive_json(timeout=PATIENCE_S) == {"type": "pong"}
    await sessions.forgotten("bob")


@pytest.mark.parametrize("accept", [SSE, MULTIPART])
async def test_a_stream_ends_with_its_sign_in_and_says_so(accept: str) -> None:
    sessions = Sessions()
    async with (
        ticking("sse", authenticator=sessions) as (router, ticker),
        streamed(router, 0, accept, headers={"authorization": "ann"}) as response,
    ):
        await asyncio.wait_for(ticker.started.wait(), PATIENCE_S)
        sessions.end("ann")
        told, end = await all_of(response, accept)
        errors = told["errors"] if "errors" in told else told["payload"]["errors"]
        assert (errors[0]["extensions"]["code"], end) == ("UNAUTHENTICATED", "ended")
        await ticker.closed()
        async with streamed(router, 1, accept, headers={"authorization": "ann"}) as again:
            assert again.status == 401
    assert sessions.watched["ann"] == []


async def test_a_stream_that_ends_by_itself_forgets_its_session() -> None:
    sessions = Sessions()
    async with ticking("sse", authenticator=sessions) as (router, _):
        async with streamed(router, 2, SSE, headers={"authorization": "ann"}) as response:
            assert await all_of(response, SSE) == [tick(1), tick(2), "ended"]
        await sessions.forgotten("ann")


async def test_a_token_of_an_ended_session_is_refused_although_it_was_verified_before(
    authenticator: JwtAuthenticator,
) -> None:
    sessions = Sessions()
    authenticator._sessions = sessions
    held = token(sid="s-1")
    identity = await authenticator.authenticate(held)
    assert identity.session is not None
    sessions.end("s-1")
    with pytest.raises(ClientError) as refused:
        await authenticator.authenticate(held)
    assert (refused.value.status, refused.value.code) == (401, "UNAUTHENTICATED")
    assert (await authenticator.authenticate(token(sid="s-2"))).authenticated
    assert (await authenticator.authenticate(token())).session is None


async def test_a_router_that_hears_nothing_of_sessions_is_not_ready() -> None:
    sessions = Sessions()
    app = create_app(SUPERGRAPH, RouterSettings(), sessions=sessions)
    service: RouterService = app.state.router
    async with serve(app) as router:
        assert service.is_ready
        sessions.is_current = False
        assert (await router.get("/ready")).status == 503
        assert (await router.get("/health")).status == 200
