"""Work that ends although what it calls swallows cancellations, as clients of the broker do."""

import asyncio
import time
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from subgraphs.runtime.cancellation import end_within, finish
from tests.support.patience import PATIENCE_S


class _Client:
    """Ends like a client of the broker: cancels a task of its own, which returns upon that, and waits for it."""

    def __init__(self) -> None:
        self._own = asyncio.create_task(self._work())
        self.stopped = False

    @staticmethod
    async def _work() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async def stop(self) -> None:
        self._own.cancel()
        await self._own
        self.stopped = True


async def _steps(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("step", range(6))
async def test_a_cancellation_that_meets_an_ending_is_raised_after_it(step: int) -> None:
    client = _Client()
    await _steps(2)

    async def use() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            await finish(client.stop(), what="client", within_s=5)
        await asyncio.Event().wait()  # for ever, like a relay whose cancellation was lost

    user = asyncio.create_task(use())
    await _steps(2 + step)
    user.cancel()
    await asyncio.wait([user], timeout=2)
    assert user.cancelled()
    assert client.stopped


async def test_an_ending_that_takes_too_long_is_left_behind_and_not_interrupted() -> None:
    go_on, through = asyncio.Event(), asyncio.Event()

    async def flush() -> None:
        await go_on.wait()
        through.set()

    with capture_logs() as logs:
        await finish(flush(), what="flush", within_s=0.05)
    assert [(log["event"], log["what"]) for log in logs] == [("not waited for any longer", "flush")]
    go_on.set()
    async with asyncio.timeout(PATIENCE_S):
        await through.wait()


async def test_an_ending_that_fails_is_logged_and_hides_nothing() -> None:
    async def fail() -> None:
        raise LookupError("no such task")

    with capture_logs() as logs, pytest.raises(ValueError, match="the real one"):
        try:
            raise ValueError("the real one")
        finally:
            await finish(fail(), what="client", within_s=5)
    assert [(log["event"], log["error"]) for log in logs] == [("ended with an error", "LookupError('no such task')")]


async def _deaf(cancellations: int) -> None:
    for _ in range(cancellations):
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    await asyncio.Event().wait()


@pytest.mark.parametrize(("deaf_to", "logged"), [(0, []), (1, []), (2, ["work does not end"])])
async def test_cancelled_work_ends_in_time_however_deaf_it_is(deaf_to: int, logged: list[str]) -> None:
    task = asyncio.create_task(end_within(_deaf(deaf_to), what="work", within_s=0.2))
    await _steps(3)
    started = time.monotonic()
    with capture_logs() as logs:
        task.cancel()
        await asyncio.wait([task], timeout=5)
    assert task.cancelled()
    assert time.monotonic() - started < 2
    assert [log["event"] for log in logs] == logged


async def test_work_that_fails_fails_with_its_own_error() -> None:
    async def fail() -> None:
        raise LookupError("missing")

    with pytest.raises(LookupError, match="missing"):
        await end_within(fail(), what="work", within_s=1)
