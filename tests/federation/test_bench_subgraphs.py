"""The benchmark measures right answers only: what its subgraphs and a router make together is what one server says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from router.serving.app import create_app
from router.serving.settings import RouterSettings
from tests.bench.router import subgraphs
from tests.bench.router.operations import NESTED, ONE_FETCH, different
from tests.bench.router.world import expected, supergraph_sdl
from tests.federation.serve import Served, serve


@contextlib.asynccontextmanager
async def _routed() -> AsyncIterator[tuple[Served, dict[str, str]]]:
    servers, urls = await subgraphs.serve()
    try:
        async with serve(create_app(supergraph_sdl(urls), RouterSettings())) as served:
            yield served, urls
    finally:
        for server in servers:
            server.close()


async def _ask(served: Served, operation: str) -> Any:
    response = await served.post("/graphql", json={"query": operation})
    return await response.json()


async def _asked(served: Served, urls: dict[str, str]) -> dict[str, int]:
    response = await served.session.get(urls["accounts"].replace("/graphql", "/count"))
    counts: dict[str, int] = await response.json()
    return counts


@pytest.mark.parametrize(
    "operation",
    [
        NESTED,
        ONE_FETCH,
        '{ me { reviews { product { shippingEstimate } } } user(id: "3") { birthday } none: user(id: "x") { name } }',
        "{ topProducts(first: 2) { reviews { author { reviews { product { inStock name } } } } } }",
        *different(20),
    ],
)
async def test_the_router_over_the_bench_subgraphs_answers_as_one_server_would(operation: str) -> None:
    async with _routed() as (served, _):
        assert await _ask(served, operation) == {"data": expected(operation)}


async def test_the_nested_operation_is_the_well_known_size_and_takes_six_subgraph_requests() -> None:
    async with _routed() as (served, urls):
        response = await served.post("/graphql", json={"query": NESTED})
        assert 86_500 < len(await response.read()) < 87_500
        assert _objects(expected(NESTED)) == 1 + 391
        assert await _asked(served, urls) == {"accounts": 2, "inventory": 1, "products": 2, "reviews": 1}


async def test_a_shipping_estimate_comes_from_what_the_router_sends_alone() -> None:
    inventory = subgraphs.Subgraph("inventory")
    query = "query ($r: [_Any!]!) { _entities(representations: $r) { ... on Product { shippingEstimate } } }"

    def ask(**told: object) -> Any:
        representation = {"__typename": "Product", "upc": "1", **told}
        return orjson.loads(inventory.answer(orjson.dumps({"query": query, "variables": {"r": [representation]}})))

    assert ask(price=10, weight=7) == {"data": {"_entities": [{"shippingEstimate": 4}]}}
    assert ask(price=5000, weight=7) == {"data": {"_entities": [{"shippingEstimate": 0}]}}
    assert "errors" in ask(price=10)


async def test_a_body_in_chunks_and_in_pieces_is_answered_as_a_whole_one() -> None:
    servers, urls = await subgraphs.serve()
    try:

        async def pieces() -> AsyncIterator[bytes]:
            for piece in (b'{"query": "{ ', b"me { na", b'me } }"}'):
                yield piece
                await asyncio.sleep(0.01)

        async with aiohttp.ClientSession() as session:
            for body in (pieces(), b'{"query": "{ me { name } }"}'):
                async with session.post(urls["accounts"], data=body) as response:
                    assert await response.json() == {"data": {"me": {"name": "Mina Seo"}}}
            async with session.post(urls["accounts"], data=b"{") as response:
                assert "errors" in await response.json()
    finally:
        for server in servers:
            server.close()


def test_no_two_of_the_different_operations_select_the_same() -> None:
    operations = list(different(1000))
    assert len({repr(_shape(expected(operation))) for operation in operations}) == 1000


def _objects(answer: Any) -> int:
    if isinstance(answer, list):
        return sum(map(_objects, answer))
    return 1 + sum(map(_objects, answer.values())) if isinstance(answer, dict) else 0


def _shape(answer: Any) -> Any:
    """The response keys of an answer, level by level, lists joined."""
    if isinstance(answer, list):
        merged: dict[str, Any] = {}
        for item in answer:
            for key, value in (_shape(item) or {}).items():
                merged[key] = value or merged.get(key)
        return merged
    return {key: _shape(value) for key, value in answer.items()} if isinstance(answer, dict) else None
