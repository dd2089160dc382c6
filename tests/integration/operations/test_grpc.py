"""notification-service over real gRPC: the flow of existing clients, every method of the contract, and who may call it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio
import pytest
from fakeredis import FakeAsyncRedis
from manpasik.v1 import notification_pb2 as pb
from manpasik.v1.notification_pb2_grpc import NotificationServiceStub

from domain.clock import SystemClock
from domain.principal import Principal
from domain.sealing import Sealer
from subgraphs.operations.group import build
from subgraphs.runtime.auth import Authenticator, ServiceTokens
from subgraphs.runtime.clients import Channels, client_factory
from subgraphs.runtime.faces import GroupFaces, GroupResources
from subgraphs.runtime.grpc_server import GrpcServer, access_of
from subgraphs.runtime.limits import RateLimiter
from subgraphs.runtime.objects import LocalObjects
from subgraphs.runtime.settings import ServiceSettings, Settings, TokenSettings
from tests.integration.operations.conftest import ADMIN, ALICE, BOB, Operations

TOKENS = TokenSettings()
PEOPLE = {"alice": ALICE, "bob": BOB, "admin": ADMIN}


class KnownPeople(Authenticator):
    """Takes `Person <name>` for proof of being one of the test's people, and service tokens as they are."""

    async def principal(self, authorization: str, *, callee: str = "") -> Principal:
        scheme, _, name = authorization.partition(" ")
        return PEOPLE[name] if scheme == "Person" else await super().principal(authorization, callee=callee)


@dataclass(frozen=True)
class Process:
    faces: GroupFaces
    stub: NotificationServiceStub


def as_person(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Person {name}"),)


def as_service(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Service {ServiceTokens(TOKENS).issue(name, 'notification')}"),)


@asynccontextmanager
async def serving(operations: Operations, sealer: Sealer, tmp_path: Any, *, permissive: bool) -> AsyncIterator[Process]:
    settings = Settings(
        service=ServiceSettings(grpc_auth="permissive" if permissive else "strict"),
        addresses={"USER_SERVICE_ADDR": "127.0.0.1:1"},  # away: the app's list does not wait for it
    )
    redis, tokens, channels = FakeAsyncRedis(), ServiceTokens(TOKENS), Channels(settings)
    faces = await build(
        GroupResources(
            settings=settings,
            database=operations.database,
            sealer=sealer,
            redis=redis,
            limiter=RateLimiter(redis),
            objects=LocalObjects(tmp_path / "objects", secret="s", public_url="http://objects.test"),
            clients=client_factory(channels, tokens),
            clock=SystemClock(),
        )
    )
    (service,) = faces.services
    access = access_of(
        service.name, service.servicers, KnownPeople({}, services=tokens, devices=None), settings.service
    )
    server = GrpcServer("127.0.0.1:0", service.servicers, access, settings.service)
    port = await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Process(faces, NotificationServiceStub(channel))
    finally:
        await server.stop(0)
        await faces.close()
        await channels.close()


ALERT = pb.SendNotificationRequest(
    user_id="alice",
    type=pb.NOTIFICATION_TYPE_HEALTH_ALERT,
    title="건강 경고",
    body="혈당이 높습니다",
    priority=pb.NOTIFICATION_PRIORITY_HIGH,
    channel=pb.NOTIFICATION_CHANNEL_IN_APP,
)


@pytest.mark.parametrize("who", ["nobody", "alice", "admin", "measurement"])
async def test_the_flow_of_existing_clients(operations: Operations, sealer: Sealer, tmp_path: Any, who: str) -> None:
    metadata: Any = {"nobody": None, "measurement": as_service("measurement")}.get(who, as_person(who))
    async with serving(operations, sealer, tmp_path, permissive=True) as process:
        stub = process.stub
        sent = await stub.SendNotification(ALERT, metadata=metadata)
        assert sent.notification_id
        assert (sent.user_id, sent.title, sent.is_read) == ("alice", "건강 경고", False)
        count = await stub.GetUnreadCount(pb.GetUnreadCountRequest(user_id="alice"), metadata=metadata)
        assert count.count >= 1
        listed = await stub.ListNotifications(pb.ListNotificationsRequest(user_id="alice"), metadata=metadata)
        assert sent in listed.notifications
        marked = await stub.MarkAsRead(pb.MarkAsReadRequest(notification_id=sent.notification_id), metadata=metadata)
        assert marked.success
        fewer = await stub.GetUnreadCount(pb.GetUnreadCountRequest(user_id="alice"), metadata=metadata)
        assert fewer.count == count.count - 1
