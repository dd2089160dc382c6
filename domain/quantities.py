"""Digits of measured values: the one place that rounds and prints them.

A value is rounded half to even on its decimal form, so that 0.125 with two places is 0.12 and 0.375 is 0.38, and a row of
values is not biased upwards.

Source: ASTM E29-22, Standard Practice for Using Significant Digits in Test Data, section 6 (rounding-off).
"""

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal

MAX_DECIMAL_PLACES = 6
MAX_DIGITS = 1e15
"""From here on a double has no digits after the point."""


def rounded(value: float, places: int) -> float:
    """A finite value with so many decimal places, half to even; never a negative zero.

    Raises:
        ValueError: the value is not finite, or `places` is not within [0, 6].
    """
    if not 0 <= places <= MAX_DECIMAL_PLACES:
        raise ValueError(f"{places} decimal places; there are 0 to {MAX_DECIMAL_PLACES}")
    if MAX_DIGITS <= abs(value) < float("inf"):
        return value
    exact = Decimal(repr(float(value)))
    if not exact.is_finite():
        raise ValueError(f"{value} has no digits")
    # `+ 0.0` makes a negative zero positive.
    return float(exact.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN)) + 0.0


def number(value: float, places: int) -> int | float:
    """A rounded value as JSON should write it: without a fraction where its type has no decimal places."""
    found = rounded(value, places)
    return int(found) if places == 0 else found


def digits(value: float, places: int) -> str:
    """A value as people read it, such as `168` or `5.60`: always so many decimal places."""
    return f"{rounded(value, places):.{places}f}"


def ranges(numbers: Sequence[int]) -> str:
    """Whole numbers in ascending order as people list them, such as `1-3, 7`; two neighbours are listed singly."""
    runs: list[list[int]] = []
    for one in numbers:
        if runs and runs[-1][-1] == one - 1:
            runs[-1].append(one)
        else:
            runs.append([one])
    parts = [f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(parts)
