"""Deferred parts over real connections: both multipart forms, server-sent events, WebSockets, and clients that leave."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from router.execution.errors import SubgraphFailure
from router.serving.settings import RouterSettings
from tests.federation.deferring import served, together, together_as_of_2022
from tests.federation.serve import Served
from tests.federation.shop import shop
from tests.support.patience import PATIENCE_S

QUERY = '{ topProduct { name ... @defer(label: "more") { inStock } } }'
AUGUST_2022 = "multipart/mixed;deferSpec=20220824, application/json"
CURRENT = "multipart/mixed;incrementalSpec=v0.2, application/json"
WHOLE = {"topProduct": {"name": "Product 2", "inStock": False}}


def _ask(router: Served, query: str, accept: str) -> Any:
    return router.session.post(f"{router.url}/graphql", json={"query": query}, headers={"accept": accept})


async def _parts(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The parts as they come; each can be read once its own end was sent."""
    received = b""
    async for chunk in response.content.iter_any():
        received += chunk
        while (found := re.search(rb"\r\n---(.*?)\r\n\r\n(.*?)(?=\r\n---)", received, re.DOTALL)) is not None:
            assert found[1].strip() == b"content-type: application/json; charset=utf-8"
            yield orjson.loads(found[2])
            received = received[found.end() :]
    assert received == b"\r\n-----\r\n"


@pytest.mark.parametrize("accept", [AUGUST_2022, CURRENT, "multipart/mixed"])
async def test_the_primary_answer_does_not_wait_for_a_slow_subgraph(accept: str) -> None:
    async with served(shop()) as (router, gates):
        gates.hold("stock")
        async with asyncio.timeout(PATIENCE_S), _ask(router, QUERY, accept) as response:
            parts = _parts(response)
            first = await anext(parts)
            await gates.asked["stock"].wait()
            gates.let_go("stock")
            answers = [first, *[part async for part in parts]]
    assert first["data"] == {"topProduct": {"name": "Product 2"}}
    assert first["hasNext"] is True
    assert (together_as_of_2022 if accept == AUGUST_2022 else together)(answers) == WHOLE


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (AUGUST_2022, 'multipart/mixed;boundary="-";deferSpec=20220824'),
        (CURRENT, 'multipart/mixed;boundary="-";incrementalSpec=v0.2'),
        ("multipart/mixed;incrementalSpec=v0.1", 'multipart/mixed;boundary="-";incrementalSpec=v0.1'),
        ('Multipart/Mixed; DeferSpec="20220824"; q=0.9', 'multipart/mixed;boundary="-";deferSpec=20220824'),
        ("multipart/mixed;deferSpec=30000101, multipart/mixed", 'multipart/mixed;boundary="-"'),
        (
            "multipart/mixed;boundary=graphql;subscriptionSpec=1.0, multipart/mixed;deferSpec=20220824",
            'multipart/mixed;boundary="-";deferSpec=20220824',
        ),
    ],
)
async def test_the_client_chooses_the_form(accept: str, content_type: str) -> None:
    async with served(shop()) as (router, _), _ask(router, QUERY, accept) as response:
        await response.read()
    assert (response.status, response.headers["content-type"]) == (200, content_type)


@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "*/*",
        "application/graphql-response+json",
        "multipart/mixed;deferSpec=30000101, application/json",
        "multipart/mixed;q=0, application/json",
        "multipart/mixed;subscriptionSpec=1.0, application/json",
    ],
)
async def test_a_client_that_takes_no_parts_gets_one_answer(accept: str) -> None:
    async with served(shop()) as (router, _), _ask(router, QUERY, accept) as response:
        assert response.content_type != "multipart/mixed"
        assert orjson.loads(await response.read()) == {"data": WHOLE}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("{ me { name } }", {"data": {"me": {"name": "Ada"}}}),
        ("{ me { name ... @defer(if: false) { role } } }", {"data": {"me": {"name": "Ada", "role": "EDITOR"}}}),
        ('{ product(upc: "none") { ... @defer { name } } }', {"data": {"product": None}}),
    ],
)
async def test_an_answer_without_parts_is_an_ordinary_one(query: str, expected: dict[str, Any]) -> None:
    async with served(shop()) as (router, _):
        for accept in (AUGUST_2022, CURRENT):
            async with _ask(router, query, accept) as response:
                assert response.content_type == "application/json"
                assert orjson.loads(await response.read()) == expected


async def test_a_request_error_is_an_ordinary_answer() -> None:
    async with served(shop()) as (router, _):
        async with _ask(
            router, "{ me { ... @defer { nope } } }", "multipart/mixed, application/graphql-response+json"
        ) as r:
            assert (r.status, r.content_type) == (400, "application/graphql-response+json")
        query = 'mutation { rename(name: "x") { ... @defer { name } } }'
        accepting = {"accept": CURRENT}
        refused = await router.get("/graphql", params={"query": query}, headers=accepting)
        assert refused.status == 405


async def test_a_part_that_fails_says_so_and_names_no_subgraph_in_production() -> None:
    federation = shop()
    federation.broken["stock"] = SubgraphFailure("it hung up.", code="SERVICE_UNAVAILABLE")
    async with (
        served(federation, RouterSettings(redact_errors=True)) as (router, _),
        _ask(router, QUERY, CURRENT) as response,
    ):
        answers = [part async for part in _parts(response)]
    assert together(answers) == {"topProduct": {"name": "Product 2", "inStock": None}}
    (part,) = answers[1]["incremental"]
    assert [error["path"] for error in part["errors"]] == [["topProduct"]]
    assert "stock" not in str(answers)


async def test_a_client_that_leaves_gives_up_the_deferred_requests() -> None:
    async with served(shop()) as (router, gates):
        gates.hold("stock")
        async with asyncio.timeout(PATIENCE_S):
            async with _ask(router, QUERY, CURRENT) as response:
                await anext(_parts(response))
                await gates.asked["stock"].wait()
                response.close()
            await gates.left["stock"].wait()


async def test_events_of_a_deferred_query_are_its_parts() -> None:
    async with served(shop()) as (router, _), _ask(router, QUERY, "text/event-stream") as response:
        events = (await response.text()).strip().split("\n\n")
    assert [event.splitlines()[0] for event in events] == ["event: next", "event: next", "event: complete"]
    assert together([orjson.loads(event.partition("data: ")[2]) for event in events[:2]]) == WHOLE


@pytest.mark.parametrize("accept", [None, AUGUST_2022])
async def test_messages_of_a_deferred_query_are_its_parts(accept: str | None) -> None:
    async with served(shop()) as (router, gates):
        gates.hold("stock")
        url = router.url.replace("http", "ws") + "/graphql"
        async with (
            asyncio.timeout(PATIENCE_S),
            router.session.ws_connect(url, protocols=("graphql-transport-ws",)) as socket,
        ):
            await socket.send_json({"type": "connection_init", "payload": {} if accept is None else {"accept": accept}})
            assert (await socket.receive_json())["type"] == "connection_ack"
            await socket.send_json({"id": "1", "type": "subscribe", "payload": {"query": QUERY}})
            first = await socket.receive_json()
            gates.let_go("stock")
            messages = [first, await socket.receive_json(), await socket.receive_json()]
    assert [message["type"] for message in messages] == ["next", "next", "complete"]
    put = together if accept is None else together_as_of_2022
    assert put([message["payload"] for message in messages[:2]]) == WHOLE
