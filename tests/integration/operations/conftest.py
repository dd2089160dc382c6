"""The notification services on a database of the test's own, with a clock, contacts and providers that tests control."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from domain.catalog import Group
from domain.errors import LimitExceeded, Unavailable
from domain.ids import new_id
from domain.mail import Mail
from domain.operations.notification.models import Message, NotificationType, Preferences
from domain.operations.notification.ports import (
    Accepted,
    Contact,
    Outcome,
    Providers,
    PushMessage,
    Unregistered,
)
from domain.operations.notification.sending import Draft
from domain.principal import ROLE_SCOPES, Principal, PrincipalKind, Role, service_principal
from domain.sealing import Sealer
from subgraphs.operations.services import OperationsServices, operations_services
from subgraphs.runtime.database import Database
from subgraphs.runtime.faces import EventMetadata
from tests.support.clock import FakeClock
from tests.support.outbox import payloads_of
from tests.support.postgres import DatabaseFor


def person(user_id: str, role: Role = Role.USER) -> Principal:
    scopes = frozenset(scope.value for scope in ROLE_SCOPES[role])
    return Principal(kind=PrincipalKind.USER, subject=user_id, role=role, scopes=scopes)


ALICE, BOB = person("alice"), person("bob")
ADMIN = person("admin", Role.ADMIN)
SERVICE = service_principal("measurement")


@dataclass
class Directory:
    """user-service, as the test says it is."""

    people: dict[str, Contact] = field(default_factory=dict)
    is_away: bool = False
    asked: int = 0

    def know(self, user_id: str, **more: Any) -> None:
        self.people[user_id] = Contact(user_id, **{"email": f"{user_id}@example.com", **more})

    async def find(self, user_ids: Collection[str]) -> Mapping[str, Contact]:
        self.asked += 1
        if self.is_away:
            raise Unavailable("user-service is away for the test")
        return {user_id: self.people[user_id] for user_id in user_ids if user_id in self.people}

    def last_known(self, user_id: str) -> Contact | None:
        return None


@dataclass
class Counter:
    """Counts for ever, up to the limit."""

    counts: dict[str, int] = field(default_factory=dict)

    async def hit(self, key: str, *, limit: int, window_s: float) -> None:
        if self.counts.get(key, 0) >= limit:
            raise LimitExceeded("too many", retry_after_s=60)
        self.counts[key] = self.counts.get(key, 0) + 1


@dataclass
class Outside:
    """A provider of each kind: answers with the next of `answers`, else takes what it is given."""

    is_configured: bool = True
    answers: list[Outcome | Unregistered] = field(default_factory=list)
    pushed: list[tuple[str, PushMessage]] = field(default_factory=list)
    mailed: list[Mail] = field(default_factory=list)
    texted: list[tuple[str, str]] = field(default_factory=list)

    def _answer(self) -> Outcome | Unregistered:
        return self.answers.pop(0) if self.answers else Accepted(new_id())


class Push(Outside):
    async def send(self, token: str, message: PushMessage) -> Outcome | Unregistered:
        self.pushed.append((token, message))
        return self._answer()


class Post(Outside):
    async def send(self, mail: Mail) -> Outcome:
        self.mailed.append(mail)
        answer = self._answer()
        assert not isinstance(answer, Unregistered)
        return answer


class Texts(Outside):
    async def send(self, phone: str, text: str) -> Outcome:
        self.texted.append((phone, text))
        answer = self._answer()
        assert not isinstance(answer, Unregistered)
        return answer


@dataclass(frozen=True)
class Operations:
    """The group as one process has it."""

    services: OperationsServices
    database: Database
    clock: FakeClock
    directory: Directory
    counter: Counter
    push: Push
    post: Post
    texts: Texts
    sealer: Sealer

    async def fetch(self, statement: str, *arguments: object) -> list[dict[str, object]]:
        """Rows of a plain SQL statement."""
        async with self.database.raw() as connection:
            return [dict(row) for row in await connection.fetch(statement, *arguments)]

    async def send(self, principal: Principal = SERVICE, user_id: str = "alice", **more: Any) -> Message:
        draft = Draft(
            **{"user_id": user_id, "type": NotificationType.SYSTEM, "title": "Hello", "body": "World", **more}
        )
        async with self.database.transaction() as session:
            return await self.services.sending.send(session, principal, draft)

    async def verify_phone(self, phone: str, who: Principal = ALICE) -> None:
        """Prove a number by the code that is sent to it; messages of it are forgotten."""
        await self.services.phones.request_code(who, phone=phone, locale="en")
        (code,) = re.findall(r"\b\d{6}\b", self.texts.texted[-1][1])
        await self.services.phones.confirm(who, code=code, locale="en")
        self.texts.texted.clear()

    async def prefer(self, principal: Principal = ALICE, **more: Any) -> Preferences:
        async with self.database.transaction() as session:
            return (await self.services.preferences.replace(session, principal, Preferences(**more)))[1]

    async def unread(self, principal: Principal = ALICE, user_id: str = "") -> int:
        async with self.database.read() as session:
            return await self.services.notifications.unread_count(session, principal, user_id=user_id)

    async def deliveries(self, notification_id: str) -> dict[str, tuple[str, str | None]]:
        """State and reason by channel."""
        rows = await self.fetch(
            "SELECT channel, state, reason FROM notification_deliveries WHERE notification_id = $1", notification_id
        )
        return {str(row["channel"]): (str(row["state"]), row["reason"]) for row in rows}  # type: ignore[misc]

    async def events(self) -> list[tuple[str, str]]:
        """Type and channel of the events that are to be published, in order."""
        payloads = await payloads_of(self.database, "notification.sent")
        return [(payload["type"], payload["channel"]) for payload in payloads]


def operations_on(database: Database, sealer: Sealer, clock: FakeClock) -> Operations:
    """The services as one process has them; another process on the same database is another call."""
    directory, counter, push, post, texts = Directory(), Counter(), Push(), Post(), Texts()
    directory.know("alice")
    directory.know("bob", language="en-GB", timezone="Europe/London")
    services = operations_services(
        database,
        clock,
        sealer=sealer,
        contacts=directory,
        counter=counter,
        providers=Providers(push=push, mail=post, text=texts),
    )
    return Operations(services, database, clock, directory, counter, push, post, texts, sealer)


@pytest.fixture
async def operations(database_for: DatabaseFor, sealer: Sealer) -> Operations:
    return operations_on(await database_for(Group.OPERATIONS), sealer, FakeClock())


def metadata_of(event_id: str = "", topic: str = "test") -> EventMetadata:
    """What came with an event."""
    return EventMetadata(
        event_id=event_id or new_id(),
        topic=topic,
        key="k",
        source="test",
        occurred_at=FakeClock().now(),
        correlation_id="",
        traceparent="",
    )
