"""Operations over a WebSocket: one connection, many operations, queries and mutations as well as subscriptions.

A connection lives no longer than the token that it was opened with, and the sign-in that the token belongs to. Nothing piles up for a client that is slow: an
operation waits until its last answer was taken, up to a limit, and its subgraph waits for it.

Source: graphql-ws PROTOCOL.md (enisdenjo/graphql-ws), "GraphQL over WebSocket Protocol", with its close codes.
"""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Any, Protocol

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from router.errors import ClientError
from router.serving.engine import GraphQLRequest
from router.serving.http import check_cross_site, error_entries, headers_of, request_from
from router.serving.identity import ANONYMOUS, Identity
from router.serving.settings import RouterSettings
from router.serving.shares import Shares, holder_of
from router.serving.subscriptions import StreamFailed

logger = logging.getLogger("router")

PROTOCOL = "graphql-transport-ws"
# 1000, 1008, 1009 and 1013 are WebSocket's own (RFC 6455 and its registry), the rest the protocol's.
NORMAL, POLICY_VIOLATION, MESSAGE_TOO_BIG, TRY_AGAIN_LATER = 1000, 1008, 1009, 1013
INVALID_MESSAGE, UNAUTHORIZED, FORBIDDEN, NOT_ACCEPTABLE = 4400, 4401, 4403, 4406
INIT_TIMEOUT, SUBSCRIBER_EXISTS, TOO_MANY_INITS = 4408, 4409, 4429

_CLOSING_S = 5.0
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Operations(Protocol):
    """What a connection needs to know of the router."""

    async def authenticate(self, headers: Mapping[str, str]) -> Identity:
        """Raises:
        ClientError: the credentials are not valid.
        """

    async def stream(
        self, request: GraphQLRequest, headers: Mapping[str, str], identity: Identity
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Every response of an operation: one, or a subscription's many. The generator raises `StreamFailed`.

        Raises:
            ClientError: the request is at fault.
        """


class _Closed(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Connection:
    """One client's connection, from its first message to its last operation's end."""

    def __init__(self, socket: WebSocket, operations: Operations, settings: RouterSettings, open_: Shares) -> None:
        self._socket = socket
        self._operations = operations
        self._open = open_
        self._share = contextlib.ExitStack()  # of the network, and once the account is known, of the account
        self._idle: asyncio.TimerHandle | None = None
        self._is_over = False
        self._limits = settings.subscriptions
        self._max_bytes = settings.limits.max_body_bytes
        self._allowed_origins = settings.cors.allow_origins
        self._headers = headers_of(socket.scope)
        self._identity: Identity | None = None
        self._running: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # also those that were told to stop and have not yet
        self._sending = asyncio.Lock()
        self._life = asyncio.timeout(None)
        self._on_timeout = _Closed(INIT_TIMEOUT, "Connection initialisation timeout")

    async def serve(self) -> None:
        if PROTOCOL not in self._socket.scope.get("subprotocols", []):
            await self._socket.close(NOT_ACCEPTABLE, "Subprotocol not acceptable")
            return
        try:  # browsers open a WebSocket for any page, with the user's cookies and without asking first
            check_cross_site(self._headers, self._allowed_origins)
        except ClientError:
            await self._socket.close(FORBIDDEN, "Forbidden")
            return
        with self._share:
            try:
                await self._socket.accept(subprotocol=PROTOCOL)  # or the client could not be told why it is refused
                self._count(ANONYMOUS)
                await self._converse()
            except _Closed as closed:
                await self._close(closed)
            except WebSocketDisconnect:
                pass
            finally:
                self._is_over = True
                self._stop_idling()
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def _count(self, identity: Identity) -> None:
        """Counts the connection as its holder's, and no longer as whose it was before.

        Raises:
            _Closed: the holder has its share, or all is taken.
        """
        self._share.close()
        try:
            self._share.enter_context(self._open.held(holder_of(identity, self._headers)))
        except ClientError as error:
            raise _Closed(TRY_AGAIN_LATER, error.message) from error

    async def _converse(self) -> None:
        """Raises:
        _Closed: the client broke the protocol, or its time is up.
        """
        try:
            async with self._life:
                self._end_in(self._limits.init_timeout_s, self._on_timeout)
                while True:
                    message = await self._receive()
                    if self._identity is None:
                        await self._before_init(message)
                    else:
                        await self._handle(message, self._identity)
        except TimeoutError:
            raise self._on_timeout from None

    def _end_in(self, delay_s: float | None, closed: _Closed) -> None:
        """Closes the connection after a while, whatever it does then. None: not any more."""
        self._on_timeout = closed
        now = asyncio.get_running_loop().time()
        self._life.reschedule(None if delay_s is None else now + max(delay_s, 0.0))

    async def _before_init(self, message: Mapping[str, Any]) -> None:
        match message.get("type"):
            case "connection_init":
                await self._initialize(message.get("payload"))
            case "ping":
                await self._send({"type": "pong"})
            case "pong":
                pass
            case "subscribe":
                raise _Closed(UNAUTHORIZED, "Unauthorized")
            case _:
                raise _Closed(INVALID_MESSAGE, "Invalid message")

    async def _initialize(self, parameters: Any) -> None:
        if parameters is not None and not isinstance(parameters, dict):
            raise _Closed(INVALID_MESSAGE, "Invalid message: the payload must be an object")
        given = {k.lower(): v for k, v in (parameters or {}).items() if isinstance(v, str)}
        given.pop("x-forwarded-for", None)  # the address is the connection's, whatever the client says
        if any(_CONTROL.search(value) for value in given.values()):
            raise _Closed(INVALID_MESSAGE, "Invalid message: the payload holds what is no header")
        self._headers.update(given)
        try:
            identity = await self._operations.authenticate(self._headers)
        except ClientError as error:
            code = FORBIDDEN if error.status == 401 else TRY_AGAIN_LATER
            raise _Closed(code, error.message) from error
        self._count(identity)
        expires_in_s = None if identity.expires_at is None else identity.expires_at - time.time()
        self._end_in(expires_in_s, _Closed(FORBIDDEN, "The token has expired"))
        if identity.session is not None:
            self._share.callback(identity.session.on_end(self._end_with_session))
        self._identity = identity
        self._begin_idling()
        await self._send({"type": "connection_ack"})

    def _end_with_session(self) -> None:
        with contextlib.suppress(RuntimeError):  # the connection is closing already
            self._end_in(0, _Closed(FORBIDDEN, "The sign-in has ended"))

    def _begin_idling(self) -> None:
        """Closes the connection when no operation begins for a while."""
        self._stop_idling()
        close = partial(self._end_in, 0, _Closed(NORMAL, "Nothing runs on this connection"))
        self._idle = asyncio.get_running_loop().call_later(self._limits.idle_timeout_s, close)

    def _stop_idling(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not self._tasks and not self._is_over:
            self._begin_idling()

    async def _handle(self, message: Mapping[str, Any], identity: Identity) -> None:
        match message.get("type"):
            case "subscribe":
                await self._start(message, identity)
            case "complete":
                task = self._running.pop(str(message.get("id")), None)
                if task is not None:
                    task.cancel()
            case "ping":
                await self._send({"type": "pong"})
            case "pong":
                pass
            case "connection_init":
                raise _Closed(TOO_MANY_INITS, "Too many initialisation requests")
            case _:
                raise _Closed(INVALID_MESSAGE, "Invalid message")

    async def _start(self, message: Mapping[str, Any], identity: Identity) -> None:
        number = message.get("id")
        if not isinstance(number, str) or not number:
            raise _Closed(INVALID_MESSAGE, "Invalid message: an id is needed")
        if number in self._running:
            # A reason may have 123 bytes, and an id may be longer.
            raise _Closed(SUBSCRIBER_EXISTS, f"Subscriber for {number[:40]} already exists")
        if len(self._tasks) >= self._limits.max_operations_per_connection:
            error = ClientError("Too many operations run on this connection.", code="TOO_MANY_SUBSCRIPTIONS")
            await self._send({"id": number, "type": "error", "payload": error_entries(error)})
            return
        task = asyncio.create_task(self._run(number, message.get("payload"), identity))
        self._running[number] = task
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        self._stop_idling()

    async def _run(self, number: str, payload: Any, identity: Identity) -> None:
        try:
            answers = await self._operations.stream(request_from(payload), self._headers, identity)
            async with contextlib.aclosing(answers):
                async for answer in answers:
                    await self._send({"id": number, "type": "next", "payload": answer})
            last: Mapping[str, Any] = {"id": number, "type": "complete"}
        except ClientError as error:
            last = {"id": number, "type": "error", "payload": error_entries(error)}
        except StreamFailed as failed:
            last = {"id": number, "type": "error", "payload": failed.errors}
        except WebSocketDisconnect:
            return  # the client went away while it was told something
        except Exception:
            logger.exception("operation failed")
            internal = ClientError("The router could not answer.", code="INTERNAL_SERVER_ERROR", status=500)
            last = {"id": number, "type": "error", "payload": error_entries(internal)}
        finally:
            if self._running.get(number) is asyncio.current_task():  # else the id is another operation's by now
                del self._running[number]
        with contextlib.suppress(WebSocketDisconnect):
            await self._send(last)

    async def _send(self, message: Mapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._limits.send_timeout_s), self._sending:
                await self._socket.send_text(orjson.dumps(message).decode())
        except TimeoutError:
            self._end_in(0, _Closed(POLICY_VIOLATION, "Messages are not taken"))
            raise WebSocketDisconnect(POLICY_VIOLATION) from None
        except RuntimeError as error:  # the connection was closed in the meantime
            raise WebSocketDisconnect(1006) from error

    async def _receive(self) -> Mapping[str, Any]:
        event = await self._socket.receive()
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code") or 1005)
        text = event.get("text")
        if text is None:
            raise _Closed(INVALID_MESSAGE, "Invalid message: send text, not bytes")
        raw = text.encode()
        if len(raw) > self._max_bytes:
            raise _Closed(MESSAGE_TOO_BIG, "Message too large")
        try:
            message = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise _Closed(INVALID_MESSAGE, "Invalid message: not JSON") from error
        if not isinstance(message, dict):
            raise _Closed(INVALID_MESSAGE, "Invalid message: not an object")
        return message

    async def _close(self, closed: _Closed) -> None:
        """Says why, unless the client does not even take that."""
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(_CLOSING_S):
                await self._socket.close(closed.code, closed.reason[:100])
