"""One caller that takes all it can get: the others are served, and the platform stays ready."""

import asyncio

import aiohttp
import grpc
import grpc.aio
import pytest
from manpasik.v1 import auth_pb2, auth_pb2_grpc

from domain.catalog import Group
from tests.support.patience import PATIENCE_S
from tests.support.platform import Platform
from tests.support.readers import sign_up

pytestmark = [pytest.mark.xdist_group("security"), pytest.mark.timeout(180)]

_BOMB = "a" * 15_000_000
_SUBSCRIPTION = "subscription { notificationReceived { id } }"


@pytest.mark.parametrize("field", ["email", "password"])
async def test_messages_that_inflate_keep_nobody_from_signing_in(platform: Platform, field: str) -> None:
    person = await sign_up(platform, "inflated")
    async with platform.channel("auth") as channel:
        auth = auth_pb2_grpc.AuthServiceStub(channel)
        values = {"email": person.email, "password": "Aa1!aaaa", field: _BOMB}
        bomb = auth_pb2.LoginRequest(**values)
        calls = [auth.Login(bomb, compression=grpc.Compression.Gzip, timeout=60) for _ in range(5)]
        other = await sign_up(platform, "meanwhile")
        assert other.token
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await platform.get(platform.plan.subgraph_port, "/ready")).status == 200


async def test_one_account_with_hundreds_of_subscriptions_leaves_the_platform_ready(platform: Platform) -> None:
    person, other = await sign_up(platform, "many"), await sign_up(platform, "one")
    url = platform.subgraph_url(Group.OPERATIONS)
    headers = {"authorization": f"Bearer {person.token}"}
    async with aiohttp.ClientSession() as http:
        opened, refused = [], 0
        for _ in range(100):
            try:
                socket = await http.ws_connect(url, protocols=["graphql-transport-ws"], headers=headers)
            except aiohttp.WSServerHandshakeError:
                refused += 1
                continue
            opened.append(socket)
            await socket.send_json({"type": "connection_init"})
            await socket.receive_json(timeout=PATIENCE_S)
            for number in range(4):
                payload = {"query": _SUBSCRIPTION}
                await socket.send_json({"type": "subscribe", "id": str(number), "payload": payload})
        assert refused > 0
        assert (await platform.get(platform.plan.subgraph_port, "/ready")).status == 200
        answer = await platform.graphql("{ me { id } }", token=other.token)
        assert answer["data"]["me"]["id"] == other.user_id
        await asyncio.gather(*(socket.close() for socket in opened))


async def test_health_is_answered_under_the_names_that_probes_use(platform: Platform) -> None:
    for port in (platform.plan.subgraph_port, platform.plan.metrics_port):
        for path in ("/health/live", "/health/ready"):
            assert (await platform.get(port, path)).status == 200
