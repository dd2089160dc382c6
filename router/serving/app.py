"""The router as an ASGI application: its routes and its life."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from router.serving.endpoint import GraphQLEndpoint
from router.serving.http import JSON
from router.serving.identity import Authenticator, LoginSessions
from router.serving.service import RouterService
from router.serving.settings import RouterSettings
from router.serving.shares import Shares
from router.serving.websocket import Connection


class RouterApp(Starlette):
    """An application with one path that matters: what middleware and routing cost is spent on all others only."""

    def __init__(self, graphql: ASGIApp, **options: Any) -> None:
        super().__init__(**options)
        self._graphql = graphql

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/graphql":
            await self._graphql(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(
    supergraph_sdl: str,
    settings: RouterSettings,
    *,
    authenticator: Authenticator | None = None,
    sessions: LoginSessions | None = None,
    watch: Callable[[RouterService], Any] | None = None,
) -> Starlette:
    """The router for one supergraph; `app.state.router` is its `RouterService`.

    sessions: tells which sign-ins have ended; for the authenticator of `settings.jwt`.
    watch: a coroutine function that runs as long as the application does, e.g. to reload a changed file.
    Raises:
        InvalidSupergraph: the supergraph cannot be served.
    """
    service = RouterService(supergraph_sdl, settings, authenticator, sessions)

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

    limits = settings.subscriptions
    connections = Shares(
        "connections",
        total=limits.max_connections,
        most={"account": limits.max_connections_per_account, "network": limits.max_connections_per_network},
    )

    async def socket(connection: WebSocket) -> None:
        await Connection(connection, service, settings, connections).serve()

    endpoint = GraphQLEndpoint(service)
    routes: list[BaseRoute] = [
        Route("/graphql", endpoint),
        WebSocketRoute("/graphql", socket),
        *(Route(path, _health) for path in ("/health", "/health/live")),
        *(Route(path, _ready(service)) for path in ("/ready", "/health/ready")),
    ]
    if settings.metrics:
        routes.append(Route("/metrics", _metrics(service)))
    graphql: ASGIApp = endpoint
    middleware = []
    if settings.cors.allow_origins:
        allowed: dict[str, Any] = {
            "allow_origins": list(settings.cors.allow_origins),
            "allow_credentials": settings.cors.allow_credentials,
            "allow_methods": ["GET", "POST"],
            "allow_headers": ["*"],
        }
        graphql = CORSMiddleware(endpoint, **allowed)
        middleware.append(Middleware(CORSMiddleware, **allowed))
    app = RouterApp(graphql, routes=routes, middleware=middleware, lifespan=lifespan)
    app.state.router = service
    return app


# Coroutines all, though they wait for nothing: other functions are run in a thread, and those may all be taken.


async def _health(_: Request) -> Response:
    return Response(b'{"status":"ok"}', media_type=JSON)


def _ready(service: RouterService) -> Callable[[Request], Awaitable[Response]]:
    async def ready(_: Request) -> Response:
        if service.is_ready:
            return Response(b'{"status":"ready"}', media_type=JSON)
        return Response(b'{"status":"starting"}', 503, media_type=JSON)

    return ready


def _metrics(service: RouterService) -> Callable[[Request], Awaitable[Response]]:
    async def metrics(_: Request) -> Response:
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest  # noqa: PLC0415  as in `Metrics.registry`

        return PlainTextResponse(generate_latest(service.registry), media_type=CONTENT_TYPE_LATEST)

    return metrics
