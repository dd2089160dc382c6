"""An application on a free port of this machine, for as long as a test needs it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import uvicorn
from starlette.applications import Starlette

from router.serving.server import OneWriteProtocol


@dataclass(frozen=True)
class Served:
    app: Starlette
    url: str
    session: aiohttp.ClientSession

    async def get(self, path: str, **options: Any) -> aiohttp.ClientResponse:
        """The response, read to its end so that its connection is free again."""
        response = await self.session.get(f"{self.url}{path}", **options)
        await response.read()
        return response

    async def post(self, path: str, **options: Any) -> aiohttp.ClientResponse:
        """As `get`."""
        response = await self.session.post(f"{self.url}{path}", **options)
        await response.read()
        return response


@contextlib.asynccontextmanager
async def serve(app: Starlette) -> AsyncIterator[Served]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, http=OneWriteProtocol, log_level="error", lifespan="on", ws="websockets-sansio", proxy_headers=False
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:  # noqa: ASYNC110  uvicorn has no event to wait for
            await asyncio.sleep(0.005)
        try:
            async with aiohttp.ClientSession() as session:
                yield Served(app, f"http://127.0.0.1:{listening.getsockname()[1]}", session)
        finally:
            server.should_exit = True
            await task
