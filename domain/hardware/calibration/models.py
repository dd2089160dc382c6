"""Tables and values of calibrations.

What a calibration means, for measurement as for here, over the channels i of a frame:

    s_corrected_i = raw_i - alpha * s_ref
    env           = (1 + temp_coefficient * (T - 25)) * (1 + humidity_coefficient * (RH - 50))
    value_i       = channel_gains_i * (s_corrected_i / env) + channel_offsets_i

A list of one entry holds for all channels; otherwise it has one entry for each of 88, 448, 896 or 1792.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, DateTime, Double, Index, SmallInteger, String, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from domain.hardware.base import Base


class CalibrationKind(StrEnum):
    """How a calibration came about."""

    FACTORY = "factory"
    FIELD = "field"
    AUTO = "auto"


class CalibrationStatus(StrEnum):
    """Whether a calibration can be relied on."""

    VALID = "valid"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    NEEDED = "needed"


class Calibration(Base):
    """One calibration of one reader for one cartridge type. `superseded_at` is set by a newer one that replaces it.

    `unit` (UCUM) is what its gains and offsets give; None when no type was registered for its code.
    """

    __tablename__ = "calibrations"
    __table_args__ = (
        CheckConstraint("accuracy_score BETWEEN 0 AND 1", name="accuracy_score"),
        CheckConstraint("expires_at > calibrated_at", name="expires_at"),
        Index("ix_calibrations_of_device_key", text("lower(device_id)"), "category", "type_index", "calibrated_at"),
        Index(
            "ix_calibrations_in_force",
            "device_id",
            "category",
            "type_index",
            "calibrated_at",
            postgresql_where=text("superseded_at IS NULL"),
        ),
        Index("ix_calibrations_history", "device_id", "calibrated_at", "calibration_id"),
    )

    calibration_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    device_id: Mapped[str] = mapped_column(String(64))
    category: Mapped[int] = mapped_column(SmallInteger)
    type_index: Mapped[int] = mapped_column(SmallInteger)
    kind: Mapped[CalibrationKind] = mapped_column(String(8))
    alpha: Mapped[float] = mapped_column(Double)
    channel_offsets: Mapped[list[float]] = mapped_column(ARRAY(Double))
    channel_gains: Mapped[list[float]] = mapped_column(ARRAY(Double))
    temp_coefficient: Mapped[float] = mapped_column(Double)
    humidity_coefficient: Mapped[float] = mapped_column(Double)
    accuracy_score: Mapped[float] = mapped_column(Double)
    max_residual: Mapped[float | None] = mapped_column(Double)
    reference_values: Mapped[list[float] | None] = mapped_column(ARRAY(Double))
    measured_values: Mapped[list[float] | None] = mapped_column(ARRAY(Double))
    ambient_temp_c: Mapped[float | None] = mapped_column(Double)
    ambient_humidity_pct: Mapped[float | None] = mapped_column(Double)
    unit: Mapped[str | None] = mapped_column(String(24))
    based_on: Mapped[str | None] = mapped_column(String(36))
    reference_standard: Mapped[str] = mapped_column(String(200))
    calibrated_by: Mapped[str] = mapped_column(String(200))
    calibrated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    superseded_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class CalibrationModel(Base):
    """How readers are calibrated for a cartridge type."""

    __tablename__ = "calibration_models"
    __table_args__ = (
        UniqueConstraint("category", "type_index", "version"),
        CheckConstraint("validity_days > 0", name="validity_days"),
    )

    model_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    category: Mapped[int] = mapped_column(SmallInteger)
    type_index: Mapped[int] = mapped_column(SmallInteger)
    name: Mapped[str] = mapped_column(String(120))
    version: Mapped[str] = mapped_column(String(16))
    default_alpha: Mapped[float] = mapped_column(Double)
    validity_days: Mapped[int] = mapped_column(SmallInteger)
    description: Mapped[str] = mapped_column(String(500))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class CartridgeLot(Base):
    """The lot that a reader last used of a cartridge type, and since when it should be checked because that changed."""

    __tablename__ = "calibration_lots"

    device_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    category: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    type_index: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    lot_id: Mapped[str] = mapped_column(String(16))
    seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    check_needed_since: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


@dataclass(frozen=True, slots=True)
class StatusReport:
    """Whether, and until when, a reader is calibrated for a cartridge type.

    Args:
        newest: the newest calibration, in force or not; None when there was never one.
        days_until_expiry: whole days left; 0 on the last day and when there is none, negative after the end.
    """

    status: CalibrationStatus
    device_id: str
    newest: Calibration | None
    days_until_expiry: int
    lot_changed: bool
