"""One HTTP/1.1 connection to a subgraph: a request is one `write`, its answer one future, read with llhttp (httptools).

An exchange that ends early (cancelled, timed out, malformed, more bytes than announced) closes its connection: what the
subgraph still sends can never be read as the answer to another request.

Source: RFC 9112 (HTTP/1.1), section 6.3 "Message Body Length".
"""

import asyncio
import zlib
from typing import NamedTuple, Protocol

import httptools

MAX_HEAD_BYTES = 65_536
_INFORMATIONAL = range(100, 200)
_SWITCHING_PROTOCOLS = 101


class HttpFailure(Exception):
    """No usable answer. The message says why in words that begin with "it" or "its", the subgraph."""


class Unreachable(HttpFailure):
    """No connection could be opened, or it broke before the end of the answer."""


class MalformedAnswer(HttpFailure):
    """What came is not HTTP, or too large."""


class ConnectionEnded(Exception):
    """unanswered: no byte of an answer had come; unsent: nor had anything been written."""

    def __init__(self, *, unanswered: bool, unsent: bool = False) -> None:
        super().__init__("the connection was closed")
        self.unanswered = unanswered
        self.unsent = unsent


class HttpAnswer(NamedTuple):
    """body: decoded, if it was compressed."""

    status: int
    body: bytes


class Owner(Protocol):
    """Who uses the connection and is told when it is free, or gone."""

    @property
    def max_bytes(self) -> int: ...

    def release(self, connection: "Connection") -> None: ...

    def forget(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """One connection: an exchange at a time."""

    __slots__ = (
        "_answer",
        "_begun",
        "_chunks",
        "_coding",
        "_excess",
        "_failure",
        "_framed",
        "_head_bytes",
        "_head_done",
        "_loop",
        "_owner",
        "_parser",
        "_size",
        "_status",
        "_transport",
        "idle_since",
        "idle_until",
        "is_closed",
        "was_used",
    )

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[HttpAnswer] | None = None
        self.is_closed = False
        self.was_used = False
        self.idle_since = 0.0
        self.idle_until = float("inf")
        self._reset()

    def _reset(self) -> None:
        self._begun = False
        self._head_done = False
        self._head_bytes = 0
        self._framed = False
        self._coding = b""
        self._status: int | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._excess = False
        self._failure: HttpFailure | None = None

    async def exchange(self, request: bytes, deadline: float) -> HttpAnswer:
        """Raises:
        ConnectionEnded: the connection ended first.
        TimeoutError: the deadline came first.
        MalformedAnswer: the answer is not HTTP, or too large.
        """
        if self.is_closed or self._transport is None:
            raise ConnectionEnded(unanswered=True, unsent=True)
        self._reset()
        answer: asyncio.Future[HttpAnswer] = self._loop.create_future()
        self._answer = answer
        timer = self._loop.call_at(deadline, self._expire)
        self._transport.write(request)
        try:
            return await answer
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            timer.cancel()
            self.was_used = True

    def abort(self) -> None:
        self.is_closed = True
        if self._transport is not None:
            self._transport.abort()

    # -- called by the event loop ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # create_connection makes asyncio.Transport
        if self.is_closed:
            transport.close()

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.abort()  # nobody asked: it must not answer the next request
            return
        self._begun = True
        if not self._head_done:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._excess = True
            if self._status is None:
                self._failure = self._failure or MalformedAnswer("its answer is not HTTP.")
        if self._failure is None and not self._head_done and self._head_bytes > MAX_HEAD_BYTES:
            self._failure = MalformedAnswer("the head of its answer is too large.")
        if self._failure is not None:
            self._fail(self._failure)
        elif self._status is not None:
            self._finish(keep=not self._excess)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closed = True
        if self._answer is not None:
            if error is None and self._head_done and not self._framed:  # the end of the connection ends the body
                self._status = self._parser.get_status_code()
                self._finish(keep=False)
            else:
                self._fail(ConnectionEnded(unanswered=not self._begun))
        self._owner.forget(self)

    def _expire(self) -> None:
        self._fail(TimeoutError())

    def _fail(self, error: Exception) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)
        self.abort()

    def _finish(self, *, keep: bool) -> None:
        answer, self._answer = self._answer, None
        assert answer is not None and self._status is not None and self._transport is not None  # noqa: S101, PT018
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        if not answer.done():
            try:
                answer.set_result(HttpAnswer(self._status, _decoded(body, self._coding, self._owner.max_bytes)))
            except MalformedAnswer as error:
                answer.set_exception(error)
        # An answer that came before the request was written whole leaves the rest of it on the connection.
        if keep and not self.is_closed and not self._transport.get_write_buffer_size():
            self._owner.release(self)
        else:
            self.abort()

    # -- called by the parser --------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._status is not None:
            self._excess = True

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._framed = True
            if name == b"content-length" and value.isdigit() and int(value) > self._owner.max_bytes:
                self._failure = MalformedAnswer("its answer is too large.")
        elif name == b"content-encoding":
            self._coding = value.strip().lower()
        elif name == b"keep-alive":
            self._keep_alive(value)

    def on_headers_complete(self) -> None:
        self._head_done = True

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._owner.max_bytes:
            self._failure = MalformedAnswer("its answer is too large.")
        elif self._status is None:
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        if self._status is not None:
            return
        status = self._parser.get_status_code()
        if status == _SWITCHING_PROTOCOLS:
            self._failure = MalformedAnswer("it wants to speak another protocol.")
        elif status in _INFORMATIONAL:
            self._head_done = self._framed = False  # the answer proper follows
        else:
            self._status = status
            self._excess = not self._parser.should_keep_alive()

    def _keep_alive(self, value: bytes) -> None:
        """`timeout=5`: the subgraph will close the connection after that many idle seconds; be earlier."""
        for parameter in value.split(b","):
            name, _, number = parameter.strip().partition(b"=")
            if name.lower() == b"timeout" and number.isdigit():
                self.idle_until = self._loop.time() + 0.8 * int(number)


def _decoded(body: bytes, coding: bytes, max_bytes: int) -> bytes:
    """Raises:
    MalformedAnswer: it is not what its coding says, or too large.
    """
    if not coding or coding == b"identity":
        return body
    if coding not in (b"gzip", b"x-gzip", b"deflate"):
        raise MalformedAnswer("its answer is compressed in a way that was not asked for.")
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: zlib or gzip, whichever the header says
    try:
        decoded = inflate.decompress(body, max_bytes)
    except zlib.error as error:
        raise MalformedAnswer("its answer is not compressed as it says.") from error
    if inflate.unconsumed_tail:
        raise MalformedAnswer("its answer is too large.")
    if not inflate.eof:
        raise MalformedAnswer("its compressed answer is cut off.")
    return decoded
