"""One measurement frame as the reader's electronics deliver it: raw electrode currents and the ambient conditions."""

import datetime as dt
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from devices.errors import FrameInvalid

FloatArray = npt.NDArray[np.float64]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
# 9999-12-31T23:59:59.999999Z, the last instant that a protobuf Timestamp can hold.
MAX_TIMESTAMP_US = 253_402_300_799_999_999


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawFrame:
    """An immutable frame; ``raw_channels`` is copied and locked against writing.

    Args:
        timestamp_us: when it was taken, microseconds since 1970-01-01T00:00Z. Names the frame within its session.
        raw_channels: shape (channels,), nanoampere, detector electrodes before any correction.
        s_det: nanoampere, mean of the electrodes that the reader's self-test calls sound.
        s_ref: nanoampere, reference electrode.
        alpha: share of ``s_ref`` to subtract, as the reader knows it from the cartridge.
        temp_c: degrees Celsius. humidity_pct: percent relative humidity. pressure_kpa: kilopascal.
    Raises:
        FrameInvalid: a value is missing, not finite or out of its range.
    """

    timestamp_us: int
    raw_channels: FloatArray
    s_det: float
    s_ref: float
    alpha: float
    temp_c: float
    humidity_pct: float
    pressure_kpa: float

    def __post_init__(self) -> None:
        channels = np.array(self.raw_channels, dtype=np.float64)
        if channels.ndim != 1 or not 1 <= channels.size <= 0xFFFF:
            raise FrameInvalid("raw_channels", channels.shape, "must be one row of 1 to 65535 channels")
        if not np.isfinite(channels).all():
            first = int(np.flatnonzero(~np.isfinite(channels))[0])
            raise FrameInvalid(f"raw_channels[{first}]", float(channels[first]), "must be finite")
        for name in ("s_det", "s_ref", "alpha", "temp_c", "humidity_pct", "pressure_kpa"):
            if not math.isfinite(getattr(self, name)):
                raise FrameInvalid(name, getattr(self, name), "must be finite")
        if not 0 <= self.timestamp_us <= MAX_TIMESTAMP_US:
            raise FrameInvalid("timestamp_us", self.timestamp_us, f"must be from 0 to {MAX_TIMESTAMP_US}")
        channels.setflags(write=False)
        object.__setattr__(self, "raw_channels", channels)

    @property
    def taken_at(self) -> dt.datetime:
        """The time of the frame, UTC, exact to the microsecond."""
        return _EPOCH + dt.timedelta(microseconds=self.timestamp_us)

    def retimed(self, timestamp_us: int) -> "RawFrame":
        """The same frame, taken at another time."""
        return replace(self, timestamp_us=timestamp_us)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RawFrame):
            return NotImplemented
        return self._scalars() == other._scalars() and np.array_equal(self.raw_channels, other.raw_channels)

    def __hash__(self) -> int:
        return hash(self._scalars())

    def _scalars(self) -> tuple[float, ...]:
        return (
            self.timestamp_us,
            self.s_det,
            self.s_ref,
            self.alpha,
            self.temp_c,
            self.humidity_pct,
            self.pressure_kpa,
        )


def to_timestamp_us(moment: dt.datetime) -> int:
    """Microseconds since the epoch of a time with zone, without passing through a float."""
    return (moment - _EPOCH) // dt.timedelta(microseconds=1)
