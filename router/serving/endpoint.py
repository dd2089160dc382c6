"""`/graphql` over HTTP: a request comes in, its operation is answered, a response goes out.

Read next: `engine.py` (an operation is checked and planned), `planning/planner.py`, `execution/run.py` (the plan is
run), `execution/projection.py` (the answer takes the form that was asked for).
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import orjson
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from router.errors import ClientError
from router.serving.engine import GraphQLRequest, Spending
from router.serving.explorer import EXPLORER_HTML
from router.serving.http import (
    JSON,
    MethodNotAllowed,
    Reply,
    check_cross_site,
    decode_body,
    error_entries,
    headers_of,
    negotiate,
    parameters_of,
    read_body,
    refuse,
    request_from,
    request_from_url,
)
from router.serving.incremental import MultipartParts, multipart_parts
from router.serving.presence import Presence
from router.serving.service import RouterService
from router.serving.streaming import StreamForm, StreamResponse, stream_form
from router.serving.uploads import Form, is_form, read_form

logger = logging.getLogger("router")

ALLOWED = b"GET, POST, OPTIONS"
VARY = ((b"vary", b"accept"),)
"""For answers that a cache may keep: only those to GET."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What an `accept` header allows: one answer of this media type, or several of these forms."""

    media_type: str
    stream: StreamForm | None
    parts: MultipartParts | None


@lru_cache(maxsize=256)
def accepted(accept: str) -> Accepted:
    """Raises:
    ClientError: nothing that can be answered (406).
    """
    return Accepted(negotiate(accept), stream_form(accept), multipart_parts(accept))


class GraphQLEndpoint:
    """`/graphql`: an ASGI application of its own, because a request passes through nothing else."""

    def __init__(self, service: RouterService) -> None:
        self._service = service
        self._settings = service.settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        media_type = JSON
        client = Presence(receive)
        operation: Any = None
        try:
            try:
                form = accepted(headers.get("accept", ""))
                media_type = form.media_type
                operation = await self._read(scope, receive, headers)
                client.watch()
                response = await self._answer(operation, headers, form, read_only=scope["method"] == "GET")
            except ClientError as error:
                response = refuse(error, media_type)
            except asyncio.CancelledError:
                if not client.has_gone:
                    raise
                return
            except Exception:
                logger.exception("request failed")
                response = refuse(_internal_error(), media_type)
            finally:
                client.leave()
            await response(scope, receive, send)
        finally:
            if isinstance(operation, Form):
                await operation.close()

    async def _read(self, scope: Scope, receive: Receive, headers: Mapping[str, str]) -> Any:
        """What was asked for: decoded JSON, or a request, or an answer that needs no operation.

        Raises:
            ClientError: the request is at fault.
        """
        match scope["method"]:
            case "POST":
                if is_form(headers.get("content-type", "")):
                    return await read_form(headers, receive, self._settings.limits, self._settings.uploads)
                body = await read_body(headers, receive, self._settings.limits.max_body_bytes)
                return decode_body(headers, body)
            case "GET":
                if len(scope["query_string"]) > (most := self._settings.limits.max_url_bytes):
                    raise ClientError(f"The URL is longer than {most} bytes.", code="REQUEST_TOO_LARGE", status=414)
                parameters = parameters_of(scope["query_string"])
                if "query" not in parameters and "text/html" in headers.get("accept", ""):
                    return self._explorer()
                check_cross_site(headers, self._settings.cors.allow_origins)
                return request_from_url(parameters)
            case "OPTIONS":
                return Reply(b"", status=204, headers=[(b"allow", ALLOWED)])
            case _:
                raise MethodNotAllowed("Use GET or POST.", allow=ALLOWED)

    async def _answer(self, operation: Any, headers: Mapping[str, str], form: Accepted, *, read_only: bool) -> ASGIApp:
        if isinstance(operation, Reply | HTMLResponse):
            return operation
        if isinstance(operation, Form):
            operation = operation.operation
        if isinstance(operation, list):
            return await self._batch(operation, headers, form.media_type)
        request = operation if isinstance(operation, GraphQLRequest) else request_from(operation)
        if form.stream is not None:
            stream = await self._stream(request, headers, form.stream, read_only=read_only)
            if stream is not None:
                return stream
        if form.parts is not None:
            response = await self._in_parts(request, headers, form.parts, form.media_type, read_only=read_only)
            if response is not None:
                return response
        content = await self._service.answer(request, headers, read_only=read_only)
        return Reply(orjson.dumps(content), form.media_type, headers=VARY if read_only else ())

    async def _in_parts(
        self,
        request: GraphQLRequest,
        headers: Mapping[str, str],
        parts: MultipartParts,
        media_type: str,
        *,
        read_only: bool,
    ) -> ASGIApp | None:
        """The primary answer and what follows it; None: the operation defers nothing."""
        answers = await self._service.deferred(request, headers, parts.form, read_only=read_only)
        if answers is None:
            return None
        first = await anext(answers)
        if not first.pop("hasNext", False):
            await answers.aclose()
            return Reply(orjson.dumps(first), media_type)
        return StreamResponse(_after({**first, "hasNext": True}, answers), parts, self._service.settings.subscriptions)

    async def _batch(self, operations: list[Any], headers: Mapping[str, str], media_type: str) -> ASGIApp:
        if not self._service.settings.batching:
            raise ClientError("Batches are not served here; send one operation.", code="BATCHING_NOT_SUPPORTED")
        if len(operations) > (most := self._settings.limits.max_batch):
            raise ClientError(f"The batch has more than {most} operations.", code="REQUEST_TOO_LARGE")
        given = [each if isinstance(each, GraphQLRequest) else request_from(each) for each in operations]
        spending = Spending()
        requests = [replace(request, spending=spending) for request in given]

        async def one(request: GraphQLRequest) -> dict[str, Any]:
            try:
                return await self._service.answer(request, headers, read_only=False)
            except ClientError as error:
                return {"errors": error_entries(error)}

        answers = await asyncio.gather(*(one(request) for request in requests))
        return Reply(orjson.dumps(answers), media_type)

    async def _stream(
        self, request: GraphQLRequest, headers: Mapping[str, str], form: StreamForm, *, read_only: bool
    ) -> ASGIApp | None:
        """The answers one by one; a request error is still a plain HTTP answer. None: this form is for other operations."""
        service = self._service
        identity = await service.authenticate(headers)
        if form.only_subscriptions and not await service.is_subscription(request, headers, identity):
            return None
        answers = await service.stream(request, headers, identity, read_only=read_only)
        return StreamResponse(answers, form, service.settings.subscriptions)

    def _explorer(self) -> HTMLResponse:
        if not self._settings.explorer:
            raise ClientError("`query` must be a non-empty string.")
        return HTMLResponse(EXPLORER_HTML)


async def _after(
    first: dict[str, Any], answers: AsyncGenerator[dict[str, Any], None]
) -> AsyncGenerator[dict[str, Any], None]:
    async with contextlib.aclosing(answers):
        yield first
        async for answer in answers:
            yield answer


def _internal_error() -> ClientError:
    return ClientError("The router could not answer.", code="INTERNAL_SERVER_ERROR", status=500)
