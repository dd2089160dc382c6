"""The GraphQL face: lists, settings, templates, and notifications as they come."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from typing import Any

import pytest
from sqlalchemy import event

from domain.errors import Forbidden
from domain.operations.notification.models import Channel, NotificationType
from domain.operations.notification.repository import LISTED_CHANNEL
from domain.operations.notification.sending import Draft
from domain.principal import ANONYMOUS, Principal
from subgraphs.operations.context import OperationsContext
from subgraphs.operations.notification import live
from subgraphs.operations.schema import schema
from subgraphs.runtime.context import RequestContext
from subgraphs.runtime.signals import Signals
from tests.integration.operations.conftest import ADMIN, ALICE, BOB, SERVICE, Operations, operations_on
from tests.support.patience import PATIENCE_S


def context_of(operations: Operations, who: Principal, signals: Signals | None = None) -> OperationsContext:
    return OperationsContext.of(
        RequestContext(principal=who),
        operations.services,
        operations.database,
        signals or Signals(operations.database, LISTED_CHANNEL),
    )


async def ask(operations: Operations, query: str, who: Principal = ALICE, **variables: Any) -> Any:
    """The result of an operation."""
    values = deepcopy(variables)  # strawberry takes representations apart
    return await schema.execute(query, variable_values=values, context_value=context_of(operations, who))


async def data(operations: Operations, query: str, who: Principal = ALICE, **variables: Any) -> dict[str, Any]:
    result = await ask(operations, query, who, **variables)
    assert result.errors is None, result.errors
    found: dict[str, Any] = result.data
    return found


async def reason(operations: Operations, query: str, who: Principal = ALICE, **variables: Any) -> str:
    """Why the operation was refused."""
    result = await ask(operations, query, who, **variables)
    return str(result.errors[0].extensions["reason"])


USERS = """
    query ($ids: [_Any!]!, $first: Int = 20, $after: String, $type: NotificationType, $unreadOnly: Boolean = false) {
      _entities(representations: $ids) { ... on User {
        unreadNotificationCount
        notifications(first: $first, after: $after, type: $type, unreadOnly: $unreadOnly) {
          totalCount pageInfo { hasNextPage endCursor }
          edges { node { id type title body priority channel data actionUrl isRead readAt createdAt user { id }
            deliveries { channel state reason tries } } }
        }
      } }
    }
"""


async def list_of(operations: Operations, user: str = "alice", who: Principal = ALICE, **more: Any) -> Any:
    found = await data(operations, USERS, who, ids=[{"__typename": "User", "id": user}], **more)
    return found["_entities"][0]


async def test_a_person_s_list_shows_what_was_sent_and_what_became_of_it(operations: Operations) -> None:
    sent = await operations.send(
        type=NotificationType.HEALTH_ALERT, title="건강 경고", data={"session_id": "s"}, action_url="/measurements/s"
    )
    await operations.send(channel=Channel.IN_APP)
    await operations.services.deliveries.deliver_due()
    found = await list_of(operations)
    assert (found["unreadNotificationCount"], found["notifications"]["totalCount"]) == (2, 2)
    node = found["notifications"]["edges"][1]["node"]
    assert (node["id"], node["type"], node["title"]) == (sent.row.notification_id, "HEALTH_ALERT", "건강 경고")
    assert (node["data"], node["actionUrl"], node["user"]) == ({"session_id": "s"}, "/measurements/s", {"id": "alice"})
    assert (node["isRead"], node["readAt"], node["channel"]) == (False, None, None)
    states = {delivery["channel"]: delivery["state"] for delivery in node["deliveries"]}
    assert states == {"IN_APP": "SENT", "PUSH": "SKIPPED", "EMAIL": "SENT"}


async def test_lists_are_paged_and_filtered(operations: Operations) -> None:
    for number in range(5):
        await operations.send(type=NotificationType.COMMUNITY if number % 2 else NotificationType.SYSTEM)
    seen: list[str] = []
    after, more = None, True
    while more:
        page = (await list_of(operations, first=2, after=after))["notifications"]
        seen += [edge["node"]["id"] for edge in page["edges"]]
        after, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
    assert len(set(seen)) == len(seen) == 5
    assert (await list_of(operations, type="COMMUNITY"))["notifications"]["totalCount"] == 2
    await data(operations, "mutation ($id: ID!) { markNotificationRead(id: $id) { isRead } }", id=seen[0])
    assert (await list_of(operations, unreadOnly=True))["notifications"]["totalCount"] == 4


async def test_lists_of_others_are_refused_field_by_field(operations: Operations) -> None:
    await operations.send(user_id="alice")
    await operations.send(user_id="bob")
    ids = [{"__typename": "User", "id": "alice"}, {"__typename": "User", "id": "bob"}]
    result = await ask(operations, USERS, BOB, ids=ids)
    alice, bob = result.data["_entities"]
    assert (alice["notifications"], alice["unreadNotificationCount"]) == (None, None)
    assert (bob["notifications"]["totalCount"], bob["unreadNotificationCount"]) == (1, 1)
    assert {error.extensions["code"] for error in result.errors} == {"FORBIDDEN"}
    both = (await data(operations, USERS, ADMIN, ids=ids))["_entities"]
    assert [user["unreadNotificationCount"] for user in both] == [1, 1]
    result = await ask(operations, USERS, ANONYMOUS, ids=ids)
    assert {error.extensions["code"] for error in result.errors} == {"UNAUTHENTICATED"}


async def test_a_notification_of_somebody_else_is_null_and_cannot_be_marked(operations: Operations) -> None:
    sent = await operations.send()
    one = "query ($id: ID!) { notification(id: $id) { title } }"
    mark = "mutation ($id: ID!) { markNotificationRead(id: $id) { id } }"
    assert (await data(operations, one, id=sent.row.notification_id))["notification"] == {"title": "Hello"}
    assert (await data(operations, one, BOB, id=sent.row.notification_id))["notification"] is None
    assert await reason(operations, mark, BOB, id=sent.row.notification_id) == "NOTIFICATION_NOT_FOUND"
    assert await reason(operations, one, ANONYMOUS, id=sent.row.notification_id) == "UNAUTHENTICATED"
    entities = "query ($ids: [_Any!]!) { _entities(representations: $ids) { ... on Notification { title } } }"
    ids = [{"__typename": "Notification", "id": i} for i in (sent.row.notification_id, "no-such-id")]
    assert (await data(operations, entities, ids=ids))["_entities"] == [{"title": "Hello"}, None]
    assert (await data(operations, entities, BOB, ids=ids))["_entities"] == [None, None]


async def test_all_are_marked_as_read_at_once(operations: Operations) -> None:
    for _ in range(3):
        await operations.send()
    assert await data(operations, "mutation { markAllNotificationsRead }") == {"markAllNotificationsRead": 3}
    assert (await list_of(operations))["unreadNotificationCount"] == 0
    assert await reason(operations, 'mutation { markAllNotificationsRead(userId: "alice") }', BOB) == "FORBIDDEN"


PREFERENCES = """{ notificationPreferences { userId pushEnabled emailEnabled smsEnabled promotions quietHoursStart
    quietHoursEnd updatedAt phone } }"""
UPDATE = """mutation ($input: UpdateNotificationPreferencesInput!) { updateNotificationPreferences(input: $input)
    { userId smsEnabled healthAlerts quietHoursStart quietHoursEnd updatedAt } }"""
FLAGS = dict.fromkeys(
    [
        "pushEnabled",
        "emailEnabled",
        "smsEnabled",
        "measurementAlerts",
        "healthAlerts",
        "appointmentReminders",
        "communityUpdates",
        "promotions",
    ],
    True,
)


async def test_preferences_are_replaced_as_a_whole(operations: Operations) -> None:
    found = (await data(operations, PREFERENCES))["notificationPreferences"]
    assert found == {
        "userId": "alice",
        "pushEnabled": True,
        "emailEnabled": True,
        "smsEnabled": False,
        "promotions": False,
        "quietHoursStart": None,
        "quietHoursEnd": None,
        "updatedAt": None,
        "phone": None,
    }
    wanted = {**FLAGS, "healthAlerts": False, "quietHoursStart": "22:30", "quietHoursEnd": "07:00"}
    changed = (await data(operations, UPDATE, input=wanted))["updateNotificationPreferences"]
    assert changed.pop("updatedAt")
    assert changed == {
        "userId": "alice",
        "smsEnabled": True,
        "healthAlerts": False,
        "quietHoursStart": "22:30",
        "quietHoursEnd": "07:00",
    }
    again = (await data(operations, UPDATE, input=FLAGS))["updateNotificationPreferences"]
    assert (again["healthAlerts"], again["quietHoursStart"]) == (True, None)
    assert await reason(operations, UPDATE, BOB, input={**FLAGS, "userId": "alice"}) == "FORBIDDEN"
    assert await reason(operations, UPDATE, input={**FLAGS, "quietHoursStart": "25:00"}) == "INVALID_QUIET_HOURS"


async def test_phones_and_apps_are_the_caller_s_own(operations: Operations) -> None:
    phone = "mutation ($phone: String) { setNotificationPhone(phone: $phone) }"
    assert await data(operations, phone, phone="010-1234-5678") == {"setNotificationPhone": "010******78"}
    assert (await data(operations, PREFERENCES))["notificationPreferences"]["phone"] == "010******78"
    assert (await data(operations, PREFERENCES, BOB))["notificationPreferences"]["phone"] is None
    assert await data(operations, phone, phone=None) == {"setNotificationPhone": None}
    assert await reason(operations, phone, phone="call me") == "INVALID_NOTIFICATION"
    register = 'mutation { registerPushToken(input: {token: "token-of-alice", platform: IOS}) }'
    remove = 'mutation { removePushToken(token: "token-of-alice") }'
    assert await data(operations, register) == {"registerPushToken": True}
    assert await data(operations, remove, BOB) == {"removePushToken": False}
    assert await data(operations, remove) == {"removePushToken": True}
    bad = "mutation ($token: String!) { registerPushToken(input: {token: $token, platform: WEB}) }"
    for token in ("", "short", "a b c d e f g h", "x" * 5000, "토큰토큰토큰토큰토큰"):
        assert await reason(operations, bad, token=token) == "INVALID_NOTIFICATION"


SEND = "mutation ($input: SendNotificationInput!) { sendNotification(input: $input) { id title data priority } }"


async def test_sending_follows_the_same_rules_as_over_grpc(operations: Operations) -> None:
    own = {"type": "SYSTEM", "title": "memo", "channel": "IN_APP", "data": [{"name": "k", "value": "v"}]}
    sent = (await data(operations, SEND, input=own))["sendNotification"]
    assert (sent["title"], sent["data"], sent["priority"]) == ("memo", {"k": "v"}, "NORMAL")
    assert await reason(operations, SEND, input={**own, "userId": "bob"}) == "MAY_NOT_SEND"
    assert await reason(operations, SEND, input={**own, "channel": "SMS"}) == "MAY_NOT_SEND"
    twice = {**own, "data": [{"name": "k", "value": "v"}, {"name": "k", "value": "w"}]}
    assert await reason(operations, SEND, input=twice) == "INVALID_INPUT"
    await data(operations, SEND, ADMIN, input={**own, "userId": "bob", "channel": None})
    assert (await list_of(operations, "bob", BOB))["unreadNotificationCount"] == 1


SAVE = """mutation ($input: SaveNotificationTemplateInput!) { saveNotificationTemplate(input: $input)
    { key variables texts { locale title body } } }"""
FROM_TEMPLATE = """mutation ($input: SendNotificationFromTemplateInput!) { sendNotificationFromTemplate(input: $input)
    { title body actionUrl } }"""


async def test_administrators_edit_templates_within_what_their_senders_know(operations: Operations) -> None:
    listed = await data(operations, "{ notificationTemplates { key texts { locale } } }", ADMIN)
    assert {"measurement_completed", "health_alert"} <= {t["key"] for t in listed["notificationTemplates"]}
    change = {
        "key": "payment_completed",
        "type": "SYSTEM",
        "priority": "LOW",
        "actionUrl": "/payments/{payment_id}",
        "texts": [{"locale": "ko", "title": "결제 {amount}", "body": "고맙습니다. {{3%}}"}],
    }
    saved = (await data(operations, SAVE, ADMIN, input=change))["saveNotificationTemplate"]
    assert saved["variables"] == ["amount", "payment_id"]
    assert [words["title"] for words in saved["texts"]] == ["결제 {amount}", "Your payment is complete"]
    values = [{"name": "amount", "value": "1원"}, {"name": "payment_id", "value": "p"}]
    told = {"templateKey": "payment_completed", "userId": "alice", "data": values}
    sent = (await data(operations, FROM_TEMPLATE, ADMIN, input=told))["sendNotificationFromTemplate"]
    assert sent == {"title": "결제 1원", "body": "고맙습니다. {3%}", "actionUrl": "/payments/p"}
    assert await reason(operations, FROM_TEMPLATE, ADMIN, input={**told, "data": []}) == "TEMPLATE_VARIABLE_MISSING"
    for words in ({"title": "{user.password}"}, {"title": "{secret}"}, {"title": "t", "body": "{amount:>99999}"}):
        wrong = {**change, "texts": [{"locale": "ko", "title": "t", "body": "b", **words}]}
        assert await reason(operations, SAVE, ADMIN, input=wrong) == "INVALID_TEMPLATE"
    script = {**change, "actionUrl": "javascript:alert(1)"}
    assert await reason(operations, SAVE, ADMIN, input=script) == "INVALID_NOTIFICATION"
    one_language = {**change, "key": "brand_new"}
    assert await reason(operations, SAVE, ADMIN, input=one_language) == "INVALID_TEMPLATE"
    for who in (ALICE, ANONYMOUS):
        refused = "UNAUTHENTICATED" if who is ANONYMOUS else "FORBIDDEN"
        assert await reason(operations, SAVE, who, input=change) == refused
        assert await reason(operations, "{ notificationTemplates { key } }", who) == refused
        assert await reason(operations, FROM_TEMPLATE, who, input=told) == refused


RECEIVED = "subscription ($user: ID) { notificationReceived(userId: $user) { id title } }"


class Live:
    """A subscription of a person's notifications."""

    def __init__(self, stream: Any, signals: Signals, person: str) -> None:
        self.stream = stream
        self._signals = signals
        self._person = person

    async def waiting(self) -> "asyncio.Task[str]":
        """The next title, which is waited for: what comes from now on is told."""
        task = asyncio.create_task(next_title(self.stream))
        async with asyncio.timeout(PATIENCE_S):
            while self._person not in self._signals._waiting and not task.done():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return task


@asynccontextmanager
async def subscribed(operations: Operations, who: Principal, user: str | None = None) -> AsyncIterator[Live]:
    """What the subscription tells, from a process that listens for signals."""
    signals = Signals(operations.database, LISTED_CHANNEL)
    listening = asyncio.create_task(signals.listen())
    context = context_of(operations, who, signals)
    stream: Any = await schema.subscribe(RECEIVED, variable_values={"user": user}, context_value=context)
    try:
        yield Live(stream, signals, user or who.subject)
    finally:
        await stream.aclose()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def next_title(stream: AsyncIterator[Any], within_s: float = 60.0) -> str:
    async with asyncio.timeout(within_s):
        result = await anext(stream)
    assert result.errors is None, result.errors
    return str(result.data["notificationReceived"]["title"])


async def test_a_subscription_tells_what_comes_in_another_process_at_once_and_once(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LOOK_S", 600.0)  # only a signal can be faster
    other = operations_on(operations.database, operations.sealer, operations.clock)
    await operations.send(title="before")
    async with subscribed(operations, ALICE) as subscription:
        waiting = await subscription.waiting()
        await other.send(user_id="bob", title="for bob")
        await other.send(title="one")
        assert await waiting == "one"
        for number in range(3):
            await other.send(title=f"more {number}")
        assert [await next_title(subscription.stream) for _ in range(3)] == ["more 0", "more 1", "more 2"]
        await other.prefer(community_updates=False)
        await other.send(type=NotificationType.COMMUNITY, title="not wanted")
        await other.send(title="last")
        assert await next_title(subscription.stream) == "last"


async def test_a_notification_that_commits_late_is_told_though_it_is_older(operations: Operations) -> None:
    async with subscribed(operations, ALICE) as subscription:
        waiting = await subscription.waiting()
        async with operations.database.transaction() as session:
            await operations.services.sending.send(
                session, SERVICE, Draft("alice", NotificationType.SYSTEM, "early and late")
            )
            operations.clock.advance(seconds=20)
            await operations.send(title="quick")
            assert await waiting == "quick"
            waiting = await subscription.waiting()
        assert await waiting == "early and late"


async def test_without_signals_the_subscription_looks_by_itself(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LOOK_S", 0.1)
    signals = Signals(operations.database, LISTED_CHANNEL)  # to which nobody listens
    context = context_of(operations, ALICE, signals)
    stream: Any = await schema.subscribe(RECEIVED, variable_values={}, context_value=context)
    waiting = await Live(stream, signals, "alice").waiting()
    await operations.send(title="found")
    assert await waiting == "found"
    await stream.aclose()


async def test_nobody_listens_to_another_person(operations: Operations) -> None:
    for who, code in ((BOB, "FORBIDDEN"), (ANONYMOUS, "UNAUTHENTICATED")):
        async with subscribed(operations, who, "alice") as subscription:
            result = await anext(subscription.stream)
        assert result.errors[0].extensions["code"] == code
    async with subscribed(operations, ADMIN, "alice") as subscription:
        waiting = await subscription.waiting()
        await operations.send()
        assert await waiting == "Hello"


async def test_watching_about_health_is_logged(operations: Operations) -> None:
    async with subscribed(operations, ALICE) as subscription:
        waiting = await subscription.waiting()
        sent = await operations.send(type=NotificationType.PRESCRIPTION, title="처방")
        assert await waiting == "처방"
    rows = await operations.fetch("SELECT resource_ids FROM health_data_access")
    assert len(rows) == 1
    assert sent.row.notification_id in str(rows[0]["resource_ids"])


async def test_a_page_for_many_people_takes_three_statements(operations: Operations) -> None:
    for number in range(10):
        await operations.send(user_id=f"user-{number}")
    statements: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        statements.append(statement)

    ids = [{"__typename": "User", "id": f"user-{number}"} for number in range(10)]
    engine = operations.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    found = await data(
        operations,
        "query ($ids: [_Any!]!) { _entities(representations: $ids) { ... on User { unreadNotificationCount"
        " notifications { edges { node { id } } } } } }",
        ADMIN,
        ids=ids,
    )
    event.remove(engine, "before_cursor_execute", note)
    assert [user["unreadNotificationCount"] for user in found["_entities"]] == [1] * 10
    assert len([s for s in statements if s.lstrip().startswith("SELECT")]) == 3


async def test_forbidden_is_the_refusal_of_a_scope(operations: Operations) -> None:
    narrow = Principal(kind=ALICE.kind, subject="alice", scopes=frozenset({"notification:write"}))
    async with operations.database.read() as session:
        with pytest.raises(Forbidden):
            await operations.services.notifications.unread_count(session, narrow)
