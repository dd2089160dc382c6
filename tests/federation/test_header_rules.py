"""Which headers reach which subgraph, over requests, event streams and forms."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from router.serving.app import create_app
from router.serving.settings import HeaderRules, RouterSettings, SubgraphSettings
from tests.federation.serve import Served, serve
from tests.federation.shop import SHOP
from tests.federation.test_event_streams import SSE, all_of, body
from tests.federation.ticker import ticking

RULES = {
    "remove": ["accept-language", "x-request-id"],
    "rename": {"authorization": "x-user-token"},
    "set": {"x-router": "secret", "tracestate": "fixed"},
}
SENT = {"authorization": "Bearer t", "accept-language": "ko", "x-request-id": "r", "tracestate": "mine"}


@contextlib.asynccontextmanager
async def asking(rules: Any) -> AsyncIterator[tuple[Served, dict[str, dict[str, str]]]]:
    seen: dict[str, dict[str, str]] = {}

    async def answer(request: web.Request) -> web.Response:
        seen[request.match_info["name"]] = {name.lower(): value for name, value in request.headers.items()}
        return web.json_response({"data": {"me": None, "topProduct": None}})

    app = web.Application()
    app.router.add_post("/{name}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    subgraphs = {
        "people": SubgraphSettings(url=f"{url}/people", headers=HeaderRules.model_validate(rules)),
        "catalog": SubgraphSettings(url=f"{url}/catalog"),
    }
    try:
        async with serve(create_app(SHOP, RouterSettings(subgraphs=subgraphs))) as router:
            yield router, seen
    finally:
        await runner.cleanup()


async def test_each_subgraph_gets_its_own_headers() -> None:
    async with asking(RULES) as (router, seen):
        await router.post("/graphql", json={"query": "{ me { name } topProduct { name } }"}, headers=SENT)
    people, catalog = seen["people"], seen["catalog"]
    assert (people["x-user-token"], people["x-router"], people["tracestate"]) == ("Bearer t", "secret", "fixed")
    assert not {"authorization", "accept-language", "x-request-id"} & people.keys()
    assert (catalog["authorization"], catalog["accept-language"], catalog["tracestate"]) == ("Bearer t", "ko", "mine")
    assert not {"x-user-token", "x-router"} & catalog.keys()


async def test_a_renamed_header_does_not_replace_one_of_that_name() -> None:
    async with asking({"rename": {"authorization": "x-request-id"}}) as (router, seen):
        await router.post("/graphql", json={"query": "{ me { name } }"}, headers=SENT)
    assert seen["people"]["x-request-id"] == "r"


async def test_event_streams_get_them_too() -> None:
    async with ticking("sse", headers=HeaderRules.model_validate(RULES)) as (router, ticker):
        response = await router.session.post(f"{router.url}/graphql", json=body(1), headers={"accept": SSE, **SENT})
        assert (await all_of(response, SSE))[-1] == "ended"
    assert ticker.headers["x-user-token"] == "Bearer t"
    assert "x-request-id" not in ticker.headers


@pytest.mark.parametrize(
    "rules",
    [
        {"set": {"content-length": "1"}},
        {"set": {"Host": "x"}},
        {"set": {"host": "x"}},
        {"set": {"x-a": "a\r\nb: c"}},
        {"set": {"x a": "a"}},
        {"rename": {"authorization": "transfer-encoding"}},
        {"drop": ["a"]},
    ],
)
def test_rules_that_would_break_requests_are_refused(rules: Any) -> None:
    with pytest.raises(ValidationError):
        HeaderRules.model_validate(rules)


def test_headers_of_the_connection_cannot_be_forwarded() -> None:
    with pytest.raises(ValidationError, match="belongs to the connection"):
        RouterSettings(forward_headers=("authorization", "Content-Length"))


def test_values_that_are_set_are_not_printed() -> None:
    settings = RouterSettings(subgraphs={"a": SubgraphSettings(headers=HeaderRules.model_validate(RULES))})
    assert "secret" not in repr(settings)
