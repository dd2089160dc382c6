"""What every process that serves needs: an HTTP server on a bound socket, and a signal to stop.

Light on purpose: the router's process imports this and nothing of the services.
"""

import asyncio
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog
import uvicorn
from starlette.types import ASGIApp

from subgraphs.runtime.http_protocol import Connections, guarded
from subgraphs.runtime.settings import SettingsError
from subgraphs.runtime.tls import LOOK_EVERY_S, WatchedFiles, load_certificate, server_context

_log = structlog.get_logger("serving")

_KEEP_ALIVE_S = 75
"""Longer than the router and common proxies keep an idle connection: who closes first must be the one who asks, or a
request meets a connection that is just being closed, and a POST cannot be sent again."""


_WEBSOCKET_MESSAGE_BYTES = 1024 * 1024


class PortInUse(Exception):
    """A port that the process should serve on is taken; the message names it."""


class _EmbeddedServer(uvicorn.Server):
    """A uvicorn server that leaves signals to the process that hosts it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves an ASGI application on a bound socket.

    Args:
        lifespan: whether the application has a start and an end of its own that must be run.
        connections: counts the connections, and has their limits; by default those of `HttpLimits`.
        certificate: files of certificate and key, for https; read again when they change.

    Raises:
        OSError: the address cannot be bound (at construction).
        SettingsError: the certificate cannot be read (at construction).
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        lifespan: bool = False,
        connections: Connections | None = None,
        certificate: tuple[str, str] | None = None,
    ) -> None:
        self._certificate = certificate
        self._tls = server_context(*certificate) if certificate else None
        self._watching: asyncio.Task[None] | None = None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=1024)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="on" if lifespan else "off",
            http=guarded(connections or Connections()),
            ws="websockets-sansio",
            ws_max_size=_WEBSOCKET_MESSAGE_BYTES,
            ws_per_message_deflate=False,  # the size of a message is then what came over the wire
            timeout_keep_alive=_KEEP_ALIVE_S,
            proxy_headers=False,  # whose word about callers is taken is decided in `proxies` alone
        )
        config.load()
        config.ssl = self._tls
        self._server = _EmbeddedServer(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve from here on."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started and not self._task.done():  # noqa: ASYNC110 - uvicorn tells by a flag only
            await asyncio.sleep(0.01)
        if self._task.done():
            await self._task
        if self._tls is not None and self._certificate is not None:
            self._watching = asyncio.create_task(_reload(self._tls, *self._certificate))

    async def stop(self, grace_s: float) -> None:
        """Refuse new connections and give requests in hand `grace_s` seconds to end."""
        if self._watching is not None:
            self._watching.cancel()
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_s))
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._socket.close()


async def _reload(context: ssl.SSLContext, cert: str, key: str) -> None:
    """Have the context show new files from the next handshake on; what cannot be read leaves it as it is."""
    watched = WatchedFiles(cert, key)
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        if watched.changed():
            try:
                load_certificate(context, cert, key)
            except SettingsError as error:
                _log.error("certificate not reloaded", error=str(error))
            else:
                _log.info("certificate reloaded", file=cert)


async def stop_signal() -> None:
    """Wait for SIGTERM or SIGINT. A second one ends the process at once."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def ask() -> None:
        if asked.is_set():
            os._exit(130)
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):  # event loops without signal support
            loop.add_signal_handler(number, ask)
    await asked.wait()
