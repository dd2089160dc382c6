"""Subgraphs over real sockets that misbehave: the client gets an answer, with an error that says which."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from router.serving.app import create_app
from router.serving.settings import Limits, RouterSettings, SubgraphSettings
from tests.federation.serve import Served, serve
from tests.federation.shop import SHOP
from tests.support.patience import PATIENCE_S

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def over(people: Handler, *, timeout_s: float = PATIENCE_S) -> AsyncIterator[Served]:
    """The shop with a healthy catalog and the given people, for whom the router waits that long."""

    async def catalog(_: web.Request) -> web.Response:
        return web.json_response({"data": {"topProduct": {"name": "Healthy"}}})

    app = web.Application()
    app.router.add_post("/people", people)
    app.router.add_post("/catalog", catalog)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    settings = RouterSettings(
        subgraphs={
            "people": SubgraphSettings(url=f"{url}/people", timeout_s=timeout_s),
            "catalog": SubgraphSettings(url=f"{url}/catalog"),
        },
        limits=Limits(max_subgraph_response_bytes=10_000),
    )
    try:
        async with serve(create_app(SHOP, settings)) as router:
            yield router
    finally:
        await runner.cleanup()


async def _html(_: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>welcome</html>", content_type="text/html")


async def _failing(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500, text="boom")


async def _slow(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.json_response({})


async def _hanging_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def _redirecting(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("http://elsewhere.example/")


async def _huge(_: web.Request) -> web.StreamResponse:
    return web.json_response({"data": {"me": {"name": "x" * 20_000}}})


async def _refusing(_: web.Request) -> web.StreamResponse:
    error = {"message": "no", "extensions": {"code": "UNAUTHENTICATED"}}
    return web.json_response({"errors": [error]}, status=401)


@pytest.mark.parametrize(
    ("people", "code"),
    [
        (_html, "SUBGRAPH_MALFORMED_RESPONSE"),
        (_failing, "SUBGRAPH_HTTP_ERROR"),
        (_slow, "SUBGRAPH_TIMEOUT"),
        (_hanging_up, "SERVICE_UNAVAILABLE"),
        (_redirecting, "SUBGRAPH_HTTP_ERROR"),
        (_huge, "SUBGRAPH_MALFORMED_RESPONSE"),
        (_refusing, "UNAUTHENTICATED"),
    ],
)
async def test_only_the_broken_subgraphs_part_is_null(people: Handler, code: str) -> None:
    async with over(people, timeout_s=0.3 if people is _slow else PATIENCE_S) as router:
        response = await router.post("/graphql", json={"query": "{ topProduct { name } me { name } }"})
        content = await response.json()
    assert response.status == 200
    assert content["data"] == {"topProduct": {"name": "Healthy"}, "me": None}
    assert [(e["extensions"]["code"], e["extensions"]["serviceName"]) for e in content["errors"]] == [(code, "people")]


async def test_a_client_that_goes_away_takes_its_subgraph_requests_with_it() -> None:
    reached, cancelled = asyncio.Event(), asyncio.Event()

    async def waiting(_: web.Request) -> web.StreamResponse:
        reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError("nothing ends it but its client")

    async with over(waiting) as router:
        async with aiohttp.ClientSession() as session:
            asking = asyncio.create_task(session.post(f"{router.url}/graphql", json={"query": "{ me { name } }"}))
            await reached.wait()
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
        async with asyncio.timeout(PATIENCE_S):
            await cancelled.wait()


async def test_chosen_headers_reach_the_subgraphs_and_no_others() -> None:
    seen: list[dict[str, str]] = []

    async def people(request: web.Request) -> web.StreamResponse:
        seen.append({name.lower(): value for name, value in request.headers.items()})
        return web.json_response({"data": {"me": {"name": "Ada"}}})

    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    headers = {
        "authorization": "Bearer t",
        "traceparent": trace,
        "x-request-id": "r1",
        "cookie": "secret=1",
        "x-other": "1",
    }
    async with over(people) as router:
        await router.post("/graphql", json={"query": "{ me { name } }"}, headers=headers)
    assert seen[0]["authorization"] == "Bearer t"
    assert seen[0]["x-request-id"] == "r1"
    assert seen[0]["traceparent"].split("-")[1] == trace.split("-")[1]
    assert "cookie" not in seen[0]
    assert "x-other" not in seen[0]


async def test_subgraphs_are_told_the_address_of_the_client_after_those_of_the_proxies_before() -> None:
    seen: list[str] = []

    async def people(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers["x-forwarded-for"])
        return web.json_response({"data": {"me": {"name": "Ada"}}})

    async with over(people) as router:
        await router.post("/graphql", json={"query": "{ me { name } }"})
        await router.post("/graphql", json={"query": "{ me { name } }"}, headers={"x-forwarded-for": "203.0.113.9"})
    assert seen[0] == "127.0.0.1"
    assert seen[1].startswith("203.0.113.9, ")
