"""Where a subgraph's events come from, and how."""

from dataclasses import dataclass

import aiohttp

from router.serving.settings import EventProtocol


@dataclass(frozen=True, slots=True)
class EventSource:
    """timeout_s: until the stream has started; idle_timeout_s: between two messages (None: any time may pass)."""

    url: str
    protocol: EventProtocol
    timeout_s: float
    idle_timeout_s: float | None
    max_bytes: int


def open_stream_session() -> aiohttp.ClientSession:
    """A session for event streams alone: they last, and must not take the places of requests in a pool."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, limit_per_host=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_read=None),
    )
