"""Several answers in one HTTP response: server-sent events, or the parts that Apollo's clients read.

Source: graphql-sse PROTOCOL.md (enisdenjo/graphql-sse), "Distinct connections mode"; Apollo, "Multipart HTTP protocol for
GraphQL subscriptions".
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from router.serving.settings import SubscriptionSettings
from router.serving.subscriptions import StreamFailed

logger = logging.getLogger("router")

_INTERNAL = [{"message": "The router could not answer.", "extensions": {"code": "INTERNAL_SERVER_ERROR"}}]


class StreamForm(Protocol):
    """How answers are written. start: before the first; heartbeat: while there is none; end: after the last.

    only_subscriptions: queries and mutations are answered as if nothing but JSON had been asked for.
    """

    @property
    def only_subscriptions(self) -> bool: ...

    @property
    def content_type(self) -> str: ...

    @property
    def start(self) -> bytes: ...

    @property
    def heartbeat(self) -> bytes: ...

    @property
    def end(self) -> bytes: ...

    def answer(self, content: Mapping[str, Any]) -> bytes: ...

    def failure(self, errors: list[dict[str, Any]]) -> bytes:
        """What tells of an error that ends the stream."""


class ServerSent:
    only_subscriptions = False
    content_type = "text/event-stream; charset=utf-8"
    start = b""
    heartbeat = b":\n\n"
    end = b"event: complete\ndata: \n\n"

    def answer(self, content: Mapping[str, Any]) -> bytes:
        return b"event: next\ndata: " + orjson.dumps(content) + b"\n\n"

    def failure(self, errors: list[dict[str, Any]]) -> bytes:
        return self.answer({"errors": errors})


class MultipartSubscription:
    """Every part ends with the next one's delimiter, so that clients need not wait for the next part to read it."""

    only_subscriptions = True
    content_type = 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0'
    start = b"\r\n--graphql"
    heartbeat = b"\r\ncontent-type: application/json\r\n\r\n{}\r\n--graphql"
    end = b"--\r\n"

    def answer(self, content: Mapping[str, Any]) -> bytes:
        return self._part({"payload": content})

    def failure(self, errors: list[dict[str, Any]]) -> bytes:
        return self._part({"payload": None, "errors": errors})

    def _part(self, content: Mapping[str, Any]) -> bytes:
        return b"\r\ncontent-type: application/json\r\n\r\n" + orjson.dumps(content) + b"\r\n--graphql"


def stream_form(accept: str) -> StreamForm | None:
    """The form that an `accept` header asks for; None: a single answer will do."""
    for part in accept.lower().split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        if media_type == "text/event-stream":
            return ServerSent()
        if media_type == "multipart/mixed" and any(p.replace('"', "") == "subscriptionspec=1.0" for p in parameters):
            return MultipartSubscription()
    return None


class StreamResponse(Response):
    """Writes answers as they come, and heartbeats while none does; ends them when the client goes away.

    An answer is asked for when the one before it was written to the connection, so at most two wait for a slow client.
    """

    def __init__(
        self, answers: AsyncGenerator[dict[str, Any], None], form: StreamForm, settings: SubscriptionSettings
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"}, media_type=form.content_type)
        self.raw_headers = [header for header in self.raw_headers if header[0] != b"content-length"]
        self._answers = answers
        self._form = form
        self._settings = settings
        self._ready: asyncio.Queue[bytes | None] = asyncio.Queue(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        tasks = [asyncio.ensure_future(each) for each in (self._read(), self._write(send), _gone(receive))]
        try:
            await asyncio.wait(tasks[1:], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        try:
            async with contextlib.aclosing(self._answers) as answers:
                async for answer in answers:
                    await self._ready.put(self._form.answer(answer))
        except StreamFailed as failed:
            await self._ready.put(self._form.failure(failed.errors))
        except Exception:
            logger.exception("operation failed")
            await self._ready.put(self._form.failure(_INTERNAL))
        await self._ready.put(None)

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        chunk: bytes | None = self._form.start
        while chunk is not None:
            if chunk:
                async with asyncio.timeout(self._settings.send_timeout_s):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            try:
                async with asyncio.timeout(self._settings.heartbeat_s):
                    chunk = await self._ready.get()
            except TimeoutError:
                chunk = self._form.heartbeat
        await send({"type": "http.response.body", "body": self._form.end, "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
