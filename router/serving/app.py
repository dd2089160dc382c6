"""The router as an ASGI application."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
from opentelemetry import propagate, trace
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from router.errors import ClientError, PlanningError, RouterError
from router.execution.errors import SubgraphFailure, of_failure
from router.serving.documents import TrustedDocuments
from router.serving.engine import Engine, GraphQLRequest, Prepared
from router.serving.explorer import EXPLORER_HTML
from router.serving.http import (
    JSON,
    decode_body,
    error_entries,
    headers_of,
    negotiate,
    payload,
    read_body,
    refuse,
    request_from,
    request_from_url,
)
from router.serving.identity import Authenticator, Identity, NoAuthenticator
from router.serving.settings import RouterSettings
from router.serving.transport import HttpTransport, SubgraphMetrics, open_session
from router.serving.websocket import Connection

logger = logging.getLogger("router")
access_log = logging.getLogger("router.access")
_tracer = trace.get_tracer("router")


def _authenticator(settings: RouterSettings) -> Authenticator:
    if not settings.jwt:
        return NoAuthenticator()
    from router.serving.tokens import JwtAuthenticator  # noqa: PLC0415  a third of the start is spent on its libraries

    return JwtAuthenticator(settings.jwt)


def _is_tracing() -> bool:
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _span(headers: Mapping[str, str]) -> contextlib.AbstractContextManager[object]:
    """A span around one request, child of the caller's; nothing while no tracing is set up."""
    if not _is_tracing():
        return contextlib.nullcontext()
    context = propagate.extract(dict(headers)) if "traceparent" in headers else None
    return _tracer.start_as_current_span("graphql.request", context=context)


class RouterService:
    """The state behind the application: the current engine and what outlives it."""

    def __init__(
        self, supergraph_sdl: str, settings: RouterSettings, authenticator: Authenticator | None = None
    ) -> None:
        self.settings = settings
        self.engine = Engine(supergraph_sdl, settings)
        self._documents = TrustedDocuments(settings.trusted_documents, required=settings.require_trusted_documents)
        self.registry = CollectorRegistry()
        self.authenticator: Authenticator = authenticator or _authenticator(settings)
        self._requests = Counter(
            "router_requests_total", "GraphQL requests by result.", ["result"], registry=self.registry
        )
        self._seconds = Histogram("router_request_seconds", "Time to answer.", registry=self.registry)
        self._reloads = Counter("router_reloads_total", "Supergraphs taken over.", ["result"], registry=self.registry)
        cached = Gauge("router_cached_entries", "Entries in the operation cache.", registry=self.registry)
        cached.set_function(lambda: len(self.engine.cache))
        self._subgraph_metrics = SubgraphMetrics(self.registry)
        self._session: aiohttp.ClientSession | None = None
        self._transport: HttpTransport | None = None

    @property
    def transport(self) -> HttpTransport:
        if self._transport is None:
            raise RuntimeError("the router serves only inside its lifespan")
        return self._transport

    @property
    def is_ready(self) -> bool:
        return self._transport is not None

    async def open(self) -> None:
        self._session = open_session(self.settings)
        self._connect()

    async def close(self) -> None:
        self._transport = None
        if self._session is not None:
            await self._session.close()

    def reload(self, supergraph_sdl: str) -> None:
        """Serves another supergraph from the next request on; requests under way end on the old one.

        Raises:
            RouterError: the new supergraph cannot be served; the old one stays.
        """
        try:
            self.engine = Engine(supergraph_sdl, self.settings)
        except RouterError:
            self._reloads.labels("refused").inc()
            raise
        self._connect()
        self._reloads.labels("taken").inc()

    def _connect(self) -> None:
        if self._session is not None:
            self._transport = HttpTransport(
                self._session, self.engine.supergraph, self.settings, self._subgraph_metrics
            )

    # -- one operation ---------------------------------------------------------------------------------------------

    async def answer(self, request: GraphQLRequest, headers: Mapping[str, str], *, read_only: bool) -> dict[str, Any]:
        """The GraphQL response of one operation.

        Raises:
            ClientError: the request is at fault.
        """
        started = time.perf_counter()
        result = "error"
        engine = self.engine
        with _span(headers):
            try:
                identity = await self.authenticator.authenticate(headers)
                prepared = self.prepare(engine, request, identity)
                if prepared.kind.value == "subscription":
                    message = "Subscriptions need a WebSocket (graphql-transport-ws) or `Accept: text/event-stream`."
                    raise ClientError(message, code="BAD_REQUEST")
                if read_only and prepared.kind.value == "mutation":
                    raise ClientError("Mutations need POST.", code="METHOD_NOT_ALLOWED", status=405)
                response = await engine.run(prepared, self.transport, self.subgraph_headers(headers, identity))
                result = "partial" if response.errors else "ok"
                return payload(response.data, response.errors, redact=self.settings.redact_errors)
            except PlanningError as error:
                logger.error("planning failed: %s", error)
                message = "The operation cannot be planned." if self.settings.redact_errors else str(error)
                return {"data": None, "errors": [{"message": message, "extensions": {"code": "QUERY_PLANNING_FAILED"}}]}
            finally:
                elapsed = time.perf_counter() - started
                self._requests.labels(result).inc()
                self._seconds.observe(elapsed)
                if access_log.isEnabledFor(logging.INFO):
                    fields = {"operation": request.operation_name, "result": result, "ms": round(elapsed * 1000, 2)}
                    access_log.info("request", extra={"graphql": fields})

    async def answers(
        self, request: GraphQLRequest, headers: Mapping[str, str]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Every response of an operation: one of a query or mutation, one for each event of a subscription.

        Raises:
            ClientError: the request is at fault.
        """
        engine, transport = self.engine, self.transport
        identity = await self.authenticator.authenticate(headers)
        prepared = self.prepare(engine, request, identity)
        primary = prepared.compiled.subscription
        if primary is None:
            yield await self.answer(request, headers, read_only=False)
            return
        sent = self.subgraph_headers(headers, identity)
        redact = self.settings.redact_errors
        upstream: dict[str, Any] = {"query": primary.operation}
        if used := {name: prepared.variables[name] for name in primary.variables if name in prepared.variables}:
            upstream["variables"] = used
        self._requests.labels("subscription").inc()
        try:
            async with contextlib.aclosing(transport.subscribe(primary.subgraph, upstream, sent)) as events:
                async for event in events:
                    run = engine.start(prepared, transport, sent)
                    prepared.compiled.merge_root(run, primary, event)
                    response = await prepared.compiled.run(run)
                    yield payload(response.data, response.errors, redact=redact)
        except SubgraphFailure as failure:
            yield payload(None, [of_failure(failure, primary.subgraph, None)], redact=redact)

    def prepare(self, engine: Engine, request: GraphQLRequest, identity: Identity) -> Prepared:
        """Raises:
        ClientError: the request is at fault.
        """
        if request.document_id is not None or self.settings.require_trusted_documents:
            text = self._documents.text(request.query or None, request.document_id)
            if text != request.query:
                request = replace(request, query=text or "")
        return engine.prepare(request, identity)

    def subgraph_headers(self, headers: Mapping[str, str], identity: Identity) -> Mapping[str, str]:
        sent = {name: headers[name] for name in self.settings.forward_headers if name in headers}
        if _is_tracing():
            propagate.inject(sent)  # else the client's own traceparent goes through as it came
        if identity.forward:
            sent.update(identity.forward)
        return sent


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
        if "text/event-stream" in headers.get("accept", ""):
            return await self._events(request_from_any(operation), headers)
        async with _cancelled_on_disconnect(request, receive):
            return await self._answer(operation, headers, media_type, read_only=request.method == "GET")

    async def _answer(
        self, operation: Any, headers: Mapping[str, str], media_type: str, *, read_only: bool
    ) -> Response:
        if isinstance(operation, list):
            return await self._batch(operation, headers, media_type)
        request = request_from_any(operation)
        content = await self._service.answer(request, headers, read_only=read_only)
        return Response(orjson.dumps(content), 200, None, media_type)

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

    async def _events(self, request: GraphQLRequest, headers: Mapping[str, str]) -> Response:
        """Server-sent events, one connection for one operation; a request error is still a plain HTTP answer."""
        answers = self._service.answers(request, headers)
        first = await anext(answers, None)

        async def events() -> AsyncIterator[bytes]:
            async with contextlib.aclosing(answers):
                answer = first
                while answer is not None:
                    yield b"event: next\ndata: " + orjson.dumps(answer) + b"\n\n"
                    answer = await anext(answers, None)
            yield b"event: complete\ndata: \n\n"

        return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-store"})

    def _explorer(self) -> Response:
        if not self._service.settings.explorer:
            raise ClientError("`query` must be a non-empty string.")
        return HTMLResponse(EXPLORER_HTML)


def request_from_any(operation: Any) -> GraphQLRequest:
    return operation if isinstance(operation, GraphQLRequest) else request_from(operation)


def create_app(
    supergraph_sdl: str,
    settings: RouterSettings,
    *,
    authenticator: Authenticator | None = None,
    watch: Callable[["RouterService"], Any] | None = None,
) -> Starlette:
    """The router for one supergraph; `app.state.router` is its `RouterService`.

    watch: a coroutine function that runs as long as the application does, e.g. to reload a changed file.
    Raises:
        InvalidSupergraph: the supergraph cannot be served.
    """
    service = RouterService(supergraph_sdl, settings, authenticator)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await service.open()
        watcher = asyncio.ensure_future(watch(service)) if watch is not None else None
        try:
            yield
        finally:
            if watcher is not None:
                watcher.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watcher
            await service.close()

    async def socket(connection: WebSocket) -> None:
        await Connection(connection, service.answers, max_bytes=settings.limits.max_body_bytes).serve()

    routes: list[BaseRoute] = [
        Route("/graphql", GraphQLEndpoint(service)),
        WebSocketRoute("/graphql", socket),
        Route("/health", lambda _: Response(b'{"status":"ok"}', media_type=JSON)),
        Route("/ready", _ready(service)),
    ]
    if settings.metrics:
        routes.append(
            Route(
                "/metrics",
                lambda _: PlainTextResponse(generate_latest(service.registry), media_type=CONTENT_TYPE_LATEST),
            )
        )
    middleware = []
    if settings.cors.allow_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(settings.cors.allow_origins),
                allow_credentials=settings.cors.allow_credentials,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
            )
        )
    app = Starlette(routes=routes, middleware=middleware, lifespan=lifespan)
    app.state.router = service
    return app


def _ready(service: RouterService) -> Callable[[Request], Response]:
    def ready(_: Request) -> Response:
        if service.is_ready:
            return Response(b'{"status":"ready"}', media_type=JSON)
        return Response(b'{"status":"starting"}', 503, media_type=JSON)

    return ready


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
