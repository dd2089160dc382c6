"""One frame in memory, and the bytes of it that are sealed, hashed and stored.

Canonical bytes, little endian: version (u8) | sequence (u32) | measured_at, received_at (i64, microseconds since 1970,
UTC) | s_det, s_ref, reader's own alpha, alpha applied, temperature, humidity, pressure, env factor, primary value,
confidence (f64 each; NaN where the reader gave none) | channel count (u16) | raw channels (f64 each).
"""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from domain.measurement.measurement.correction import FloatArray
from domain.sealing import Sealer

_VERSION = 1
_HEADER = struct.Struct("<BIqq10dH")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Reading:
    """A frame as a reader sent it, checked. Mutable only for speed: 2,500 of them a second are built.

    Args:
        measured_at_us: microseconds since 1970, UTC; names the frame within its session.
        raw: shape (channels,), reader's unit.
        reader_alpha: the factor that the reader would use; recorded, not used.
        temp_c, humidity_pct, pressure_kpa: surroundings; the reference conditions where the reader gave none.
        env: the environment factor under the session's coefficients.
        repeated: the session has this frame already: answer it from the stored one.
    """

    measured_at_us: int
    raw: FloatArray
    s_det: float
    s_ref: float
    reader_alpha: float
    temp_c: float
    humidity_pct: float
    pressure_kpa: float
    env: float
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """A frame as it was stored, opened; `primary_value` before rounding and without regard to the measuring range."""

    sequence: int
    measured_at_us: int
    received_at_us: int
    s_det: float
    s_ref: float
    alpha: float
    temp_c: float
    humidity_pct: float
    env: float
    primary_value: float
    confidence: float
    raw: FloatArray


def encode_frame(
    reading: Reading, *, sequence: int, received_at_us: int, alpha: float, primary_value: float, confidence: float
) -> bytes:
    """The canonical bytes of a frame."""
    header = _HEADER.pack(
        _VERSION,
        sequence,
        reading.measured_at_us,
        received_at_us,
        reading.s_det,
        reading.s_ref,
        reading.reader_alpha,
        alpha,
        reading.temp_c,
        reading.humidity_pct,
        reading.pressure_kpa,
        reading.env,
        primary_value,
        confidence,
        reading.raw.size,
    )
    return header + reading.raw.astype("<f8", copy=False).tobytes()


def decode_frame(content: bytes) -> StoredFrame:
    """Raises: ValueError: not the bytes of a frame."""
    if len(content) < _HEADER.size or content[0] != _VERSION:
        raise ValueError("not a stored frame of a known version")
    fields = _HEADER.unpack_from(content)
    if len(content) != _HEADER.size + 8 * fields[14]:
        raise ValueError(f"a frame of {fields[14]} channels cannot have {len(content)} bytes")
    return StoredFrame(
        sequence=fields[1],
        measured_at_us=fields[2],
        received_at_us=fields[3],
        s_det=fields[4],
        s_ref=fields[5],
        alpha=fields[7],
        temp_c=fields[8],
        humidity_pct=fields[9],
        env=fields[11],
        primary_value=fields[12],
        confidence=fields[13],
        raw=np.frombuffer(content, dtype="<f8", offset=_HEADER.size).astype(np.float64, copy=False),
    )


def seal_context(session_id: str, sequence: int) -> str:
    """What a sealed frame is bound to."""
    return f"measurement_frames.sealed:{session_id}:{sequence}"


def open_frame(sealer: Sealer, session_id: str, sequence: int, sealed: bytes) -> StoredFrame:
    """A stored frame, opened.

    Raises:
        SealBroken: it is not the sealed frame of this session and sequence.
        ValueError: what it holds is no frame.
    """
    return decode_frame(sealer.open(sealed, context=seal_context(session_id, sequence)))


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 of a time with zone, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(moment_us: int) -> datetime:
    """The time (UTC) of microseconds since 1970, exactly."""
    return _EPOCH + timedelta(microseconds=moment_us)
