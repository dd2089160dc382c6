"""Operations over a WebSocket: one connection, many operations, queries and mutations as well as subscriptions.

Source: graphql-ws PROTOCOL.md (enisdenjo/graphql-ws), "GraphQL over WebSocket Protocol", with its close codes.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from router.errors import ClientError
from router.serving.engine import GraphQLRequest
from router.serving.http import error_entries, headers_of, request_from

PROTOCOL = "graphql-transport-ws"
INIT_TIMEOUT_S = 10.0


class Answers(Protocol):
    def __call__(self, request: GraphQLRequest, headers: Mapping[str, str]) -> AsyncGenerator[dict[str, Any], None]:
        """Every response of an operation: one, or a subscription's many.

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

    def __init__(self, socket: WebSocket, answers: Answers, *, max_bytes: int) -> None:
        self._socket = socket
        self._answers = answers
        self._max_bytes = max_bytes
        self._headers = headers_of(socket.scope)
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._sending = asyncio.Lock()

    async def serve(self) -> None:
        if PROTOCOL not in self._socket.scope.get("subprotocols", []):
            await self._socket.close(4406, "Subprotocol not acceptable")
            return
        await self._socket.accept(subprotocol=PROTOCOL)
        try:
            await self._initialize()
            while True:
                await self._handle(await self._receive())
        except _Closed as closed:
            await self._socket.close(closed.code, closed.reason)
        except WebSocketDisconnect:
            pass
        finally:
            tasks = list(self._operations.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _initialize(self) -> None:
        try:
            message = await asyncio.wait_for(self._receive(), INIT_TIMEOUT_S)
        except TimeoutError as error:
            raise _Closed(4408, "Connection initialisation timeout") from error
        if message.get("type") != "connection_init":
            raise _Closed(4401, "Unauthorized")
        parameters = message.get("payload")
        if isinstance(parameters, dict):
            given = {k.lower(): v for k, v in parameters.items() if isinstance(v, str)}
            given.pop("x-forwarded-for", None)  # the address is the connection's, whatever the client says
            self._headers.update(given)
        await self._send({"type": "connection_ack"})

    async def _handle(self, message: Mapping[str, Any]) -> None:
        match message.get("type"):
            case "subscribe":
                self._start(message)
            case "complete":
                task = self._operations.pop(str(message.get("id")), None)
                if task is not None:
                    task.cancel()
            case "ping":
                await self._send({"type": "pong"})
            case "pong":
                pass
            case "connection_init":
                raise _Closed(4429, "Too many initialisation requests")
            case _:
                raise _Closed(4400, "Invalid message")

    def _start(self, message: Mapping[str, Any]) -> None:
        number = message.get("id")
        if not isinstance(number, str) or not number:
            raise _Closed(4400, "Invalid message: an id is needed")
        if number in self._operations:
            raise _Closed(4409, f"Subscriber for {number} already exists")
        self._operations[number] = asyncio.create_task(self._run(number, message.get("payload")))

    async def _run(self, number: str, payload: Any) -> None:
        try:
            async with contextlib.aclosing(self._answers(request_from(payload), self._headers)) as answers:
                async for answer in answers:
                    await self._send({"id": number, "type": "next", "payload": answer})
            await self._send({"id": number, "type": "complete"})
        except ClientError as error:
            await self._send({"id": number, "type": "error", "payload": error_entries(error)})
        except (WebSocketDisconnect, RuntimeError):
            pass  # the client went away while it was told something
        finally:
            self._operations.pop(number, None)

    async def _send(self, message: Mapping[str, Any]) -> None:
        async with self._sending:
            await self._socket.send_text(orjson.dumps(message).decode())

    async def _receive(self) -> Mapping[str, Any]:
        text = await self._socket.receive_text()
        if len(text) > self._max_bytes:
            raise _Closed(4400, "Message too large")
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise _Closed(4400, "Invalid message") from error
        if not isinstance(message, dict):
            raise _Closed(4400, "Invalid message")
        return message
