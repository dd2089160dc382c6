from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.operations.notification.models import Channel, NotificationType, Preferences, Priority
from domain.operations.notification.quiet_hours import QuietHours
from domain.operations.notification.routing import Later, Never, Now, Recipient, channels_of, route

SEOUL = ZoneInfo("Asia/Seoul")
NOON = datetime(2026, 11, 27, 12, 0, tzinfo=SEOUL)
NIGHT = datetime(2026, 11, 27, 23, 0, tzinfo=SEOUL)
MORNING = datetime(2026, 11, 28, 7, 0, tzinfo=SEOUL)
ALL_ON = Preferences(sms_enabled=True, promotions=True)
QUIET = replace(ALL_ON, quiet_hours=QuietHours(22 * 60, 7 * 60))
OUTSIDE = (Channel.PUSH, Channel.EMAIL, Channel.SMS)


def to(preferences: Preferences, *, agreed: bool | None = True) -> Recipient:
    return Recipient(preferences, zone=SEOUL, agreed_to_marketing=agreed)


@pytest.mark.parametrize("channel", OUTSIDE)
def test_quiet_hours_hold_back_what_rings_until_they_end(channel: Channel) -> None:
    decision = route(NotificationType.SYSTEM, Priority.HIGH, channel, to(QUIET), at=NIGHT)
    assert decision == Later(MORNING)
    assert route(NotificationType.SYSTEM, Priority.HIGH, channel, to(QUIET), at=NOON) == Now()


def test_urgent_ones_and_the_app_s_list_know_no_quiet_hours() -> None:
    for channel in OUTSIDE:
        assert route(NotificationType.HEALTH_ALERT, Priority.URGENT, channel, to(QUIET), at=NIGHT) == Now()
    assert route(NotificationType.SYSTEM, Priority.LOW, Channel.IN_APP, to(QUIET), at=NIGHT) == Now()


def test_a_health_alert_that_is_switched_off_stays_in_the_app() -> None:
    off = to(replace(ALL_ON, health_alerts=False))
    alert = NotificationType.HEALTH_ALERT
    assert route(alert, Priority.URGENT, Channel.IN_APP, off, at=NOON) == Now()
    for channel in OUTSIDE:
        assert route(alert, Priority.URGENT, channel, off, at=NOON) == Never("TYPE_OFF")


@pytest.mark.parametrize(
    ("kind", "switch"),
    [
        (NotificationType.MEASUREMENT, "measurement_alerts"),
        (NotificationType.APPOINTMENT, "appointment_reminders"),
        (NotificationType.COMMUNITY, "community_updates"),
        (NotificationType.PROMOTION, "promotions"),
    ],
)
def test_each_switch_stops_its_type_everywhere_and_no_other(kind: NotificationType, switch: str) -> None:
    off = to(replace(ALL_ON, **{switch: False}))  # type: ignore[arg-type]  # the switch is drawn from a list
    for other, channel in product(NotificationType, Channel):
        stopped = route(other, Priority.NORMAL, channel, off, at=NOON) == Never("TYPE_OFF")
        assert stopped is (other is kind)


@pytest.mark.parametrize("agreed", [False, None])
def test_offers_need_the_consent_as_well(agreed: bool | None) -> None:
    for channel in Channel:
        decision = route(NotificationType.PROMOTION, Priority.URGENT, channel, to(ALL_ON, agreed=agreed), at=NOON)
        assert decision == Never("NO_MARKETING_CONSENT")


def test_offers_are_not_sent_at_night_however_urgent() -> None:
    decision = route(NotificationType.PROMOTION, Priority.URGENT, Channel.PUSH, to(ALL_ON), at=NIGHT)
    assert decision == Later(datetime(2026, 11, 28, 8, 0, tzinfo=SEOUL))


def test_both_reasons_to_wait_are_waited_for() -> None:
    late_riser = replace(ALL_ON, quiet_hours=QuietHours(22 * 60, 10 * 60))
    decision = route(NotificationType.PROMOTION, Priority.LOW, Channel.PUSH, to(late_riser), at=NIGHT)
    assert decision == Later(datetime(2026, 11, 28, 10, 0, tzinfo=SEOUL))


def test_a_channel_that_is_off_is_not_used_also_when_it_is_asked_for() -> None:
    off = Preferences(push_enabled=False, email_enabled=False, sms_enabled=False)
    for channel in OUTSIDE:
        assert route(NotificationType.SYSTEM, Priority.URGENT, channel, to(off), at=NOON) == Never("CHANNEL_OFF")
        assert channels_of(channel, off) == (channel,)  # so that the record says why
    assert channels_of(None, off) == ()
    assert channels_of(None, ALL_ON) == OUTSIDE
    assert channels_of(Channel.IN_APP, ALL_ON) == ()


SWITCHES = st.fixed_dictionaries(
    {name: st.booleans() for name in Preferences.__dataclass_fields__ if name not in ("quiet_hours", "updated_at")}
)


@given(
    kind=st.sampled_from(NotificationType),
    priority=st.sampled_from(Priority),
    channel=st.sampled_from(Channel),
    switches=SWITCHES,
    span=st.none() | st.tuples(st.integers(0, 1439), st.integers(0, 1439)).filter(lambda s: s[0] != s[1]),
    agreed=st.sampled_from([True, False, None]),
    at=st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - drawn
)
def test_what_waits_is_sent_when_the_wait_is_over(
    kind: NotificationType,
    priority: Priority,
    channel: Channel,
    switches: dict[str, bool],
    span: tuple[int, int] | None,
    agreed: bool | None,
    at: datetime,
) -> None:
    preferences = Preferences(**switches, quiet_hours=QuietHours(*span) if span else None)  # type: ignore[arg-type]  # only flags
    recipient = Recipient(preferences, zone=SEOUL, agreed_to_marketing=agreed)
    decision = route(kind, priority, channel, recipient, at=at)
    looks = 0
    while isinstance(decision, Later):  # the end of one wait may lie within another one
        assert decision.at > at
        at, looks = decision.at, looks + 1
        assert looks <= 3
        decision = route(kind, priority, channel, recipient, at=at)
    if looks:
        assert decision == Now()
