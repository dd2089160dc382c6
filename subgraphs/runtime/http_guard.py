"""What surrounds a GraphQL endpoint: how much a request may bring, how long its operation may take, and its end when the caller goes.

An ASGI application is not told that its caller has hung up unless it asks, and Strawberry does not ask: a resolver and its statement in the
database would go on for nobody. Here the operation runs in a task of its own, which is cancelled when the caller goes or the time
is over; the cancellation reaches the driver of the database, which has the server end the statement.
"""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import orjson
import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from domain.errors import AppError, TimedOut
from domain.principal import Principal, PrincipalKind
from domain.principal import Scope as AccessScope
from subgraphs.runtime.context import current
from subgraphs.runtime.slots import Slots, TooManyOpen

_log = structlog.get_logger("http")

ANONYMOUS_BODY_BYTES = 64 * 1024
BODY_BYTES = 1024 * 1024
FIRMWARE_BODY_BYTES = 16 * 1024 * 1024
"""The largest image of a firmware, in base64, fits in."""

SOCKET_IDLE_S = 60.0

_CLOSE_TOO_MANY = 4429
_CLOSE_IDLE = 4408
_MOST_NOTED = 100
_LONGEST_ID = 256

Refuse = Callable[[AppError, Scope, Receive, Send], Awaitable[None]]


class OperationTooSlow(TimedOut):
    """The operation takes longer than a caller waits."""

    reason = "OPERATION_TOO_SLOW"


def most_body_bytes(principal: Principal) -> int:
    """How large a request may be, by who sends it."""
    if principal.kind is PrincipalKind.ANONYMOUS:
        return ANONYMOUS_BODY_BYTES
    return FIRMWARE_BODY_BYTES if principal.has_scope(AccessScope.FIRMWARE_WRITE) else BODY_BYTES


class BodyLimit:
    """Stops reading a request that goes on and on, whatever length it has named; the answer is 413."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most_bytes, received = most_body_bytes(current().principal), 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most_bytes:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return message

        await self._app(scope, counted, send)


class OperationGuard:
    """Runs one GraphQL endpoint's operations.

    Args:
        within_s: how long a query or mutation may take; the events of a subscription may go on.
        sockets: counts the open WebSockets.
        refuse: answers an error as GraphQL does.
        idle_s: how long a WebSocket may be open without an operation.
    """

    def __init__(
        self, app: ASGIApp, *, within_s: float, sockets: Slots, refuse: Refuse, idle_s: float = SOCKET_IDLE_S
    ) -> None:
        self._app = app
        self._idle_s = idle_s
        self._within_s = within_s
        self._sockets = sockets
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one WebSocket connection."""
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        named_bytes = headers.get("content-length", "0")
        if not named_bytes.isdecimal() or int(named_bytes) > most_body_bytes(current().principal):
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        body = await _body_of(receive)
        if body is not None:
            await self._operation(body, scope, receive, send)

    async def _operation(self, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def answering(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        work = asyncio.create_task(_run(self._app, scope, _replayed(body), answering), name="operation")
        gone = asyncio.create_task(_until_disconnected(receive), name="disconnect")
        try:
            await asyncio.wait((work, gone), timeout=self._within_s, return_when=asyncio.FIRST_COMPLETED)
            if has_begun and not work.done() and not gone.done():
                await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)  # a stream of events
        finally:
            is_over = not work.done()
            if is_over:
                work.cancel()
            caller_has_gone = gone.done()
            gone.cancel()
            await asyncio.wait((work, gone))
        if not is_over:
            work.result()  # raises what the application has raised
        elif caller_has_gone or has_begun:
            _log.info("operation ended: its caller has gone")
        else:
            seconds = f"{self._within_s:g}"
            _log.warning("operation ended: it takes too long", after_s=seconds)
            await self._refuse(
                OperationTooSlow(f"This takes longer than {seconds} s; ask for less."), scope, receive, send
            )

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = current()
        try:
            with self._sockets.hold(context.principal, context.peer):
                idle = _IdleSocket(receive, send, idle_s=self._idle_s)
                await self._app(scope, idle.receive, idle.send)
        except TooManyOpen as error:
            await WebSocket(scope, receive, send).close(code=_CLOSE_TOO_MANY, reason=error.message)


class _IdleSocket:
    """A WebSocket of graphql-transport-ws that is closed when it has had no operation for a time; pings are none."""

    def __init__(self, receive: Receive, send: Send, *, idle_s: float) -> None:
        self._receive = receive
        self._send = send
        self._idle_s = idle_s
        self._operations: set[str] = set()
        self._idle_since = asyncio.get_running_loop().time()
        self._waiting: asyncio.Timeout | None = None

    async def receive(self) -> Message:
        """The next message of the client; a disconnection when it has been idle for too long."""
        try:
            async with asyncio.timeout_at(self._until()) as self._waiting:
                message = await self._receive()
        except TimeoutError:
            await self._send({"type": "websocket.close", "code": _CLOSE_IDLE, "reason": "No operation for too long."})
            return {"type": "websocket.disconnect", "code": _CLOSE_IDLE}
        finally:
            self._waiting = None
        self._note(message.get("text"), begins="subscribe")
        return message

    async def send(self, message: Message) -> None:
        """Pass a message to the client."""
        await self._send(message)
        self._note(message.get("text"), begins="")

    def _until(self) -> float | None:
        return None if self._operations else self._idle_since + self._idle_s

    def _note(self, text: str | None, *, begins: str) -> None:
        kind, operation = _operation_of(text)
        if operation is None:
            return
        if kind == begins and len(self._operations) < _MOST_NOTED:
            self._operations.add(operation)
        elif kind in ("complete", "error"):
            self._operations.discard(operation)
            if not self._operations:
                self._idle_since = asyncio.get_running_loop().time()
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(self._until())


def _operation_of(text: str | None) -> tuple[str, str | None]:
    """The type of a message, and the operation that it begins or ends; None where it is about none."""
    if not text or not any(kind in text[:200] or kind in text[-200:] for kind in ("subscribe", "complete", "error")):
        return "", None
    try:
        message = orjson.loads(text)
    except ValueError:
        return "", None
    if not isinstance(message, dict):
        return "", None
    kind, operation = message.get("type"), message.get("id")
    return (str(kind), operation) if isinstance(operation, str) and len(operation) <= _LONGEST_ID else ("", None)


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


async def _body_of(receive: Receive) -> bytes | None:
    """The whole body; None when the caller has gone before its end."""
    pieces: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)


def _replayed(body: bytes) -> Receive:
    """The body as one message, and then nothing: who waits for the disconnection is cancelled by it."""
    is_read = False

    async def receive() -> Message:
        nonlocal is_read
        if is_read:
            await asyncio.Event().wait()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
