"""When a result was true, by the times of its frames."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from domain.measurement.measurement.effective_time import EffectiveTime, FrameTimes, TimeBasis
from domain.measurement.measurement.frames import to_us

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def effective(frames: Iterable[tuple[timedelta, timedelta]]) -> EffectiveTime:
    """Of frames given by when they were measured and when they came in, both from now."""
    times = FrameTimes()
    for measured, received in frames:
        times.add(measured_at_us=to_us(NOW + measured), received_at_us=to_us(NOW + received))
    return times.effective()


def live(behind: timedelta, *, jitter: timedelta = timedelta(), count: int = 5) -> list[tuple[timedelta, timedelta]]:
    """Frames that come in as they are measured, by a clock that is behind."""
    return [(n * SECOND - behind, n * SECOND + (jitter if n % 2 else timedelta())) for n in range(count)]


@pytest.mark.parametrize("behind", [timedelta(hours=5), timedelta(hours=8), timedelta(minutes=11), timedelta(days=2)])
@pytest.mark.parametrize("jitter", [timedelta(), timedelta(milliseconds=300)])
def test_frames_that_come_in_as_they_are_measured_are_of_now_whatever_the_clock_says(
    behind: timedelta, jitter: timedelta
) -> None:
    found = effective(live(behind, jitter=jitter))
    assert found.basis is TimeBasis.UNKNOWN
    assert found.at in (NOW + 4 * SECOND, NOW + 4 * SECOND + jitter)


def test_stored_frames_that_come_in_at_once_are_of_when_they_were_measured() -> None:
    age = timedelta(hours=5)
    found = effective((n * SECOND - age, n * timedelta(milliseconds=20)) for n in range(5))
    assert found == EffectiveTime(NOW + 4 * SECOND - age, TimeBasis.READER)


def test_stored_frames_over_a_slow_connection_are_of_when_they_were_measured() -> None:
    age = timedelta(hours=5)
    found = effective((n * SECOND - age, 2.5 * n * SECOND) for n in range(5))
    assert found == EffectiveTime(NOW + 4 * SECOND - age, TimeBasis.READER)


def test_stored_frames_in_any_order_are_of_the_last_that_was_measured() -> None:
    ages = (timedelta(days=3, seconds=s) for s in (2, 5, 1, 4, 3))
    found = effective((-age, n * timedelta(milliseconds=20)) for n, age in enumerate(ages))
    assert found == EffectiveTime(NOW - timedelta(days=3, seconds=1), TimeBasis.READER)


@pytest.mark.parametrize("behind", [timedelta(), timedelta(minutes=9)])
def test_a_clock_that_is_somewhat_behind_is_believed(behind: timedelta) -> None:
    assert effective(live(behind)) == EffectiveTime(NOW + 4 * SECOND - behind, TimeBasis.READER)


def test_a_clock_that_is_ahead_is_limited_to_the_arrival_and_not_believed_beyond_five_minutes() -> None:
    assert effective(live(-timedelta(minutes=4))) == EffectiveTime(NOW + 4 * SECOND, TimeBasis.READER)
    assert effective(live(-timedelta(hours=1))) == EffectiveTime(NOW + 4 * SECOND, TimeBasis.UNKNOWN)


@pytest.mark.parametrize("old", [9, 5, 1])
@pytest.mark.parametrize("apart", [timedelta(hours=10), timedelta(minutes=16)])
def test_of_frames_that_lie_apart_nobody_knows_the_time(old: int, apart: timedelta) -> None:
    stored = [(n * SECOND - apart, n * timedelta(milliseconds=20)) for n in range(old)]
    fresh = [(n * SECOND, n * timedelta(milliseconds=20)) for n in range(10 - old)]
    found = effective([*stored, *fresh])
    assert found.basis is TimeBasis.UNKNOWN
    assert found.at <= NOW + SECOND


def test_a_long_session_without_a_gap_is_of_its_last_frame() -> None:
    found = effective((n * timedelta(minutes=10), n * timedelta(minutes=10)) for n in range(30))
    assert found == EffectiveTime(NOW + timedelta(minutes=290), TimeBasis.READER)
