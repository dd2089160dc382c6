"""From the raw electrode signals of frames to one value each: differential correction, calibration, robust location.

For frame n and channel i (signals in the reader's unit, values in the unit of the cartridge type):

    s_corrected[n, i] = raw[n, i] - alpha * s_ref[n]                                    differential correction
    env(T, RH)        = (1 + k_T * (T - 25)) * (1 + k_H * (RH - 50))                    1 at 25 degC and 50 % humidity
    value[n, i]       = gain[i] * (s_corrected[n, i] / env) + offset[i]                 calibration
    primary_value[n]  = mean of the values within 3 * 1.4826 * MAD of their median      robust location

Why a trimmed mean around the median: dead electrodes (value near the offset) and spiking ones lie far out, and a plain
mean would follow them; the median would not, but it is 1.25 times as noisy as the mean of sound electrodes (its
asymptotic efficiency for normal noise is 2/pi). Trimming at 3 robust standard deviations keeps 99.7 % of normal noise
and breaks down only when half of the electrodes are wrong.

Confidence is the product of three shares in [0, 1]:

    spread:      1 / (1 + (cv / 0.2) ** 2), cv = 1.4826 * MAD / |primary_value|; 0 when the value is 0, since then
                 nothing was measured
    outliers:    0 when half of the channels or more were trimmed, rising linearly to 1 when none was
    environment: 1 within 15-35 degC and 20-80 % humidity, falling linearly to a half at 0 and 50 degC, 0 and 100 %

All functions work on whole batches, one row a frame, because the cost of a numpy call is that of some hundred channels.

Source: Rousseeuw PJ, Croux C (1993) Alternatives to the median absolute deviation. J Am Stat Assoc 88(424): 1273-1283,
for the factor 1.4826.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

REFERENCE_TEMP_C = 25.0
REFERENCE_HUMIDITY_PCT = 50.0

MAD_TO_SIGMA = 1.4826
TRIM_SIGMAS = 3.0
HALF_CONFIDENCE_CV = 0.2

COMFORT_TEMP_C = (15.0, 35.0)
COMFORT_HUMIDITY_PCT = (20.0, 80.0)
TEMP_FADE_C = 15.0
HUMIDITY_FADE_PCT = 20.0


@dataclass(frozen=True, slots=True)
class Locations:
    """What the channels of each frame agree on. All of shape (frames,).

    Args:
        value: robust location, in the unit of the values.
        spread: robust standard deviation over the channels, same unit.
        inlier_share: share of the channels that were kept, in (0, 1].
    """

    value: FloatArray
    spread: FloatArray
    inlier_share: FloatArray


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


def locate(values: FloatArray) -> Locations:
    """The robust location of each row of values, shape (frames, channels) with at least one channel."""
    middle = np.median(values, axis=1)
    distance = np.abs(values - middle[:, np.newaxis])
    spread = MAD_TO_SIGMA * np.median(distance, axis=1)
    # The small term keeps channels that differ by rounding only, where most are equal and the spread is zero.
    reach = TRIM_SIGMAS * spread + 8 * np.finfo(np.float64).eps * np.abs(middle)
    kept = distance <= reach[:, np.newaxis]
    count = kept.sum(axis=1)
    # Summed as distances from the median: large values do not overflow, equal ones give exactly themselves.
    shift = np.where(kept, values - middle[:, np.newaxis], 0.0).sum(axis=1) / np.maximum(count, 1)
    return Locations(value=middle + shift, spread=spread, inlier_share=count / values.shape[1])


def confidence(locations: Locations, temp_c: FloatArray, humidity_pct: FloatArray) -> FloatArray:
    """How far to trust each value, shape (frames,), in [0, 1]; see the module for the three shares."""
    size = np.abs(locations.value)
    cv = np.divide(locations.spread, size, out=np.full_like(size, np.inf), where=size > 0)
    by_spread = 1.0 / (1.0 + (cv / HALF_CONFIDENCE_CV) ** 2)
    by_outliers = np.maximum(0.0, 2.0 * locations.inlier_share - 1.0)
    by_environment = _comfort(temp_c, COMFORT_TEMP_C, TEMP_FADE_C) * _comfort(
        humidity_pct, COMFORT_HUMIDITY_PCT, HUMIDITY_FADE_PCT
    )
    shares: FloatArray = by_spread * by_outliers * by_environment
    return shares


def _comfort(measured: FloatArray, comfort: tuple[float, float], fade: float) -> FloatArray:
    outside = np.maximum(comfort[0] - measured, measured - comfort[1])
    share: FloatArray = 1.0 - 0.5 * np.clip(outside / fade, 0.0, 1.0)
    return share
