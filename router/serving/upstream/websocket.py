"""A subgraph's event stream over a WebSocket, in the protocol of today or the one before it.

Source: graphql-ws PROTOCOL.md (enisdenjo/graphql-ws), "GraphQL over WebSocket Protocol"; PROTOCOL.md of
apollographql/subscriptions-transport-ws, whose subprotocol has the name of the newer one's library: "graphql-ws".
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from router.execution.errors import SubgraphFailure
from router.serving.upstream.source import EventSource

_HEARTBEAT_S = 30.0
_ID = "1"

_UNAUTHENTICATED = 4401
"""How a subgraph closes a connection whose credentials were revoked."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The words in which two protocols with one course of events differ."""

    subprotocol: str
    start: str
    event: str
    stop: str


TRANSPORT_WS = Dialect("graphql-transport-ws", start="subscribe", event="next", stop="complete")
SUBSCRIPTIONS_TRANSPORT_WS = Dialect("graphql-ws", start="start", event="data", stop="stop")


async def subscribe(
    session: aiohttp.ClientSession,
    source: EventSource,
    request: Mapping[str, Any],
    headers: Mapping[str, str],
    dialect: Dialect,
) -> AsyncGenerator[Any, None]:
    """As `router.serving.upstream.subscribe`."""
    try:
        async with asyncio.timeout(source.timeout_s):
            connection = await session.ws_connect(
                _websocket_url(source.url),
                protocols=(dialect.subprotocol,),
                headers=headers,
                timeout=aiohttp.ClientWSTimeout(ws_close=5),
                heartbeat=_HEARTBEAT_S,
                max_msg_size=source.max_bytes,
            )
    except TimeoutError as error:
        raise SubgraphFailure("its event stream did not start in time.", code="SUBGRAPH_TIMEOUT") from error
    except (aiohttp.ClientError, ValueError, OSError) as error:
        raise SubgraphFailure("its event stream cannot be opened.", code="SERVICE_UNAVAILABLE") from error
    async with connection:
        finished = False
        try:
            await _send(connection, {"type": "connection_init", "payload": dict(headers)})
            async for payload in _events(connection, source, request, dialect):
                yield payload
            finished = True
        finally:
            if not finished and not connection.closed:
                with contextlib.suppress(SubgraphFailure):
                    await _send(connection, {"id": _ID, "type": dialect.stop})


async def _events(
    connection: aiohttp.ClientWebSocketResponse,
    source: EventSource,
    request: Mapping[str, Any],
    dialect: Dialect,
) -> AsyncGenerator[Any, None]:
    loop = asyncio.get_running_loop()
    # An acknowledgement must come soon, whatever else is said before it; after it, the heartbeat finds dead peers.
    starts_before: float | None = loop.time() + source.timeout_s
    while True:
        if starts_before is not None:
            timeout_s: float | None = max(starts_before - loop.time(), 0.001)
        else:
            timeout_s = source.idle_timeout_s
        message = await _receive(connection, timeout_s, started=starts_before is None)
        kind = message.get("type")
        if kind == "connection_ack":
            if starts_before is not None:
                starts_before = None
                await _send(connection, {"id": _ID, "type": dialect.start, "payload": request})
        elif kind == "ping":
            await _send(connection, {"type": "pong"})
        elif kind == "connection_error":
            raise SubgraphFailure("it refused the event stream.", code="SERVICE_UNAVAILABLE")
        elif kind == dialect.event:
            yield message.get("payload")
        elif kind == "error":
            errors = message.get("payload") or []
            yield {"errors": errors if isinstance(errors, list) else [errors]}
            return
        elif kind == "complete":
            return
        # The rest (pong, the older protocol's "ka") says only that the subgraph lives.


async def _send(connection: aiohttp.ClientWebSocketResponse, message: Mapping[str, Any]) -> None:
    try:
        await connection.send_str(orjson.dumps(message).decode())
    except (ConnectionError, RuntimeError) as error:
        raise SubgraphFailure("its event stream broke.", code="SERVICE_UNAVAILABLE") from error


async def _receive(
    connection: aiohttp.ClientWebSocketResponse, timeout_s: float | None, *, started: bool
) -> Mapping[str, Any]:
    try:
        frame = await connection.receive(timeout_s)
    except TimeoutError as error:
        message = "its event stream fell silent." if started else "its event stream did not start in time."
        raise SubgraphFailure(message, code="SUBGRAPH_TIMEOUT") from error
    if frame.type is not aiohttp.WSMsgType.TEXT:
        code = connection.close_code
        if code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
            raise SubgraphFailure("an event is too large.", code="SUBGRAPH_MALFORMED_RESPONSE")
        if code == _UNAUTHENTICATED:
            raise SubgraphFailure("the credentials are not valid any more.", code="UNAUTHENTICATED")
        why = f" (closed with {code})" if code is not None else ""
        raise SubgraphFailure(f"its event stream broke{why}.", code="SERVICE_UNAVAILABLE")
    try:
        message = orjson.loads(frame.data)
    except orjson.JSONDecodeError as error:
        raise SubgraphFailure("its event stream is not JSON.", code="SUBGRAPH_MALFORMED_RESPONSE") from error
    if not isinstance(message, dict):
        raise SubgraphFailure("its event stream is not GraphQL.", code="SUBGRAPH_MALFORMED_RESPONSE")
    return message


def _websocket_url(url: str) -> str:
    return url.replace("http", "ws", 1) if url.startswith("http") else url
