"""What a client may do over a WebSocket, and with which code it is disconnected when it does more."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping

import aiohttp
import orjson
import pytest

from router.errors import ClientError
from router.serving.identity import ANONYMOUS, Identity
from router.serving.settings import CorsSettings, Limits, SubscriptionSettings
from tests.federation.serve import Served
from tests.federation.test_event_streams import SSE, all_of, body, streamed, tick
from tests.federation.test_subscriptions import connected
from tests.federation.ticker import ticking
from tests.support.patience import PATIENCE_S

Socket = aiohttp.ClientWebSocketResponse


class Tokens:
    """A token is the number of seconds that it still holds."""

    async def authenticate(self, headers: Mapping[str, str]) -> Identity:
        token = headers.get("authorization", "")
        if token == "down":
            raise ClientError("Tokens cannot be verified right now.", code="SERVICE_UNAVAILABLE", status=503)
        if not token:
            return ANONYMOUS
        try:
            return Identity(authenticated=True, expires_at=time.time() + float(token))
        except ValueError as error:
            raise ClientError("The token is not valid.", code="UNAUTHENTICATED", status=401) from error


@contextlib.asynccontextmanager
async def opened(router: Served) -> AsyncIterator[Socket]:
    """A connection on which nothing was said yet."""
    url = router.url.replace("http", "ws")
    async with router.session.ws_connect(f"{url}/graphql", protocols=("graphql-transport-ws",)) as socket:
        yield socket


async def closing_code(socket: Socket) -> int:
    message = await socket.receive(timeout=PATIENCE_S)
    assert message.type is aiohttp.WSMsgType.CLOSE, message
    return int(message.data)


async def test_a_client_that_never_initialises_is_disconnected() -> None:
    settings = SubscriptionSettings(init_timeout_s=1.0)
    async with ticking("sse", subscriptions=settings) as (router, _), opened(router) as socket:
        await socket.send_json({"type": "ping"})  # which is allowed, but no initialisation
        assert await socket.receive_json(timeout=PATIENCE_S) == {"type": "pong"}
        assert await closing_code(socket) == 4408


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('{"type":"subscribe","id":"a","payload":{"query":"{now}"}}', 4401),
        ('{"type":"complete","id":"a"}', 4400),
        ('{"type":"connection_init","payload":[]}', 4400),
        ('{"type":"connection_init","payload":{"authorization":"x\\r\\nevil: 1"}}', 4400),
        ('{"type":', 4400),
        ("NaN", 4400),
        ("[]", 4400),
        ('"\\ud800"', 4400),
        (b'{"type":"connection_init"}', 4400),
        ('{"type":"ping","payload":"' + "x" * 50_000 + '"}', 1009),
        ('{"a":' * 2000 + "1" + "}" * 2000, 4400),
    ],
)
async def test_what_no_client_says_first_ends_the_connection(message: str | bytes, code: int) -> None:
    limits = Limits(max_body_bytes=40_000)
    async with ticking("sse", limits=limits) as (router, _), opened(router) as socket:
        await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
        assert await closing_code(socket) == code
        async with connected(router) as other:  # nobody else notices
            await other.send_json({"id": "q", "type": "subscribe", "payload": {"query": "{ now }"}})
            assert (await other.receive_json(timeout=PATIENCE_S))["payload"] == {"data": {"now": 7}}


async def test_an_id_in_use_is_refused_and_ends_what_runs_on_the_connection() -> None:
    async with ticking("sse") as (router, ticker), connected(router) as socket:
        await socket.send_json({"id": "a" * 500, "type": "subscribe", "payload": body(0)})
        await asyncio.wait_for(ticker.started.wait(), PATIENCE_S)
        await socket.send_json({"id": "a" * 500, "type": "subscribe", "payload": body(0)})
        assert await closing_code(socket) == 4409
        await ticker.closed()


async def test_a_connection_without_the_protocol_is_not_accepted() -> None:
    async with ticking("sse") as (router, _):
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await router.session.ws_connect(f"{router.url.replace('http', 'ws')}/graphql", protocols=("soap",))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"sec-fetch-site": "cross-site", "origin": "https://evil.example"}, 403),
        ({"sec-fetch-site": "same-site", "origin": "https://other.example"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": "https://app.example"}, 101),
        ({"sec-fetch-site": "same-origin", "origin": "https://api.example"}, 101),
        ({}, 101),
    ],
)
async def test_a_page_of_another_site_opens_no_connection_for_its_visitor(
    headers: dict[str, str], expected: int
) -> None:
    cors = CorsSettings(allow_origins=("https://app.example",))
    async with ticking("sse", cors=cors) as (router, _):
        url = f"{router.url.replace('http', 'ws')}/graphql"
        try:
            socket = await router.session.ws_connect(url, protocols=("graphql-transport-ws",), headers=headers)
        except aiohttp.WSServerHandshakeError as refused:
            status = refused.status
        else:
            status = 101
            await socket.close()
        assert status == expected


async def test_one_connection_runs_only_so_many_operations_at_once() -> None:
    settings = SubscriptionSettings(max_operations_per_connection=2)
    async with ticking("sse", subscriptions=settings) as (router, _), connected(router) as socket:
        for number in ("a", "b", "c"):
            await socket.send_json({"id": number, "type": "subscribe", "payload": body(0)})
        refused = await socket.receive_json(timeout=PATIENCE_S)
        assert (refused["id"], refused["type"]) == ("c", "error")
        assert refused["payload"][0]["extensions"]["code"] == "TOO_MANY_SUBSCRIPTIONS"
        await socket.send_json({"id": "a", "type": "complete"})
        async with asyncio.timeout(PATIENCE_S):
            while True:  # until the connection has seen the end of the first
                await socket.send_json({"id": "c", "type": "subscribe", "payload": body(1)})
                answer = await socket.receive_json()
                if answer["type"] != "error":
                    break
        assert answer == {"id": "c", "type": "next", "payload": tick(1)}


async def test_only_so_many_connections_are_open_at_once() -> None:
    settings = SubscriptionSettings(max_connections=2)
    async with ticking("sse", subscriptions=settings) as (router, _):
        async with connected(router), connected(router), opened(router) as third:
            assert await closing_code(third) == 1013
        async with asyncio.timeout(PATIENCE_S):
            while True:  # until the router has seen the end of the others
                async with opened(router) as again:
                    await again.send_json({"type": "ping"})
                    message = await again.receive()
                    if message.type is aiohttp.WSMsgType.TEXT:
                        break
        assert message.json() == {"type": "pong"}


@pytest.mark.parametrize(("token", "code"), [("forged", 4403), ("down", 1013)])
async def test_a_token_is_checked_when_the_connection_opens(token: str, code: int) -> None:
    async with ticking("sse", authenticator=Tokens()) as (router, _), opened(router) as socket:
        await socket.send_json({"type": "connection_init", "payload": {"authorization": token}})
        assert await closing_code(socket) == code


async def test_a_connection_does_not_outlive_its_token() -> None:
    async with ticking("sse", authenticator=Tokens()) as (router, ticker), opened(router) as socket:
        await socket.send_json({"type": "connection_init", "payload": {"authorization": "1.5"}})
        assert await socket.receive_json(timeout=PATIENCE_S) == {"type": "connection_ack"}
        ticker.pause_s = 0.05
        await socket.send_json({"id": "a", "type": "subscribe", "payload": body(10_000)})
        assert await socket.receive_json(timeout=PATIENCE_S) == {"id": "a", "type": "next", "payload": tick(1)}
        async with asyncio.timeout(PATIENCE_S):
            async for _ in socket:  # many more ticks than there is time for
                pass
        assert socket.close_code == 4403
        await ticker.closed()


async def test_server_sent_events_do_not_outlive_their_token() -> None:
    async with (
        ticking("sse", authenticator=Tokens()) as (router, ticker),
        streamed(router, 0, SSE, headers={"authorization": "1.5"}) as response,
    ):
        [expired, end] = await all_of(response, SSE)
        assert expired == {"errors": [{"message": "The token has expired.", "extensions": {"code": "UNAUTHENTICATED"}}]}
        assert end == "ended"
        await ticker.closed()


async def test_a_client_that_takes_no_messages_is_let_go() -> None:
    settings = SubscriptionSettings(send_timeout_s=0.5)
    async with ticking("websocket", subscriptions=settings) as (router, ticker):
        ticker.pause_s, ticker.padding = 0.0, "x" * 100_000
        host, port = router.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        try:
            writer.write(
                b"GET /graphql HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                b"sec-websocket-protocol: graphql-transport-ws\r\n\r\n"
            )
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
            writer.write(_frame(b'{"type":"connection_init"}' + b" " * 100))
            writer.write(_frame(orjson.dumps({"type": "subscribe", "id": "a", "payload": body(10**9)})))
            await asyncio.wait_for(ticker.started.wait(), PATIENCE_S)
            async with asyncio.timeout(PATIENCE_S):
                while ticker.open:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert ticker.sent < 500
        finally:
            writer.close()


def _frame(text: bytes) -> bytes:
    """A masked text frame, as clients send them (the mask is zero)."""
    return b"\x81" + bytes([0x80 | 126]) + len(text).to_bytes(2, "big") + bytes(4) + text


class Accounts:
    """A token is the name of its account."""

    async def authenticate(self, headers: Mapping[str, str]) -> Identity:
        token = headers.get("authorization")
        return ANONYMOUS if token is None else Identity(authenticated=True, subject=token)


async def _refused(router: Served, accept: str, token: str | None) -> tuple[int, str]:
    headers = {} if token is None else {"authorization": token}
    async with streamed(router, 0, accept, headers=headers) as response:
        content = await response.json(content_type=None)
    return response.status, str(content["errors"][0]["extensions"]["code"])


@pytest.mark.parametrize("token", ["ann", None])
async def test_one_caller_has_only_so_many_subscriptions_over_all_transports(token: str | None) -> None:
    settings = SubscriptionSettings(max_streams_per_account=2, max_streams_per_network=2)
    async with ticking("sse", authenticator=Accounts(), subscriptions=settings) as (router, ticker):
        headers = {} if token is None else {"authorization": token}
        async with opened(router) as socket, streamed(router, 0, SSE, headers=headers):
            await socket.send_json({"type": "connection_init", "payload": headers})
            assert await socket.receive_json(timeout=PATIENCE_S) == {"type": "connection_ack"}
            await socket.send_json({"id": "a", "type": "subscribe", "payload": body(0)})
            async with asyncio.timeout(PATIENCE_S):
                while ticker.open < 2:  # noqa: ASYNC110  the subgraph's own count
                    await asyncio.sleep(0.01)
            assert await _refused(router, SSE, token) == (429, "TOO_MANY_SUBSCRIPTIONS")
            await socket.send_json({"id": "b", "type": "subscribe", "payload": body(0)})
            told = await socket.receive_json(timeout=PATIENCE_S)
            assert (told["type"], told["payload"][0]["extensions"]["code"]) == ("error", "TOO_MANY_SUBSCRIPTIONS")
            async with streamed(
                router, 1, SSE, headers={"authorization": "bob"}
            ) as others:  # who has a share of his own
                assert await all_of(others, SSE) == [tick(1), "ended"]
            assert (await router.get("/health/ready")).status == 200
        await ticker.closed()
        async with streamed(router, 1, SSE, headers=headers) as again:
            assert await all_of(again, SSE) == [tick(1), "ended"]


async def test_one_account_has_only_so_many_connections() -> None:
    settings = SubscriptionSettings(max_connections_per_account=1)
    async with ticking("sse", authenticator=Accounts(), subscriptions=settings) as (router, _):
        init = {"type": "connection_init", "payload": {"authorization": "ann"}}
        async with opened(router) as first:
            await first.send_json(init)
            assert await first.receive_json(timeout=PATIENCE_S) == {"type": "connection_ack"}
            async with opened(router) as second:
                await second.send_json(init)
                assert await closing_code(second) == 1013
        async with asyncio.timeout(PATIENCE_S):
            while True:  # until the router has seen the end of the first
                async with opened(router) as third:
                    await third.send_json(init)
                    message = await third.receive(timeout=PATIENCE_S)
                    if message.type is aiohttp.WSMsgType.TEXT:
                        break


async def test_one_network_has_only_so_many_connections_without_a_token_and_those_with_one_have_room() -> None:
    settings = SubscriptionSettings(max_connections_per_network=2)
    init = {"type": "connection_init", "payload": {"authorization": "ann"}}
    async with (
        ticking("sse", authenticator=Accounts(), subscriptions=settings) as (router, _),
        opened(router) as known,
        opened(router) as other,
    ):
        for socket in (known, other):
            await socket.send_json(init)
            assert await socket.receive_json(timeout=PATIENCE_S) == {"type": "connection_ack"}
        async with opened(router), opened(router) as anonymous:  # the first says nothing at all
            await anonymous.send_json({"type": "connection_init"})
            assert await anonymous.receive_json(timeout=PATIENCE_S) == {"type": "connection_ack"}
            async with opened(router) as one_more:
                assert await closing_code(one_more) == 1013
            await known.send_json({"type": "ping"})
            assert await known.receive_json(timeout=PATIENCE_S) == {"type": "pong"}


async def test_a_connection_on_which_nothing_runs_is_closed_and_one_with_a_subscription_stays() -> None:
    settings = SubscriptionSettings(idle_timeout_s=1.5)
    async with (
        ticking("sse", subscriptions=settings) as (router, ticker),
        opened(router) as idle,
        connected(router) as busy,
    ):
        await busy.send_json({"id": "a", "type": "subscribe", "payload": body(0)})
        await asyncio.wait_for(ticker.started.wait(), PATIENCE_S)
        await idle.send_json({"type": "connection_init"})
        assert await idle.receive_json(timeout=PATIENCE_S) == {"type": "connection_ack"}
        assert await closing_code(idle) == 1000
        await busy.send_json({"type": "ping"})
        assert await busy.receive_json(timeout=PATIENCE_S) == {"type": "pong"}
        await busy.send_json({"id": "a", "type": "complete"})
        assert await closing_code(busy) == 1000
