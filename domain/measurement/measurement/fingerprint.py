"""Fingerprints: the shape of a corrected signal over the electrodes, as a unit vector that can be compared by angle.

    channels <= dimension: the channels, then zeros
    channels >  dimension: means of neighbouring channels, as many to each as it takes (1792 -> 896: pairs)

and then divided by the Euclidean norm, so that the strength of a signal does not matter. A signal of zeros has no shape:
its fingerprint is the zero vector, which is not searchable.

Fingerprints stay in clear in the database, because a sealed vector cannot be searched. They are pseudonymous: a vector
of relative signals, without unit, value or name.
"""

import numpy as np
import numpy.typing as npt

from domain.measurement.measurement.correction import FloatArray

Fingerprints = npt.NDArray[np.float32]


def fingerprints(corrected: FloatArray, dimension: int) -> Fingerprints:
    """Unit-norm rows of shape (frames, dimension) from corrected signals of shape (frames, channels)."""
    folded = _fold(corrected, dimension)
    return _padded(_unit(folded), dimension)


def mean_direction(total: FloatArray) -> Fingerprints:
    """The unit vector of a sum of fingerprints, shape (dimension,); zero when they cancel out or were all zero."""
    direction: Fingerprints = _unit(total[np.newaxis, :])[0].astype(np.float32)
    return direction


def _fold(corrected: FloatArray, dimension: int) -> FloatArray:
    channels = corrected.shape[1]
    if channels <= dimension:
        return corrected
    width = -(-channels // dimension)
    # Scaled first, so that adding neighbours cannot overflow.
    starts = np.arange(0, channels, width)
    sizes = np.diff(np.append(starts, channels))
    means: FloatArray = np.add.reduceat(corrected / width, starts, axis=1) * (width / sizes)
    return means


def _unit(rows: FloatArray) -> FloatArray:
    # Divided by the largest element first: squares of tiny or huge signals would leave the range of a double.
    largest = np.abs(rows).max(axis=1, keepdims=True)
    scaled = np.divide(rows, largest, out=np.zeros_like(rows), where=largest > 0)
    norm = np.sqrt(np.square(scaled).sum(axis=1, keepdims=True))
    unit: FloatArray = np.divide(scaled, norm, out=np.zeros_like(scaled), where=norm > 0)
    return unit


def _padded(rows: FloatArray, dimension: int) -> Fingerprints:
    padded = np.zeros((rows.shape[0], dimension), dtype=np.float32)
    padded[:, : rows.shape[1]] = rows
    return padded
