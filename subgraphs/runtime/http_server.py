"""The HTTP side of a process: GraphQL subgraphs, health, readiness, and metrics on a port of their own."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from math import ceil
from typing import Any

import orjson
import structlog
from prometheus_client import make_asgi_app
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL

from domain.errors import AppError, ErrorKind
from subgraphs.runtime.auth import Authenticator
from subgraphs.runtime.context import RequestContext, current, enter, locale_of, request_id_of
from subgraphs.runtime.errors import BUG_MESSAGE, as_app_error, to_graphql, to_problem
from subgraphs.runtime.faces import GroupFaces
from subgraphs.runtime.http_guard import BodyLimit, OperationGuard
from subgraphs.runtime.outages import ERRORS_BENEATH
from subgraphs.runtime.proxies import TrustedProxies
from subgraphs.runtime.revocation import SignInEnded
from subgraphs.runtime.slots import CONNECTIONS, Slots
from subgraphs.runtime.telemetry import GRAPHQL_REQUESTS, ServerSpan

_log = structlog.get_logger("http")

_NO_PROXIES = TrustedProxies(())

Check = Callable[[], Awaitable[None]]


class ContextMiddleware:
    """Finds out who asks, before anything else; a credential that does not hold is refused here."""

    def __init__(self, app: ASGIApp, *, authenticator: Authenticator, proxies: TrustedProxies) -> None:
        self._app = app
        self._authenticator = authenticator
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one WebSocket connection, in its context."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        with ServerSpan(scope["path"], headers.get("traceparent", "")) as traceparent:
            client = scope.get("client")
            forwarded_for = ",".join(headers.getlist("x-forwarded-for"))
            context = RequestContext(
                request_id=request_id_of(headers.get("x-request-id", "")),
                locale=locale_of(headers.get("accept-language", "")),
                traceparent=traceparent,
                peer=self._proxies.caller(client[0] if client else "", forwarded_for),
            )
            enter(context)
            try:
                principal = await self._authenticator.principal(headers.get("authorization", ""))
            except Exception as error:
                known = as_app_error(error)
                if known is None:
                    raise
                await self._refuse(known, scope, receive, send)
                return
            enter(
                RequestContext(
                    principal=principal,
                    request_id=context.request_id,
                    locale=context.locale,
                    traceparent=context.traceparent,
                    peer=context.peer,
                )
            )
            begun = False

            async def sending(message: Message) -> None:
                nonlocal begun
                begun = True
                await send(message)

            try:
                async with self._authenticator.while_valid(principal, headers.get("authorization", "")):
                    await self._app(scope, receive, sending)
            except SignInEnded as error:
                await self._end(error, scope, receive, send, begun=begun)

    async def _end(self, error: AppError, scope: Scope, receive: Receive, send: Send, *, begun: bool) -> None:
        """End what a revoked credential has open; of a response that has begun, nothing but its end can be sent."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 4401, "reason": error.message})
        elif not begun:
            await self._refuse(error, scope, receive, send)
        else:
            raise error

    @staticmethod
    async def _refuse(error: AppError, scope: Scope, receive: Receive, send: Send) -> None:
        _log.info("credential refused", reason=error.reason, path=scope["path"])
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).close(code=4401, reason=error.message)
        elif scope["path"].endswith("/graphql"):
            await refuse_operation(error, scope, receive, send)
        else:
            await problem_response(error)(scope, receive, send)


async def refuse_operation(error: AppError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a GraphQL request with an error that came before its operation, and with the error's status."""
    problem = problem_response(error)
    body: dict[str, object] = {"errors": [{"message": error.message, "extensions": to_graphql(error)}]}
    headers = {name: value for name, value in problem.headers.items() if not name.startswith("content-")}
    await JSONResponse(body, status_code=problem.status_code, headers=headers)(scope, receive, send)


def problem_response(error: AppError) -> Response:
    """The error as an HTTP response (RFC 9457), with the headers that its status asks for (RFC 9110)."""
    status, problem = to_problem(error)
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if retry_after_s := error.details.get("retry_after_s"):
        with suppress(ValueError, OverflowError):
            headers["retry-after"] = str(ceil(float(retry_after_s)))
    return JSONResponse(problem, status_code=status, headers=headers, media_type="application/problem+json")


async def _on_error(_: Request, error: Exception) -> Response:
    """A route's error as a client should see it. Starlette raises a bug again, once it is answered, so that it is logged."""
    known = as_app_error(error)
    if known is not None:
        return problem_response(known)
    problem = {
        "type": "urn:manpasik:problem:INTERNAL",
        "title": "Internal error",
        "status": 500,
        "detail": BUG_MESSAGE,
    }
    return JSONResponse(problem, status_code=500, media_type="application/problem+json")


async def _on_error_beneath(request: Request, error: Exception) -> Response:
    """An error of what we depend on: an outage is answered here, so that it is not logged as a bug; anything else is one."""
    known = as_app_error(error)
    if known is None:
        raise error
    if known.kind is not ErrorKind.INVALID_INPUT:
        _log.warning("request failed beneath us", path=request.url.path, reason=known.reason, error=repr(error))
    return problem_response(known)


def error_handlers() -> dict[Any, ExceptionHandler]:
    """How a Starlette application of ours answers errors: all of them as problem details."""
    return {
        AppError: _on_error,
        HTTPException: _on_http_error,
        **dict.fromkeys(ERRORS_BENEATH, _on_error_beneath),
        Exception: _on_error,
    }


async def _on_http_error(_: Request, error: Exception) -> Response:
    """Starlette's own refusals (no such path, no such method) in the form of all others."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    problem = {"type": "about:blank", "title": error.detail, "status": error.status_code}
    return JSONResponse(
        problem, status_code=error.status_code, headers=error.headers, media_type="application/problem+json"
    )


class _Subgraph(GraphQL[Any, Any]):
    """Strawberry's ASGI application with our context."""

    def __init__(self, faces: GroupFaces) -> None:
        super().__init__(
            faces.schema,
            graphql_ide=None,
            allow_queries_via_get=False,
            subscription_protocols=["graphql-transport-ws"],
            connection_init_wait_timeout=timedelta(seconds=10),
            max_subscriptions_per_connection=32,
        )
        self._faces = faces

    def decode_json(self, data: str | bytes) -> object:
        """As `json.loads` in a fraction of the time, and with a limit on the nesting and no numbers beyond 64 bits."""
        return orjson.loads(data)

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Any:  # noqa: ARG002
        """The group's context for the request in hand."""
        GRAPHQL_REQUESTS.labels(self._faces.group.value, "received").inc()
        return self._faces.graphql_context(current())


def subgraph_app(
    groups: Sequence[GroupFaces],
    *,
    authenticator: Authenticator,
    checks: Mapping[str, Check],
    routes: Sequence[BaseRoute] = (),
    proxies: TrustedProxies = _NO_PROXIES,
    within_s: float = 30.0,
) -> ASGIApp:
    """The application of a process: `/<group>/graphql` for each group, and `/graphql` where there is just one.

    Args:
        checks: by name, what must answer for the process to be ready (database, broker).
        proxies: whose `x-forwarded-for` is believed; by default nobody's.
        within_s: how long a query or mutation may take.
    """
    sockets = Slots(CONNECTIONS, what="connections")

    served: list[BaseRoute] = [*health_routes(checks), *routes]
    for faces in groups:
        app = OperationGuard(_Subgraph(faces), within_s=within_s, sockets=sockets, refuse=refuse_operation)
        paths = [f"/{faces.group.value}/graphql"] + (["/graphql"] if len(groups) == 1 else [])
        for path in paths:
            served += [Route(path, app, methods=["POST"]), WebSocketRoute(path, app)]
        served += faces.http_routes
    routed = Starlette(routes=served, exception_handlers=error_handlers())
    return ContextMiddleware(BodyLimit(routed), authenticator=authenticator, proxies=proxies)


def health_routes(checks: Mapping[str, Check]) -> list[BaseRoute]:
    """`/health` and `/health/live`: the process is alive; `/ready` and `/health/ready`: all that it needs answers, else 503."""

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        report = await states_of(checks)
        all_up = all(state == "up" for state in report.values())
        return JSONResponse({"ready": all_up, "checks": report}, status_code=200 if all_up else 503)

    return [
        *(Route(path, live) for path in ("/health", "/health/live")),
        *(Route(path, ready) for path in ("/ready", "/health/ready")),
    ]


async def states_of(checks: Mapping[str, Check]) -> dict[str, str]:
    """By check, "up" or "down"."""
    states = await asyncio.gather(*(_state(check) for check in checks.values()))
    return dict(zip(checks, states, strict=True))


async def _state(check: Check) -> str:
    try:
        async with asyncio.timeout(3):
            await check()
    except Exception as error:  # noqa: BLE001 - whatever it is, the process is not ready
        _log.warning("not ready", error=repr(error))
        return "down"
    return "up"


def metrics_app(checks: Mapping[str, Check] | None = None) -> ASGIApp:
    """Prometheus metrics of the process on every path but those of `health_routes`."""
    return Starlette(routes=[*health_routes(checks or {}), Mount("/", make_asgi_app())])
