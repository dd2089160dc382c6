"""What may be said of a value: within the measuring range, below it, above it, or nothing.

The measuring range (analytical measurement interval) of a cartridge type is where its values are known to be right.
Outside it a value is an extrapolation, which is never shown: the result is *below* or *above range*, with the limit in
place of the value, as meters show LOW and HIGH. Without enough confidence there is no result: it is *invalid*.

A value is rounded before it is compared, so that what is said agrees with the digits that are shown. Two kinds of value
inside the reach of the arithmetic come hardly from a sample, and are invalid rather than LOW or HIGH: a negative one beyond the
noise around zero (reversed polarity), and one far above the upper limit (a fault of the electronics).

Source: CLSI EP34 (2018), Establishing and Verifying an Extended Measuring Interval, for the terms.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from domain.quantities import rounded

Comparator = Literal["", "<", ">"]

DEFAULT_MIN_CONFIDENCE = 0.5
DEFAULT_DECIMAL_PLACES = 4
"""Of signals in arbitrary units, whose noise is not known."""

ZERO_SHARE = 0.25
"""Of the lower limit: a signal within it around zero is not told from none. Provisional: twice the noise of the
amplifier and the electrode interface of a glucose electrode (2.5 mg/dL) at a lower limit of 20 mg/dL."""

IMPLAUSIBLE_FACTOR = 5.0
"""Of the upper limit: such a value is likelier a fault than a sample. Provisional; 3,000 mg/dL for glucose. A survivor of 5,600
mg/dL has been reported (Soni A et al. 1990, Diabetes Care 13: 181-182): that person would be told to measure again."""


ALLOWED_ERROR = 0.15
ABSOLUTE_BELOW = 5.0
"""How wrong a value may be, as a share of it, and of how many times the lower limit at least. For glucose, whose lower limit is
20 mg/dL, this is what ISO 15197:2013 allows: 15 % from 100 mg/dL, 15 mg/dL below. Provisional for other types."""


class ResultStatus(StrEnum):
    """What a result says."""

    VALID = "valid"
    BELOW_RANGE = "below_range"
    ABOVE_RANGE = "above_range"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class MeasuringRange:
    """Where values of a session are right; `low` and `high` in the unit of its result, None = not known.

    Args:
        min_confidence: least confidence of a result, 0 to 1.
        decimal_places: digits that a value has after the point.
    """

    low: float | None = None
    high: float | None = None
    min_confidence: float = DEFAULT_MIN_CONFIDENCE
    decimal_places: int = DEFAULT_DECIMAL_PLACES

    @property
    def is_known(self) -> bool:
        """Whether results can be judged by it."""
        return self.low is not None and self.high is not None

    @property
    def zero(self) -> float:
        """Half the width of the band around zero that cannot be told from no signal; NaN when the range is not known."""
        return float("nan") if self.low is None else ZERO_SHARE * self.low

    @property
    def implausible(self) -> float:
        """Values above it are taken for a fault; NaN when the range is not known."""
        return float("nan") if self.high is None else IMPLAUSIBLE_FACTOR * self.high

    @property
    def scale(self) -> float:
        """The size below which errors are judged absolutely and no longer relatively, as ISO 15197 does."""
        return 0.0 if self.low is None else 2.0 * self.low

    def allowed_error(self, value: float) -> float:
        """By how much a value may be wrong, in its unit."""
        return ALLOWED_ERROR * max(abs(value), 0.0 if self.low is None else ABSOLUTE_BELOW * self.low)


UNKNOWN_RANGE = MeasuringRange()
"""Of sessions whose cartridge type, or calibration, is not known."""


@dataclass(frozen=True, slots=True)
class Reported:
    """What is shown of a value.

    Args:
        value: rounded; the limit for below and above range, None for invalid.
        comparator: `<` below range, `>` above range.
    """

    status: ResultStatus
    value: float | None
    comparator: Comparator = ""


INVALID = Reported(ResultStatus.INVALID, None)


def report(value: float, confidence: float, within: MeasuringRange) -> Reported:
    """What may be shown of a value; `value` finite."""
    if confidence < within.min_confidence:
        return INVALID
    shown = rounded(value, within.decimal_places)
    if within.low is not None and shown < within.low:
        if shown < -within.zero:
            return INVALID
        return Reported(ResultStatus.BELOW_RANGE, within.low, "<")
    if within.high is not None and shown > within.high:
        if shown > within.implausible:
            return INVALID
        return Reported(ResultStatus.ABOVE_RANGE, within.high, ">")
    return Reported(ResultStatus.VALID, shown)
