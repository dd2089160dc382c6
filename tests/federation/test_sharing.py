"""Identical subgraph requests that are under way at the same time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiohttp import web

from router.execution.errors import SubgraphFailure
from router.serving.app import create_app
from router.serving.settings import RouterSettings, SubgraphSettings
from router.serving.sharing import SharingTransport
from router.supergraph.model import SubgraphName
from tests.federation.serve import Served, serve
from tests.federation.shop import SHOP

A, B = SubgraphName("a"), SubgraphName("b")


class Slow:
    """Answers when it is let; sent: what it was asked; cancelled: how many of these nobody waited for any more."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.cancelled = 0
        self.let = asyncio.Event()
        self.failure: Exception | None = None

    async def post(self, subgraph: SubgraphName, body: bytes, headers: Mapping[str, str]) -> bytes:
        self.sent.append((subgraph, body))
        number = len(self.sent)
        try:
            await self.let.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure
        return b"%d" % number


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_who_ask_the_same_at_the_same_time_get_one_answer() -> None:
    slow = Slow()
    sharing = SharingTransport(slow)
    asking = [asyncio.create_task(sharing.post(A, b"q", {"x": "1", "traceparent": str(n)})) for n in range(5)]
    await settle()
    slow.let.set()
    assert await asyncio.gather(*asking) == [b"1"] * 5
    assert await sharing.post(A, b"q", {"x": "1"}) == b"2", "an answer is not kept"


async def test_another_subgraph_body_or_header_is_another_question() -> None:
    slow = Slow()
    slow.let.set()
    sharing = SharingTransport(slow)
    questions: list[tuple[SubgraphName, bytes, dict[str, str]]] = [
        (A, b"q", {}),
        (B, b"q", {}),
        (A, b"r", {}),
        (A, b"q", {"authorization": "x"}),
        (A, b"q", {"authorization": "y"}),
    ]
    answers = await asyncio.gather(*(sharing.post(*question) for question in questions))
    assert sorted(answers) == [b"1", b"2", b"3", b"4", b"5"]


async def test_a_failure_is_everyones_and_the_next_to_ask_tries_again() -> None:
    slow = Slow()
    slow.failure = SubgraphFailure("no.", code="SUBGRAPH_HTTP_ERROR", status=500)
    sharing = SharingTransport(slow)
    asking = [asyncio.create_task(sharing.post(A, b"q", {})) for _ in range(3)]
    await settle()
    slow.let.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert [(type(o), o.status) for o in outcomes if isinstance(o, SubgraphFailure)] == [(SubgraphFailure, 500)] * 3
    slow.failure = None
    assert await sharing.post(A, b"q", {}) == b"2"


@pytest.mark.parametrize("leaving", [0, 1, 2])
async def test_who_leaves_takes_nothing_from_the_others(leaving: int) -> None:
    slow = Slow()
    sharing = SharingTransport(slow)
    asking = [asyncio.create_task(sharing.post(A, b"q", {})) for _ in range(4)]
    await settle()
    asking.pop(leaving).cancel()
    await settle()
    slow.let.set()
    expected = b"1" if leaving else b"2"  # the first one's request goes with it, and is sent once more, not thrice
    assert await asyncio.gather(*asking) == [expected] * 3
    assert len(slow.sent) == (1 if leaving else 2)


async def test_a_request_ends_when_everyone_has_left() -> None:
    slow = Slow()
    sharing = SharingTransport(slow)
    asking = [asyncio.create_task(sharing.post(A, b"q", {})) for _ in range(4)]
    await settle()
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    assert slow.cancelled == len(slow.sent)
    slow.let.set()
    assert await sharing.post(A, b"q", {}) == b"%d" % len(slow.sent)


async def test_those_who_join_while_one_leaves_and_answers_come_get_an_answer() -> None:
    slow = Slow()
    sharing = SharingTransport(slow)
    first = asyncio.create_task(sharing.post(A, b"q", {}))
    await settle()
    second = asyncio.create_task(sharing.post(A, b"q", {}))
    await asyncio.sleep(0)
    slow.let.set()
    first.cancel()  # in the very turn in which its answer came
    third = asyncio.create_task(sharing.post(A, b"q", {}))
    answers = await asyncio.gather(second, third)
    assert set(answers) <= {b"%d" % n for n in range(1, len(slow.sent) + 1)}


async def test_a_bug_in_the_transport_is_not_hidden_by_sharing() -> None:
    slow = Slow()
    slow.failure = ZeroDivisionError()
    sharing = SharingTransport(slow)
    asking = [asyncio.create_task(sharing.post(A, b"q", {})) for _ in range(3)]
    await settle()
    slow.let.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError] * 3


@contextlib.asynccontextmanager
async def counting(settings: dict[str, Any]) -> AsyncIterator[tuple[Served, list[str]]]:
    """A router over the shop whose people answer after a while; and what they were asked."""
    asked: list[str] = []

    async def people(request: web.Request) -> web.Response:
        asked.append((await request.json())["query"])
        await asyncio.sleep(0.1)
        return web.json_response({"data": {"me": {"name": "Ada"}, "rename": {"upc": "1"}}})

    app = web.Application()
    app.router.add_post("/", people)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = SubgraphSettings(url=f"http://127.0.0.1:{runner.addresses[0][1]}/")
    try:
        subgraphs = {"people": url, "catalog": url}
        async with serve(create_app(SHOP, RouterSettings(subgraphs=subgraphs, **settings))) as router:
            yield router, asked
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("settings", "query", "requests"),
    [
        ({}, "{ me { name } }", 1),
        ({"share_in_flight": False}, "{ me { name } }", 5),
        ({}, 'mutation { rename(name: "x") { upc } }', 5),
    ],
)
async def test_clients_that_ask_alike_share_a_request_unless_it_changes_something(
    settings: dict[str, Any], query: str, requests: int
) -> None:
    async with counting(settings) as (router, asked):
        answers = await asyncio.gather(*(router.post("/graphql", json={"query": query}) for _ in range(5)))
        contents = [await answer.json() for answer in answers]
    assert len(asked) == requests
    assert all(content == contents[0] and "errors" not in content for content in contents)


async def test_clients_with_other_headers_do_not_share() -> None:
    async with counting({}) as (router, asked):
        await asyncio.gather(
            *(
                router.post("/graphql", json={"query": "{ me { name } }"}, headers={"authorization": name})
                for name in ("a", "a", "b")
            )
        )
    assert len(asked) == 2
