"""Work that ends when it is told to, whatever a library does with the cancellation.

asyncio hands the cancellation of a task on to the task that it waits for. A library that ends by cancelling tasks of its
own and waiting for them catches it there along with its own (`stop` and `close` of aiokafka's clients do so in five
places): a cancellation that arrives in that moment is gone, and who called `stop` goes on as if nobody had told it to
end. So such a call gets a task of its own here, and is waited for in a way that hands nothing on.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

_log = structlog.get_logger("cancellation")
_left_behind: set["asyncio.Task[None]"] = set()  # the loop itself holds its tasks weakly


async def finish(ending: Coroutine[Any, Any, None], *, what: str, within_s: float) -> None:
    """Let an ending run undisturbed, and raise a cancellation that came meanwhile when it is through.

    After `within_s` seconds it is not waited for any longer, and goes on by itself. That it fails is logged: it is of no
    consequence to who wanted to be rid of the thing anyway.
    """
    task = asyncio.create_task(ending, name=f"end of {what}")
    _left_behind.add(task)
    task.add_done_callback(_ended)
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    cancelled: asyncio.CancelledError | None = None
    while not task.done() and (left_s := until - loop.time()) > 0:
        try:
            await asyncio.wait([task], timeout=left_s)
        except asyncio.CancelledError as error:
            cancelled = error
    if not task.done():
        _log.warning("not waited for any longer", what=what, after_s=within_s)
    if cancelled is not None:
        raise cancelled


async def end_within(work: Coroutine[Any, Any, None], *, what: str, within_s: float) -> None:
    """Do the work; when this is cancelled, end within so many seconds, even if the work does not.

    The work is cancelled a second time at half of them, in case that something has swallowed the first.
    """
    task = asyncio.create_task(work, name=what)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        for _ in range(2):
            task.cancel()
            await asyncio.wait([task], timeout=within_s / 2)
            if task.done():
                break
        else:
            _left_behind.add(task)
            task.add_done_callback(_ended)
            _log.error("work does not end", what=what, after_s=within_s)
        if task.done() and not task.cancelled():
            task.result()
        raise
    task.result()


def _ended(task: "asyncio.Task[None]") -> None:
    _left_behind.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("ended with an error", what=task.get_name(), error=repr(error))
