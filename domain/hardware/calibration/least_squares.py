"""The straight line that turns what a reader showed into what it should have shown, and how far it can be trusted.

Ordinary least squares of reference on measured values:

    reference_i = gain * measured_i + offset + e_i,    minimising sum e_i**2
    gain   = sum (m_i - mean m)(r_i - mean r) / sum (m_i - mean m)**2
    offset = mean r - gain * mean m
    R2     = 1 - sum e_i**2 / sum (r_i - mean r)**2

computed on centred values, so that a large common level costs no digits. Ordinary, and not errors-in-variables
(Deming), regression: reference solutions are known far better than the reader measures them, but the line is used to
predict references from readings, and the regression of reference on reading is the one that predicts best.

Three points are the least: through two a line always passes, so that R2 and residuals would say nothing.

Source: Draper & Smith, Applied Regression Analysis, 3rd ed. (1998), sections 1.2 and 1.3. CLSI EP06 on linearity for
the idea of a limit for the largest residual relative to the range.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_POINTS = 3
MAX_POINTS = 1000
MAX_MAGNITUDE = 1e12
MIN_R2 = 0.95
MAX_RESIDUAL_SHARE = 0.10
"""Largest residual allowed, as a share of the span of the reference values: one stray point spoils a calibration."""


@dataclass(frozen=True, slots=True)
class Line:
    """A fitted line.

    Args:
        r_squared: share of the references' variance that the line explains, 0 to 1.
        max_residual: largest distance of a reference from the line, in the unit of the references.
        reference_span: largest less smallest reference value, in the same unit.
    """

    gain: float
    offset: float
    r_squared: float
    max_residual: float
    reference_span: float

    @property
    def residual_share(self) -> float:
        return self.max_residual / self.reference_span

    def objection(self) -> str | None:
        """Why the line must not be used, with the figures; None when it may."""
        if self.r_squared < MIN_R2:
            return f"R2 is {self.r_squared:.4f}; at least {MIN_R2} is needed."
        if self.residual_share > MAX_RESIDUAL_SHARE:
            return (
                f"The largest residual is {self.max_residual:.4g}, {self.residual_share:.1%} of the span of the "
                f"references; at most {MAX_RESIDUAL_SHARE:.0%} is allowed."
            )
        if self.gain <= 0:
            return f"The gain is {self.gain:.4g}: the reader shows less where there is more."
        return None


def fit_line(measured: Sequence[float], reference: Sequence[float]) -> Line:
    """The least-squares line through points (measured, reference).

    Args:
        measured, reference: shape (points,), finite, of equal length.
    Raises:
        ValueError: fewer than 3 points, unequal lengths, values that are not finite, or values that do not differ.
    """
    if len(measured) != len(reference):
        raise ValueError(f"{len(measured)} measured and {len(reference)} reference values")
    if not MIN_POINTS <= len(measured) <= MAX_POINTS:
        raise ValueError(f"{len(measured)} points; {MIN_POINTS} to {MAX_POINTS} are needed")
    m = np.asarray(measured, dtype=np.float64)
    r = np.asarray(reference, dtype=np.float64)
    # NaN fails every comparison. Beyond the bound, squares would overflow.
    if not (np.abs(m).max() <= MAX_MAGNITUDE and np.abs(r).max() <= MAX_MAGNITUDE):
        raise ValueError(f"values that are not finite numbers of at most {MAX_MAGNITUDE:g}")
    m_mean, r_mean = float(m.mean()), float(r.mean())
    m_centred, r_centred = m - m_mean, r - r_mean
    m_spread, r_spread = float(m_centred @ m_centred), float(r_centred @ r_centred)
    # Relative to the level: spreads that are rounding errors are no spreads.
    if m_spread <= (1e-9 * max(1.0, abs(m_mean))) ** 2 or r_spread <= (1e-9 * max(1.0, abs(r_mean))) ** 2:
        raise ValueError("values that do not differ")
    gain = float(m_centred @ r_centred) / m_spread
    offset = r_mean - gain * m_mean
    residuals = r_centred - gain * m_centred
    r_squared = 1.0 - float(residuals @ residuals) / r_spread
    return Line(
        gain=gain,
        offset=offset,
        r_squared=min(1.0, max(0.0, r_squared)),
        max_residual=float(np.abs(residuals).max()),
        reference_span=float(r.max() - r.min()),
    )
