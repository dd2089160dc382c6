"""From the examined frames of a session to its result, the reasons where there is none, and the electrodes that failed.

    sound     = frames of at least the type's minimum confidence
    value     = median of the sound frames' values, weighted by their confidence
    agreeing  = sound frames whose value lies within 5 % of it, or within a tenth of the lower limit
    confidence = median confidence of the sound frames * share of agreeing frames of all * share left by stuck electrodes
                 * share left by interference over all agreeing frames

A session is invalid when fewer than 60 % of its frames agree: a signal that changes while nothing changes (mains, drift, a
loose contact) may give any median. Interference that no single frame shows for certain is told from all of them: of the
standard error of the common error, 60 % of the variance (amplifier noise) averages out over frames, the rest (calibration,
slow noise) does not. An electrode has failed when most frames left it out, or when it is *stuck over time*:
three frames or more with the same raw signal to the last bit, where the calibration tells electrodes apart (as in
`electrodes`: without it, equal signals prove nothing). Frames that never came change nothing.

Sources: ISO 15197:2013, 6.3 (accuracy: 15 mg/dL below 100 mg/dL, 15 % from there) for what a right result is; the shares
are engineering choices, held by the property tests of broken signals.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from domain.measurement.measurement.aggregate import aggregate
from domain.measurement.measurement.correction import FloatArray
from domain.measurement.measurement.electrodes import (
    MAX_FAILED_SHARE,
    Examined,
    Fault,
    Mask,
    gains_differ,
    interference,
)
from domain.measurement.measurement.quality import MeasuringRange, ResultStatus, report

MIN_AGREEING_SHARE = 0.6
AGREEING = 0.05
MIN_FRAMES_TO_STICK = 3
AVERAGED_VARIANCE = 0.6


class Doubt(StrEnum):
    """Why a session has no result."""

    ELECTRODES_FAILED = "electrodes_failed"
    ELECTRODES_DISAGREE = "electrodes_disagree"
    SURROUNDINGS = "surroundings"
    INTERFERENCE = "interference"
    FRAMES_DISAGREE = "frames_disagree"
    IMPLAUSIBLE = "implausible"


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The result of a session; `value` and `spread` in the result's unit, before rounding.

    Args:
        failed: numbers of the failed electrodes, from 1, by what is wrong with them.
        doubts: why it is invalid; empty for any other status.
        electrodes: how many there are.
    """

    status: ResultStatus
    value: float
    confidence: float
    spread: float
    failed: Mapping[Fault, Sequence[int]]
    doubts: Sequence[Doubt]
    electrodes: int


@dataclass(slots=True)
class _Frames:
    """What is kept of the frames so far: some numbers of each, and of each electrode counts and extremes."""

    values: list[float] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    shares: list[FloatArray] = field(default_factory=list)
    errors: list[FloatArray] = field(default_factory=list)
    sigmas: list[FloatArray] = field(default_factory=list)
    faults: npt.NDArray[np.int64] | None = None
    lowest: FloatArray | None = None
    highest: FloatArray | None = None


class Examination:
    """Gathers the frames of one session, chunk by chunk.

    Args:
        gains: shape (channels,) or (1,) of the session's calibration.
    """

    def __init__(self, within: MeasuringRange, gains: FloatArray) -> None:
        self._within = within
        self._gains_differ = bool(gains_differ(gains[np.newaxis, :])[0])
        self._frames = _Frames()

    @property
    def frame_count(self) -> int:
        return len(self._frames.values)

    @property
    def _electrodes(self) -> int:
        return 0 if self._frames.lowest is None else self._frames.lowest.size

    def add(self, examined: Examined, raw: FloatArray) -> None:
        """Take in frames in their order; `raw` of shape (frames, channels), as many channels as the frames before."""
        frames = self._frames
        frames.values += examined.value.tolist()
        frames.confidences += examined.confidence.tolist()
        frames.shares.append(
            np.stack(
                [examined.by_spread, examined.by_failed, examined.by_surroundings, examined.by_interference], axis=1
            )
        )
        frames.errors.append(examined.common_error)
        frames.sigmas.append(examined.common_sigma)
        counts = np.stack([(examined.faults == fault).sum(axis=0) for fault in Fault])
        frames.faults = counts if frames.faults is None else frames.faults + counts
        lowest, highest = raw.min(axis=0), raw.max(axis=0)
        frames.lowest = lowest if frames.lowest is None else np.minimum(frames.lowest, lowest)
        frames.highest = highest if frames.highest is None else np.maximum(frames.highest, highest)

    def conclude(self) -> Conclusion:
        """Raises: ValueError: there are no frames."""
        values, confidences = np.array(self._frames.values), np.array(self._frames.confidences)
        sound = confidences >= self._within.min_confidence
        whole = aggregate(values[sound], confidences[sound]) if sound.any() else aggregate(values, confidences)
        reach = max(AGREEING * abs(whole.value), AGREEING * self._within.scale)
        agree = sound & (np.abs(values - whole.value) <= reach)
        agreeing = float(agree.mean())
        failed, stuck_share = self._failed()
        pattern_share = self._pattern_share(agree, whole.value)
        confidence = whole.confidence * agreeing * pattern_share * max(0.0, 1.0 - stuck_share / MAX_FAILED_SHARE)
        if agreeing < MIN_AGREEING_SHARE:
            confidence = min(confidence, agreeing * self._within.min_confidence)
        status = report(whole.value, confidence, self._within).status
        doubts: Sequence[Doubt] = ()
        if status is ResultStatus.INVALID:
            enough = confidence >= self._within.min_confidence
            doubts = (Doubt.IMPLAUSIBLE,) if enough else self._doubts(sound, agreeing, stuck_share, pattern_share)
        return Conclusion(status, whole.value, confidence, whole.spread, failed, doubts, self._electrodes)

    def _failed(self) -> tuple[dict[Fault, tuple[int, ...]], float]:
        """The failed electrodes by fault, and the share of those stuck over time."""
        frames = self._frames
        if frames.faults is None or frames.lowest is None or frames.highest is None:
            raise ValueError("no frames")
        worst = np.argmax(frames.faults[1:], axis=0) + 1
        mostly = frames.faults[Fault.NONE] * 2 < self.frame_count
        kinds = np.where(mostly, worst, Fault.NONE)
        stuck_share = 0.0
        if self._gains_differ and self.frame_count >= MIN_FRAMES_TO_STICK:
            stuck = frames.lowest == frames.highest
            stuck_share = float((stuck & (kinds == Fault.NONE)).mean())
            kinds = np.where(stuck & (kinds == Fault.NONE), Fault.STUCK, kinds)
        found = {fault: tuple((np.flatnonzero(kinds == fault) + 1).tolist()) for fault in Fault if fault}
        return {fault: numbers for fault, numbers in found.items() if numbers}, stuck_share

    def _pattern_share(self, agree: Mask, value: float) -> float:
        """The share of confidence that interference leaves, by all frames that agree."""
        count = int(agree.sum())
        if count < 2:
            return 1.0
        error = np.concatenate(self._frames.errors)[agree].mean()
        left = math.sqrt(1.0 - AVERAGED_VARIANCE + AVERAGED_VARIANCE / count)
        sigma = np.concatenate(self._frames.sigmas)[agree].mean() * left
        size = np.array([max(abs(value), self._within.scale)])
        return float(interference(error, sigma, size)[0])

    def _doubts(self, sound: Mask, agreeing: float, stuck_share: float, pattern_share: float) -> Sequence[Doubt]:
        """Why there is no result: of each unsound frame what took most of its confidence, and what the frames show."""
        causes = (Doubt.ELECTRODES_DISAGREE, Doubt.ELECTRODES_FAILED, Doubt.SURROUNDINGS, Doubt.INTERFERENCE)
        found: set[Doubt] = set()
        if not sound.all():
            least = np.argmin(np.concatenate(self._frames.shares)[~sound], axis=1)
            found |= {causes[cause] for cause in np.unique(least).tolist()}
        if stuck_share > 0:
            found.add(Doubt.ELECTRODES_FAILED)
        if pattern_share < self._within.min_confidence:
            found.add(Doubt.INTERFERENCE)
        if not found or (agreeing < MIN_AGREEING_SHARE <= sound.mean()):
            found.add(Doubt.FRAMES_DISAGREE)
        return tuple(doubt for doubt in Doubt if doubt in found)
