"""A subgraph's event stream, over the graphql-transport-ws protocol.

Source: graphql-ws PROTOCOL.md (enisdenjo/graphql-ws), "GraphQL over WebSocket Protocol".
"""

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import aiohttp
import orjson

from router.execution.errors import SubgraphFailure

PROTOCOL = "graphql-transport-ws"


async def subscribe(
    session: aiohttp.ClientSession,
    url: str,
    request: Mapping[str, Any],
    headers: Mapping[str, str],
    *,
    timeout_s: float,
) -> AsyncGenerator[Any, None]:
    """Each event as the subgraph answers it. Closing the iterator ends the subscription.

    Raises:
        SubgraphFailure: the stream cannot be opened, or breaks.
    """
    try:
        connection = await session.ws_connect(
            _websocket_url(url),
            protocols=(PROTOCOL,),
            headers=headers,
            timeout=aiohttp.ClientWSTimeout(ws_close=5),
            heartbeat=30,
        )
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise SubgraphFailure("its event stream cannot be opened.", code="SERVICE_UNAVAILABLE") from error
    async with connection:
        await _send(connection, {"type": "connection_init", "payload": dict(headers)})
        finished = False
        try:
            async for payload in _events(connection, request, timeout_s):
                yield payload
            finished = True
        finally:
            if not finished and not connection.closed:
                with contextlib.suppress(ConnectionError, RuntimeError):
                    await _send(connection, {"id": "1", "type": "complete"})


async def _events(
    connection: aiohttp.ClientWebSocketResponse, request: Mapping[str, Any], timeout_s: float
) -> AsyncGenerator[Any, None]:
    acknowledged = False
    while True:
        # An acknowledgement must come soon; between events any time may pass, the heartbeat finds dead peers.
        message = await _receive(connection, None if acknowledged else timeout_s)
        match message.get("type"):
            case "connection_ack":
                acknowledged = True
                await _send(connection, {"id": "1", "type": "subscribe", "payload": request})
            case "ping":
                await _send(connection, {"type": "pong"})
            case "next":
                yield message.get("payload")
            case "error":
                yield {"errors": message.get("payload") or []}
                return
            case "complete":
                return
            case _:
                pass


async def _send(connection: aiohttp.ClientWebSocketResponse, message: Mapping[str, Any]) -> None:
    await connection.send_str(orjson.dumps(message).decode())


async def _receive(connection: aiohttp.ClientWebSocketResponse, timeout_s: float | None) -> Mapping[str, Any]:
    try:
        frame = await connection.receive(timeout_s)
    except TimeoutError as error:
        raise SubgraphFailure("its event stream did not start in time.", code="SUBGRAPH_TIMEOUT") from error
    if frame.type is not aiohttp.WSMsgType.TEXT:
        raise SubgraphFailure("its event stream broke.", code="SERVICE_UNAVAILABLE")
    try:
        message = orjson.loads(frame.data)
    except orjson.JSONDecodeError as error:
        raise SubgraphFailure("its event stream is not JSON.", code="SUBGRAPH_MALFORMED_RESPONSE") from error
    if not isinstance(message, dict):
        raise SubgraphFailure("its event stream is not GraphQL.", code="SUBGRAPH_MALFORMED_RESPONSE")
    return message


def _websocket_url(url: str) -> str:
    return url.replace("http", "ws", 1) if url.startswith("http") else url
