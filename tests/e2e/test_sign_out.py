"""Sign out, and everything that was open in whatever process ends: over the router, a subgraph and gRPC."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from manpasik.v1 import auth_pb2, auth_pb2_grpc

from domain.catalog import Group
from tests.support.patience import PATIENCE_S
from tests.support.platform import Platform
from tests.support.readers import Person, sign_up

pytestmark = [pytest.mark.xdist_group("e2e"), pytest.mark.timeout(120)]

_log = logging.getLogger(__name__)

LIVE = "subscription { notificationReceived { id } }"


async def sign_out(platform: Platform, person: Person) -> None:
    async with platform.channel("auth") as channel:
        await auth_pb2_grpc.AuthServiceStub(channel).Logout(
            auth_pb2.LogoutRequest(), metadata=person.metadata, timeout=30
        )


async def _websocket(http: aiohttp.ClientSession, url: str, person: Person, is_open: asyncio.Event) -> None:
    async with http.ws_connect(url, protocols=["graphql-transport-ws"]) as socket:
        await socket.send_json({"type": "connection_init", "payload": {"authorization": f"Bearer {person.token}"}})
        assert (await socket.receive_json(timeout=PATIENCE_S))["type"] == "connection_ack"
        await socket.send_json({"id": "1", "type": "subscribe", "payload": {"query": LIVE}})
        is_open.set()
        async for _ in socket:
            pass
        assert socket.close_code == 4403


async def _stream(http: aiohttp.ClientSession, url: str, person: Person, is_open: asyncio.Event) -> None:
    headers = {"accept": "text/event-stream", "authorization": f"Bearer {person.token}"}
    async with http.post(url, json={"query": LIVE}, headers=headers) as response:
        assert response.status == 200
        is_open.set()
        assert b"UNAUTHENTICATED" in await response.read()


async def _refused(ask: Callable[[], Awaitable[bool]]) -> None:
    while not await ask():  # noqa: ASYNC110 - what it asks has no event
        await asyncio.sleep(0.02)


async def test_signing_out_ends_streams_and_requests_in_every_process(platform: Platform) -> None:
    person, other = await sign_up(platform, "leaves"), await sign_up(platform, "stays")
    router = platform.url(platform.plan.router_port, "/graphql")

    async def router_refuses() -> bool:
        reply = await platform.ask("{ __typename }", token=person.token)  # which no subgraph is asked for
        return reply.status == 401 and reply.json["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"

    async def subgraph_refuses() -> bool:
        answer: dict[str, Any] = (
            await platform.ask("{ me { id } }", token=person.token, url=platform.subgraph_url(Group.OPERATIONS))
        ).json
        return any(error["extensions"]["code"] == "UNAUTHENTICATED" for error in answer.get("errors", ()))

    assert not await router_refuses()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
        opened = [asyncio.Event(), asyncio.Event(), asyncio.Event()]
        work = {
            "websocket": asyncio.create_task(_websocket(http, router, person, opened[0])),
            "server-sent events": asyncio.create_task(_stream(http, router, person, opened[1])),
        }
        staying = asyncio.create_task(_websocket(http, router, other, opened[2]))
        await asyncio.gather(*(asyncio.wait_for(each.wait(), PATIENCE_S) for each in opened))
        await sign_out(platform, person)
        work["the router"] = asyncio.create_task(_refused(router_refuses))
        work["a subgraph"] = asyncio.create_task(_refused(subgraph_refuses))
        ended = await _seconds_until_each_ends(work)
        assert not staying.done()
        staying.cancel()
    _log.info("seconds from signing out: %s", ended)


async def _seconds_until_each_ends(work: dict[str, "asyncio.Task[None]"]) -> dict[str, float]:
    """Raises what one of them raises; TimeoutError when one goes on."""
    started = time.monotonic()

    async def timed(task: "asyncio.Task[None]") -> float:
        await task
        return round(time.monotonic() - started, 2)

    async with asyncio.timeout(PATIENCE_S):
        seconds = await asyncio.gather(*(timed(task) for task in work.values()))
    return dict(zip(work, seconds, strict=True))
