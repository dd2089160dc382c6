"""From checked frames of one width to what was found in them, as one matrix; and what a reader is told of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from domain.measurement.measurement.correction import FloatArray, differential
from domain.measurement.measurement.electrodes import Examined, Signals, examine
from domain.measurement.measurement.fingerprint import fingerprints
from domain.measurement.measurement.frames import Reading, StoredFrame
from domain.measurement.measurement.quality import MeasuringRange, report


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reader is told of one frame.

    Args:
        primary_value: rounded; the limit outside the measuring range, NaN when the frame is invalid.
        fingerprint: little-endian float32, shape (dimension,), as bytes.
    """

    primary_value: float
    confidence: float
    fingerprint: bytes
    received_at_us: int


@dataclass(frozen=True, slots=True, eq=False)
class Calibrations:
    """What frames are computed with: alpha of shape (frames,), gains and offsets of shape (frames, channels)."""

    alpha: FloatArray
    gains: FloatArray
    offsets: FloatArray
    within: Sequence[MeasuringRange]


def compute(
    frames: Sequence[Reading] | Sequence[StoredFrame], by: Calibrations, dimension: int
) -> list[tuple[float, float, bytes]]:
    """Value (before rounding), confidence and fingerprint of frames of one width.

    Returns:
        a value that is not finite where the signals leave the range of a double.
    """
    signals = signals_of(frames, by)
    found = examine(signals)
    with np.errstate(all="ignore"):  # out-of-range values are found by their result
        prints = fingerprints(signals.corrected, dimension).astype("<f4", copy=False)
    usable = np.where(np.isfinite(prints).all(axis=1) & np.isfinite(found.confidence), found.value, np.nan)
    return list(zip(usable.tolist(), found.confidence.tolist(), [row.tobytes() for row in prints], strict=True))


def examine_stored(frames: Sequence[StoredFrame], by: Calibrations) -> Examined:
    """What was found in stored frames of one width."""
    return examine(signals_of(frames, by))


def signals_of(frames: Sequence[Reading] | Sequence[StoredFrame], by: Calibrations) -> Signals:
    """Frames of one width as a matrix."""
    raw = np.array([frame.raw for frame in frames])
    s_ref = np.array([frame.s_ref for frame in frames])
    with np.errstate(all="ignore"):
        corrected = differential(raw, s_ref[:, np.newaxis], by.alpha[:, np.newaxis])
    return Signals(
        raw=raw,
        corrected=corrected,
        gains=by.gains,
        offsets=by.offsets,
        env=np.array([frame.env for frame in frames]),
        temp_c=np.array([frame.temp_c for frame in frames]),
        humidity_pct=np.array([frame.humidity_pct for frame in frames]),
        zero=np.array([within.zero for within in by.within]),
        implausible=np.array([within.implausible for within in by.within]),
        scale=np.array([within.scale for within in by.within]),
        least_error=np.array([within.allowed_error(0.0) for within in by.within]),
    )


def told(value: float, confidence: float, fingerprint: bytes, received_at_us: int, *, within: MeasuringRange) -> Answer:
    """The answer to a frame."""
    shown = report(value, confidence, within).value
    return Answer(float("nan") if shown is None else shown, confidence, fingerprint, received_at_us)


def answer_of(frame: StoredFrame, dimension: int, within: MeasuringRange) -> Answer:
    """The answer that was given when the frame was stored."""
    corrected = differential(frame.raw, frame.s_ref, frame.alpha)[np.newaxis, :]
    fingerprint = fingerprints(corrected, dimension).astype("<f4", copy=False).tobytes()
    return told(frame.primary_value, frame.confidence, fingerprint, frame.received_at_us, within=within)
