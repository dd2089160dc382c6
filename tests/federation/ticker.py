"""A subgraph that ticks over every protocol of event streams, one that names the ticks, and a router over both."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from router.serving.app import create_app
from router.serving.identity import Authenticator
from router.serving.settings import HeaderRules, RouterSettings, SubgraphSettings, SubgraphSubscriptions
from tests.federation.serve import Served, serve
from tests.federation.test_subscriptions import SUPERGRAPH
from tests.support.patience import PATIENCE_S

Write = Callable[[bytes], Awaitable[None]]


class Ticker:
    """open: streams that have not ended; sent: events written so far; padding: makes every event and name longer; script: what a test writes instead of ticks."""

    def __init__(self) -> None:
        self.open = 0
        self.sent = 0
        self.pause_s = 0.01
        self.padding = ""
        self.started = asyncio.Event()
        self.requests: list[dict[str, Any]] = []
        self.script: Callable[[web.StreamResponse], Awaitable[None]] | None = None
        self.headers: Mapping[str, str] = {}
        self.head: tuple[int, str] | None = None

    async def events(self, request: Any) -> AsyncIterator[dict[str, Any]]:
        """to: how many; 0: none, and no end."""
        to = request["variables"]["to"]
        if to == 0:
            await asyncio.sleep(60)
        for n in range(1, to + 1):
            yield {"data": {"tick": {"__typename": "Tick", "n": n, "pad": self.padding}}}
            await asyncio.sleep(self.pause_s)

    @contextlib.contextmanager
    def counted(self, request: Any) -> Any:
        self.requests.append(request)
        self.open += 1
        self.started.set()
        try:
            yield
        finally:
            self.open -= 1

    async def closed(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.open:  # noqa: ASYNC110  the end travels through two servers
                await asyncio.sleep(0.01)

    async def names(self, request: web.Request) -> web.Response:
        asked = (await request.json())["variables"]["representations"]
        entities = [{"__typename": "Tick", "name": f"tick {each['n']}{self.padding}"} for each in asked]
        return web.json_response({"data": {"_entities": entities}})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        operation = await request.json()
        self.headers = request.headers
        form = request.match_info["form"]
        media_type = "text/event-stream" if form == "sse" else "multipart/mixed;boundary=graphql;subscriptionSpec=1.0"
        status, media_type = self.head or (200, media_type)
        response = web.StreamResponse(status=status, headers={"content-type": media_type})
        with self.counted(operation):
            await response.prepare(request)
            if self.script is not None:
                await self.script(response)
                return response
            if form == "multipart":
                await response.write(b"\r\n--graphql")
            async for event in self.events(operation):
                body = orjson.dumps(event)
                if form == "sse":
                    await response.write(b"event: next\ndata: " + body + b"\n\n")
                else:
                    part = b'\r\ncontent-type: application/json\r\n\r\n{"payload":' + body + b"}\r\n--graphql"
                    await response.write(part)
                self.sent += 1
            await response.write(b"event: complete\n\n" if form == "sse" else b"--\r\n")
            return response

    async def socket(self, request: web.Request) -> web.StreamResponse:
        legacy = request.match_info["form"] == "legacy"
        socket = web.WebSocketResponse(protocols=("graphql-ws" if legacy else "graphql-transport-ws",))
        await socket.prepare(request)
        event_type = "data" if legacy else "next"
        await socket.receive_json()
        if legacy:
            await socket.send_json({"type": "ka"})
        await socket.send_json({"type": "connection_ack"})
        start = await socket.receive_json()
        assert start["type"] == ("start" if legacy else "subscribe")
        with self.counted(start["payload"]):
            telling = asyncio.create_task(self._tell(socket, start, event_type))
            try:
                async for message in socket:
                    if message.type is WSMsgType.TEXT and message.json()["type"] in ("complete", "stop"):
                        break
            finally:
                telling.cancel()
        return socket

    async def _tell(self, socket: web.WebSocketResponse, start: dict[str, Any], event_type: str) -> None:
        async for event in self.events(start["payload"]):
            await socket.send_json({"id": start["id"], "type": event_type, "payload": event})
            self.sent += 1
        await socket.send_json({"id": start["id"], "type": "complete"})


async def _now(_: web.Request) -> web.Response:
    return web.json_response({"data": {"now": 7}})


PATHS = {"sse": "/http/sse", "multipart": "/http/multipart", "graphql-ws": "/ws/legacy", "websocket": "/ws/new"}


@contextlib.asynccontextmanager
async def ticking(
    protocol: str,
    *,
    authenticator: Authenticator | None = None,
    idle_timeout_s: float | None = None,
    timeout_s: float = 5,
    headers: HeaderRules | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[Served, Ticker]]:
    """A router whose subgraph ticks over that protocol."""
    ticker = Ticker()
    app = web.Application()
    app.router.add_post("/http/{form}", ticker.stream)
    app.router.add_get("/ws/{form}", ticker.socket)
    app.router.add_post("/names", ticker.names)
    app.router.add_post("/ticks", _now)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    events = SubgraphSubscriptions.model_validate(
        {"protocol": protocol, "path": PATHS[protocol], "idle_timeout_s": idle_timeout_s}
    )
    subgraphs = {
        "ticks": SubgraphSettings(
            url=f"{url}/ticks", timeout_s=timeout_s, subscriptions=events, headers=headers or HeaderRules()
        ),
        "names": SubgraphSettings(url=f"{url}/names"),
    }
    router = create_app(SUPERGRAPH, RouterSettings(subgraphs=subgraphs, **settings), authenticator=authenticator)
    try:
        async with serve(router) as served:
            yield served, ticker
    finally:
        await runner.cleanup()
