"""Tables of measurement, and the values that its commands take and give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
from pgvector.sqlalchemy import Vector
from sqlalchemy import (
    Boolean,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Uuid,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from domain.measurement.base import Base
from domain.measurement.measurement.conclusion import Doubt
from domain.measurement.measurement.correction import FloatArray
from domain.measurement.measurement.effective_time import TimeBasis
from domain.measurement.measurement.electrodes import Fault
from domain.measurement.measurement.quality import (
    DEFAULT_DECIMAL_PLACES,
    DEFAULT_MIN_CONFIDENCE,
    Comparator,
    MeasuringRange,
    ResultStatus,
)

CHANNEL_COUNTS = (88, 448, 896, 1792)
"""How many electrode channels a frame can have."""

FINGERPRINT_DIMENSION = 896
"""Of stored fingerprints; part of the schema, because a vector index has one dimension."""

ARBITRARY_UNIT = "[arb'U]"
"""UCUM for a signal that no calibration relates to a quantity."""

UNKNOWN_TYPE = "unknown"


class SessionStatus(StrEnum):
    STARTING = "starting"  # being checked; nobody has been told its id yet
    ACTIVE = "active"
    COMPLETED = "completed"
    EMPTY = "empty"  # ended without a frame: there is no result
    ABANDONED = "abandoned"  # never opened: refused at the last step, or its start was given up


class EndReason(StrEnum):
    REQUESTED = "requested"
    IDLE = "idle"


class SessionRow(Base):
    """A session. What it was started with is copied into it, so that a later change elsewhere changes no result.

    `idle_deadline`: of an active session, before when it certainly had a signal; of a starting one, until when the
    attempt that made it may go on. `effective_at`: when its result was true. `recalibrated_at`: when its reader was calibrated anew while it ran. `lease` counts the streams that were opened: only the newest may write.
    """

    __tablename__ = "measurement_sessions"
    __table_args__ = (
        Index("ix_measurement_sessions_user_started", "user_id", "started_at", "id"),
        Index("ix_measurement_sessions_device_started", "device_id", "started_at", "id"),
        Index("ix_measurement_sessions_cartridge_started", "cartridge_uid", "started_at", "id"),
        Index(
            "ix_measurement_sessions_user_effective",
            "user_id",
            "effective_at",
            "id",
            postgresql_where=text("status = 'completed'"),
        ),
        Index(
            "ix_measurement_sessions_idle",
            "idle_deadline",
            postgresql_where=text("status IN ('starting', 'active')"),
        ),
        Index(
            "uq_measurement_sessions_start_key",
            "device_id",
            "user_id",
            "start_key",
            unique=True,
            postgresql_where=text("start_key IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    user_id: Mapped[str] = mapped_column(String)
    device_id: Mapped[str] = mapped_column(String)
    cartridge_uid: Mapped[str] = mapped_column(String)
    category_code: Mapped[int] = mapped_column(SmallInteger)
    type_index: Mapped[int] = mapped_column(SmallInteger)
    verified: Mapped[bool] = mapped_column(Boolean)
    calibrated: Mapped[bool] = mapped_column(Boolean)
    cartridge_known: Mapped[bool] = mapped_column(Boolean)
    type_name_en: Mapped[str] = mapped_column(String)
    type_name_ko: Mapped[str] = mapped_column(String)
    unit: Mapped[str] = mapped_column(String)
    loinc_code: Mapped[str] = mapped_column(String)
    required_channels: Mapped[int | None] = mapped_column(SmallInteger)
    reference_low: Mapped[float | None] = mapped_column(Float(53))
    reference_high: Mapped[float | None] = mapped_column(Float(53))
    critical_low: Mapped[float | None] = mapped_column(Float(53))
    critical_high: Mapped[float | None] = mapped_column(Float(53))
    measuring_low: Mapped[float | None] = mapped_column(Float(53))
    measuring_high: Mapped[float | None] = mapped_column(Float(53))
    min_confidence: Mapped[float] = mapped_column(Float(53), server_default=text("0.5"), default=DEFAULT_MIN_CONFIDENCE)
    decimal_places: Mapped[int] = mapped_column(SmallInteger, server_default=text("4"), default=DEFAULT_DECIMAL_PLACES)
    alpha: Mapped[float] = mapped_column(Float(53))
    temp_coefficient: Mapped[float] = mapped_column(Float(53))
    humidity_coefficient: Mapped[float] = mapped_column(Float(53))
    channel_gains: Mapped[bytes] = mapped_column(LargeBinary)
    channel_offsets: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[str] = mapped_column(String(12))
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    idle_deadline: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    recalibrated_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    lease: Mapped[int] = mapped_column(Integer, server_default=text("0"), default=0)
    start_key: Mapped[str | None] = mapped_column(String)
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    effective_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    time_basis: Mapped[str | None] = mapped_column(String(8))
    issued_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    end_reason: Mapped[str | None] = mapped_column(String(12))
    frame_count: Mapped[int | None] = mapped_column(Integer)
    chain_head: Mapped[bytes | None] = mapped_column(LargeBinary)
    sealed_result: Mapped[bytes | None] = mapped_column(LargeBinary)


class UnitChoiceRow(Base):
    """In which kind of unit a person reads results (`ResultUnits`), as user-service told it last."""

    __tablename__ = "unit_choices"

    user_id: Mapped[str] = mapped_column(String, primary_key=True)
    result_units: Mapped[str] = mapped_column(String(16))
    chosen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class FrameRow(Base):
    """A stored frame; written by COPY, never through the ORM. Partitioned by month of `measured_at`.

    `sequence` is the order of commits within the session, from 1; `sealed` holds `frames.encode_frame`.
    """

    __tablename__ = "measurement_frames"
    __table_args__ = ({"postgresql_partition_by": "RANGE (measured_at)"},)

    session_id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    measured_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    received_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    sequence: Mapped[int] = mapped_column(Integer)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    chain_hash: Mapped[bytes] = mapped_column(LargeBinary)


class FingerprintRow(Base):
    """The fingerprint of an ended session, searchable by angle among those of one person."""

    __tablename__ = "measurement_fingerprints"
    __table_args__ = (
        Index(
            "ix_measurement_fingerprints_embedding",
            "embedding",
            postgresql_using="hnsw",
            postgresql_ops={"embedding": "vector_cosine_ops"},
        ),
        Index("ix_measurement_fingerprints_user", "user_id"),
    )

    session_id: Mapped[str] = mapped_column(
        Uuid(as_uuid=False), ForeignKey("measurement_sessions.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[str] = mapped_column(String)
    channels: Mapped[int] = mapped_column(SmallInteger)
    embedding: Mapped[Any] = mapped_column(Vector(FINGERPRINT_DIMENSION))


@dataclass(frozen=True, slots=True, eq=False)
class Coefficients:
    """What turns a session's signals into values; see `correction` for the formula.

    Args:
        gains, offsets: shape (1,) for all channels alike, or (channels,); result unit per reader's unit, result unit.
    """

    alpha: float
    temp: float
    humidity: float
    gains: FloatArray
    offsets: FloatArray

    def fits(self, channels: int) -> bool:
        """Whether there is a gain and an offset for each of so many channels."""
        return self.gains.size in (1, channels) and self.offsets.size in (1, channels)


def identity_coefficients(alpha: float, *, temp: float = 0.0, humidity: float = 0.0) -> Coefficients:
    """Coefficients that leave the corrected signal as it is, but for the environment."""
    return Coefficients(alpha, temp, humidity, gains=np.ones(1), offsets=np.zeros(1))


def coefficients_of(row: SessionRow) -> Coefficients:
    """The coefficients that a session was started with."""
    return Coefficients(
        alpha=row.alpha,
        temp=row.temp_coefficient,
        humidity=row.humidity_coefficient,
        gains=np.frombuffer(row.channel_gains, dtype="<f8").astype(np.float64),
        offsets=np.frombuffer(row.channel_offsets, dtype="<f8").astype(np.float64),
    )


def range_of(row: SessionRow) -> MeasuringRange:
    """The measuring range that a session was started with."""
    return MeasuringRange(row.measuring_low, row.measuring_high, row.min_confidence, row.decimal_places)


@dataclass(frozen=True, slots=True)
class ResultTimes:
    """When a result was true (`effective_at`), what that is based on, and when it became known."""

    effective_at: datetime
    basis: TimeBasis
    issued_at: datetime


@dataclass(frozen=True, slots=True)
class Result:
    """What a session measured; `value` and `spread` in `unit`, rounded to the digits that they have.

    Args:
        value: the limit of the measuring range where the status is below or above range; None when it is invalid.
        comparator: `<` below range, `>` above range.
        spread: robust standard deviation of the frames' values; None unless the status is valid.
        failed: numbers of the failed electrodes, from 1, by what is wrong with them.
        doubts: why the result is invalid.
        electrodes: how many there are; 0 where that was not recorded.
        times: None only before the session has ended.
    """

    status: ResultStatus
    value: float | None
    comparator: Comparator
    confidence: float
    spread: float | None
    unit: str
    decimal_places: int
    failed: Mapping[Fault, Sequence[int]] = field(default_factory=dict)
    doubts: Sequence[Doubt] = ()
    electrodes: int = 0
    times: ResultTimes | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A session as callers see it. `result` is there only where it was asked for, and only when it completed."""

    id: str
    user_id: str
    device_id: str
    cartridge_uid: str
    category_code: int
    type_index: int
    verified: bool
    calibrated: bool
    cartridge_known: bool
    type_name_en: str
    type_name_ko: str
    unit: str
    loinc_code: str
    reference_low: float | None
    reference_high: float | None
    critical_low: float | None
    critical_high: float | None
    within: MeasuringRange
    status: SessionStatus
    started_at: datetime
    ended_at: datetime | None
    end_reason: EndReason | None
    frame_count: int
    recalibrated_at: datetime | None = None
    result: Result | None = None

    @property
    def is_judged(self) -> bool:
        """Whether its result may be final and interpreted: reader, cartridge, calibration and measuring range are known."""
        return self.verified and self.calibrated and self.within.is_known


@dataclass(frozen=True, slots=True)
class Similar:
    """A session whose fingerprint is near another's; `similarity` is the cosine, 1 = the same direction."""

    session_id: str
    similarity: float


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions of a list are wanted.

    Args:
        since: earliest effective time (of results) or start (of sessions), included. until: the first one to leave out.
        category_code, type_index: of the cartridge type; None = any.
    """

    since: datetime | None = None
    until: datetime | None = None
    category_code: int | None = None
    type_index: int | None = None
