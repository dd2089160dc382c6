"""Events from a subgraph, joined with the rest of the selection, over WebSocket and server-sent events."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from ariadne import QueryType, SubscriptionType, make_executable_schema
from ariadne.asgi import GraphQL
from ariadne.asgi.handlers import GraphQLTransportWSHandler
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from router.serving.app import create_app
from router.serving.settings import RouterSettings, SubgraphSettings
from tests.federation.serve import Served, serve
from tests.support.patience import PATIENCE_S

SUPERGRAPH = """
schema @link(url: "https://specs.apollo.dev/link/v1.0") @link(url: "https://specs.apollo.dev/join/v0.3") {
  query: Query
  subscription: Subscription
}
enum join__Graph { TICKS @join__graph(name: "ticks", url: "") NAMES @join__graph(name: "names", url: "") }
type Query @join__type(graph: TICKS) @join__type(graph: NAMES) { now: Int @join__field(graph: TICKS) }
type Subscription @join__type(graph: TICKS) { tick(to: Int!): Tick @join__field(graph: TICKS) }
type Tick @join__type(graph: TICKS, key: "n") @join__type(graph: NAMES, key: "n") {
  n: Int!
  name: String @join__field(graph: NAMES)
}
"""


class Sources:
    """open: event streams that the subgraph's server has not seen the end of."""

    def __init__(self) -> None:
        self.open = 0

    async def ticks(self, *_: Any, to: int) -> AsyncGenerator[dict[str, Any], None]:
        for n in range(1, to + 1):
            yield {"tick": {"n": n}}
            await asyncio.sleep(0.02)

    def counted(self, app: ASGIApp) -> ASGIApp:
        async def counting(scope: Scope, receive: Receive, send: Send) -> None:
            async def received() -> Message:
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    self.open -= 1
                return message

            self.open += scope["type"] == "websocket"
            with contextlib.suppress(WebSocketDisconnect):  # ariadne may be sending an event at that moment
                await app(scope, received, send)

        return counting


def _subgraphs(sources: Sources) -> Starlette:
    query, subscription = QueryType(), SubscriptionType()
    query.set_field("now", lambda *_: 7)
    subscription.set_source("tick", sources.ticks)
    subscription.set_field("tick", lambda event, *_, **__: event["tick"])
    ticks = make_executable_schema(
        "type Query { now: Int } type Subscription { tick(to: Int!): Tick } type Tick { n: Int! }", query, subscription
    )
    entities = QueryType()
    entities.set_field(
        "_entities",
        lambda *_, representations: [{"__typename": "Tick", "name": f"tick {r['n']}"} for r in representations],
    )
    names = make_executable_schema(
        "scalar _Any union _Entity = Tick type Tick { name: String } "
        "type Query { _entities(representations: [_Any!]!): [_Entity]! }",
        entities,
    )
    return Starlette(
        routes=[
            Mount("/ticks", sources.counted(GraphQL(ticks, websocket_handler=GraphQLTransportWSHandler()))),
            Mount("/names", GraphQL(names)),
        ]
    )


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[tuple[Served, Sources]]:
    sources = Sources()
    async with serve(_subgraphs(sources)) as subgraphs:
        settings = RouterSettings(
            subgraphs={name: SubgraphSettings(url=f"{subgraphs.url}/{name}/") for name in ("ticks", "names")}
        )
        async with serve(create_app(SUPERGRAPH, settings)) as router:
            yield router, sources


@contextlib.asynccontextmanager
async def connected(router: Served) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    url = router.url.replace("http", "ws")
    async with router.session.ws_connect(f"{url}/graphql", protocols=("graphql-transport-ws",)) as socket:
        await socket.send_json({"type": "connection_init", "payload": {"authorization": "x"}})
        assert await socket.receive_json(timeout=PATIENCE_S) == {"type": "connection_ack"}
        yield socket


async def test_each_event_is_joined_with_the_other_subgraphs() -> None:
    async with running() as (router, _), connected(router) as socket:
        query = "subscription($to: Int!) { tick(to: $to) { n name } }"
        await socket.send_json({"id": "a", "type": "subscribe", "payload": {"query": query, "variables": {"to": 2}}})
        received = [await socket.receive_json(timeout=PATIENCE_S) for _ in range(3)]
    assert received == [
        {"id": "a", "type": "next", "payload": {"data": {"tick": {"n": 1, "name": "tick 1"}}}},
        {"id": "a", "type": "next", "payload": {"data": {"tick": {"n": 2, "name": "tick 2"}}}},
        {"id": "a", "type": "complete"},
    ]


async def test_queries_run_over_the_same_connection_and_errors_name_their_operation() -> None:
    async with running() as (router, _), connected(router) as socket:
        await socket.send_json({"id": "q", "type": "subscribe", "payload": {"query": "{ now }"}})
        assert (await socket.receive_json(timeout=PATIENCE_S))["payload"] == {"data": {"now": 7}}
        assert (await socket.receive_json(timeout=PATIENCE_S)) == {"id": "q", "type": "complete"}
        await socket.send_json({"id": "w", "type": "subscribe", "payload": {"query": "{ nope }"}})
        refused = await socket.receive_json(timeout=PATIENCE_S)
    assert (refused["id"], refused["type"]) == ("w", "error")
    assert refused["payload"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "connection_init"}, 4429),
        ({"type": "what"}, 4400),
        ({"type": "subscribe", "payload": {}}, 4400),
        ("no object", 4400),
    ],
)
async def test_a_client_that_breaks_the_protocol_is_disconnected_with_its_code(message: Any, code: int) -> None:
    async with running() as (router, _), connected(router) as socket:
        await socket.send_json(message)
        closing = await socket.receive(timeout=PATIENCE_S)
    assert (closing.type, closing.data) == (aiohttp.WSMsgType.CLOSE, code)


async def test_a_client_that_leaves_ends_the_subgraphs_stream() -> None:
    async with running() as (router, sources):
        async with connected(router) as socket:
            await socket.send_json(
                {"id": "a", "type": "subscribe", "payload": {"query": "subscription { tick(to: 100000) { n } }"}}
            )
            await socket.receive_json(timeout=PATIENCE_S)
            assert sources.open == 1
        async with asyncio.timeout(PATIENCE_S):
            while sources.open:  # noqa: ASYNC110  the close travels through two servers
                await asyncio.sleep(0.01)


async def test_events_can_be_had_as_server_sent_events() -> None:
    async with running() as (router, _):
        body = {"query": "subscription { tick(to: 2) { name } }"}
        response = await router.post("/graphql", json=body, headers={"accept": "text/event-stream"})
        events = (await response.text()).strip().split("\n\n")
    assert response.content_type == "text/event-stream"
    assert [orjson.loads(event.partition("data: ")[2]) for event in events[:2]] == [
        {"data": {"tick": {"name": "tick 1"}}},
        {"data": {"tick": {"name": "tick 2"}}},
    ]
    assert events[2].startswith("event: complete")
