"""When a value was true: the time of its last frame by the reader's clock, where that clock can be believed.

A reader stores frames while it has no connection, so that its timestamps, and not the time of their arrival, say when they
were measured. A timestamp is believed when it lies between a year before the arrival of its frame and five minutes after:
older ones come from a clock that was never set (1970, or the date of the firmware), later ones from a clock that is wrong.
One that is up to five minutes ahead is limited to the arrival. Where most frames of a session cannot be believed the time
is *unknown*: the result carries the time of arrival, before which it was measured, and is marked.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from domain.measurement.measurement.frames import from_us

MAX_AGE = timedelta(days=366)
"""Longer than a cartridge is valid, so no frame is older."""
MAX_AHEAD = timedelta(minutes=5)

_US = timedelta(microseconds=1)


class TimeBasis(StrEnum):
    """What the time of a result is based on."""

    READER = "reader"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class EffectiveTime:
    """When a result was true; of an unknown time, before when."""

    at: datetime
    basis: TimeBasis


class FrameTimes:
    """Gathers the times of a session's frames."""

    def __init__(self) -> None:
        self._frames = self._believed = 0
        self._latest_us = self._latest_arrival_us = -(2**63)

    def add(self, *, measured_at_us: int, received_at_us: int) -> None:
        """Take in the times of a frame, microseconds since 1970, UTC."""
        self._frames += 1
        self._latest_arrival_us = max(self._latest_arrival_us, received_at_us)
        if received_at_us - MAX_AGE // _US <= measured_at_us <= received_at_us + MAX_AHEAD // _US:
            self._believed += 1
            self._latest_us = max(self._latest_us, min(measured_at_us, received_at_us))

    @property
    def last_arrival(self) -> datetime:
        """When the last frame came in; there must be one."""
        return from_us(self._latest_arrival_us)

    def effective(self) -> EffectiveTime:
        """The time of the session's value; there must be a frame."""
        if 2 * self._believed > self._frames:
            return EffectiveTime(from_us(self._latest_us), TimeBasis.READER)
        return EffectiveTime(self.last_arrival, TimeBasis.UNKNOWN)
