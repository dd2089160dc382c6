"""A subgraph's event stream, over the protocol that the subgraph speaks."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, assert_never

import aiohttp

from router.serving.settings import EventProtocol
from router.serving.upstream import http, websocket
from router.serving.upstream.multipart import MultipartForm
from router.serving.upstream.source import EventSource
from router.serving.upstream.sse import ServerSentForm


def subscribe(
    session: aiohttp.ClientSession, source: EventSource, request: Mapping[str, Any], headers: Mapping[str, str]
) -> AsyncGenerator[Any, None]:
    """Each event as the subgraph answers it. Closing the iterator ends the subscription.

    Nothing is read ahead: a consumer that is slow slows the subgraph down, through the connection's flow control.

    Raises:
        SubgraphFailure: the stream cannot be opened, or breaks.
    """
    match source.protocol:
        case EventProtocol.WEBSOCKET:
            return websocket.subscribe(session, source, request, headers, websocket.TRANSPORT_WS)
        case EventProtocol.LEGACY_WEBSOCKET:
            return websocket.subscribe(session, source, request, headers, websocket.SUBSCRIPTIONS_TRANSPORT_WS)
        case EventProtocol.SSE:
            return http.subscribe(session, source, request, headers, ServerSentForm())
        case EventProtocol.MULTIPART:
            return http.subscribe(session, source, request, headers, MultipartForm())
        case _:
            assert_never(source.protocol)
