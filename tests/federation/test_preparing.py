"""New operations: prepared once, large ones beside the event loop, and nothing kept of those that fail."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from router.errors import PlanningError
from router.planning.operation import Operation
from router.planning.planner import Planned, Planner
from router.serving.app import create_app
from router.serving.cache import Cache
from router.serving.engine import _WORKERS, APART_FROM
from router.serving.settings import RouterSettings
from tests.federation.serve import Served, serve
from tests.federation.shop import SHOP


def large(number: int) -> str:
    """An operation that is prepared in a worker thread."""
    return f"query Large{number} {{ __typename }} # " + "x" * APART_FROM


class Gate:
    """A planner that stands still until it is let go on. planned: how often it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.planned = 0
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        self.failure: Exception | None = None
        plan = Planner.plan

        def wait(planner: Planner, operation: Operation) -> Planned:
            if threading.current_thread() is threading.main_thread():
                return plan(planner, operation)
            with self._lock:
                self.planned += 1
                self._now += 1
                self.most_at_once = max(self.most_at_once, self._now)
            assert self.open.wait(10)
            with self._lock:
                self._now -= 1
            if self.failure is not None:
                raise self.failure
            return plan(planner, operation)

        monkeypatch.setattr(Planner, "plan", wait)

    async def reached(self, times: int = 1) -> None:
        while self.planned < times:  # noqa: ASYNC110  another thread counts
            await asyncio.sleep(0.005)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open.set()


@pytest.fixture
async def router() -> AsyncIterator[Served]:
    async with serve(create_app(SHOP, RouterSettings())) as served:
        yield served


async def ask(router: Served, query: str) -> object:
    response = await router.post("/graphql", json={"query": query})
    return await response.json()


async def test_an_operation_that_is_being_planned_holds_up_nobody_else(router: Served, gate: Gate) -> None:
    slow = asyncio.create_task(ask(router, large(1)))
    await gate.reached()
    assert await ask(router, "{ __typename }") == {"data": {"__typename": "Query"}}
    assert (await router.get("/health")).status == 200
    assert not slow.done()
    gate.open.set()
    assert await slow == {"data": {"__typename": "Query"}}


async def test_the_same_new_operation_is_planned_once_for_all_who_ask(router: Served, gate: Gate) -> None:
    asked = [asyncio.create_task(ask(router, large(1))) for _ in range(5)]
    await gate.reached()
    await asyncio.sleep(0.05)
    gate.open.set()
    assert await asyncio.gather(*asked) == [{"data": {"__typename": "Query"}}] * 5
    assert await ask(router, large(1)) == {"data": {"__typename": "Query"}}
    assert gate.planned == 1


async def test_no_more_operations_than_allowed_are_planned_at_the_same_time(router: Served, gate: Gate) -> None:
    asked = [asyncio.create_task(ask(router, large(number))) for number in range(_WORKERS + 3)]
    await gate.reached(_WORKERS)
    await asyncio.sleep(0.05)
    gate.open.set()
    await asyncio.gather(*asked)
    assert gate.planned == _WORKERS + 3
    assert gate.most_at_once == _WORKERS


async def test_a_plan_that_fails_is_told_to_all_who_wait_and_tried_again_by_the_next(
    router: Served, gate: Gate
) -> None:
    gate.failure = PlanningError("no way leads there")
    asked = [asyncio.create_task(ask(router, large(1))) for _ in range(3)]
    await gate.reached()
    await asyncio.sleep(0.05)
    gate.open.set()
    for answer in await asyncio.gather(*asked):
        assert "QUERY_PLANNING_FAILED" in str(answer)
    gate.failure = None
    assert await ask(router, large(1)) == {"data": {"__typename": "Query"}}
    assert gate.planned == 2


async def test_those_who_wait_get_their_answer_when_the_first_to_ask_goes_away(router: Served, gate: Gate) -> None:
    first = asyncio.create_task(ask(router, large(1)))
    await gate.reached()
    second = asyncio.create_task(ask(router, large(1)))
    await asyncio.sleep(0.05)
    first.cancel()
    await asyncio.sleep(0.05)
    gate.open.set()
    assert await second == {"data": {"__typename": "Query"}}
    assert gate.planned == 1


# -- the cache ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache() -> Iterator[Cache[int]]:
    with ThreadPoolExecutor(1) as workers:
        yield Cache(2, workers)


@pytest.mark.parametrize("apart", [False, True])
async def test_the_entry_that_was_used_longest_ago_leaves(cache: Cache[int], apart: bool) -> None:
    assert await cache.get(1, lambda: 1, apart=apart) == 1
    assert await cache.get(2, lambda: 2, apart=apart) == 2
    assert cache.known(1) == 1
    await cache.get(3, lambda: 3, apart=apart)
    assert (cache.known(1), cache.known(2), cache.known(3), len(cache)) == (1, None, 3, 2)


@pytest.mark.parametrize("apart", [False, True])
async def test_nothing_is_kept_of_an_entry_that_cannot_be_made(cache: Cache[int], apart: bool) -> None:
    with pytest.raises(ZeroDivisionError):
        await cache.get(1, lambda: 1 // 0, apart=apart)
    assert await cache.get(1, lambda: 7, apart=apart) == 7
