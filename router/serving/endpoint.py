"""`/graphql` over HTTP: a request comes in, its operation is answered, a response goes out.

Read next: `engine.py` (an operation is checked and planned), `planning/planner.py`, `execution/run.py` (the plan is
run), `execution/projection.py` (the answer takes the form that was asked for).
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from router.errors import ClientError
from router.serving.engine import GraphQLRequest
from router.serving.explorer import EXPLORER_HTML
from router.serving.http import (
    JSON,
    decode_body,
    error_entries,
    headers_of,
    negotiate,
    read_body,
    refuse,
    request_from,
    request_from_url,
)
from router.serving.incremental import MultipartParts, multipart_parts
from router.serving.service import RouterService
from router.serving.streaming import StreamForm, StreamResponse, stream_form

logger = logging.getLogger("router")


class GraphQLEndpoint:
    """`/graphql`: an ASGI application of its own, because a request passes through nothing else."""

    def __init__(self, service: RouterService) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            media_type = negotiate(request.headers.get("accept"))
        except ClientError as error:
            await refuse(error, JSON)(scope, receive, send)
            return
        try:
            response = await self._respond(request, receive, media_type)
        except ClientError as error:
            response = refuse(error, media_type)
        except asyncio.CancelledError:
            if not _was_disconnected(request):
                raise
            return
        except Exception:
            logger.exception("request failed")
            response = refuse(_internal_error(), media_type)
        await response(scope, receive, send)

    async def _respond(self, request: Request, receive: Receive, media_type: str) -> Response:
        headers = headers_of(request.scope)
        if request.method == "GET":
            if "query" not in request.query_params and "text/html" in headers.get("accept", ""):
                return self._explorer()
            operation: Any = request_from_url(request.query_params)
        elif request.method == "POST":
            body = await read_body(request, self._service.settings.limits.max_body_bytes)
            operation = decode_body(headers.get("content-type", ""), body)
        else:
            raise ClientError("Use GET or POST.", code="METHOD_NOT_ALLOWED", status=405)
        read_only = request.method == "GET"
        form = stream_form(headers.get("accept", ""))
        if form is not None and not isinstance(operation, list):
            stream = await self._stream(request_from_any(operation), headers, form, read_only=read_only)
            if stream is not None:
                return stream
        async with _cancelled_on_disconnect(request, receive):
            parts = multipart_parts(headers.get("accept", ""))
            if parts is not None and not isinstance(operation, list):
                response = await self._in_parts(
                    request_from_any(operation), headers, parts, media_type, read_only=read_only
                )
                if response is not None:
                    return response
            return await self._answer(operation, headers, media_type, read_only=read_only)

    async def _answer(
        self, operation: Any, headers: Mapping[str, str], media_type: str, *, read_only: bool
    ) -> Response:
        if isinstance(operation, list):
            return await self._batch(operation, headers, media_type)
        request = request_from_any(operation)
        content = await self._service.answer(request, headers, read_only=read_only)
        return Response(orjson.dumps(content), 200, None, media_type)

    async def _in_parts(
        self,
        request: GraphQLRequest,
        headers: Mapping[str, str],
        parts: MultipartParts,
        media_type: str,
        *,
        read_only: bool,
    ) -> Response | None:
        """The primary answer and what follows it; None: the operation defers nothing."""
        answers = await self._service.deferred(request, headers, parts.form, read_only=read_only)
        if answers is None:
            return None
        first = await anext(answers)
        if not first.pop("hasNext", False):
            await answers.aclose()
            return Response(orjson.dumps(first), 200, None, media_type)
        return StreamResponse(_after({**first, "hasNext": True}, answers), parts, self._service.settings.subscriptions)

    async def _batch(self, operations: list[Any], headers: Mapping[str, str], media_type: str) -> Response:
        if not self._service.settings.batching:
            raise ClientError("Batches are not served here; send one operation.", code="BATCHING_NOT_SUPPORTED")
        requests = [request_from(operation) for operation in operations]

        async def one(request: GraphQLRequest) -> dict[str, Any]:
            try:
                return await self._service.answer(request, headers, read_only=False)
            except ClientError as error:
                return {"errors": error_entries(error)}

        answers = await asyncio.gather(*(one(request) for request in requests))
        return Response(orjson.dumps(answers), 200, None, media_type)

    async def _stream(
        self, request: GraphQLRequest, headers: Mapping[str, str], form: StreamForm, *, read_only: bool
    ) -> Response | None:
        """The answers one by one; a request error is still a plain HTTP answer. None: this form is for other operations."""
        service = self._service
        identity = await service.authenticate(headers)
        if form.only_subscriptions and not await service.is_subscription(request, headers, identity):
            return None
        answers = await service.stream(request, headers, identity, read_only=read_only)
        return StreamResponse(answers, form, service.settings.subscriptions)

    def _explorer(self) -> Response:
        if not self._service.settings.explorer:
            raise ClientError("`query` must be a non-empty string.")
        return HTMLResponse(EXPLORER_HTML)


def request_from_any(operation: Any) -> GraphQLRequest:
    return operation if isinstance(operation, GraphQLRequest) else request_from(operation)


async def _after(
    first: dict[str, Any], answers: AsyncGenerator[dict[str, Any], None]
) -> AsyncGenerator[dict[str, Any], None]:
    async with contextlib.aclosing(answers):
        yield first
        async for answer in answers:
            yield answer


@contextlib.asynccontextmanager
async def _cancelled_on_disconnect(request: Request, receive: Receive) -> AsyncIterator[None]:
    """Cancels what runs inside when the client goes away, and with it every subgraph request under way."""
    task = asyncio.current_task()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        request.state.disconnected = True
        if task is not None:
            task.cancel()

    watcher = asyncio.ensure_future(watch())
    try:
        yield
    finally:
        watcher.cancel()


def _was_disconnected(request: Request) -> bool:
    return bool(getattr(request.state, "disconnected", False))


def _internal_error() -> ClientError:
    return ClientError("The router could not answer.", code="INTERNAL_SERVER_ERROR", status=500)
