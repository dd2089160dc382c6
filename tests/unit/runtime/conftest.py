"""HTTP servers and clients on real sockets."""

from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from starlette.types import ASGIApp

from subgraphs.runtime.serving import HttpServer

Serve = Callable[[ASGIApp], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """`await serve(app)`: the address of an application that is served for the length of the test."""
    servers: list[HttpServer] = []

    async def start(app: ASGIApp) -> str:
        server = HttpServer(app, "127.0.0.1", 0)
        servers.append(server)
        await server.start()
        return f"http://127.0.0.1:{server.port}"

    yield start
    for server in servers:
        await server.stop(0)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session
