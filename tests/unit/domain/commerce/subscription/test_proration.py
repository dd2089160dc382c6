"""Proration by whole days: fair to the won, and no way to gain by changing to and fro."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.commerce.subscription.proration import (
    SEOUL,
    Period,
    downgrade_credit_krw,
    kept_days,
    month_after,
    next_period,
    round_half_up,
    seoul_day,
    unused,
    upgrade_cost_krw,
)

START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
PERIOD = next_period(START, seoul_day(START))

moments = st.integers(1_577_836_800, 2_208_988_800).map(lambda s: datetime.fromtimestamp(s, UTC))  # 2020 to 2040
prices = st.integers(0, 1_000_000)


@pytest.mark.parametrize(
    ("start", "anchor_day", "end"),
    [
        ("2026-11-22T18:00", 22, "2026-12-22T18:00"),
        ("2026-12-15T08:30", 15, "2027-01-15T08:30"),
        ("2027-01-31T08:00", 31, "2027-02-28T08:00"),
        ("2027-02-28T08:00", 31, "2027-03-31T08:00"),
        ("2028-01-31T08:00", 31, "2028-02-29T08:00"),
        ("2027-01-01T00:30", 1, "2027-02-01T00:30"),  # 31 December in UTC
    ],
)
def test_a_month_ends_on_the_same_day_in_seoul_or_the_last_one_there_is(start: str, anchor_day: int, end: str) -> None:
    begun = datetime.fromisoformat(start).replace(tzinfo=SEOUL).astimezone(UTC)
    assert month_after(begun, anchor_day) == datetime.fromisoformat(end).replace(tzinfo=SEOUL)


@given(start=moments)
def test_a_month_has_as_many_whole_days_as_the_calendar_says(start: datetime) -> None:
    period = next_period(start, seoul_day(start))
    assert period.ends_at - period.starts_at == timedelta(days=period.days)
    assert 28 <= period.days <= 31


def test_the_upgrade_of_the_price_list_by_hand() -> None:
    for elapsed, cost_krw in ((0, 20_000), (1, 19_333), (10, 13_333), (29, 667)):
        months = unused([PERIOD], START + timedelta(days=elapsed), counting_today=True)
        assert upgrade_cost_krw(9_900, 29_900, months) == cost_krw


def test_a_day_that_has_begun_is_charged_and_not_credited() -> None:
    noon = START + timedelta(days=10, hours=3)
    assert unused([PERIOD], noon, counting_today=True) == Fraction(20, 30)
    assert unused([PERIOD], noon, counting_today=False) == Fraction(19, 30)


def test_a_month_that_was_paid_ahead_counts_whole() -> None:
    ahead = next_period(PERIOD.ends_at, 22)
    now = PERIOD.ends_at - timedelta(days=3)
    assert unused([PERIOD, ahead], now, counting_today=True) == Fraction(3, 30) + 1


def test_a_period_that_was_cut_short_counts_what_is_left_of_it() -> None:
    cut = Period(PERIOD.starts_at, PERIOD.starts_at + timedelta(days=15), PERIOD.days)
    assert unused([cut], START + timedelta(days=5), counting_today=True) == Fraction(10, 30)


@given(now=moments, old=prices, new=prices)
def test_a_price_is_never_negative_and_never_above_the_whole_difference(now: datetime, old: int, new: int) -> None:
    for counting_today in (True, False):
        months = unused([PERIOD], now, counting_today=counting_today)
        assert 0 <= months <= 1
        assert 0 <= upgrade_cost_krw(old, new, months) <= max(new - old, 0)
        assert 0 <= downgrade_credit_krw(old, new, months) <= max(old - new, 0)


@given(elapsed_s=st.integers(0, 30 * 86_400), later_s=st.integers(0, 30 * 86_400), low=prices, high=prices)
def test_up_and_down_again_never_gains(elapsed_s: int, later_s: int, low: int, high: int) -> None:
    up_at, down_at = START + timedelta(seconds=elapsed_s), START + timedelta(seconds=elapsed_s + later_s)
    cost_krw = upgrade_cost_krw(low, high, unused([PERIOD], up_at, counting_today=True))
    credit_krw = downgrade_credit_krw(high, low, unused([PERIOD], down_at, counting_today=False))
    assert credit_krw <= cost_krw


@given(changes=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 86_400 * 3)), max_size=12))
def test_no_series_of_changes_leaves_a_plan_that_was_not_paid_for(changes: list[tuple[int, int]]) -> None:
    """What came in, less credit, pays for the rest of the month on the plan that is held; at most half a won is rounded."""
    list_krw = (0, 9_900, 29_900, 59_900)
    plan, now, upgrades = 1, START, 0
    paid_krw, credit_krw = list_krw[plan], 0
    for wanted, pause_s in changes:
        now += timedelta(seconds=pause_s)
        if wanted > plan:
            cost = upgrade_cost_krw(list_krw[plan], list_krw[wanted], unused([PERIOD], now, counting_today=True))
            used = min(credit_krw, cost)
            credit_krw, paid_krw, upgrades = credit_krw - used, paid_krw + cost - used, upgrades + 1
        else:
            months = unused([PERIOD], now, counting_today=False)
            credit_krw += downgrade_credit_krw(list_krw[plan], list_krw[wanted], months)
        plan = wanted
        rest = list_krw[plan] * unused([PERIOD], now, counting_today=True)
        assert paid_krw - credit_krw >= rest - Fraction(upgrades, 2)
        assert 0 <= credit_krw <= paid_krw


@given(amount=st.fractions(0, 10**6))
def test_halves_are_rounded_up(amount: Fraction) -> None:
    rounded = round_half_up(amount)
    assert Fraction(-1, 2) < rounded - amount <= Fraction(1, 2)


@given(days=st.integers(1, 31), paid_krw=st.integers(1, 10**6), refunded_krw=st.integers(0, 2 * 10**6))
def test_days_are_kept_only_as_far_as_they_are_paid_for(days: int, paid_krw: int, refunded_krw: int) -> None:
    kept = kept_days(days, paid_krw=paid_krw, refunded_krw=refunded_krw)
    left_krw = max(paid_krw - refunded_krw, 0)
    assert kept * paid_krw <= days * left_krw < (kept + 1) * paid_krw
