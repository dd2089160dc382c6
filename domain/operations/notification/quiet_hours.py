"""Quiet hours: a span of the day, in the person's time zone, in which nothing should ring.

It is told by the clock on the wall. Where that clock is set forward over the end, quiet hours end at most an hour late;
where it is set back within them, they are an hour longer.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Self

from domain.errors import InvalidInput

_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)


class InvalidQuietHours(InvalidInput):
    """Not a span of the day."""

    reason = "INVALID_QUIET_HOURS"


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `start` (included) to `end` (excluded), minutes from midnight; an earlier end is on the next day."""

    start: int
    end: int

    @classmethod
    def parse(cls, start: str, end: str) -> Self | None:
        """Quiet hours as people write them, "HH:MM"; None when both are empty.

        Raises:
            InvalidQuietHours: one of them is missing or no time of the day, or both are the same.
        """
        if not start and not end:
            return None
        span = cls(_minutes(start, field="quiet_hours_start"), _minutes(end, field="quiet_hours_end"))
        if span.start == span.end:
            raise InvalidQuietHours("Quiet hours must not end when they begin.", field="quiet_hours_end")
        return span

    @property
    def texts(self) -> tuple[str, str]:
        """Begin and end as "HH:MM"."""
        return _text(self.start), _text(self.end)

    def holds(self, at: datetime, zone: tzinfo) -> bool:
        """Whether a moment lies within them."""
        local = at.astimezone(zone)
        minute = local.hour * 60 + local.minute
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def over_at(self, at: datetime, zone: tzinfo) -> datetime | None:
        """When the quiet hours end that a moment lies in (UTC); None when it lies in none."""
        if not self.holds(at, zone):
            return None
        local = at.astimezone(zone)
        day = local.date()
        if self.start > self.end and local.hour * 60 + local.minute >= self.start:
            day += timedelta(days=1)
        end = datetime.combine(day, time(self.end // 60, self.end % 60), tzinfo=zone)
        # A time that comes twice (the clock is set back): the first one, unless that has passed.
        over = end.astimezone(UTC)
        return over if over > at else end.replace(fold=1).astimezone(UTC)


def _minutes(clock: str, *, field: str) -> int:
    found = _CLOCK.fullmatch(clock)
    if found is None:
        raise InvalidQuietHours(f'{field} must be a time such as "22:30"; set both ends or none.', field=field)
    return int(found[1]) * 60 + int(found[2])


def _text(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
