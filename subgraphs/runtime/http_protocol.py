"""Connections of the HTTP servers, with limits that uvicorn has none for: what a peer may send, and how long it may take.

A request's head has a limit of bytes, of fields and of time (431, 408); so has the time for its body, and for taking the answer. Connections
have a limit by network and in all; where there are too many, those go first that have not sent a request yet, longest
first. The bytes of a head are counted before the parser sees them, since it copies what it has with every piece that comes.
"""

import asyncio
import resource
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from subgraphs.runtime.proxies import TrustedProxies, network_of

_NO_PROXIES = TrustedProxies(())


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What connections and requests of one server may take.

    Args:
        head_bytes: of the request line and all header fields.
        head_fields: how many header fields there may be.
        head_s: for the whole head, from its first byte; for the first one also from the opening of the connection.
        body_s: for the whole body.
        write_s: for a peer that takes nothing of an answer.
        network: connections from one network (/24 of IPv4, /64 of IPv6) that is not a trusted proxy's.
        total: connections of all.
    """

    head_bytes: int = 32 * 1024
    head_fields: int = 100
    head_s: float = 10.0
    body_s: float = 60.0
    write_s: float = 30.0
    network: int = 256
    total: int = 2_000


class Connections:
    """The open connections of one server.

    Args:
        proxies: whose connections are not counted by network, since they carry the requests of many.
    """

    def __init__(self, limits: HttpLimits | None = None, *, proxies: TrustedProxies = _NO_PROXIES) -> None:
        self.limits = limits or HttpLimits()
        self._proxies = proxies
        # A quarter of the files that the process may open: databases, brokers and callers need some as well.
        most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._total = min(self.limits.total, max(32, most_files // 4))
        self._open: Counter[str] = Counter()
        self._silent: dict[GuardedProtocol, None] = {}  # ordered by age

    @property
    def total(self) -> int:
        """How many are open."""
        return self._open.total()

    def admit(self, connection: "GuardedProtocol", peer: str) -> Callable[[], None] | None:
        """Count a new connection; answers how to count it off again, or None when there are too many."""
        network = "" if self._proxies.trusts(peer) else network_of(peer)
        if network and self._open[network] >= self.limits.network:
            return None
        if self.total >= self._total:
            oldest = next(iter(self._silent), None)
            if oldest is None:
                return None
            oldest.abort()
        self._open[network] += 1
        self._silent[connection] = None

        def leave() -> None:
            self.spoke(connection)
            self._open[network] -= 1
            if not self._open[network]:
                del self._open[network]

        return leave

    def spoke(self, connection: "GuardedProtocol") -> None:
        """A connection has sent the head of a request: it is none of those that go first."""
        self._silent.pop(connection, None)


class _Phase(Enum):
    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    ANSWER = auto()


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol over httptools within the limits of its server's `Connections`."""

    def __init__(self, *args: Any, connections: Connections, **options: Any) -> None:
        super().__init__(*args, **options)
        self._admitted = connections
        self._limits = connections.limits
        self._phase = _Phase.IDLE
        self._head_bytes = 0
        self._fields = 0
        self._is_refused = False
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._leave: Callable[[], None] | None = None

    # --- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        """Takes the connection, or drops it when there are too many."""
        super().connection_made(transport)
        self._leave = self._admitted.admit(self, self.client[0] if self.client else "")
        if self._leave is None:
            self._is_refused = True
            transport.abort()
            return
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Counts the connection off."""
        self._stop_timers()
        self._count_off()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Drop the connection at once."""
        self._count_off()
        if self.transport is not None:
            self.transport.abort()

    def _count_off(self) -> None:
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def data_received(self, data: bytes) -> None:
        """Measures a head before the parser sees more of it."""
        if self._is_refused:
            return
        if self._phase is _Phase.IDLE:
            self._begin_head()
        was_head = self._phase is _Phase.HEAD
        if was_head and self._head_bytes > self._limits.head_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        if was_head:
            self._head_bytes += len(data)
        super().data_received(data)

    def handle_websocket_upgrade(self) -> None:
        """The connection becomes a WebSocket's; it stays counted until its end."""
        self._stop_timers()
        self._admitted.spoke(self)
        leave, self._leave = self._leave, None
        super().handle_websocket_upgrade()
        upgraded: Any = self.transport.get_protocol()
        lost = upgraded.connection_lost

        def connection_lost(exc: Exception | None) -> None:
            if leave is not None:
                leave()
            lost(exc)

        upgraded.connection_lost = connection_lost

    # --- the request

    def on_message_begin(self) -> None:
        """A head begins."""
        if self._phase is not _Phase.HEAD:
            self._begin_head()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        if not self._is_refused:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or of the trailer, which nothing here reads."""
        if self._is_refused:
            return
        self._fields += 1
        if self._fields > self._limits.head_fields:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._phase is _Phase.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is complete: the body has a time of its own."""
        if self._is_refused:
            return
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self._limits.head_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        self._admitted.spoke(self)
        self._phase = _Phase.BODY
        self._start_timer(self._limits.body_s)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete: how long the answer may take is the application's to say."""
        if self._is_refused:
            return
        self._stop_timer()
        cycle: Any = self.cycle  # none yet when the first request asks for a WebSocket
        self._phase = _Phase.IDLE if cycle is None or cycle.response_complete else _Phase.ANSWER
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is written; a body that is still coming keeps its time."""
        if self._phase is _Phase.ANSWER:
            self._phase = _Phase.IDLE
        super().on_response_complete()

    # --- time

    def pause_writing(self) -> None:
        """The peer takes nothing: it has a time to go on."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self._limits.write_s, self.abort)

    def resume_writing(self) -> None:
        """The peer has taken something."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def timeout_keep_alive_handler(self) -> None:
        """An idle connection is closed, and dropped if the peer does not take what is left for it."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(self._limits.write_s, self.transport.abort)

    def _begin_head(self) -> None:
        self._phase = _Phase.HEAD
        self._head_bytes = 0
        self._fields = 0
        self._start_timer(self._limits.head_s)

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_timers(self) -> None:
        self._stop_timer()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _too_slow(self) -> None:
        said_something = self._head_bytes > 0
        answering = self._phase is _Phase.BODY and self.cycle.response_started
        if said_something and not answering:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.abort()

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer a status of ours and close; what still comes is not read."""
        self._is_refused = True
        self._stop_timer()
        if not self.transport.is_closing():
            reason = status.phrase.encode()
            head = b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head % len(reason) + reason)
            self.transport.close()
        self.loop.call_later(self._limits.write_s, self.transport.abort)


def guarded(connections: Connections) -> type[asyncio.Protocol]:
    """The class of protocols that uvicorn makes for a server, all of them counted by `connections`."""

    class Guarded(GuardedProtocol):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, connections=connections, **options)

    return cast("type[asyncio.Protocol]", Guarded)
