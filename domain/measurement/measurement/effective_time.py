"""When a value was true: the time of its last frame by the reader's clock, where that clock can be believed.

A reader stores frames while it has no connection, so that its timestamps, and not the time of their arrival, say when they
were measured. A timestamp is believed when it lies between a year before the arrival of its frame and five minutes after:
older ones come from a clock that was never set (1970, or the date of the firmware), later ones from a clock that is wrong.
One that is up to five minutes ahead is limited to the arrival.

A clock that is behind looks like stored frames, but for their pace: stored ones come in at once, while those that come in as
fast as they were measured are measured now. When their timestamps are then more than ten minutes old, the clock is wrong (one
that tells the local time of the Americas as UTC is hours behind).

Frames of one measurement follow each other. Where more than `MAX_GAP` lies between two of them, they are of two, or the
clock was set in between, and nobody knows of which time the value is.

Where the clock is wrong, frames lie apart, or most frames of a session cannot be believed, the time is *unknown*: the result carries the time
of arrival, before which it was measured, and is marked.
"""

from array import array
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from domain.measurement.measurement.frames import from_us

MAX_AGE = timedelta(days=366)
"""Longer than a cartridge is valid, so no frame is older."""
MAX_AHEAD = timedelta(minutes=5)
MAX_BEHIND = timedelta(minutes=10)
"""By how much the clock of a reader that measures now may be behind."""
MAX_GAP = timedelta(minutes=15)
"""Three times the silence after which a session ends by itself."""
MIN_LIVE_FRAMES = 3
MIN_LIVE_SPAN = timedelta(seconds=1)
"""Of what was measured: shorter ones come in at once, stored or not."""
PACE_TOLERANCE = 0.2
"""Share of that span by which the ages of frames at their arrival may differ when they come in as they are measured."""

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
        self._earliest_us = self._youngest_us = 2**63 - 1
        self._last_us = self._oldest_us = -(2**63)
        self._believed_us = array("q")

    def add(self, *, measured_at_us: int, received_at_us: int) -> None:
        """Take in the times of a frame, microseconds since 1970, UTC."""
        self._frames += 1
        self._latest_arrival_us = max(self._latest_arrival_us, received_at_us)
        if received_at_us - MAX_AGE // _US <= measured_at_us <= received_at_us + MAX_AHEAD // _US:
            self._believed += 1
            self._believed_us.append(measured_at_us)
            self._latest_us = max(self._latest_us, min(measured_at_us, received_at_us))
            age_us = received_at_us - measured_at_us
            self._earliest_us, self._last_us = (
                min(self._earliest_us, measured_at_us),
                max(self._last_us, measured_at_us),
            )
            self._youngest_us, self._oldest_us = min(self._youngest_us, age_us), max(self._oldest_us, age_us)

    @property
    def last_arrival(self) -> datetime:
        """When the last frame came in; there must be one."""
        return from_us(self._latest_arrival_us)

    def effective(self) -> EffectiveTime:
        """The time of the session's value; there must be a frame."""
        if 2 * self._believed > self._frames and not self._is_behind and not self._lie_apart:
            return EffectiveTime(from_us(self._latest_us), TimeBasis.READER)
        return EffectiveTime(self.last_arrival, TimeBasis.UNKNOWN)

    @property
    def _lie_apart(self) -> bool:
        """Whether the frames are of more than one time."""
        times = sorted(self._believed_us)
        return any(later - earlier > MAX_GAP // _US for earlier, later in pairwise(times))

    @property
    def _is_behind(self) -> bool:
        """Whether the frames came in as they were measured, with old timestamps."""
        span_us = self._last_us - self._earliest_us
        return (
            self._believed >= MIN_LIVE_FRAMES
            and span_us >= MIN_LIVE_SPAN // _US
            and self._oldest_us - self._youngest_us <= PACE_TOLERANCE * span_us
            and self._youngest_us > MAX_BEHIND // _US
        )
