"""Servers that live as long as a fixture, on an event loop of their own in a thread."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Protocol


class Server(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...


@contextmanager
def running_in_background(server: Server) -> Iterator[None]:
    """The server answers during the block."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="background servers", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(30)
        yield
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
