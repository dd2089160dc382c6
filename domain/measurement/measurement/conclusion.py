"""From the examined frames of a session to its result, the reasons where there is none, and the electrodes that failed.

    sound     = frames of at least the type's minimum confidence
    value     = median of the sound frames' values, weighted by their confidence
    agreeing  = sound frames whose value lies within 5 % of it, or within a tenth of the lower limit
    confidence = median confidence of the sound frames * share of agreeing frames of all * share left by stuck electrodes
                 * share left by interference over all agreeing frames
    telling   = frames that are sound, or would be but for interference
    uncertainty = t * 1.2533 * standard deviation of the n telling frames' values / sqrt(n)
                 + what their common error is above 2.576 times its standard error

A session is invalid when fewer than 60 % of its frames agree: a signal that changes while nothing changes (mains, drift, a
loose contact) may give any median. It is also invalid when the uncertainty of its value exceeds the error that the
type allows (`MeasuringRange.allowed_error`). Mains hum is why: of frames sampled from a sine, which lies mostly near its
extremes, three of five agree by chance to within 5 % while all three are 17 % off; but then the others lie far away, or
the electrodes' pattern shows a common error. The first term of the uncertainty is the half width of a 95 % confidence
interval of the median, t being Student's with n - 1 degrees of freedom, but no larger than for n = 5: fewer frames hardly know
their standard deviation, and sound ones would be refused. Two frames have a mean, without the factor 1.2533; of one
frame nothing is known. For the same reason a session is invalid when more than a tenth of the telling frames are off
by more than that error: after a step nobody knows which side is right.

Interference that no single frame shows for certain is told from all of them: of the standard error of the common error,
60 % of the variance (amplifier noise) averages out over frames, the rest (calibration, slow noise) does not. An electrode has
failed when most frames left it out, or when it is *stuck over time*: three frames or more with the same raw signal to
the last bit, where the calibration tells electrodes apart (as in `electrodes`: without it, equal signals prove nothing).
Frames that never came change nothing.

A session that nobody ended, whose reader fell silent after fewer than three frames, is invalid as well: of so few nobody knows
whether they agree, and their reader did not say that they are all.

Sources: ISO 15197:2013 (accuracy: 15 mg/dL below 100 mg/dL, 15 % from there; as PMC4525642, Table 1, lists it) for what a right result is. JCGM
100:2008 (GUM), 4.2 (standard uncertainty of repeated observations), 6.3 and annex G (coverage factors, Student's t). The standard
error of a median of normal values is sqrt(pi / 2) = 1.2533 times that of their mean (Kenney JF, Keeping ES: Mathematics
of Statistics, part 1). The shares are engineering choices, held by the property tests of broken signals.
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
MAX_OFF_SHARE = 0.1
MIN_FRAMES_TO_STICK = 3
MIN_FRAMES_WITHOUT_END = 3
AVERAGED_VARIANCE = 0.6
COVERAGE = (2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's t of 95 % for 4 to 10 degrees of freedom; the first and the last also hold for fewer and for more."""
MEDIAN_TO_MEAN = math.sqrt(math.pi / 2)
COMMON_ERROR_COVERAGE = 2.576
"""Of 99 %: the pattern's error is mostly that of the calibration, so a reader beyond it would be doubted at each reading."""


class Doubt(StrEnum):
    """Why a session has no result."""

    ELECTRODES_FAILED = "electrodes_failed"
    ELECTRODES_DISAGREE = "electrodes_disagree"
    SURROUNDINGS = "surroundings"
    INTERFERENCE = "interference"
    FRAMES_DISAGREE = "frames_disagree"
    IMPLAUSIBLE = "implausible"
    CUT_SHORT = "cut_short"


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

    def conclude(self, *, was_ended: bool = True) -> Conclusion:
        """The result of the frames.

        Args:
            was_ended: whether the reader or its owner ended the session; else it fell silent.

        Raises:
            ValueError: there are no frames.
        """
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
        telling = sound | self._interfered()
        by_frames, by_pattern = self._uncertainty(telling)
        allowed = self._within.allowed_error(whole.value)
        if by_frames + by_pattern > allowed:
            confidence = min(confidence, allowed / (by_frames + by_pattern) * self._within.min_confidence)
        off = float((np.abs(values - whole.value) > allowed)[telling].mean()) if telling.any() else 0.0
        if off > MAX_OFF_SHARE:
            confidence = min(confidence, (1.0 - off) * self._within.min_confidence)
        status = report(whole.value, confidence, self._within).status
        doubts: Sequence[Doubt] = ()
        if not was_ended and self.frame_count < MIN_FRAMES_WITHOUT_END:
            status, doubts = ResultStatus.INVALID, (Doubt.CUT_SHORT,)
        elif status is ResultStatus.INVALID:
            enough = confidence >= self._within.min_confidence
            interfered = pattern_share < self._within.min_confidence or max(by_frames, allowed - by_frames) < by_pattern
            doubts = (
                (Doubt.IMPLAUSIBLE,) if enough else self._doubts(sound, agreeing, stuck_share, interfered=interfered)
            )
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
        if agree.sum() < 2:
            return 1.0
        error, sigma = self._common_error(agree)
        size = np.array([max(abs(value), self._within.scale)])
        return float(interference(np.array([error]), np.array([sigma]), size)[0])

    def _common_error(self, which: Mask) -> tuple[float, float]:
        """The common error of some frames, at least one, with its standard error."""
        left = math.sqrt(1.0 - AVERAGED_VARIANCE + AVERAGED_VARIANCE / int(which.sum()))
        error = np.concatenate(self._frames.errors)[which].mean()
        return float(error), float(np.concatenate(self._frames.sigmas)[which].mean() * left)

    def _uncertainty(self, telling: Mask) -> tuple[float, float]:
        """The uncertainty of the value by what the telling frames differ in, and by what their electrodes have in common."""
        count = int(telling.sum())
        if count < 2:
            return 0.0, 0.0
        error, sigma = self._common_error(telling)
        with np.errstate(over="ignore"):  # then it is infinite, as the doubt is
            spread = float(np.std(np.array(self._frames.values)[telling], ddof=1))
        coverage = COVERAGE[min(max(count - 5, 0), len(COVERAGE) - 1)] * (MEDIAN_TO_MEAN if count > 2 else 1.0)
        return coverage * spread / math.sqrt(count), max(0.0, abs(error) - COMMON_ERROR_COVERAGE * sigma)

    def _interfered(self) -> Mask:
        """Which frames interference alone may have made unsound."""
        shares = np.concatenate(self._frames.shares)
        interfered: Mask = (shares[:, 3] < self._within.min_confidence) & (np.argmin(shares, axis=1) == 3)
        return interfered

    def _doubts(self, sound: Mask, agreeing: float, stuck_share: float, *, interfered: bool) -> Sequence[Doubt]:
        """Why there is no result: of each unsound frame what took most of its confidence, and what the frames show."""
        causes = (Doubt.ELECTRODES_DISAGREE, Doubt.ELECTRODES_FAILED, Doubt.SURROUNDINGS, Doubt.INTERFERENCE)
        found: set[Doubt] = set()
        if not sound.all():
            least = np.argmin(np.concatenate(self._frames.shares)[~sound], axis=1)
            found |= {causes[cause] for cause in np.unique(least).tolist()}
        if stuck_share > 0:
            found.add(Doubt.ELECTRODES_FAILED)
        if interfered:
            found.add(Doubt.INTERFERENCE)
        if not found or (agreeing < MIN_AGREEING_SHARE <= sound.mean()):
            found.add(Doubt.FRAMES_DISAGREE)
        return tuple(doubt for doubt in Doubt if doubt in found)
