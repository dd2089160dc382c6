"""Which electrodes of a frame have failed, what the others agree on, and how far that can be trusted.

With x[i] = gain[i] * s_corrected[i] / env, what the analyte contributes to the value of electrode i, in the result's unit
(`correction` has the formula), an electrode is left out before anything is averaged when it is

    dead:       |x| or the value of its raw signal lies within the band around zero that no signal is told from
    reversed:   x is negative beyond that band; a concentration is not
    saturated:  its value is above what any sample gives, or it shares the highest or lowest raw signal of the frame with
                a tenth of the electrodes
    stuck:      it shares any other raw signal, to the last bit, with a tenth of the electrodes
    outlier:    its value lies beyond 3 robust standard deviations (1.4826 * MAD) of the median of those that are left

Sharing a raw signal counts only where the calibration says that electrodes differ: equal raw signals on electrodes of
unequal gain are no concentration. The value is the mean of those left, whose breakdown point is that of the median.

The pattern of the electrodes is a second witness. For a concentration all calibrated values agree, whatever their gain;
a current that all electrodes have alike (mains, drift of one amplifier, a wrong reference) gives value[i] = c + gain[i] *
current. The slope of values over gains is thus the common current; beyond 3.5 standard errors and 5 % of the value it
counts as interference, as large as it is. Swapped electrodes, equal ones and another reader's calibration show in the same way.

Confidence is the product of four shares in [0, 1]:

    spread:       1 / (1 + (cv / 0.2) ** 2), cv = spread over max(|value|, twice the lower limit); 0 when both are 0, and
                  when fewer than two thirds of the electrodes that are not dead lie within the allowed error of the value
    failed:       1 when no electrode failed, falling linearly to 0 when half of them did. A dead electrode counts 0.6: what
                  it is shows by itself, where the other faults are told by comparison with the rest
    surroundings: 1 within 15-35 degC and 20-80 % humidity, falling linearly to a half at 0 and 50 degC, 0 and 100 %;
                  0 outside 5-45 degC and 10-95 % humidity
    interference: 1 / (1 + (common error / 0.1) ** 2), relative to the same size

Two thirds, because of electrodes in two groups (half an array with another gain) a value lies anywhere between them, with a
spread that looks like noise; of normal noise as wide as is allowed otherwise they hold about as many.

With all else sound, a third of the electrodes may be dead, or a fifth failed otherwise: confidence is then 0.6, and a
result needs 0.5. With half of the electrodes dead there is none.

Sources: Rousseeuw PJ, Croux C (1993) Alternatives to the median absolute deviation. J Am Stat Assoc 88(424): 1273-1283.
Huber PJ, Ronchetti EM (2009) Robust Statistics, 2nd ed., chapter 1 (breakdown, trimming). Operating conditions: typical of
blood-glucose meters, not from a standard and not confirmed from a maker's document. All other numbers are engineering
choices, held by the property tests of broken signals.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from domain.measurement.measurement.correction import MAD_TO_SIGMA, TRIM_SIGMAS, FloatArray
from domain.measurement.measurement.quality import ALLOWED_ERROR

Mask = npt.NDArray[np.bool_]
FaultArray = npt.NDArray[np.int8]

MAX_FAILED_SHARE = 0.5
"""At this share of failed electrodes nothing can be trusted: who has failed is then a matter of opinion."""
DEAD_WEIGHT = 0.6
TOLERATED_DEAD_SHARE = 1 / 3
"""Up to this share of dead electrodes a result is right, with all else sound."""

SHARED_SHARE = 0.1
MIN_SHARED = 5
GAIN_SPREAD = 0.01
"""Relative spread of the gains from which the calibration tells electrodes apart."""

HALF_CONFIDENCE_CV = 0.2
MIN_NEAR_SHARE = 2 / 3
HALF_CONFIDENCE_INTERFERENCE = 0.1
SLOPE_ERRORS = 3.5
CALIBRATION_SHARE = 0.05
"""Relative common error that errors of the calibration itself can look like (regression dilution by the gains' errors)."""
MIN_PATTERN = 8
"""Electrodes that a pattern needs."""

COMFORT_TEMP_C = (15.0, 35.0)
COMFORT_HUMIDITY_PCT = (20.0, 80.0)
OPERATING_TEMP_C = (5.0, 45.0)
OPERATING_HUMIDITY_PCT = (10.0, 95.0)
TEMP_FADE_C = 15.0
HUMIDITY_FADE_PCT = 20.0


class Fault(IntEnum):
    """Why an electrode was left out."""

    NONE = 0
    DEAD = 1
    REVERSED = 2
    SATURATED = 3
    STUCK = 4
    OUTLIER = 5


_WEIGHTS = tuple(0.0 if fault is Fault.NONE else DEAD_WEIGHT if fault is Fault.DEAD else 1.0 for fault in Fault)


@dataclass(frozen=True, slots=True, eq=False)
class Signals:
    """Frames of one width as they are examined.

    Args:
        raw, corrected, gains, offsets: shape (frames, channels); signals in the reader's unit.
        env, temp_c, humidity_pct: shape (frames,).
        zero, implausible, scale: of the measuring range, shape (frames,); NaN (scale: 0) where it is not known.
        least_error: what is allowed of the smallest values, shape (frames,); 0 where it is not known.
    """

    raw: FloatArray
    corrected: FloatArray
    gains: FloatArray
    offsets: FloatArray
    env: FloatArray
    temp_c: FloatArray
    humidity_pct: FloatArray
    zero: FloatArray
    implausible: FloatArray
    scale: FloatArray
    least_error: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """What was found in each frame. Shares of confidence are in [0, 1].

    Args:
        value, confidence: shape (frames,).
        faults: shape (frames, channels), of `Fault`.
        by_spread, by_failed, by_surroundings, by_interference: shape (frames,); confidence is their product.
        common_error, common_sigma: what the electrodes have in common and its standard error, in the result's unit, shape
            (frames,); 0 and infinity where it cannot be told.
    """

    value: FloatArray
    confidence: FloatArray
    faults: FaultArray
    by_spread: FloatArray
    by_failed: FloatArray
    by_surroundings: FloatArray
    by_interference: FloatArray
    common_error: FloatArray
    common_sigma: FloatArray


def examine(signals: Signals) -> Examined:
    """Value, confidence and failed electrodes of each frame; a value that is not finite left the range of a double."""
    with np.errstate(all="ignore"):  # values out of the range of a double are found by their result
        content = signals.gains * (signals.corrected / signals.env[:, np.newaxis])
        values = content + signals.offsets
        faults = _faults(signals, content, values)
        kept = faults == Fault.NONE
        kept |= ~kept.any(axis=1, keepdims=True)  # a frame without any sound electrode still has a location
        middle, spread = _middle_and_spread(values, kept)
        reach = TRIM_SIGMAS * spread + 8 * np.finfo(np.float64).eps * np.abs(middle)
        outlying = kept & (np.abs(values - middle[:, np.newaxis]) > reach[:, np.newaxis])
        faults[outlying] = Fault.OUTLIER
        kept &= ~outlying
        count = kept.sum(axis=1)
        # Summed as distances from the median: large values do not overflow, equal ones give exactly themselves.
        value = middle + np.where(kept, values - middle[:, np.newaxis], 0.0).sum(axis=1) / np.maximum(count, 1)
        size = np.maximum(np.abs(value), signals.scale)
        by_spread = 1.0 / (1.0 + (_relative(spread, size) / HALF_CONFIDENCE_CV) ** 2)
        allowed = np.maximum(ALLOWED_ERROR * np.abs(value), signals.least_error)
        near = np.abs(values - value[:, np.newaxis]) <= allowed[:, np.newaxis]
        alive = faults != Fault.DEAD
        by_spread[(near & alive).sum(axis=1) < MIN_NEAR_SHARE * alive.sum(axis=1)] = 0.0
        failed_share = np.array(_WEIGHTS)[faults].mean(axis=1)
        by_failed = np.maximum(0.0, 1.0 - failed_share / MAX_FAILED_SHARE)
        by_surroundings = surroundings(signals.temp_c, signals.humidity_pct)
        error, sigma = _common_error(values, signals.gains, kept)
        by_interference = interference(error, sigma, size)
        confidence = by_spread * by_failed * by_surroundings * by_interference
    return Examined(value, confidence, faults, by_spread, by_failed, by_surroundings, by_interference, error, sigma)


def interference(error: FloatArray, sigma: FloatArray, size: FloatArray) -> FloatArray:
    """The share of confidence that a common error with its standard error leaves to values of a size; they broadcast."""
    known = SLOPE_ERRORS * sigma + CALIBRATION_SHARE * size
    certain = np.where(np.abs(error) > known, np.abs(error), 0.0)
    share: FloatArray = 1.0 / (1.0 + (_relative(certain, size) / HALF_CONFIDENCE_INTERFERENCE) ** 2)
    return share


def surroundings(temp_c: FloatArray, humidity_pct: FloatArray) -> FloatArray:
    """The share of confidence that temperature and humidity leave, shape (frames,)."""
    share = _comfort(temp_c, COMFORT_TEMP_C, TEMP_FADE_C) * _comfort(
        humidity_pct, COMFORT_HUMIDITY_PCT, HUMIDITY_FADE_PCT
    )
    operating = _within(temp_c, OPERATING_TEMP_C) & _within(humidity_pct, OPERATING_HUMIDITY_PCT)
    return np.where(operating, share, 0.0)


def gains_differ(gains: FloatArray) -> Mask:
    """Whether a calibration tells electrodes apart, for each row of gains of shape (frames, channels)."""
    differ: Mask = np.ptp(gains, axis=1) > GAIN_SPREAD * np.abs(gains.mean(axis=1))
    return differ


def _faults(signals: Signals, content: FloatArray, values: FloatArray) -> FaultArray:
    """What is wrong with each electrode by itself; of several faults the clearest one."""
    zero = np.nan_to_num(signals.zero, nan=0.0)[:, np.newaxis]
    raw_content = signals.gains * (signals.raw / signals.env[:, np.newaxis])
    dead = (np.abs(content) <= zero) | (np.abs(raw_content) <= zero)
    reversed_ = content < -signals.zero[:, np.newaxis]  # false where the range is not known
    shared, at_rail = _shared(signals.raw, signals.gains)
    faults = np.zeros(values.shape, dtype=np.int8)
    faults[shared & ~at_rail] = Fault.STUCK
    faults[(shared & at_rail) | (values > signals.implausible[:, np.newaxis])] = Fault.SATURATED
    faults[reversed_] = Fault.REVERSED
    faults[dead] = Fault.DEAD
    return faults


def _shared(raw: FloatArray, gains: FloatArray) -> tuple[Mask, Mask]:
    """Which electrodes share their raw signal with a tenth of all, and whether it is the frame's highest or lowest."""
    shared = np.zeros(raw.shape, dtype=np.bool_)
    needed = max(MIN_SHARED, round(SHARED_SHARE * raw.shape[1]))
    if raw.shape[1] > needed:
        ordered = np.sort(raw, axis=1)
        suspect = (ordered[:, needed - 1 :] == ordered[:, : 1 - needed]).any(axis=1) & gains_differ(gains)
        for row in np.flatnonzero(suspect):
            _, inverse, counts = np.unique(raw[row], return_inverse=True, return_counts=True)
            shared[row] = counts[inverse] >= needed
    at_rail = (raw == raw.max(axis=1, keepdims=True)) | (raw == raw.min(axis=1, keepdims=True))
    return shared, at_rail


def _middle_and_spread(values: FloatArray, kept: Mask) -> tuple[FloatArray, FloatArray]:
    middle = median(values, kept)
    return middle, MAD_TO_SIGMA * median(np.abs(values - middle[:, np.newaxis]), kept)


def median(values: FloatArray, kept: Mask) -> FloatArray:
    """The median of the kept elements of each row, of which there must be one, shape (rows,)."""
    ordered = np.sort(np.where(kept, values, np.inf), axis=1)
    count = kept.sum(axis=1)
    lower = np.take_along_axis(ordered, ((count - 1) // 2)[:, np.newaxis], axis=1)[:, 0]
    upper = np.take_along_axis(ordered, (count // 2)[:, np.newaxis], axis=1)[:, 0]
    return np.where(lower == upper, lower, lower / 2.0 + upper / 2.0)


def _common_error(values: FloatArray, gains: FloatArray, kept: Mask) -> tuple[FloatArray, FloatArray]:
    """The error of a frame's value by what its electrodes have in common, with its standard error, in the result's unit."""
    count = np.maximum(kept.sum(axis=1), 1)
    gain = np.where(kept, gains, 0.0).sum(axis=1) / count
    value = np.where(kept, values, 0.0).sum(axis=1) / count
    by_gain = np.where(kept, gains - gain[:, np.newaxis], 0.0)
    by_value = np.where(kept, values - value[:, np.newaxis], 0.0)
    gain_sum = np.square(by_gain).sum(axis=1)
    slope = (by_gain * by_value).sum(axis=1) / gain_sum
    rest = np.square(by_value - slope[:, np.newaxis] * by_gain).sum(axis=1)
    standard_error = np.sqrt(rest / np.maximum(count - 2, 1) / gain_sum)
    error, sigma = slope * gain, np.abs(standard_error * gain)
    tells = gains_differ(gains) & (count > MIN_PATTERN) & np.isfinite(error) & np.isfinite(sigma)
    return np.where(tells, error, 0.0), np.where(tells, sigma, np.inf)


def _relative(amount: FloatArray, size: FloatArray) -> FloatArray:
    return np.divide(amount, size, out=np.where(size == 0, np.inf, 0.0), where=size > 0)


def _comfort(measured: FloatArray, comfort: tuple[float, float], fade: float) -> FloatArray:
    outside = np.maximum(comfort[0] - measured, measured - comfort[1])
    share: FloatArray = 1.0 - 0.5 * np.clip(outside / fade, 0.0, 1.0)
    return share


def _within(measured: FloatArray, limits: tuple[float, float]) -> Mask:
    within: Mask = (measured >= limits[0]) & (measured <= limits[1])
    return within
