from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.operations.notification.quiet_hours import InvalidQuietHours, QuietHours

SEOUL = ZoneInfo("Asia/Seoul")
ZONES = st.sampled_from(
    [ZoneInfo(z) for z in ("Asia/Seoul", "Europe/London", "America/New_York", "Australia/Lord_Howe", "UTC")]
)
MINUTES = st.integers(0, 1439)
SPANS = st.tuples(MINUTES, MINUTES).filter(lambda span: span[0] != span[1]).map(lambda span: QuietHours(*span))
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - drawn


@given(span=SPANS)
def test_quiet_hours_are_what_their_texts_say(span: QuietHours) -> None:
    assert QuietHours.parse(*span.texts) == span


@given(span=SPANS, at=MOMENTS, zone=ZONES)
def test_quiet_hours_end_within_a_day_at_a_moment_that_is_not_quiet(
    span: QuietHours, at: datetime, zone: ZoneInfo
) -> None:
    over = span.over_at(at, zone)
    assert (over is not None) == span.holds(at, zone)
    if over is not None:
        assert at < over <= at + timedelta(hours=25)
        assert not span.holds(over, zone)


@given(span=SPANS, at=MOMENTS)
def test_where_no_clock_is_set_all_until_the_end_is_quiet(span: QuietHours, at: datetime) -> None:
    over = span.over_at(at, SEOUL)
    if over is not None:
        assert all(span.holds(at + (over - at) * part / 10, SEOUL) for part in range(10))
        assert span.holds(over - timedelta(seconds=1), SEOUL)


@given(span=SPANS, at=MOMENTS, zone=ZONES)
def test_a_moment_is_quiet_either_in_a_span_or_in_the_rest_of_the_day(
    span: QuietHours, at: datetime, zone: ZoneInfo
) -> None:
    rest = QuietHours(span.end, span.start)
    assert span.holds(at, zone) is not rest.holds(at, zone)


def test_over_midnight_they_end_the_next_morning_in_the_person_s_time_zone() -> None:
    span = QuietHours.parse("22:00", "07:00")
    assert span is not None
    late = datetime(2026, 11, 27, 23, 30, tzinfo=SEOUL)
    assert span.over_at(late, SEOUL) == datetime(2026, 11, 28, 7, 0, tzinfo=SEOUL)
    assert span.over_at(late + timedelta(hours=2), SEOUL) == datetime(2026, 11, 28, 7, 0, tzinfo=SEOUL)
    assert span.over_at(late, ZoneInfo("Europe/London")) is None
    assert QuietHours(13 * 60, 14 * 60).over_at(late, SEOUL) is None


def test_none_are_none() -> None:
    assert QuietHours.parse("", "") is None


@pytest.mark.parametrize(
    ("start", "end"),
    [("22:00", ""), ("", "07:00"), ("24:00", "07:00"), ("7:00", "08:00"), ("22:00", "22:00"), ("٢٢:٠٠", "07:00")],
)
def test_what_is_no_span_of_the_day_is_refused(start: str, end: str) -> None:
    with pytest.raises(InvalidQuietHours):
        QuietHours.parse(start, end)


def test_an_hour_that_comes_twice_ends_at_its_second_end_for_who_is_in_the_second() -> None:
    london, span = (
        ZoneInfo("Europe/London"),
        QuietHours(30, 90),
    )  # 00:30 to 01:30; at 02:00 the clock goes back to 01:00
    first, second = datetime(2026, 10, 25, 0, 10, tzinfo=UTC), datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    assert span.over_at(first, london) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert span.over_at(second, london) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


def test_an_end_that_the_clock_leaps_over_is_at_most_an_hour_late() -> None:
    london, span = ZoneInfo("Europe/London"), QuietHours(0, 90)  # at 01:00 the clock goes to 02:00
    at = datetime(2026, 3, 29, 0, 50, tzinfo=UTC)
    over = span.over_at(at, london)
    assert over is not None
    assert at < over <= at + timedelta(hours=1)
    assert not span.holds(over, london)
