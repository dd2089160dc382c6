"""What a change of plan costs within a period, and what an unused part of one is worth: by whole days.

A day counts from the moment of the change, not from midnight: a period has exactly as many days of 24 hours as its dates
say, because it ends at the time of day at which it began, and Korea keeps one time all year. A day that has begun is
charged to an upgrade and is not credited by a downgrade; upgrades are rounded to whole won half up, credit is rounded
down. So going up and at once down again never gives back more than it cost, whatever the moment.

Exact fractions, because a sum of rounded days would be off by some won.
"""

from calendar import monthrange
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from math import floor
from zoneinfo import ZoneInfo

SEOUL = ZoneInfo("Asia/Seoul")
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Period:
    """Time that was paid for.

    Args:
        days: of the whole month that its price is for; the period itself may have been cut short by a refund.
    """

    starts_at: datetime
    ends_at: datetime
    days: int


def month_after(start: datetime, anchor_day: int) -> datetime:
    """One calendar month later in Seoul: on the anchor's day, or on the last day of a month that has no such day."""
    local = start.astimezone(SEOUL)
    year, month = (local.year + 1, 1) if local.month == 12 else (local.year, local.month + 1)
    day = min(anchor_day, monthrange(year, month)[1])
    return local.replace(year=year, month=month, day=day).astimezone(start.tzinfo)


def seoul_day(at: datetime) -> int:
    """The day of the month on which a moment lies in Seoul."""
    return at.astimezone(SEOUL).day


def next_period(start: datetime, anchor_day: int) -> Period:
    """The month from a moment on."""
    end = month_after(start, anchor_day)
    return Period(start, end, (end - start).days)


def unused(periods: Iterable[Period], now: datetime, *, counting_today: bool) -> Fraction:
    """How many months of paid time are left; 0 when none is.

    Args:
        counting_today: whether the day that has begun is left as a whole, or used.
    """
    total = Fraction(0)
    for period in periods:
        left = period.ends_at - max(now, period.starts_at)
        whole, begun = divmod(left, _DAY)
        days = whole + (1 if begun and counting_today else 0)
        total += Fraction(min(max(days, 0), period.days), period.days)
    return total


def upgrade_cost_krw(old_krw: int, new_krw: int, unused_months: Fraction) -> int:
    """What the rest of the paid time costs more on the new plan, in whole won, half up; never negative."""
    return round_half_up(max(new_krw - old_krw, 0) * unused_months)


def downgrade_credit_krw(old_krw: int, new_krw: int, unused_months: Fraction) -> int:
    """What the rest of the paid time is worth less on the new plan, in whole won, rounded down; never negative."""
    return int(max(old_krw - new_krw, 0) * unused_months)


def kept_days(days: int, *, paid_krw: int, refunded_krw: int) -> int:
    """How many days of a period are still paid for after a part of its price was paid back, rounded down."""
    if paid_krw <= 0:
        return 0
    return days * max(paid_krw - refunded_krw, 0) // paid_krw


def round_half_up(amount: Fraction) -> int:
    """The nearest whole number; of two equally near ones the greater."""
    return floor(amount + Fraction(1, 2))
