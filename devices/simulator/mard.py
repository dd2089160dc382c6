"""Accuracy of glucose values against a reference.

MARD = 100 % / n * sum over k of |measured_k - reference_k| / reference_k

Source: Reiterer F, Polterauer P, Schoemaker M, et al. (2017) Significance and reliability of MARD for the accuracy of
CGM systems. J Diabetes Sci Technol 11(1): 59-67. https://doi.org/10.1177/1932296816662047. As shown there, a MARD
depends on how the reference values are distributed, so figures are comparable only over the same traces.
"""

import numpy as np
import numpy.typing as npt

from devices.errors import DeviceError


class MardUndefined(DeviceError):
    """The values do not allow a MARD; the message says why."""


def mard_percent(measured: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Mean absolute relative difference in percent; both of shape (n,) in the same unit.

    Raises:
        MardUndefined: no pairs, unequal shapes, a value that is not finite, or a reference that is not positive.
    """
    found = np.asarray(measured, dtype=np.float64)
    true = np.asarray(reference, dtype=np.float64)
    if found.ndim != 1 or found.shape != true.shape:
        raise MardUndefined(f"shapes {found.shape} and {true.shape} are not two equal rows")
    if found.size == 0:
        raise MardUndefined("there are no pairs")
    if not (np.isfinite(found).all() and np.isfinite(true).all()):
        raise MardUndefined("a value is not finite")
    if (true <= 0).any():
        raise MardUndefined("a reference value is not positive")
    return float(100.0 * np.mean(np.abs(found - true) / true))
