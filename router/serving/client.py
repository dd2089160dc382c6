"""HTTP/1.1 to one subgraph: many small POST requests at once over kept-alive connections.

Why not a library: asking subgraphs is most of what a router does. CPU of a request and its 355-byte answer, on uvloop:
this 27 microseconds, pyreqwest 75, aiohttp 185.

- At most `connections` are open. Whoever finds none free waits in a queue, served in order of arrival; a connection that
  becomes free, or the right to open one, is handed to the first who waits.
- The most recently used connection is taken, so that the others can grow idle and be closed.
- A subgraph may close a kept-alive connection just as a request is written to it. A request that may be repeated is then
  sent once more, on another connection, if no byte of an answer came. Others (mutations) are never repeated, and
  use no connection that has been idle for long.

Sources: RFC 9112 (HTTP/1.1), section 9 "Connection Management"; RFC 9110, section 9.2.2 "Idempotent Methods".
"""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from router.serving.connection import Connection, ConnectionEnded, HttpAnswer, Unreachable

IDLE_S = 60.0
"""How long a connection is kept without use."""
IDLE_FOR_MUTATIONS_S = 1.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a subgraph listens. target: path and query."""

    host: str
    port: int
    secure: bool
    target: str

    @property
    def origin(self) -> tuple[str, int, bool]:
        return self.host, self.port, self.secure

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


def address_of(url: str) -> Address:
    """Raises:
    ValueError: it is no http or https URL, or holds credentials, which belong into a header.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not the URL of a subgraph")
    if parts.username is not None:
        raise ValueError("a subgraph's URL may not hold credentials")
    secure = parts.scheme == "https"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not target.isascii() or any(character <= " " for character in target):
        raise ValueError(f"{url!r} must be percent-encoded")
    return Address(parts.hostname, parts.port or (443 if secure else 80), secure, target)


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """The header lines as they are sent.

    Raises:
        ValueError: a value would end its line.
    """
    text = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if text.count("\n") != len(headers) or text.count("\r") != len(headers) or "\0" in text:
        raise ValueError("a header holds a line break")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


class OutgoingHeaders(dict[str, str]):
    """Headers for the subgraphs of one request: encoded when the first is asked, and not again for the others."""

    __slots__ = ("_encoded",)

    @property
    def encoded(self) -> bytes:
        """Raises:
        ValueError: as for `encode_headers`.
        """
        try:
            return self._encoded
        except AttributeError:
            self._encoded: bytes = encode_headers(self)
            return self._encoded


class Peer:
    """One subgraph's server and the connections to it. To be made and used inside one event loop.

    timeout_s: for a whole request, waiting for a connection included; max_bytes: of a decoded answer; tls: for a
    secure address, None: the system's authorities.
    """

    def __init__(
        self,
        address: Address,
        *,
        connections: int,
        timeout_s: float,
        max_bytes: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.address = address
        self.max_bytes = max_bytes
        self._head = (
            f"POST {address.target} HTTP/1.1\r\nhost: {address.authority}\r\ncontent-type: application/json\r\n"
            "accept: application/graphql-response+json, application/json\r\naccept-encoding: identity\r\n"
        ).encode()
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        self._limit = connections
        self._tls = tls
        self._connections: set[Connection] = set()
        self._taken = 0  # of `connections`: open, being opened, or promised to one who waits
        self._idle: deque[Connection] = deque()  # the most recently used last
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def post(self, body: bytes, headers: bytes = b"", *, repeatable: bool) -> HttpAnswer:
        """The answer to one request. headers: encoded, beside those of every request.

        Raises:
            TimeoutError: it did not end in time.
            HttpFailure: there is no answer.
        """
        deadline = self._loop.time() + self._timeout_s
        request = b"%b%bcontent-length: %d\r\n\r\n%b" % (self._head, headers, len(body), body)
        connection = self._take_idle(IDLE_S if repeatable else IDLE_FOR_MUTATIONS_S)
        while True:
            if connection is None:
                connection = await self._acquire(deadline)
            was_used = connection.was_used
            try:
                return await connection.exchange(request, deadline)
            except ConnectionEnded as lost:
                if not lost.unsent and not (repeatable and was_used and lost.unanswered):
                    raise Unreachable("it closed the connection without a whole answer.") from lost
            repeatable = False  # from here on, nothing is written twice again
            connection = None

    async def close(self) -> None:
        """Ends every connection; requests under way fail."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in tuple(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # transports tell of their end in the next turn of the loop

    def retire(self) -> None:
        """Keeps no connection from here on; requests under way end as usual."""
        self._closed = True
        for connection in tuple(self._idle):
            connection.abort()

    # -- connections -----------------------------------------------------------------------------------------------

    def _take_idle(self, idle_s: float) -> Connection | None:
        now = self._loop.time()
        while self._idle:
            connection = self._idle.pop()
            if now >= min(connection.idle_until, connection.idle_since + IDLE_S):
                connection.abort()
            elif now - connection.idle_since < idle_s:
                return connection
            else:
                self._idle.append(connection)
                break
        return None

    async def _acquire(self, deadline: float) -> Connection:
        """A connection that has not been idle: a new one, or one that was just released."""
        connection: Connection | None = None
        async with asyncio.timeout_at(deadline):
            if self._taken < self._limit:
                self._taken += 1
            else:
                connection = await self._wait()
            return connection or await self._connect()

    async def _wait(self) -> Connection | None:
        """A connection just released, or None: one may be opened."""
        if self._idle:
            self._idle.popleft().abort()
        turn: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with contextlib.suppress(ValueError):  # whoever skipped it took it out
                    self._waiting.remove(turn)
            elif (connection := turn.result()) is not None:
                self.release(connection)
            else:
                self._free_place()
            raise

    async def _connect(self) -> Connection:
        connection = Connection(self, self._loop)
        self._connections.add(connection)
        address = self.address
        context = (self._tls or _tls()) if address.secure else None
        try:
            await self._loop.create_connection(lambda: connection, address.host, address.port, ssl=context)
        except BaseException as error:
            connection.abort()
            self.forget(connection)
            if isinstance(error, OSError | ValueError) and not isinstance(error, TimeoutError):
                raise Unreachable(f"it could not be reached ({type(error).__name__}).") from error
            raise
        return connection

    def release(self, connection: Connection) -> None:
        """Takes back a connection that can be used again."""
        if connection.is_closed:
            return
        if self._closed:
            connection.abort()
            return
        connection.idle_since = self._loop.time()
        if not self._hand_over(connection):
            self._idle.append(connection)
            if self._sweep is None:
                self._sweep = self._loop.call_later(IDLE_S, self._close_idle)

    def forget(self, connection: Connection) -> None:
        """Takes note that a connection has ended. Does nothing when that is known."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._free_place()

    def _free_place(self) -> None:
        if not self._hand_over(None):
            self._taken -= 1

    def _hand_over(self, connection: Connection | None) -> bool:
        """Gives a connection, or the right to open one, to the first who waits; False if nobody does."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return True
        return False

    def _close_idle(self) -> None:
        now = self._loop.time()
        for connection in tuple(self._idle):
            if now >= min(connection.idle_until, connection.idle_since + IDLE_S):
                connection.abort()
        self._sweep = self._loop.call_later(IDLE_S, self._close_idle) if self._idle else None


@cache
def _tls() -> ssl.SSLContext:
    """Verifies certificates and names against the system's authorities."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
