"""From the raw electrode signals of frames to calibrated values: differential correction and calibration.

For frame n and channel i (signals in the reader's unit, values in the unit of the cartridge type):

    s_corrected[n, i] = raw[n, i] - alpha * s_ref[n]                                    differential correction
    env(T, RH)        = (1 + k_T * (T - 25)) * (1 + k_H * (RH - 50))                    1 at 25 degC and 50 % humidity
    value[n, i]       = gain[i] * (s_corrected[n, i] / env) + offset[i]                 calibration
    primary_value[n]  = a robust location of the values over the electrodes            `electrodes`

All functions work on whole batches, one row a frame, because the cost of a numpy call is that of some hundred channels.
"""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

REFERENCE_TEMP_C = 25.0
REFERENCE_HUMIDITY_PCT = 50.0

MAD_TO_SIGMA = 1.4826
TRIM_SIGMAS = 3.0
"""Keeps 99.7 % of normal noise; with the factor 1.4826 the MAD estimates its standard deviation."""


def differential(signal: FloatArray, s_ref: FloatArray | float, alpha: FloatArray | float) -> FloatArray:
    """`signal - alpha * s_ref`; the arguments broadcast. 1.234, 0.012 and 0.95 give 1.2226."""
    return signal - alpha * s_ref


def environment_factor(temp_c: float, humidity_pct: float, k_temp: float, k_humidity: float) -> float:
    """Relative sensitivity of the electrodes; 1 at 25 degrees Celsius and 50 % relative humidity."""
    return (1.0 + k_temp * (temp_c - REFERENCE_TEMP_C)) * (1.0 + k_humidity * (humidity_pct - REFERENCE_HUMIDITY_PCT))


def calibrate(corrected: FloatArray, env: FloatArray, gains: FloatArray, offsets: FloatArray) -> FloatArray:
    """Channel values in the result's unit.

    Args:
        corrected: shape (frames, channels), reader's unit.
        env: shape (frames,), without unit.
        gains, offsets: shape (frames, channels) or broadcasting to it; result unit per reader's unit, result unit.
    """
    return gains * (corrected / env[:, np.newaxis]) + offsets
