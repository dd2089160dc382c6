"""The group as a process has it: events come in, and messages go out to the sandboxes over their real APIs."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import grpc.aio
import pytest
from fakeredis import FakeAsyncRedis
from manpasik.internal.v1 import contact_directory_pb2 as pb
from manpasik.internal.v1 import contact_directory_pb2_grpc as pb_grpc
from pydantic import SecretStr

from domain.clock import SystemClock
from domain.operations.notification.models import Platform, Preferences
from domain.sealing import Sealer
from infra.sandbox.mail import MailSandbox
from infra.sandbox.push import PushSandbox
from infra.sandbox.sms import API_KEY, API_SECRET, SENDER, SmsSandbox
from subgraphs.operations.context import OperationsContext
from subgraphs.operations.group import build
from subgraphs.runtime.clients import Channels, client_factory
from subgraphs.runtime.context import RequestContext
from subgraphs.runtime.faces import GroupFaces, GroupResources
from subgraphs.runtime.limits import RateLimiter
from subgraphs.runtime.objects import LocalObjects
from subgraphs.runtime.settings import MailSettings, PushSettings, Settings, SmsSettings
from tests.integration.messaging.scene import until
from tests.integration.operations.conftest import ALICE, Operations, metadata_of
from tests.integration.operations.test_events import ALERT
from tests.support.trust import service_tokens


class UserService(pb_grpc.ContactDirectoryServicer):
    """Knows Alice."""

    async def GetContacts(self, request: pb.GetContactsRequest, _context: object) -> pb.GetContactsResponse:  # noqa: N802
        contact = pb.Contact(user_id="alice", email="alice@example.com", language="en", timezone="Asia/Seoul")
        return pb.GetContactsResponse(contacts=[contact] if "alice" in request.user_ids else [])


@dataclass
class Scene:
    faces: GroupFaces
    operations: Operations
    push: PushSandbox
    sms: SmsSandbox
    mail: MailSandbox

    async def states(self) -> dict[str, str]:
        rows = await self.operations.fetch("SELECT channel, state FROM notification_deliveries")
        return {str(row["channel"]): str(row["state"]) for row in rows}


@pytest.fixture
async def scene(operations: Operations, sealer: Sealer, tmp_path: Path) -> AsyncIterator[Scene]:
    push, sms, mail = PushSandbox(key_file=tmp_path / "fcm.json"), SmsSandbox(), MailSandbox(tmp_path / "mail")
    for sandbox in (push, sms, mail):
        await sandbox.start()
    users = grpc.aio.server()
    pb_grpc.add_ContactDirectoryServicer_to_server(UserService(), users)
    port = users.add_insecure_port("127.0.0.1:0")
    await users.start()
    settings = Settings(
        addresses={"USER_SERVICE_ADDR": f"127.0.0.1:{port}"},
        push=PushSettings(server_key=SecretStr(str(tmp_path / "fcm.json")), api_url=push.url),
        sms=SmsSettings(api_url=sms.url, api_key=API_KEY, api_secret=SecretStr(API_SECRET), sender=SENDER),
        smtp=MailSettings(host="127.0.0.1", port=mail.port, tls="none"),
    )
    redis, channels = FakeAsyncRedis(), Channels(settings)
    faces = await build(
        GroupResources(
            settings=settings,
            database=operations.database,
            sealer=sealer,
            redis=redis,
            limiter=RateLimiter(redis),
            objects=LocalObjects(tmp_path / "objects", secret="s", public_url="http://objects.test"),
            clients=client_factory(channels, service_tokens()),
            clock=SystemClock(),
        )
    )
    tasks = [asyncio.ensure_future(work.run()) for service in faces.services for work in service.background]
    yield Scene(faces, operations, push, sms, mail)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await faces.close()
    await channels.close()
    await users.stop(0)
    for sandbox in (push, sms, mail):
        await sandbox.stop()


async def test_an_alert_reaches_phone_mailbox_and_list_and_tells_its_details_in_the_list_only(scene: Scene) -> None:
    context = scene.faces.graphql_context(RequestContext(principal=ALICE))
    assert isinstance(context, OperationsContext)
    preferences = context.services.preferences
    async with context.database.transaction() as session:
        await preferences.register_push_token(session, ALICE, token="broken-phone", platform=Platform.IOS)
        await preferences.register_push_token(session, ALICE, token="gone-phone", platform=Platform.WEB)
        await preferences.replace(session, ALICE, Preferences(sms_enabled=True))
    await context.services.phones.request_code(ALICE, phone="+82 10-1234-5678", locale="en")
    (code,) = re.findall(r"\b\d{6}\b", scene.sms.sent.pop()["text"])
    await context.services.phones.confirm(ALICE, code=code, locale="en")
    (service,) = scene.faces.services
    consumer = next(c for c in service.consumers if c.topic == ALERT.topic)
    alert = ALERT.model_copy(update={"measured_at": datetime.now(UTC)})
    async with context.database.transaction() as session:
        await consumer.handle(session, consumer.event.model_validate(alert.model_dump(mode="json")), metadata_of())

    async def settled() -> bool:
        return "pending" not in (await scene.states()).values()

    await until(settled)
    assert await scene.states() == dict.fromkeys(["in_app", "push", "email", "sms"], "sent")
    (pushed,) = scene.push.sent
    assert (pushed["token"], pushed["notification"]["title"]) == ("broken-phone", "Health alert")
    assert await scene.operations.fetch("SELECT token FROM push_tokens") == [{"token": "broken-phone"}]
    (text,) = scene.sms.sent
    assert (text["to"], text["type"]) == ("01012345678", "SMS")
    (path,) = scene.mail.mails()
    mail = message_from_bytes(path.read_bytes(), policy=default)
    assert (mail["To"], mail["Subject"]) == ("alice@example.com", "[ManPaSik] Health alert")
    for seen in (str(pushed), str(text), path.read_text()):
        assert "452" not in seen
        assert "Glucose" not in seen
    listed = await scene.faces.schema.execute(
        "query ($ids: [_Any!]!) { _entities(representations: $ids) {"
        " ... on User { notifications { edges { node { body deliveries { channel state } } } } } } }",
        variable_values={"ids": [{"__typename": "User", "id": "alice"}]},
        context_value=scene.faces.graphql_context(RequestContext(principal=ALICE)),
    )
    assert listed.errors is None
    assert listed.data is not None
    ((edge,),) = [user["notifications"]["edges"] for user in listed.data["_entities"]]
    assert edge["node"]["body"].startswith("Your Glucose measured 452 mg/dL, beyond the critical limit of 400 mg/dL.")
    assert len(edge["node"]["deliveries"]) == 4
