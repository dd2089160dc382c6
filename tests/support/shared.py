"""One server for all workers of a test run: the first that needs it starts it, and it stops with the last."""

import asyncio
import fcntl
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

Result = TypeVar("Result")

_started: list[object] = []  # a server that is still in use by other workers must outlive the fixture that started it


def run(work: Callable[[], Awaitable[Result]]) -> Result:
    """The result of asynchronous work, for fixtures that live longer than an event loop of a test."""

    async def main() -> Result:
        return await work()

    with ThreadPoolExecutor(max_workers=1) as thread:  # a thread of its own leaves the loop of the tests alone
        return thread.submit(lambda: asyncio.run(main())).result()


def shared_root(factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run have in common."""
    base = factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@contextmanager
def locked(root: Path, name: str) -> Iterator[None]:
    """Only one worker at a time is in here."""
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def shared_server(root: Path, name: str, start: Callable[[int], Awaitable[tuple[object, str]]]) -> Iterator[str]:
    """The address of a running server.

    The server's lifeline is a named pipe that every worker holds open for writing: the kernel counts the holders, also
    those that are killed, and the server stops when there are none.

    Args:
        start: starts a server with the given lifeline; answers the server and its address.
    """
    fifo, address_file = root / f"{name}.lifeline", root / f"{name}.json"
    with locked(root, name):
        try:
            held = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # not there yet, or there and nobody reads: a server that has gone
            fifo.unlink(missing_ok=True)
            os.mkfifo(fifo)
            lifeline = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            held = os.open(fifo, os.O_WRONLY)
            os.set_blocking(lifeline, True)
            try:
                server, started = run(lambda: start(lifeline))
            finally:
                os.close(lifeline)
            _started.append(server)
            address_file.write_text(json.dumps(started))
        address: str = json.loads(address_file.read_text())
    try:
        yield address
    finally:
        os.close(held)
