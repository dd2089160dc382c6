"""A small subgraph on a real socket, whose resolvers raise what they are asked to."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network
from typing import Any

import aiohttp
import pytest
import strawberry
from joserfc import jwt
from joserfc.jwk import ECKey
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from structlog.testing import capture_logs

from domain.catalog import Group
from domain.errors import LimitExceeded, NotFound, Unauthenticated
from domain.principal import ACCESS_TOKEN_AUDIENCE, Principal
from subgraphs.runtime.auth import Authenticator, issuers_of
from subgraphs.runtime.context import RequestContext, current
from subgraphs.runtime.errors import BUG_MESSAGE
from subgraphs.runtime.faces import GroupFaces
from subgraphs.runtime.graphql import GraphQLContext, Info, build_schema
from subgraphs.runtime.http_server import metrics_app, subgraph_app
from subgraphs.runtime.proxies import TrustedProxies
from subgraphs.runtime.serving import HttpServer
from subgraphs.runtime.settings import Settings
from tests.support.patience import PATIENCE_S
from tests.support.trust import service_tokens
from tests.unit.runtime.conftest import Serve

_KEY = ECKey.generate_key("P-256", {"kid": "k1"})
_SETTINGS = Settings.load({})


class DeviceNotFound(NotFound):
    reason = "DEVICE_NOT_FOUND"


_ERRORS: dict[str, Callable[[], Exception]] = {
    "missing": lambda: DeviceNotFound("There is no device d1.", device_id="d1"),
    "bug": lambda: RuntimeError("password=hunter2"),
    "database down": lambda: ConnectionRefusedError("10.0.0.7:5432"),
    "limit": lambda: LimitExceeded("Too many.", retry_after_s=1.2),
}


def _error(name: str) -> Exception:
    return _ERRORS[name]()


@strawberry.type
class _Query:
    @strawberry.field
    def raises(self, what: str) -> str | None:
        raise _error(what)

    @strawberry.field
    def required(self) -> str:
        raise DeviceNotFound("There is no device d1.")

    @strawberry.field
    async def who(self, info: Info[GraphQLContext, None]) -> str:
        principal = info.context.principal
        return f"{principal.kind}:{principal.subject}:{current().request_id}:{current().locale}"

    @strawberry.field
    async def slow(self) -> str:
        _slow_begun.set()
        await asyncio.sleep(0.3)
        return "done"


_slow_begun = asyncio.Event()


@strawberry.type
class _Subscription:
    @strawberry.subscription
    async def counts(self, until: int, then: str) -> AsyncIterator[int]:
        for number in range(until):
            yield number
        raise _error(then)


class _Keys:
    async def keys(self) -> list[dict[str, Any]]:
        return [dict(_KEY.as_dict(private=False))]


class _KeysOfADatabaseThatIsDown:
    async def keys(self) -> list[dict[str, Any]]:
        raise ConnectionRefusedError("10.0.0.7:5432")


class _ReadersOfADatabaseThatIsDown:
    async def verify(self, device_id: str, credential: str) -> Principal:
        raise ConnectionRefusedError("10.0.0.7:5432")


async def _route(request: Request) -> Response:
    if what := request.query_params.get("raise"):
        raise _error(what)
    return Response(current().peer if "who" in request.query_params else "ok")


def _authenticator(keys: _Keys | _KeysOfADatabaseThatIsDown | None = None) -> Authenticator:
    tokens = _SETTINGS.tokens
    return Authenticator(
        issuers_of(tokens, keys or _Keys()), services=service_tokens(), devices=_ReadersOfADatabaseThatIsDown()
    )


def _context(request: RequestContext) -> GraphQLContext:
    return GraphQLContext(request=request)


def _app(**changed: Any) -> Any:
    faces = GroupFaces(
        group=Group.HARDWARE,
        services=(),
        schema=build_schema(_Query, subscription=_Subscription),
        graphql_context=_context,
        http_routes=(Route("/plain", _route),),
    )
    options: dict[str, Any] = {"authenticator": _authenticator(), "checks": {}, **changed}
    return subgraph_app((faces,), **options)


def _token() -> str:
    now = int(time.time())
    claims = {
        "iss": "manpasik-auth",
        "sub": "u1",
        "aud": ACCESS_TOKEN_AUDIENCE,
        "sid": "s1",
        "iat": now,
        "exp": now + 60,
    }
    return f"Bearer {jwt.encode({'alg': 'ES256', 'kid': 'k1'}, claims, _KEY)}"


@pytest.fixture
async def base(serve: Serve) -> str:
    return await serve(_app())


async def _query(
    http: aiohttp.ClientSession, base: str, query: str, *, path: str = "/graphql", **headers: str
) -> tuple[int, dict[str, Any]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.post(base + path, json={"query": query}, headers=named) as answer:
        body: dict[str, Any] = await answer.json()
        return answer.status, body


# --- errors of resolvers


async def test_an_error_of_the_domain_is_shown_with_its_code_and_reason(base: str, http: aiohttp.ClientSession) -> None:
    status, body = await _query(http, base, '{ raises(what: "missing") }')
    assert status == 200
    assert body["data"] == {"raises": None}
    [error] = body["errors"]
    assert (error["message"], error["path"]) == ("There is no device d1.", ["raises"])
    assert error["extensions"] == {
        "code": "NOT_FOUND",
        "reason": "DEVICE_NOT_FOUND",
        "details": {"device_id": "d1"},
    }


async def test_a_bug_is_shown_as_a_fixed_text_and_logged_whole(base: str, http: aiohttp.ClientSession) -> None:
    with capture_logs() as logs:
        _, body = await _query(http, base, '{ raises(what: "bug") }')
    [error] = body["errors"]
    assert (error["message"], error["extensions"]) == (BUG_MESSAGE, {"code": "INTERNAL_SERVER_ERROR"})
    assert "hunter2" not in str(body)
    assert [str(log["exc_info"]) for log in logs if log["event"] == "field failed"] == ["password=hunter2"]


async def test_an_outage_beneath_a_resolver_is_shown_as_one(base: str, http: aiohttp.ClientSession) -> None:
    _, body = await _query(http, base, '{ raises(what: "database down") }')
    assert body["errors"][0]["extensions"]["code"] == "SERVICE_UNAVAILABLE"
    assert "10.0.0.7" not in str(body)


async def test_an_error_of_a_required_field_takes_its_parent_along(base: str, http: aiohttp.ClientSession) -> None:
    _, body = await _query(http, base, "{ required }")
    assert body["data"] is None
    assert body["errors"][0]["extensions"]["code"] == "NOT_FOUND"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{ imagined }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ raises }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ raises(what: ", "GRAPHQL_PARSE_FAILED"),
    ],
)
async def test_a_wrong_query_is_told_why(base: str, http: aiohttp.ClientSession, query: str, code: str) -> None:
    _, body = await _query(http, base, query)
    [error] = body["errors"]
    assert error["extensions"]["code"] == code
    assert error["message"] != BUG_MESSAGE


def _bomb(levels: int) -> str:
    """Fragments that double at every level."""
    fragments = [f"fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(levels)]
    return " ".join(["{ ...f0 }", *fragments, f"fragment f{levels} on Query {{ required }}"])


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (f"{{ {' '.join(f'a{n}: required' for n in range(1001))} }}", "OPERATION_TOO_LARGE"),
        (_bomb(200), "OPERATION_TOO_LARGE"),
        (f"{{ {'a ' * 30_000} }}", "OPERATION_TOO_LARGE"),
        (f"{{ ...f }} fragment f on Query {'{ __schema ' * 70}{{ x }}{'}' * 70}", "OPERATION_TOO_LARGE"),
    ],
    ids=["aliases", "bomb of fragments", "tokens", "depth"],
)
async def test_a_document_that_is_too_large_is_refused_at_once(
    base: str, http: aiohttp.ClientSession, query: str, code: str
) -> None:
    async with asyncio.timeout(PATIENCE_S):
        _, body = await _query(http, base, query)
    assert code in [error["extensions"]["code"] for error in body["errors"]]
    assert body.get("data") is None


async def test_a_body_that_goes_on_and_on_is_cut_off(base: str, http: aiohttp.ClientSession) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'{"query": "'
        for _ in range(17):
            yield b"a" * 1024 * 1024

    async with http.post(base + "/graphql", data=endless(), headers={"content-type": "application/json"}) as answer:
        assert answer.status == 413


@pytest.mark.parametrize(("then", "code"), [("missing", "NOT_FOUND"), ("bug", "INTERNAL_SERVER_ERROR")])
async def test_errors_of_a_subscription_are_shown_like_those_of_a_query(
    base: str, http: aiohttp.ClientSession, then: str, code: str
) -> None:
    query = f'subscription {{ counts(until: 2, then: "{then}") }}'
    async with http.ws_connect(f"{base}/graphql", protocols=["graphql-transport-ws"]) as socket:
        await socket.send_json({"type": "connection_init"})
        assert (await socket.receive_json())["type"] == "connection_ack"
        await socket.send_json({"id": "1", "type": "subscribe", "payload": {"query": query}})
        messages = [await socket.receive_json(timeout=PATIENCE_S) for _ in range(3)]
    assert [message["payload"]["data"] for message in messages[:2]] == [{"counts": 0}, {"counts": 1}]
    payload = messages[2]["payload"]
    [error] = payload if isinstance(payload, list) else payload["errors"]
    assert error["extensions"]["code"] == code
    assert "hunter2" not in str(messages)


# --- callers


async def test_the_caller_and_the_request_are_known_to_resolvers(base: str, http: aiohttp.ClientSession) -> None:
    _, body = await _query(
        http, base, "{ who }", authorization=_token(), x_request_id="r-1", accept_language="ko,en;q=0.5"
    )
    assert body["data"] == {"who": "user:u1:r-1:ko"}
    _, body = await _query(http, base, "{ who }", x_request_id="r-2", path="/hardware/graphql")
    assert body["data"] == {"who": "anonymous::r-2:en"}


async def test_a_credential_that_does_not_hold_is_refused_as_graphql_errors(
    base: str, http: aiohttp.ClientSession
) -> None:
    async with http.post(
        f"{base}/graphql", json={"query": "{ who }"}, headers={"authorization": "Bearer junk"}
    ) as answer:
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        body = await answer.json()
    assert body["errors"][0]["extensions"] == {"code": "UNAUTHENTICATED", "reason": "TOKEN_INVALID"}
    assert "data" not in body


async def test_a_credential_that_does_not_hold_is_refused_as_problem_details(
    base: str, http: aiohttp.ClientSession
) -> None:
    async with http.get(f"{base}/plain", headers={"authorization": "Bearer junk"}) as answer:
        assert (answer.status, answer.content_type) == (401, "application/problem+json")
        assert (await answer.json())["type"] == "urn:manpasik:problem:TOKEN_INVALID"


async def test_a_credential_that_cannot_be_checked_is_no_fault_of_the_callers(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    base = await serve(_app(authenticator=_authenticator(_KeysOfADatabaseThatIsDown())))
    for sent in (_token(), "Device d1:secret"):
        status, body = await _query(http, base, "{ who }", authorization=sent)
        assert (status, body["errors"][0]["extensions"]["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert "10.0.0.7" not in str(body)


async def test_a_socket_with_a_credential_that_does_not_hold_is_refused(base: str, http: aiohttp.ClientSession) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await http.ws_connect(f"{base}/graphql", headers={"authorization": "Bearer junk"})
    assert refusal.value.status == 403


async def test_queries_are_not_taken_from_addresses(base: str, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{base}/graphql", params={"query": "{ who }"}) as answer:
        assert answer.status in (404, 405)


# --- plain routes


@pytest.mark.parametrize(
    ("what", "status", "kind"),
    [
        ("missing", 404, "urn:manpasik:problem:DEVICE_NOT_FOUND"),
        ("limit", 429, "urn:manpasik:problem:LIMIT_EXCEEDED"),
        ("database down", 503, "urn:manpasik:problem:UNAVAILABLE"),
        ("bug", 500, "urn:manpasik:problem:INTERNAL"),
    ],
)
async def test_errors_of_routes_are_problem_details(
    base: str, http: aiohttp.ClientSession, what: str, status: int, kind: str
) -> None:
    async with http.get(f"{base}/plain", params={"raise": what}) as answer:
        assert (answer.status, answer.content_type) == (status, "application/problem+json")
        body = await answer.json()
        assert (body["type"], body["status"]) == (kind, status)
        assert "hunter2" not in str(body)
        assert "10.0.0.7" not in str(body)
        assert answer.headers.get("retry-after") == ("2" if what == "limit" else None)


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/imagined", 404), ("DELETE", "/plain", 405)])
async def test_refusals_of_the_framework_are_problem_details(
    base: str, http: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    async with http.request(method, base + path) as answer:
        assert (answer.status, answer.content_type) == (status, "application/problem+json")


# --- health, readiness, metrics


async def _up() -> None:
    return None


async def _down() -> None:
    raise Unauthenticated("secret reason")


async def test_a_process_is_alive_whatever_it_depends_on(serve: Serve, http: aiohttp.ClientSession) -> None:
    base = await serve(_app(checks={"database": _down}))
    async with http.get(f"{base}/health") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})


async def test_a_process_is_ready_when_all_that_it_needs_answers(serve: Serve, http: aiohttp.ClientSession) -> None:
    base = await serve(_app(checks={"database": _up, "broker": _up}))
    async with http.get(f"{base}/ready") as answer:
        assert answer.status == 200
        assert await answer.json() == {"ready": True, "checks": {"database": "up", "broker": "up"}}


async def test_a_process_is_not_ready_when_something_does_not_answer(serve: Serve, http: aiohttp.ClientSession) -> None:
    base = await serve(_app(checks={"database": _up, "broker": _down}))
    async with http.get(f"{base}/ready") as answer:
        assert answer.status == 503
        assert await answer.json() == {"ready": False, "checks": {"database": "up", "broker": "down"}}


async def test_metrics_are_text_for_prometheus(serve: Serve, http: aiohttp.ClientSession) -> None:
    base = await serve(metrics_app())
    async with http.get(f"{base}/metrics") as answer:
        assert answer.status == 200
        text = await answer.text()
    assert "# TYPE grpc_server_handled_total counter" in text
    assert "# TYPE graphql_subgraph_requests_total counter" in text


# --- the server


async def test_a_stop_finishes_the_request_in_hand_and_takes_no_new_one(http: aiohttp.ClientSession) -> None:
    _slow_begun.clear()
    server = HttpServer(_app(), "127.0.0.1", 0)
    await server.start()
    base = f"http://127.0.0.1:{server.port}"
    in_hand = asyncio.create_task(_query(http, base, "{ slow }"))
    await asyncio.wait_for(_slow_begun.wait(), PATIENCE_S)
    stopping = asyncio.create_task(server.stop(5))
    status, body = await in_hand
    assert (status, body["data"]) == (200, {"slow": "done"})
    await asyncio.wait_for(stopping, PATIENCE_S)
    with pytest.raises(aiohttp.ClientConnectorError):
        await _query(http, base, "{ who }")


async def test_a_port_in_use_is_an_error(serve: Serve) -> None:
    port = int((await serve(_app())).rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        HttpServer(_app(), "127.0.0.1", port)


async def test_a_server_that_never_started_can_be_let_go_of() -> None:
    server = HttpServer(_app(), "127.0.0.1", 0)
    await server.stop(0)
    HttpServer(_app(), "127.0.0.1", server.port)._socket.close()


async def test_the_callers_address_is_taken_from_our_proxies_alone(serve: Serve, http: aiohttp.ClientSession) -> None:
    headers = {"x-forwarded-for": "192.0.2.66, 203.0.113.9"}
    ours = TrustedProxies([ip_network("127.0.0.0/8")])
    for proxies, caller in ((ours, "203.0.113.9"), (TrustedProxies([]), "127.0.0.1")):
        async with http.get(f"{await serve(_app(proxies=proxies))}/plain?who=1", headers=headers) as answer:
            assert await answer.text() == caller
