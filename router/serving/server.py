"""The process that serves: uvicorn, as it suits an application that does nothing but answer."""

import asyncio
import gc
import socket
import sys
from http import HTTPStatus
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from router.serving.settings import ListenerTls
from router.serving.tls import reload_when_changed, server_context

_KEPT_IDLE_S = 75
"""Longer than load balancers keep theirs (mostly 60), so that none sends a request on a connection being closed here."""
_GRACE_S = 30
_LOOK_S = 10.0
"""How often the files of the certificate are looked at."""
_SWITCH_S = 0.0005
"""How long a thread that plans may keep the interpreter while requests wait; by default ten times as long."""


def serve_forever(app: ASGIApp, host: str, port: int, tls: ListenerTls | None = None) -> None:
    """Serves until the process is told to end; requests under way get some time then.

    Raises:
        InvalidSettings: a file of `tls` cannot be read.
    """
    context = server_context(tls) if tls is not None else None
    # What was built so far lives until the end; requests make few cycles, so that collecting them may be rare.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    sys.setswitchinterval(_SWITCH_S)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=OneWriteProtocol,
        ws="websockets-sansio",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the endpoint appends the peer's address to what it was told, and believes nothing
        timeout_keep_alive=_KEPT_IDLE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )
    config.load()
    config.ssl = context
    _Server(config, tls).run()


class _Server(uvicorn.Server):
    """A server that reads its certificate again when the files change."""

    def __init__(self, config: uvicorn.Config, tls: ListenerTls | None) -> None:
        super().__init__(config)
        self._tls = tls

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, with the watch over the certificate beside it."""
        watch = None
        if self._tls is not None and self.config.ssl is not None:
            watch = asyncio.create_task(reload_when_changed(self.config.ssl, self._tls, interval_s=_LOOK_S))
        try:
            await super().serve(sockets)
        finally:
            if watch is not None:
                watch.cancel()


MAX_HEAD_BYTES = 32_768
MAX_HEAD_FIELDS = 100
HEAD_S, BODY_S = 10.0, 60.0
"""For a whole head, also the first one of a connection that sends nothing; for a whole body."""


class OneWriteProtocol(HttpToolsProtocol):
    """uvicorn writes the head and the body of a response by themselves. Here they leave together, in one system call.

    A head has a limit of bytes and fields (431) and of time, a body one of time (408). Bytes of a head are counted before
    the parser sees them, since it copies what it has of a field with every piece that comes.
    """

    _timer: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0
    _fields = 0
    _is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(_Gathering(transport, self.loop))
        self._allow(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._allow(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if self._in_head:
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                return
            if self._timer is None:
                self._allow(HEAD_S)
            self._head_bytes += len(data)
        super().data_received(data)

    def handle_websocket_upgrade(self) -> None:
        self._allow(None)
        super().handle_websocket_upgrade()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        if self._fields > MAX_HEAD_FIELDS:
            if not self._is_refused:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._is_refused:
            return
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        self._in_head = False
        self._allow(BODY_S)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_refused:
            return
        self._allow(None)
        self._in_head, self._head_bytes, self._fields = True, 0, 0
        super().on_message_complete()

    def _allow(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        cycle: Any = self.cycle  # none before the first request
        if self._head_bytes and (self._in_head or not cycle.response_started):
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.transport.close()

    def _refuse(self, status: HTTPStatus) -> None:
        """Answers a status and closes; what still comes is not read."""
        self._is_refused = True
        self._allow(None)
        if not self.transport.is_closing():
            head = b"content-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head)
            self.transport.close()


class _Gathering(asyncio.Transport):
    """What is written in one turn of the event loop is sent at its end."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._written: list[bytes] = []
        for name in ("get_extra_info", "is_closing", "pause_reading", "resume_reading", "is_reading"):
            setattr(self, name, getattr(transport, name))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._written:
            self._loop.call_soon(self._send)
        self._written.append(bytes(data))

    def close(self) -> None:
        self._send()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._transport.get_protocol()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size() + sum(map(len, self._written))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def _send(self) -> None:
        written, self._written = self._written, []
        if written and not self._transport.is_closing():
            self._transport.write(written[0] if len(written) == 1 else b"".join(written))
