"""From the frames of a session to its result.

    value      = median of the frames' primary values, weighted by their confidence
    confidence = median of the frames' confidences, unweighted
    spread     = 1.4826 * median of |primary value - value|, weighted alike

Why the weighted median: one disturbed frame (a moved strip, a cold start) must not pull the result, however far it lies
out, and a frame that the channels disagree about should count less than one that they agree about. Frames of confidence
zero have no say, unless all are such; then they count equally.
"""

from dataclasses import dataclass

import numpy as np

from domain.measurement.measurement.correction import MAD_TO_SIGMA, FloatArray


@dataclass(frozen=True, slots=True)
class SessionValue:
    """The aggregate of a session; `value` and `spread` in the unit of the frames' values."""

    value: float
    confidence: float
    spread: float


def aggregate(values: FloatArray, confidences: FloatArray) -> SessionValue:
    """The result of a session with at least one frame; both of shape (frames,).

    Raises:
        ValueError: there are no frames, or the shapes differ.
    """
    if values.size == 0 or values.shape != confidences.shape:
        raise ValueError(f"shapes {values.shape} and {confidences.shape} are not two equal rows of frames")
    weights = confidences if confidences.sum() > 0 else np.ones_like(confidences)
    value = weighted_median(values, weights)
    return SessionValue(
        value=value,
        confidence=float(np.median(confidences)),
        spread=MAD_TO_SIGMA * weighted_median(np.abs(values - value), weights),
    )


def weighted_median(values: FloatArray, weights: FloatArray) -> float:
    """The value at which half of the weight is reached; the middle of two values when it falls between them."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    half = reached[-1] / 2.0
    lower = int(np.searchsorted(reached, half, side="left"))
    upper = min(int(np.searchsorted(reached, half, side="right")), values.size - 1)
    low, high = float(values[order[lower]]), float(values[order[upper]])
    return low if low == high else low / 2.0 + high / 2.0
