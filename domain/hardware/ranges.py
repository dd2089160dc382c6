"""Ranges that hold for every number of a cartridge or a calibration, wherever it comes from."""

import datetime as dt
import math
from collections.abc import Sequence

from domain.hardware.codes import CHANNEL_COUNTS

ALPHA_RANGE = (0.0, 2.0)
"""Share of the reference electrode that is subtracted; without unit."""

MAX_COEFFICIENT = 1.0
"""Largest absolute relative change of the signal per degree Celsius, or per percentage point of humidity."""

GAIN_RANGE = (1e-6, 1e6)
"""Absolute gain of a channel, in units of the result for each unit of its signal."""

MAX_OFFSET = 1e6
"""Largest absolute offset of a channel, in units of the result."""

MAX_USES = 0xFFFF
"""The tag has two bytes for the number of uses."""

EARLIEST_EXPIRY = dt.date(2000, 1, 1)
LATEST_EXPIRY = dt.date(2099, 12, 31)


def alpha_fault(value: float) -> str | None:
    """Why a factor of the reference electrode is refused; None when it is in range. NaN is not."""
    low, high = ALPHA_RANGE
    return None if low <= value <= high else f"alpha is {value:g}; it must be between {low:g} and {high:g}"


def coefficient_fault(name: str, value: float) -> str | None:
    """Why a temperature or humidity coefficient is refused; None when it is in range. NaN is not."""
    if math.isfinite(value) and abs(value) <= MAX_COEFFICIENT:
        return None
    return f"{name} is {value:g}; it must be between -{MAX_COEFFICIENT:g} and {MAX_COEFFICIENT:g}"


def gains_fault(values: Sequence[float]) -> str | None:
    """Why gains of channels are refused; None when all are in range. NaN is not."""
    low, high = GAIN_RANGE
    if all(low <= abs(value) <= high for value in values):
        return None
    return f"channel_gains must be from {low:g} to {high:g}, or the same below 0"


def offsets_fault(values: Sequence[float]) -> str | None:
    """Why offsets of channels are refused; None when all are in range. NaN is not."""
    if all(abs(value) <= MAX_OFFSET for value in values):
        return None
    return f"channel_offsets must be from -{MAX_OFFSET:g} to {MAX_OFFSET:g}"


def uses_fault(name: str, value: int) -> str | None:
    """Why a number of uses is refused; None when it is in range."""
    return None if 1 <= value <= MAX_USES else f"{name} is {value}; it must be between 1 and {MAX_USES}"


def expiry_fault(value: dt.date) -> str | None:
    """Why a last day of use is refused; None when it is in range."""
    if EARLIEST_EXPIRY <= value <= LATEST_EXPIRY:
        return None
    return f"expires_on is {value}; it must be between {EARLIEST_EXPIRY} and {LATEST_EXPIRY}"


def channels_fault(value: int) -> str | None:
    """Why a number of channels is refused; None when readers have it."""
    return None if value in CHANNEL_COUNTS else f"required_channels is {value}; it must be one of {CHANNEL_COUNTS}"
