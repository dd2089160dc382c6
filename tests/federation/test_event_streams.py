"""Event streams over real sockets: every protocol of subgraphs, every transport to clients, and what can go wrong."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from router.serving.service import RouterService
from router.serving.settings import Limits, SubscriptionSettings
from router.serving.streaming import stream_form
from router.serving.upstream.http import Decoder, Ended
from router.serving.upstream.multipart import MultipartForm
from router.serving.upstream.sse import ServerSentDecoder
from tests.federation.serve import Served
from tests.federation.test_subscriptions import SUPERGRAPH, connected
from tests.federation.ticker import PATHS, ticking
from tests.support.patience import PATIENCE_S

QUERY = "subscription($to: Int!) { tick(to: $to) { n name } }"
SSE = "text/event-stream"
MULTIPART = 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0,application/json'
PROTOCOLS = list(PATHS)


def body(to: int) -> dict[str, Any]:
    return {"query": QUERY, "variables": {"to": to}}


def tick(n: int) -> dict[str, Any]:
    return {"data": {"tick": {"n": n, "name": f"tick {n}"}}}


def decoder_of(accept: str) -> Decoder:
    if accept == SSE:
        return ServerSentDecoder(1_000_000)
    return MultipartForm().decoder("multipart/mixed;boundary=graphql", 1_000_000)


@contextlib.asynccontextmanager
async def streamed(router: Served, to: int, accept: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
    headers = {"accept": accept, **options.pop("headers", {})}
    async with router.session.post(f"{router.url}/graphql", json=body(to), headers=headers, **options) as response:
        yield response


async def all_of(response: aiohttp.ClientResponse, accept: str) -> list[Any]:
    """Every answer to the end of the stream, and "ended" if the stream says so."""
    decoder = decoder_of(accept)
    answers: list[Any] = []
    async with asyncio.timeout(PATIENCE_S):
        async for chunk in response.content.iter_any():
            try:
                for answer in decoder.feed(chunk):
                    answers.append(answer)  # noqa: PERF402  what came before the end counts
            except Ended:
                return [*answers, "ended"]
    return answers


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("accept", [SSE, MULTIPART])
async def test_events_of_every_protocol_are_joined_and_reach_clients_in_every_form(protocol: str, accept: str) -> None:
    async with ticking(protocol) as (router, ticker), streamed(router, 3, accept) as response:
        assert (response.status, response.content_type) == (200, accept.split(";", maxsplit=1)[0])
        assert await all_of(response, accept) == [tick(1), tick(2), tick(3), "ended"]
        assert ticker.requests[0]["variables"] == {"to": 3}
        await ticker.closed()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("accept", [SSE, MULTIPART])
async def test_a_client_that_leaves_before_any_event_ends_the_subgraphs_stream(protocol: str, accept: str) -> None:
    async with ticking(protocol) as (router, ticker):
        async with streamed(router, 0, accept) as response:
            assert response.status == 200  # the answer begins although nothing has happened yet
            await asyncio.wait_for(ticker.started.wait(), PATIENCE_S)
            assert ticker.open == 1
            response.close()
        await ticker.closed()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_an_operation_that_is_completed_over_a_websocket_ends_the_subgraphs_stream(protocol: str) -> None:
    async with ticking(protocol) as (router, ticker), connected(router) as socket:
        await socket.send_json({"id": "a", "type": "subscribe", "payload": body(0)})
        await asyncio.wait_for(ticker.started.wait(), PATIENCE_S)
        await socket.send_json({"id": "a", "type": "complete"})
        await ticker.closed()
        # The id is free again at once, and the connection goes on.
        await socket.send_json({"id": "a", "type": "subscribe", "payload": body(1)})
        assert await socket.receive_json(timeout=PATIENCE_S) == {"id": "a", "type": "next", "payload": tick(1)}


async def test_a_completed_operations_end_does_not_touch_the_next_one_of_its_id() -> None:
    async with ticking("websocket") as (router, ticker), connected(router) as socket:
        for _ in range(5):
            await socket.send_json({"id": "a", "type": "subscribe", "payload": body(0)})
            await socket.send_json({"id": "a", "type": "complete"})
        await socket.send_json({"id": "a", "type": "subscribe", "payload": body(3)})
        for n in (1, 2, 3):
            assert await socket.receive_json(timeout=PATIENCE_S) == {"id": "a", "type": "next", "payload": tick(n)}
        assert await socket.receive_json(timeout=PATIENCE_S) == {"id": "a", "type": "complete"}
        await ticker.closed()


async def _cut_off(response: web.StreamResponse) -> None:
    await response.write(
        b'event: next\ndata: {"data": {"tick": {"__typename": "Tick", "n": 1}}}\n\nevent: next\ndata: {"da'
    )


async def _silent(response: web.StreamResponse) -> None:
    await asyncio.Event().wait()


async def _garbage(response: web.StreamResponse) -> None:
    await response.write(b"event: next\ndata: <html>\n\n")


async def _endless(response: web.StreamResponse) -> None:
    while True:
        await response.write(b"data: " + b"x" * 1000)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (_cut_off, "SERVICE_UNAVAILABLE"),
        (_silent, "SUBGRAPH_TIMEOUT"),
        (_garbage, "SUBGRAPH_MALFORMED_RESPONSE"),
        (_endless, "SUBGRAPH_MALFORMED_RESPONSE"),
    ],
)
@pytest.mark.parametrize("accept", [SSE, MULTIPART])
async def test_a_stream_that_breaks_ends_with_an_error(script: Any, code: str, accept: str) -> None:
    limits = Limits(max_subgraph_response_bytes=20_000)
    async with ticking("sse", idle_timeout_s=0.3 if script is _silent else None, limits=limits) as (router, ticker):
        ticker.script = script
        async with streamed(router, 3, accept) as response:
            *before, last, end = await all_of(response, accept)
    assert before == ([tick(1)] if script is _cut_off else [])
    assert last["errors"][0]["extensions"] == {"code": code, "serviceName": "ticks"}
    assert "data" not in last
    assert end == "ended"


async def test_a_stream_that_breaks_is_an_error_message_over_a_websocket() -> None:
    async with ticking("sse") as (router, ticker), connected(router) as socket:
        ticker.script = _cut_off
        await socket.send_json({"id": "a", "type": "subscribe", "payload": body(3)})
        assert (await socket.receive_json(timeout=PATIENCE_S))["payload"] == tick(1)
        broken = await socket.receive_json(timeout=PATIENCE_S)
        assert (broken["id"], broken["type"]) == ("a", "error")
        assert broken["payload"][0]["extensions"]["code"] == "SERVICE_UNAVAILABLE"
        ticker.script = None
        await socket.send_json({"id": "a", "type": "subscribe", "payload": body(1)})
        assert (await socket.receive_json(timeout=PATIENCE_S))["payload"] == tick(1)


@pytest.mark.parametrize(
    ("head", "text", "code"),
    [
        ((500, "text/html"), b"<h1>boom</h1>", "SUBGRAPH_HTTP_ERROR"),
        ((200, "text/html"), b"<h1>hello</h1>", "SUBGRAPH_MALFORMED_RESPONSE"),
        ((302, "text/plain"), b"elsewhere", "SUBGRAPH_HTTP_ERROR"),
        ((200, "application/json"), b"{", "SUBGRAPH_MALFORMED_RESPONSE"),
    ],
)
async def test_a_subgraph_that_does_not_stream_is_told_of(head: tuple[int, str], text: bytes, code: str) -> None:
    async def answer(response: web.StreamResponse) -> None:
        await response.write(text)

    async with ticking("multipart") as (router, ticker):
        ticker.script, ticker.head = answer, head
        async with streamed(router, 3, SSE) as response:
            [failed, end] = await all_of(response, SSE)
    assert failed["errors"][0]["extensions"]["code"] == code
    assert end == "ended"


async def test_a_subgraph_that_refuses_the_operation_in_plain_json_is_quoted() -> None:
    async def refuse(response: web.StreamResponse) -> None:
        await response.write(b'{"errors": [{"message": "not today", "extensions": {"code": "FORBIDDEN"}}]}')

    async with ticking("sse") as (router, ticker):
        ticker.script, ticker.head = refuse, (400, "application/json")
        async with streamed(router, 3, SSE) as response:
            [answer, end] = await all_of(response, SSE)
    assert answer["data"] == {"tick": None}
    assert answer["errors"][0]["message"] == "not today"
    assert end == "ended"


@pytest.mark.parametrize("accept", [SSE, MULTIPART])
async def test_a_silent_stream_says_that_it_lives(accept: str) -> None:
    settings = SubscriptionSettings(heartbeat_s=0.05)
    heartbeat = b":\n\n" if accept == SSE else b"\r\ncontent-type: application/json\r\n\r\n{}\r\n--graphql"
    form = stream_form(accept)
    assert form is not None
    async with ticking("sse", subscriptions=settings) as (router, _), streamed(router, 0, accept) as response:
        expected = form.start + heartbeat * 3
        assert await asyncio.wait_for(response.content.readexactly(len(expected)), PATIENCE_S) == expected


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_client_that_takes_nothing_holds_the_subgraph_back_and_is_let_go(protocol: str) -> None:
    settings = SubscriptionSettings(send_timeout_s=0.7)
    async with ticking(protocol, subscriptions=settings) as (router, ticker):
        ticker.pause_s, ticker.padding = 0.0, "x" * 100_000
        async with _raw_post(router, body(10**9)) as reader:
            await asyncio.wait_for(reader.readline(), PATIENCE_S)  # and then nothing more is read
            await ticker.closed()
            assert ticker.sent < 500, "more was taken from the subgraph than the buffers of the connections hold"


@contextlib.asynccontextmanager
async def _raw_post(router: Served, content: Any) -> AsyncIterator[asyncio.StreamReader]:
    host, port = router.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    data = orjson.dumps(content)
    head = f"POST /graphql HTTP/1.1\r\nhost: x\r\naccept: {SSE}\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
    try:
        yield reader
    finally:
        writer.close()


async def test_a_running_subscription_goes_on_with_the_supergraph_it_was_planned_for() -> None:
    async with ticking("sse") as (router, ticker):
        ticker.pause_s = 0.1
        service: RouterService = router.app.state.router
        async with streamed(router, 5, SSE) as response:
            await asyncio.wait_for(ticker.started.wait(), PATIENCE_S)
            await service.reload(SUPERGRAPH.replace("name: String", "title: String"))
            assert await all_of(response, SSE) == [tick(n) for n in range(1, 6)] + ["ended"]
        refused = await router.post("/graphql", json=body(1), headers={"accept": SSE})
        assert (await refused.json(content_type=None))["errors"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"


async def test_many_subscriptions_leave_room_for_queries_to_the_same_subgraph() -> None:
    async with ticking("sse", connections_per_subgraph=2) as (router, ticker), contextlib.AsyncExitStack() as stack:
        for _ in range(10):
            await stack.enter_async_context(streamed(router, 0, SSE))
        async with asyncio.timeout(PATIENCE_S):
            while ticker.open < 10:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        response = await router.post("/graphql", json={"query": "{ now }"}, timeout=aiohttp.ClientTimeout(5))
        assert await response.json() == {"data": {"now": 7}}


async def test_more_streams_than_allowed_are_refused_and_places_become_free_again() -> None:
    settings = SubscriptionSettings(max_streams=2)
    async with ticking("sse", subscriptions=settings) as (router, ticker):
        async with streamed(router, 0, SSE) as first, streamed(router, 0, MULTIPART) as second:
            async with asyncio.timeout(PATIENCE_S):
                while ticker.open < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            async with streamed(router, 0, SSE) as third:
                assert third.status == 503
                refused = await third.json(content_type=None)
                assert refused["errors"][0]["extensions"]["code"] == "TOO_MANY_SUBSCRIPTIONS"
            first.close()
            second.close()
        await ticker.closed()
        async with streamed(router, 1, SSE) as again:
            assert await all_of(again, SSE) == [tick(1), "ended"]


async def test_queries_come_as_server_sent_events_or_as_plain_json() -> None:
    async with ticking("sse") as (router, _):
        async with router.session.get(
            f"{router.url}/graphql", params={"query": "{ now }"}, headers={"accept": SSE}
        ) as response:
            assert await all_of(response, SSE) == [{"data": {"now": 7}}, "ended"]
        plain = await router.post("/graphql", json={"query": "{ now }"}, headers={"accept": MULTIPART})
        assert (plain.content_type, await plain.json()) == ("application/json", {"data": {"now": 7}})


async def test_a_subscription_without_a_form_that_fits_is_told_which_there_are() -> None:
    async with ticking("sse") as (router, _):
        refused = await router.post("/graphql", json=body(1))
        assert (refused.status, refused.content_type) == (400, "application/json")
        assert "text/event-stream" in (await refused.json())["errors"][0]["message"]
