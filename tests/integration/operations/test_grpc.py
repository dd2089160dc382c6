"""notification-service over real gRPC: the flow of existing clients, every method of the contract, and who may call it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
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
from subgraphs.runtime.auth import Authenticator
from subgraphs.runtime.clients import Channels, client_factory
from subgraphs.runtime.faces import GroupFaces, GroupResources
from subgraphs.runtime.grpc_server import GrpcServer, access_of
from subgraphs.runtime.limits import RateLimiter
from subgraphs.runtime.objects import LocalObjects
from subgraphs.runtime.settings import ServiceSettings, Settings, TokenSettings
from tests.integration.operations.conftest import ADMIN, ALICE, BOB, Operations
from tests.security.test_every_rpc import found_bugs
from tests.support.trust import service_tokens

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
    address: str


def as_person(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Person {name}"),)


def as_service(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Service {service_tokens().issue(name, 'notification')}"),)


@asynccontextmanager
async def serving(
    operations: Operations, sealer: Sealer, tmp_path: Path, *, permissive: bool
) -> AsyncIterator[Process]:
    settings = Settings(
        service=ServiceSettings(grpc_auth="permissive" if permissive else "strict"),
        addresses={"USER_SERVICE_ADDR": "127.0.0.1:1"},  # away: the app's list does not wait for it
    )
    redis, tokens, channels = FakeAsyncRedis(), service_tokens(), Channels(settings)
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
            yield Process(faces, NotificationServiceStub(channel), f"127.0.0.1:{port}")
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
async def test_the_flow_of_existing_clients(operations: Operations, sealer: Sealer, tmp_path: Path, who: str) -> None:
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


async def test_every_method_of_the_contract(operations: Operations, sealer: Sealer, tmp_path: Path) -> None:
    alice, service = as_person("alice"), as_service("coaching")
    async with serving(operations, sealer, tmp_path, permissive=False) as process:
        stub = process.stub
        told = await stub.SendNotification(
            pb.SendNotificationRequest(
                user_id="alice",
                type=pb.NOTIFICATION_TYPE_COMMUNITY,
                title="t",
                body="b",
                data={"k": "v"},
                action_url="/community/1",
            ),
            metadata=service,
        )
        assert (told.priority, told.channel) == (pb.NOTIFICATION_PRIORITY_NORMAL, pb.NOTIFICATION_CHANNEL_UNKNOWN)
        assert (dict(told.data), told.action_url) == ({"k": "v"}, "/community/1")
        templated = await stub.SendFromTemplate(
            pb.SendFromTemplateRequest(
                template_key="measurement_completed",
                user_id="alice",
                data={"session_id": "s-1", "type_name": "혈당"},
            ),
            metadata=service,
        )
        assert (templated.type, templated.title) == (pb.NOTIFICATION_TYPE_MEASUREMENT, "측정이 끝났습니다")
        listed = await stub.ListNotifications(pb.ListNotificationsRequest(limit=1), metadata=alice)
        assert ([n.title for n in listed.notifications], listed.total_count) == (["측정이 끝났습니다"], 2)
        kinds = await stub.ListNotifications(
            pb.ListNotificationsRequest(type_filter=pb.NOTIFICATION_TYPE_COMMUNITY, unread_only=True), metadata=alice
        )
        assert [n.notification_id for n in kinds.notifications] == [told.notification_id]
        last = await stub.ListNotifications(pb.ListNotificationsRequest(offset=1), metadata=alice)
        assert [n.title for n in last.notifications] == ["t"]
        assert (await stub.MarkAllAsRead(pb.MarkAllAsReadRequest(), metadata=alice)).marked_count == 2
        assert (await stub.GetUnreadCount(pb.GetUnreadCountRequest(), metadata=alice)).count == 0
        read = await stub.ListNotifications(pb.ListNotificationsRequest(), metadata=alice)
        assert all(n.is_read and n.HasField("read_at") for n in read.notifications)
        defaults = await stub.GetNotificationPreferences(pb.GetNotificationPreferencesRequest(), metadata=alice)
        assert (defaults.user_id, defaults.push_enabled, defaults.promotions) == ("alice", True, False)
        assert not defaults.HasField("updated_at")
        changed = await stub.UpdateNotificationPreferences(
            pb.UpdateNotificationPreferencesRequest(
                health_alerts=True, quiet_hours_start="22:00", quiet_hours_end="07:00"
            ),
            metadata=alice,
        )
        assert (changed.push_enabled, changed.health_alerts, changed.quiet_hours_end) == (False, True, "07:00")
        assert changed.HasField("updated_at")
        again = await stub.GetNotificationPreferences(
            pb.GetNotificationPreferencesRequest(user_id="alice"), metadata=as_service("admin")
        )
        assert again == changed


def sending(**more: Any) -> pb.SendNotificationRequest:
    """What a person may send to themselves, with what a test changes; enums may be any number, as they may on the wire."""
    good: dict[str, Any] = {"type": 1, "title": "t", "channel": 4}
    return pb.SendNotificationRequest(**(good | more))


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (sending(user_id="bob"), "PERMISSION_DENIED"),
        (sending(channel=0), "PERMISSION_DENIED"),
        (sending(type=99), "INVALID_ARGUMENT"),
        (sending(priority=99), "INVALID_ARGUMENT"),
        (sending(channel=-5), "INVALID_ARGUMENT"),
        (sending(channel=2), "PERMISSION_DENIED"),
        (sending(type=0), "INVALID_ARGUMENT"),
        (sending(title=""), "INVALID_ARGUMENT"),
        (sending(title="a\0b"), "INVALID_ARGUMENT"),
        (sending(title="x" * 100_000), "INVALID_ARGUMENT"),
        (sending(body="x" * 100_000), "INVALID_ARGUMENT"),
        (sending(data={"k": "v" * 2000}), "INVALID_ARGUMENT"),
        (pb.ListNotificationsRequest(user_id="bob"), "PERMISSION_DENIED"),
        (pb.ListNotificationsRequest(limit=-1), "INVALID_ARGUMENT"),
        (pb.ListNotificationsRequest(offset=-(2**31)), "INVALID_ARGUMENT"),
        (pb.ListNotificationsRequest(limit=2**31 - 1, offset=2**31 - 1), "OK"),
        (pb.MarkAsReadRequest(), "NOT_FOUND"),
        (pb.MarkAsReadRequest(notification_id="\0"), "NOT_FOUND"),
        (pb.MarkAllAsReadRequest(user_id="bob"), "PERMISSION_DENIED"),
        (pb.GetUnreadCountRequest(user_id="bob"), "PERMISSION_DENIED"),
        (pb.GetNotificationPreferencesRequest(user_id="\0"), "PERMISSION_DENIED"),
        (pb.UpdateNotificationPreferencesRequest(quiet_hours_start="1\0:00"), "INVALID_ARGUMENT"),
        (pb.UpdateNotificationPreferencesRequest(user_id="bob"), "PERMISSION_DENIED"),
        (pb.SendFromTemplateRequest(template_key="health_alert", user_id="alice"), "PERMISSION_DENIED"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_a_person_s_wrong_or_hostile_call_is_refused_with_its_status(
    operations: Operations, sealer: Sealer, tmp_path: Path, request_: Any, code: str
) -> None:
    method = type(request_).__name__.removesuffix("Request")
    async with serving(operations, sealer, tmp_path, permissive=False) as process:
        call = getattr(process.stub, method)
        try:
            await call(request_, metadata=as_person("alice"))
            status = "OK"
        except grpc.aio.AioRpcError as error:
            status = error.code().name
        assert status == code
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await call(request_)
        assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("who", ["nobody", "alice", "admin"])
async def test_no_message_is_answered_with_a_bug(
    operations: Operations, sealer: Sealer, tmp_path: Path, who: str
) -> None:
    metadata: Any = () if who == "nobody" else as_person(who)
    sent = await operations.send()
    known: dict[str, list[object]] = {
        "user_id": ["alice", ""],
        "notification_id": [sent.row.notification_id],
        "template_key": ["measurement_completed", "health_alert"],
        "quiet_hours_start": ["", "22:00"],
        "quiet_hours_end": ["", "07:00"],
    }
    async with serving(operations, sealer, tmp_path, permissive=True) as process:
        bugs = await asyncio.to_thread(found_bugs, process.address, metadata, known)
    assert bugs == []


async def test_services_that_the_catalogue_does_not_let_in_are_refused(
    operations: Operations, sealer: Sealer, tmp_path: Path
) -> None:
    async with serving(operations, sealer, tmp_path, permissive=False) as process:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await process.stub.SendNotification(ALERT, metadata=as_service("translation"))
        assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert process.faces.schema.as_str()
