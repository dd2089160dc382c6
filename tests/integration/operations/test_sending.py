"""Who may send what to whom, what is kept of it, and that counts of the unread are exact."""

import asyncio
from typing import Any

import pytest

from domain.errors import Forbidden, InvalidInput, NotFound, Unauthenticated
from domain.operations.notification.errors import (
    InvalidNotification,
    MayNotSend,
    NotificationNotFound,
    TemplateNotFound,
    TemplateVariableMissing,
    TooManyNotifications,
)
from domain.operations.notification.models import Channel, Message, MessageFilter, NotificationType, Priority
from domain.operations.notification.sending import SELF_SENT_PER_HOUR
from domain.paging import PageRequest
from domain.principal import ANONYMOUS, DEVELOPMENT, Principal, PrincipalKind, Role
from subgraphs.runtime.device_credentials import device_principal
from tests.integration.operations.conftest import ADMIN, ALICE, BOB, SERVICE, Operations, person

HEALTH: dict[str, Any] = {"type": NotificationType.HEALTH_ALERT, "title": "건강 경고", "body": "혈당 452 mg/dL"}


async def listed(operations: Operations, who: Principal = ALICE, user_id: str = "", **wanted: Any) -> list[Message]:
    async with operations.database.transaction() as session:
        messages, total = await operations.services.notifications.window(
            session, who, MessageFilter(**wanted), user_id=user_id, limit=0, offset=0
        )
    assert total >= len(messages)
    return list(messages)


@pytest.mark.parametrize("sender", [SERVICE, ADMIN, DEVELOPMENT], ids=lambda sender: sender.kind.value)
async def test_services_and_administrators_send_to_anybody(operations: Operations, sender: Principal) -> None:
    sent = await operations.send(sender, "alice")
    assert [message.row.notification_id for message in await listed(operations)] == [sent.row.notification_id]


async def test_a_person_sends_to_themselves_into_the_app_only(operations: Operations) -> None:
    await operations.send(ALICE, "alice", channel=Channel.IN_APP)
    await operations.send(ALICE, "", channel=Channel.IN_APP)
    for channel in (None, Channel.PUSH, Channel.EMAIL, Channel.SMS):
        with pytest.raises(MayNotSend):
            await operations.send(ALICE, "alice", channel=channel)
    with pytest.raises(MayNotSend):
        await operations.send(ALICE, "bob", channel=Channel.IN_APP)
    assert len(await listed(operations)) == 2
    assert await listed(operations, BOB) == []


async def test_a_doctor_is_a_person_like_any_other_here(operations: Operations) -> None:
    with pytest.raises(MayNotSend):
        await operations.send(person("doctor", Role.DOCTOR), "alice", channel=Channel.IN_APP)


async def test_others_do_not_send_at_all(operations: Operations) -> None:
    with pytest.raises(Unauthenticated):
        await operations.send(ANONYMOUS, "alice")
    with pytest.raises(Forbidden):
        await operations.send(device_principal("dev-1", "alice"), "alice", channel=Channel.IN_APP)
    narrow = Principal(kind=PrincipalKind.USER, subject="alice", scopes=frozenset({"notification:read"}))
    with pytest.raises(Forbidden):
        await operations.send(narrow, "alice", channel=Channel.IN_APP)


async def test_a_person_sends_themselves_a_bounded_number_an_hour(operations: Operations) -> None:
    for _ in range(SELF_SENT_PER_HOUR):
        await operations.send(ALICE, "alice", channel=Channel.IN_APP)
    with pytest.raises(TooManyNotifications):
        await operations.send(ALICE, "alice", channel=Channel.IN_APP)
    await operations.send(BOB, "bob", channel=Channel.IN_APP)
    await operations.send(SERVICE, "alice")


@pytest.mark.parametrize("user_id", ["\0", "x" * 65, "a\nb"])
async def test_ids_that_nobody_has_are_refused(operations: Operations, user_id: str) -> None:
    with pytest.raises(InvalidNotification):
        await operations.send(SERVICE, user_id)
    with pytest.raises(InvalidInput):
        await operations.unread(SERVICE, user_id)


async def test_the_content_is_sealed(operations: Operations) -> None:
    sent = await operations.send(**HEALTH, data={"session_id": "s-1"}, action_url="/measurements/s-1")
    (row,) = await operations.fetch("SELECT (to_jsonb(n) - 'content')::text AS text, content FROM notifications n")
    for secret in ("혈당 452 mg/dL", "건강 경고", "/measurements/s-1"):
        assert secret not in str(row["text"])
        assert secret.encode() not in row["content"]  # type: ignore[operator]
    (message,) = await listed(operations)
    assert message.content == sent.content
    assert message.content.data == {"session_id": "s-1"}


async def test_reading_about_health_is_logged_and_reading_else_is_not(operations: Operations) -> None:
    sent = await operations.send(**HEALTH)
    await operations.send(type=NotificationType.COMMUNITY)
    await listed(operations, type=NotificationType.COMMUNITY)
    assert await operations.fetch("SELECT 1 FROM health_data_access") == []
    await listed(operations)
    await listed(operations, ADMIN, "alice")
    rows = await operations.fetch(
        "SELECT subject_user_id, actor, resource_type, resource_ids FROM health_data_access ORDER BY id"
    )
    assert [(r["subject_user_id"], r["actor"], r["resource_type"]) for r in rows] == [
        ("alice", "alice", "notification"),
        ("alice", "admin", "notification"),
    ]
    assert all(sent.row.notification_id in str(row["resource_ids"]) for row in rows)


async def test_another_person_s_notifications_are_not_there(operations: Operations) -> None:
    sent = await operations.send(user_id="alice")
    notifications = operations.services.notifications
    for who, missing in ((BOB, sent.row.notification_id), (ALICE, "no-such-id"), (ALICE, "\0")):
        async with operations.database.transaction() as session:
            with pytest.raises(NotificationNotFound):
                await notifications.get(session, who, missing)
            with pytest.raises(NotificationNotFound):
                await notifications.mark_read(session, who, missing)
            assert await notifications.visible(session, who, [missing]) == {}
    for refused in (listed(operations, BOB, "alice"), operations.unread(BOB, "alice")):
        with pytest.raises(Forbidden):
            await refused
    async with operations.database.transaction() as session:
        with pytest.raises(Forbidden):
            await notifications.mark_all_read(session, BOB, user_id="alice")
        with pytest.raises(Forbidden):
            await operations.services.preferences.get(session, BOB, user_id="alice")
    assert await operations.unread() == 1


async def test_marking_as_read_keeps_the_first_time_and_lowers_the_count_once(operations: Operations) -> None:
    first, _ = await operations.send(), await operations.send()
    operations.clock.advance(minutes=1)
    notifications = operations.services.notifications
    async with operations.database.transaction() as session:
        marked = await notifications.mark_read(session, ALICE, first.row.notification_id)
    assert (marked.row.read_at, await operations.unread()) == (operations.clock.now(), 1)
    at = operations.clock.now()
    operations.clock.advance(minutes=1)
    async with operations.database.transaction() as session:
        again = await notifications.mark_read(session, ALICE, first.row.notification_id)
    assert again.row.read_at == at
    async with operations.database.transaction() as session:
        assert await notifications.mark_all_read(session, ALICE) == 1
        assert await notifications.mark_all_read(session, ALICE) == 0
    assert await operations.unread() == 0
    assert len(await listed(operations)) == 2
    assert await listed(operations, unread_only=True) == []


async def test_the_count_of_the_unread_is_exact_while_fifty_send_and_read_at_once(operations: Operations) -> None:
    there = [await operations.send() for _ in range(25)]
    notifications = operations.services.notifications

    async def read(message: Message) -> None:
        async with operations.database.transaction() as session:
            await notifications.mark_read(session, ALICE, message.row.notification_id)

    async def count() -> None:
        assert 0 <= await operations.unread() <= 50

    doubled = [*there, *there[:5]]
    await asyncio.gather(
        *(operations.send() for _ in range(25)), *(read(message) for message in doubled), *(count() for _ in range(5))
    )
    assert await operations.unread() == 25
    marked = await asyncio.gather(*(_mark_all(operations) for _ in range(10)), *(operations.send() for _ in range(10)))
    told = sum(value for value in marked if isinstance(value, int))
    assert told + await operations.unread() == 35


async def _mark_all(operations: Operations) -> int:
    async with operations.database.transaction() as session:
        return await operations.services.notifications.mark_all_read(session, ALICE)


async def test_types_that_are_off_are_neither_listed_nor_counted_but_health_alerts_are(operations: Operations) -> None:
    await operations.prefer(measurement_alerts=False, health_alerts=False, community_updates=False)
    measured = await operations.send(type=NotificationType.MEASUREMENT)
    await operations.send(type=NotificationType.COMMUNITY, priority=Priority.URGENT)
    alert = await operations.send(**HEALTH)
    assert [message.row.notification_id for message in await listed(operations)] == [alert.row.notification_id]
    assert await operations.unread() == 1
    assert await operations.deliveries(measured.row.notification_id) == {
        "in_app": ("skipped", "TYPE_OFF"),
        "push": ("skipped", "TYPE_OFF"),
        "email": ("skipped", "TYPE_OFF"),
    }
    assert (await operations.deliveries(alert.row.notification_id))["in_app"] == ("sent", None)
    assert await operations.events() == [("health_alert", "in_app")]
    async with operations.database.transaction() as session:
        with pytest.raises(NotFound):
            await operations.services.notifications.mark_read(session, ALICE, measured.row.notification_id)


async def test_offers_need_preference_and_consent(operations: Operations) -> None:
    offer: dict[str, Any] = {"type": NotificationType.PROMOTION, "title": "할인"}
    await operations.send(**offer)
    await operations.prefer(promotions=True)
    await operations.send(**offer)
    assert await listed(operations) == []
    operations.directory.know("alice", agreed_to_marketing=True)
    shown = await operations.send(**offer)
    assert [message.row.notification_id for message in await listed(operations)] == [shown.row.notification_id]


async def test_an_offer_waits_while_nobody_can_tell_of_the_consent(operations: Operations) -> None:
    await operations.prefer(promotions=True)
    operations.directory.know("alice", agreed_to_marketing=True)
    operations.directory.is_away = True
    await operations.send(type=NotificationType.PROMOTION, title="할인", channel=Channel.IN_APP)
    await operations.services.deliveries.deliver_due()
    assert await listed(operations) == []
    operations.directory.is_away = False
    operations.clock.advance(seconds=20)
    await operations.services.deliveries.deliver_due()
    assert len(await listed(operations)) == 1
    assert await operations.events() == [("promotion", "in_app")]


async def test_pages_by_cursor_show_each_notification_once(operations: Operations) -> None:
    sent = []
    for number in range(7):
        operations.clock.advance(seconds=number % 2)  # some at the same time
        sent.append((await operations.send(title=f"n {number}")).row.notification_id)
    await operations.send(user_id="bob")
    seen: list[str] = []
    page, more = PageRequest(3), True
    while more:
        async with operations.database.transaction() as session:
            pages = await operations.services.notifications.pages(
                session, ADMIN, MessageFilter(), user_ids=["alice", "bob", "nobody"], page=page
            )
        of_alice = pages["alice"]
        assert (of_alice.total, pages["bob"].total, pages["nobody"].total) == (7, 1, 0)
        seen += [message.row.notification_id for message in of_alice.items]
        more = of_alice.has_next
        page = PageRequest(3, after=(of_alice.items[-1].listed_at, of_alice.items[-1].row.notification_id))
    assert seen == sent[::-1]


async def test_a_template_speaks_the_language_of_the_person(operations: Operations) -> None:
    async def tell(user_id: str, key: str = "measurement_completed", **values: str) -> Message:
        async with operations.database.transaction() as session:
            return await operations.services.sending.send_from_template(
                session, SERVICE, key=key, user_id=user_id, values=values
            )

    values = {"session_id": "s/1?x", "type_name": "{session_id} <b>"}
    korean, english = await tell("alice", **values), await tell("bob", **values)
    assert korean.content.body == "{session_id} <b> 측정 결과가 준비되었습니다."
    assert english.content.title == "Your measurement is complete"
    assert english.content.action_url == "/measurements/s%2F1%3Fx"
    assert (await tell("stranger", **values)).content.title == korean.content.title
    operations.directory.is_away = True
    assert (await tell("bob", **values)).content.title == korean.content.title  # Korean until it is known otherwise
    with pytest.raises(TemplateVariableMissing, match="type_name"):
        await tell("alice", session_id="s-1")
    for key in ("no_such_template", "\0", "x" * 1000):
        with pytest.raises(TemplateNotFound):
            await tell("alice", key=key)
    with pytest.raises(InvalidNotification):
        await tell("alice", session_id="s-1", type_name="\0")


async def test_people_do_not_send_templates(operations: Operations) -> None:
    async with operations.database.transaction() as session:
        with pytest.raises(Forbidden):
            await operations.services.sending.send_from_template(
                session, ALICE, key="health_alert_general", user_id="alice", values={"alert_id": "1"}
            )
