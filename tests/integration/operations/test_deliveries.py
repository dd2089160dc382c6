"""Channels: which are used and when, retries, leases, several instances, and what of a message leaves the app."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.ids import new_id
from domain.operations.notification.deliver import GIVE_UP_AFTER, LEASE, MAX_TRIES
from domain.operations.notification.models import Channel, NotificationType, Platform, Priority
from domain.operations.notification.ports import Accepted, NotNow, Outcome, Refused, Unregistered
from domain.operations.notification.quiet_hours import QuietHours
from tests.integration.operations.conftest import ALICE, BOB, Operations, operations_on

HEALTH: dict[str, Any] = {
    "type": NotificationType.HEALTH_ALERT,
    "title": "건강 경고",
    "body": "혈당 452 mg/dL",
    "data": {"value": "452"},
    "priority": Priority.URGENT,
}


async def register(operations: Operations, *tokens: str, phone: str = "") -> None:
    async with operations.database.transaction() as session:
        for token in tokens:
            await operations.services.preferences.register_push_token(
                session, ALICE, token=token, platform=Platform.ANDROID
            )
    if phone:
        await operations.verify_phone(phone)


async def work(operations: Operations) -> int:
    return await operations.services.deliveries.deliver_due()


async def send_all_ways(operations: Operations, **more: Any) -> str:
    await register(operations, "phone-number-one", phone="010-1234-5678")
    await operations.prefer(sms_enabled=True)
    return (await operations.send(**more)).row.notification_id


async def test_a_notification_goes_out_on_every_enabled_channel_and_each_arrival_is_told(
    operations: Operations,
) -> None:
    notification_id = await send_all_ways(operations)
    assert await work(operations) == 3
    assert await operations.deliveries(notification_id) == {
        "in_app": ("sent", None),
        "push": ("sent", None),
        "email": ("sent", None),
        "sms": ("sent", None),
    }
    assert sorted(channel for _, channel in await operations.events()) == ["email", "in_app", "push", "sms"]
    assert [(mail.to, mail.subject) for mail in operations.post.mailed] == [("alice@example.com", "[만파식] Hello")]
    assert operations.texts.texted[0][0] == "01012345678"
    assert await work(operations) == 0
    assert await operations.unread() == 1


async def test_only_the_channel_that_is_asked_for_is_used(operations: Operations) -> None:
    await register(operations, "phone-number-one")
    asked = await operations.send(channel=Channel.EMAIL)
    off = await operations.send(channel=Channel.SMS)
    await work(operations)
    assert set(await operations.deliveries(asked.row.notification_id)) == {"in_app", "email"}
    assert (await operations.deliveries(off.row.notification_id))["sms"] == ("skipped", "CHANNEL_OFF")
    assert operations.push.pushed == []


async def test_what_is_about_health_leaves_the_app_without_its_details(operations: Operations) -> None:
    await send_all_ways(operations, **HEALTH)
    await work(operations)
    ((_, push),) = operations.push.pushed
    (mail,) = operations.post.mailed
    ((_, text),) = operations.texts.texted
    assert (push.title, push.body) == ("건강 경고", "앱에서 확인하세요.")
    assert mail.subject == "[만파식] 건강 경고"
    assert text == "[만파식] 새 건강 알림이 있습니다. 앱에서 확인하세요."
    assert len(text.encode("euc-kr")) <= 90
    for seen in (str(push), str(mail), text):
        assert "452" not in seen
        assert "혈당" not in seen


async def test_offers_are_labelled_and_say_how_to_stop_them(operations: Operations) -> None:
    operations.directory.know("alice", agreed_to_marketing=True)
    await register(operations, "phone-number-one")
    await operations.prefer(promotions=True)
    await operations.send(type=NotificationType.PROMOTION, title="할인", body="반값")
    await work(operations)
    assert operations.push.pushed[0][1].title == "(광고) 할인"
    (mail,) = operations.post.mailed
    assert mail.subject == "[만파식] (광고) 할인"
    assert "수신을 원하지 않으면" in mail.text


async def test_quiet_hours_hold_back_until_they_end_in_the_person_s_time_zone(operations: Operations) -> None:
    operations.directory.know("alice", timezone="America/New_York")
    await register(operations, "phone-number-one")
    await operations.prefer(email_enabled=False, quiet_hours=QuietHours(22 * 60, 7 * 60))
    operations.clock.advance(hours=18)  # 03:00 UTC is 22:00 in New York
    notification_id = (await operations.send()).row.notification_id
    urgent = (await operations.send(**HEALTH)).row.notification_id
    await work(operations)
    assert (await operations.deliveries(notification_id))["push"] == ("pending", "QUIET_HOURS")
    assert (await operations.deliveries(urgent))["push"] == ("sent", None)
    (row,) = await operations.fetch(
        "SELECT next_try_at, tries FROM notification_deliveries WHERE channel = 'push' AND state = 'pending'"
    )
    assert row == {"next_try_at": datetime(2026, 11, 23, 12, 0, tzinfo=UTC), "tries": 0}
    operations.clock.advance(hours=8, minutes=59)
    assert await work(operations) == 0
    operations.clock.advance(minutes=1)
    await work(operations)
    assert (await operations.deliveries(notification_id))["push"] == ("sent", None)


async def test_preferences_of_the_moment_hold_for_what_waits(operations: Operations) -> None:
    await register(operations, "phone-number-one")
    operations.push.answers = [NotNow("HTTP_503")]
    notification_id = (await operations.send(type=NotificationType.COMMUNITY)).row.notification_id
    await work(operations)
    await operations.prefer(community_updates=False)
    operations.clock.advance(minutes=1)
    await work(operations)
    assert (await operations.deliveries(notification_id))["push"] == ("skipped", "TYPE_OFF")
    assert len(operations.push.pushed) == 1


async def test_what_leads_nowhere_is_skipped_with_its_reason(operations: Operations) -> None:
    operations.directory.know("alice", email="")
    await operations.prefer(sms_enabled=True)
    notification_id = (await operations.send()).row.notification_id
    await work(operations)
    assert await operations.deliveries(notification_id) == {
        "in_app": ("sent", None),
        "push": ("skipped", "NO_DEVICE"),
        "email": ("skipped", "NO_EMAIL"),
        "sms": ("skipped", "NO_PHONE"),
    }


async def test_a_channel_that_is_not_configured_is_skipped_and_not_tried_for_ever(operations: Operations) -> None:
    operations.push.is_configured = operations.post.is_configured = operations.texts.is_configured = False
    bare = operations_on(operations.database, operations.sealer, operations.clock)
    for sender in (bare.push, bare.post, bare.texts):
        sender.is_configured = False
    await operations.prefer(sms_enabled=True)
    notification_id = (await operations.send()).row.notification_id
    await work(operations)
    assert set((await operations.deliveries(notification_id)).values()) == {
        ("sent", None),
        ("skipped", "NOT_CONFIGURED"),
    }


async def test_what_fails_for_now_is_tried_again_later_and_later_and_given_up(operations: Operations) -> None:
    await register(operations, "phone-number-one")
    operations.push.answers = [NotNow("HTTP_429", after_s=40.0), *[NotNow("HTTP_503")] * MAX_TRIES]
    notification_id = (await operations.send(channel=Channel.PUSH)).row.notification_id
    pauses = []
    for _ in range(MAX_TRIES - 1):
        await work(operations)
        (row,) = await operations.fetch("SELECT next_try_at FROM notification_deliveries WHERE channel = 'push'")
        due = row["next_try_at"]
        assert isinstance(due, datetime)
        pauses.append((due - operations.clock.now()).total_seconds())
        operations.clock.advance(seconds=pauses[-1] - 1)
        assert await work(operations) == 0
        operations.clock.advance(seconds=1)
    assert pauses == [40, 10, 20, 40, 80, 160, 320]
    await work(operations)
    assert (await operations.deliveries(notification_id))["push"] == ("failed", "HTTP_503")
    operations.clock.advance(hours=5)
    assert await work(operations) == 0
    assert len(operations.push.pushed) == MAX_TRIES


async def test_what_is_refused_is_not_tried_again(operations: Operations) -> None:
    operations.post.answers = [Refused("MAIL_REFUSED no such mailbox")]
    notification_id = (await operations.send(channel=Channel.EMAIL)).row.notification_id
    await work(operations)
    operations.clock.advance(hours=1)
    assert await work(operations) == 0
    assert (await operations.deliveries(notification_id))["email"][0] == "failed"
    assert [channel for _, channel in await operations.events()] == ["in_app"]


async def test_old_news_is_given_up(operations: Operations) -> None:
    notification_id = (await operations.send(channel=Channel.EMAIL)).row.notification_id
    operations.clock.advance(seconds=GIVE_UP_AFTER.total_seconds() + 1)
    await work(operations)
    assert (await operations.deliveries(notification_id))["email"] == ("failed", "TOO_OLD")
    assert operations.post.mailed == []


async def test_while_user_service_is_away_deliveries_wait_and_the_list_does_not(operations: Operations) -> None:
    operations.directory.is_away = True
    notification_id = (await operations.send()).row.notification_id
    assert await operations.unread() == 1
    for _ in range(2 * MAX_TRIES):
        await work(operations)
        operations.clock.advance(seconds=15)
    assert (await operations.deliveries(notification_id))["email"] == ("pending", "CONTACT_UNKNOWN")
    operations.directory.is_away = False
    operations.post.answers = [NotNow("HTTP_503")]
    await work(operations)  # its first try: the waiting was none
    assert (await operations.deliveries(notification_id))["email"] == ("pending", "HTTP_503")
    operations.clock.advance(seconds=10)
    await work(operations)
    assert (await operations.deliveries(notification_id))["email"] == ("sent", None)


async def test_a_token_of_an_app_that_is_gone_is_forgotten(operations: Operations) -> None:
    await register(operations, "gone-phone", "good-phone")
    operations.push.answers = [Unregistered(), Accepted("m-1")]
    notification_id = (await operations.send(channel=Channel.PUSH)).row.notification_id
    await work(operations)
    assert (await operations.deliveries(notification_id))["push"] == ("sent", None)
    assert await operations.fetch("SELECT token FROM push_tokens") == [{"token": "good-phone"}]


async def test_a_retry_for_one_phone_does_not_repeat_it_on_the_other(operations: Operations) -> None:
    await register(operations, "first-phone")
    operations.clock.advance(seconds=1)
    await register(operations, "second-phone")
    operations.push.answers = [Accepted("m-1"), NotNow("HTTP_503")]
    notification_id = (await operations.send(channel=Channel.PUSH)).row.notification_id
    await work(operations)
    operations.clock.advance(minutes=1)
    await work(operations)
    assert [token for token, _ in operations.push.pushed].count("first-phone") == 1
    assert [token for token, _ in operations.push.pushed].count("second-phone") == 2
    assert (await operations.deliveries(notification_id))["push"] == ("sent", None)
    assert await operations.events() == [("system", "in_app"), ("system", "push")]


async def test_a_phone_that_changes_hands_gets_nothing_of_its_former_owner(operations: Operations) -> None:
    await register(operations, "shared-phone")
    async with operations.database.transaction() as session:
        await operations.services.preferences.register_push_token(
            session, BOB, token="shared-phone", platform=Platform.IOS
        )
        assert not await operations.services.preferences.remove_push_token(session, ALICE, token="shared-phone")
    of_alice = (await operations.send(user_id="alice", channel=Channel.PUSH)).row.notification_id
    await operations.send(user_id="bob", channel=Channel.PUSH, title="for bob")
    await work(operations)
    assert (await operations.deliveries(of_alice))["push"] == ("skipped", "NO_DEVICE")
    assert [message.title for _, message in operations.push.pushed] == ["for bob"]


async def test_several_instances_share_the_work_and_repeat_nothing(operations: Operations) -> None:
    instances = [operations_on(operations.database, operations.sealer, operations.clock) for _ in range(4)]
    for _ in range(30):
        await operations.send(channel=Channel.EMAIL)

    async def drain(instance: Operations) -> None:
        while await work(instance):
            pass

    await asyncio.gather(*(drain(instance) for instance in instances))
    ids = [mail.message_id for instance in instances for mail in instance.post.mailed]
    assert len(ids) == len(set(ids)) == 30
    assert [channel for _, channel in await operations.events()].count("email") == 30


async def test_a_crash_between_provider_and_record_repeats_it_once_when_the_lease_is_over(
    operations: Operations,
) -> None:
    crashed = operations_on(operations.database, operations.sealer, operations.clock)

    class Crash(BaseException):
        """The process is gone."""

    async def take_and_die(mail: Any) -> Outcome:
        crashed.post.mailed.append(mail)
        raise Crash

    crashed.post.send = take_and_die  # type: ignore[method-assign]  # the crash
    notification_id = (await operations.send(channel=Channel.EMAIL)).row.notification_id
    with pytest.raises(Crash):
        await work(crashed)
    assert await work(operations) == 0  # the lease still holds
    operations.clock.advance(seconds=LEASE.total_seconds() + 1)
    assert await work(operations) == 1
    operations.clock.advance(hours=1)
    assert await work(operations) == 0
    assert crashed.post.mailed == operations.post.mailed  # by its Message-ID the mailbox drops the second
    assert (await operations.deliveries(notification_id))["email"] == ("sent", None)
    assert [channel for _, channel in await operations.events()] == ["in_app", "email"]


class Late:
    """A provider that has been asked, and answers when the test lets it."""

    def __init__(self, operations: Operations, answer: Outcome) -> None:
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()
        self._answer = answer
        operations.post.send = self._send  # type: ignore[method-assign]  # the delay
        self._operations = operations
        self._attempt: asyncio.Task[int] | None = None

    async def _send(self, mail: Any) -> Outcome:
        self.asked.set()
        await self.go_on.wait()
        return self._answer

    async def ask(self) -> None:
        self._attempt = asyncio.create_task(work(self._operations))
        await self.asked.wait()

    async def answer(self) -> None:
        assert self._attempt is not None
        self.go_on.set()
        await self._attempt


@pytest.mark.parametrize("late", [Refused("too late"), NotNow("too late"), Accepted("m-2")], ids=str)
@pytest.mark.parametrize("first", ["the one that lost its lease", "the one that holds it"])
async def test_an_instance_that_lost_its_lease_does_not_undo_what_another_does(
    operations: Operations, late: Outcome, first: str
) -> None:
    slow = Late(operations_on(operations.database, operations.sealer, operations.clock), late)
    fast = Late(operations, Accepted("m-1"))
    notification_id = (await operations.send(channel=Channel.EMAIL)).row.notification_id
    await slow.ask()
    operations.clock.advance(seconds=LEASE.total_seconds() + 1)
    await fast.ask()
    for instance in (slow, fast) if first == "the one that lost its lease" else (fast, slow):
        await instance.answer()
    assert (await operations.deliveries(notification_id))["email"] == ("sent", None)
    assert [channel for _, channel in await operations.events()] == ["in_app", "email"]


async def test_one_message_that_trips_the_worker_does_not_hold_up_the_others(operations: Operations) -> None:
    async def trip(mail: Any) -> Outcome:
        if "trip" in mail.subject:
            raise ZeroDivisionError
        return Accepted("m")

    operations.post.send = trip  # type: ignore[method-assign]  # the bug
    tripping = (await operations.send(channel=Channel.EMAIL, title="trip")).row.notification_id
    broken = (await operations.send(channel=Channel.EMAIL)).row.notification_id
    sound = (await operations.send(channel=Channel.EMAIL)).row.notification_id
    await operations.fetch("UPDATE notifications SET content = '\\x00' WHERE notification_id = $1", broken)
    await work(operations)
    assert (await operations.deliveries(sound))["email"] == ("sent", None)
    assert (await operations.deliveries(tripping))["email"] == ("pending", "INTERNAL_ERROR")
    assert (await operations.deliveries(broken))["email"] == ("failed", "UNREADABLE")
    assert await work(operations) == 0


async def test_no_session_is_held_while_a_provider_is_asked(operations: Operations) -> None:
    open_while_asked = []

    async def look(mail: Any) -> Outcome:
        open_while_asked.append(operations.database.engine.pool.checkedout())  # type: ignore[attr-defined]
        return Accepted(new_id())

    operations.post.send = look  # type: ignore[method-assign]  # to look from inside
    await operations.send(channel=Channel.EMAIL)
    await work(operations)
    assert open_while_asked == [0]


async def test_a_person_keeps_the_newest_tokens_only(operations: Operations) -> None:
    for number in range(25):
        operations.clock.advance(seconds=1)
        await register(operations, f"token-number-{number:02d}")
    tokens = await operations.fetch("SELECT token FROM push_tokens ORDER BY registered_at")
    assert [row["token"] for row in tokens] == [f"token-number-{number:02d}" for number in range(5, 25)]


def test_a_lease_outlasts_what_a_batch_may_take() -> None:
    assert timedelta(seconds=60) < LEASE < GIVE_UP_AFTER
