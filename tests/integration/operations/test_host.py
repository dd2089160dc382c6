"""notification-service hosted beside auth-service and user-service: a signed-in person, over sockets and the broker."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import grpc.aio
import pytest
from manpasik.v1 import auth_pb2, auth_pb2_grpc, user_pb2, user_pb2_grpc
from manpasik.v1 import notification_pb2 as pb
from manpasik.v1.notification_pb2_grpc import NotificationServiceStub

from domain.catalog import Group
from domain.ids import new_id
from domain.messaging import Outbox
from infra.local.process import free_port
from subgraphs.registry import builder
from subgraphs.runtime.database import Database
from subgraphs.runtime.host import Host
from subgraphs.runtime.keys import load_sealer
from subgraphs.runtime.settings import Settings
from tests.integration.operations.test_events import ALERT
from tests.support.patience import PATIENCE_S
from tests.support.postgres import PostgresServer


@dataclass
class Hosted:
    host: Host
    settings: Settings

    def channel(self, service: str) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.host.grpc_ports[service]}")

    async def sign_up(self, language: str) -> tuple[str, str]:
        """The id of a new person, and their authorization."""
        async with self.channel("auth") as auth, self.channel("user") as users:
            stub = auth_pb2_grpc.AuthServiceStub(auth)
            email = f"{new_id()}@example.com"
            registered = await stub.Register(
                auth_pb2.RegisterRequest(email=email, password="Correct-horse7", display_name="Alice")
            )
            tokens = await stub.Login(auth_pb2.LoginRequest(email=email, password="Correct-horse7"))
            bearer = f"Bearer {tokens.access_token}"
            await user_pb2_grpc.UserServiceStub(users).UpdateProfile(
                user_pb2.UpdateProfileRequest(language=language), metadata=(("authorization", bearer),)
            )
        return registered.user_id, bearer


@pytest.fixture
async def hosted(postgres: PostgresServer, broker: str, tmp_path: Path) -> AsyncIterator[Hosted]:
    name, user_port = f"t{new_id().replace('-', '')[:28]}", free_port()
    own = postgres.settings
    settings = Settings.load(
        {
            "DB_HOST": own.host,
            "DB_PORT": str(own.port),
            "DB_USER": own.user,
            "DB_PASSWORD": own.password.get_secret_value() or "unused",
            "DB_NAME": name,
            "DB_MAX_CONNS": "5",
            "REDIS_HOST": "memory",
            "KAFKA_BROKERS": broker,
            "KAFKA_GROUP_ID": f"group-{new_id()}",
            "SERVICE_KEYS_DIR": str(tmp_path / "keys"),
            "LISTEN_HOST": "127.0.0.1",
            "SUBGRAPH_PORT": "0",
            "METRICS_PORT": "0",
            "USER_SERVICE_ADDR": f"127.0.0.1:{user_port}",
        }
    )
    host = Host(settings, ["auth", "user", "notification"], ports={"auth": 0, "user": user_port, "notification": 0})
    await host.start(builder)
    yield Hosted(host, settings)
    await host.stop()
    for group in (Group.IDENTITY, Group.OPERATIONS):
        await postgres.drop_database(f"{name}_{group.value}")


@pytest.mark.timeout(180)
async def test_a_signed_in_person_sees_an_event_come_in_live_and_in_their_language(hosted: Hosted) -> None:
    user_id, bearer = await hosted.sign_up("en")
    url = f"http://127.0.0.1:{hosted.host.subgraph_port}/operations/graphql"
    query = "subscription { notificationReceived { id type title body } }"
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(url, protocols=["graphql-transport-ws"], headers={"authorization": bearer}) as live,
    ):
        await live.send_json({"type": "connection_init"})
        assert (await live.receive_json(timeout=PATIENCE_S))["type"] == "connection_ack"
        await live.send_json({"type": "subscribe", "id": "1", "payload": {"query": query}})
        database = Database(hosted.settings.database, Group.OPERATIONS)
        sealer = await load_sealer(database, hosted.settings.master_secret)
        await asyncio.sleep(1)  # until it listens
        async with database.transaction() as session:
            await Outbox(session, sealer=sealer).add(
                ALERT.model_copy(update={"user_id": user_id, "measured_at": datetime.now(UTC)})
            )
        told = await live.receive_json(timeout=PATIENCE_S)
        await database.close()
    received = told["payload"]["data"]["notificationReceived"]
    assert (received["type"], received["title"]) == ("HEALTH_ALERT", "Health alert")
    assert received["body"].startswith("Your Glucose measured 452 mg/dL")
    metadata = (("authorization", bearer),)
    async with hosted.channel("notification") as channel:
        stub = NotificationServiceStub(channel)
        assert (await stub.GetUnreadCount(pb.GetUnreadCountRequest(), metadata=metadata)).count == 1
        sent = await stub.SendNotification(
            pb.SendNotificationRequest(
                user_id=user_id,
                type=pb.NOTIFICATION_TYPE_HEALTH_ALERT,
                title="건강 경고",
                priority=pb.NOTIFICATION_PRIORITY_HIGH,
                channel=pb.NOTIFICATION_CHANNEL_IN_APP,
            ),
            metadata=metadata,
        )
        listed = await stub.ListNotifications(pb.ListNotificationsRequest(), metadata=metadata)
        assert [n.notification_id for n in listed.notifications] == [sent.notification_id, received["id"]]
        for notification in listed.notifications:
            request = pb.MarkAsReadRequest(notification_id=notification.notification_id)
            assert (await stub.MarkAsRead(request, metadata=metadata)).success
        assert (await stub.GetUnreadCount(pb.GetUnreadCountRequest(), metadata=metadata)).count == 0
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.ListNotifications(pb.ListNotificationsRequest())
        assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED
