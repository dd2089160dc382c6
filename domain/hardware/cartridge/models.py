"""Tables and values of cartridges and their registry."""

import datetime as dt
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from domain.hardware.base import Base
from domain.hardware.cartridge.tag_signature import LotKeyKind


class CartridgeCategory(Base):
    """A family of types. A range of codes (0xF0 to 0xFD) may be one category until its codes are given names."""

    __tablename__ = "cartridge_categories"
    __table_args__ = (CheckConstraint("code BETWEEN 1 AND last_code AND last_code <= 255", name="codes"),)

    code: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    last_code: Mapped[int] = mapped_column(SmallInteger)
    name_en: Mapped[str] = mapped_column(String(80))
    name_ko: Mapped[str] = mapped_column(String(80))
    description: Mapped[str] = mapped_column(String(500), default="")
    is_active: Mapped[bool] = mapped_column(Boolean, default=True)


class CartridgeType(Base):
    """What cartridges of one kind measure.

    A type in another unit is a new version of it; the one before is kept in `CartridgeTypeVersion`.
    Limits are in `unit`; None means that side has none. `source` cites where they stand, `measuring_source` where the
    measuring range stands.
    """

    __tablename__ = "cartridge_types"
    __table_args__ = (
        CheckConstraint("category BETWEEN 1 AND 255", name="category"),
        CheckConstraint("type_index BETWEEN 1 AND 255", name="type_index"),
        CheckConstraint("required_channels IN (88, 448, 896, 1792)", name="required_channels"),
        CheckConstraint("default_uses > 0", name="default_uses"),
        CheckConstraint("reference_low <= reference_high", name="reference"),
        CheckConstraint("critical_low < critical_high", name="critical"),
        CheckConstraint("measuring_low < measuring_high", name="measuring"),
        CheckConstraint("min_confidence > 0 AND min_confidence <= 1", name="min_confidence"),
        CheckConstraint("decimal_places BETWEEN 0 AND 6", name="decimal_places"),
        CheckConstraint("version > 0", name="version"),
        Index(
            "uq_cartridge_types_legacy_code",
            "legacy_code",
            unique=True,
            postgresql_where=text("legacy_code IS NOT NULL"),
        ),
    )

    category: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    type_index: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    legacy_code: Mapped[int | None] = mapped_column(SmallInteger)
    name_en: Mapped[str] = mapped_column(String(80))
    name_ko: Mapped[str] = mapped_column(String(80))
    description: Mapped[str] = mapped_column(String(500), default="")
    required_channels: Mapped[int] = mapped_column(SmallInteger)
    measurement_s: Mapped[int] = mapped_column(SmallInteger)
    unit: Mapped[str] = mapped_column(String(24))  # UCUM, case sensitive; "1" for plain numbers
    loinc_code: Mapped[str | None] = mapped_column(String(12))
    reference_low: Mapped[float | None] = mapped_column(Double)
    reference_high: Mapped[float | None] = mapped_column(Double)
    reference_note: Mapped[str] = mapped_column(String(120), default="")
    critical_low: Mapped[float | None] = mapped_column(Double)
    critical_high: Mapped[float | None] = mapped_column(Double)
    source: Mapped[str] = mapped_column(String(500), default="")
    measuring_low: Mapped[float | None] = mapped_column(Double)
    measuring_high: Mapped[float | None] = mapped_column(Double)
    min_confidence: Mapped[float] = mapped_column(Double, default=0.5, server_default=text("0.5"))
    decimal_places: Mapped[int] = mapped_column(SmallInteger, default=2, server_default=text("2"))
    measuring_source: Mapped[str] = mapped_column(String(500), default="", server_default=text("''"))
    version: Mapped[int] = mapped_column(SmallInteger, default=1, server_default=text("1"))
    default_uses: Mapped[int] = mapped_column(Integer, default=1)
    manufacturer: Mapped[str] = mapped_column(String(80), default="ManPaSik")
    is_active: Mapped[bool] = mapped_column(Boolean, default=True)
    is_beta: Mapped[bool] = mapped_column(Boolean, default=False)

    @property
    def reference_range(self) -> str:
        """The normal range as people read it, such as `70-99 mg/dL`; empty when there is none."""
        match self.reference_low, self.reference_high:
            case None, None:
                return ""
            case None, high:
                shown = f"<={high:g}"
            case low, None:
                shown = f">={low:g}"
            case low, high:
                shown = f"{low:g}-{high:g}"
        note = f" ({self.reference_note})" if self.reference_note else ""
        return f"{shown} {self.unit}{note}"


class CartridgeTypeVersion(Base):
    """A version of a type that a newer one has replaced: what is in its unit. It interprets what is calibrated in it."""

    __tablename__ = "cartridge_type_versions"

    category: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    type_index: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    unit: Mapped[str] = mapped_column(String(24))
    loinc_code: Mapped[str | None] = mapped_column(String(12))
    reference_low: Mapped[float | None] = mapped_column(Double)
    reference_high: Mapped[float | None] = mapped_column(Double)
    reference_note: Mapped[str] = mapped_column(String(120))
    critical_low: Mapped[float | None] = mapped_column(Double)
    critical_high: Mapped[float | None] = mapped_column(Double)
    source: Mapped[str] = mapped_column(String(500))
    measuring_low: Mapped[float | None] = mapped_column(Double)
    measuring_high: Mapped[float | None] = mapped_column(Double)
    min_confidence: Mapped[float] = mapped_column(Double)
    decimal_places: Mapped[int] = mapped_column(SmallInteger)
    measuring_source: Mapped[str] = mapped_column(String(500))
    replaced_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("now()"))


VERSIONED = (
    "unit",
    "loinc_code",
    "reference_low",
    "reference_high",
    "reference_note",
    "critical_low",
    "critical_high",
    "source",
    "measuring_low",
    "measuring_high",
    "min_confidence",
    "decimal_places",
    "measuring_source",
)
"""What a version of a type has of its own; the rest is the same in all versions."""


class CartridgeLot(Base):
    """A production lot, as the factory has declared it: one type, and the key that its tags are signed with, if they are.

    Of Ed25519 `public_key` is kept; of AES-CMAC the secret key in `sealed_key`.
    """

    __tablename__ = "cartridge_lots"
    __table_args__ = (
        CheckConstraint("category BETWEEN 1 AND 255 AND type_index BETWEEN 1 AND 255", name="type"),
        CheckConstraint(
            "key_kind IS NULL AND num_nonnulls(public_key, sealed_key) = 0 OR "
            "key_kind = 'ed25519' AND public_key IS NOT NULL AND sealed_key IS NULL OR "
            "key_kind = 'aes-cmac' AND sealed_key IS NOT NULL AND public_key IS NULL",
            name="key",
        ),
    )

    lot_id: Mapped[str] = mapped_column(String(8), primary_key=True)
    category: Mapped[int] = mapped_column(SmallInteger)
    type_index: Mapped[int] = mapped_column(SmallInteger)
    key_kind: Mapped[LotKeyKind | None] = mapped_column(String(8))
    public_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    sealed_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    expires_on: Mapped[dt.date | None] = mapped_column(Date)
    imported_by: Mapped[str] = mapped_column(String(64))
    imported_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class RegisteredCartridge(Base):
    """A cartridge that the factory has made: what it says counts, whatever a tag with this uid says."""

    __tablename__ = "registered_cartridges"
    __table_args__ = (
        CheckConstraint("max_uses BETWEEN 1 AND 65535", name="max_uses"),
        CheckConstraint("alpha BETWEEN 0 AND 2", name="alpha"),
        CheckConstraint(
            "temp_coefficient BETWEEN -1 AND 1 AND humidity_coefficient BETWEEN -1 AND 1", name="coefficients"
        ),
        CheckConstraint("uid = upper(uid)", name="uid"),
        Index("ix_registered_cartridges_lot", "lot_id"),
    )

    uid: Mapped[str] = mapped_column(String(16), primary_key=True)
    lot_id: Mapped[str] = mapped_column(ForeignKey("cartridge_lots.lot_id"))
    alpha: Mapped[float] = mapped_column(Double)
    temp_coefficient: Mapped[float] = mapped_column(Double)
    humidity_coefficient: Mapped[float] = mapped_column(Double)
    max_uses: Mapped[int] = mapped_column(Integer)
    expires_on: Mapped[dt.date] = mapped_column(Date)
    imported_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Cartridge(Base):
    """What one person's reading of a tag has said. A tag is a claim: others with the same uid have rows of their own.

    Version 1 tags give neither lot, expiry, uses nor coefficients. `remaining_uses` counts the uses of this owner.

    Args:
        owner_user_id: who has read the tag; empty for readings without a person, on a development network.
        signed: whether the tag carried a signature of its lot. Then the cartridge is this person's alone.
        released_at: when this person had it to themselves no longer; the next person has the uses that were left.
    """

    __tablename__ = "cartridges"
    __table_args__ = (
        CheckConstraint("remaining_uses BETWEEN 0 AND max_uses", name="remaining_uses"),
        Index("uq_cartridges_signed_uid", "uid", unique=True, postgresql_where=text("signed")),
        Index("ix_cartridges_owner", "owner_user_id", "last_read_at"),
    )

    uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner_user_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    signed: Mapped[bool] = mapped_column(Boolean)
    tag_version: Mapped[int] = mapped_column(SmallInteger)
    category: Mapped[int] = mapped_column(SmallInteger)
    type_index: Mapped[int] = mapped_column(SmallInteger)
    legacy_code: Mapped[int | None] = mapped_column(SmallInteger)
    lot_id: Mapped[str] = mapped_column(String(8), default="")
    expires_on: Mapped[dt.date | None] = mapped_column(Date)
    remaining_uses: Mapped[int] = mapped_column(Integer)
    max_uses: Mapped[int] = mapped_column(Integer)
    required_channels: Mapped[int | None] = mapped_column(Integer)
    measurement_s: Mapped[int | None] = mapped_column(SmallInteger)
    flags: Mapped[int] = mapped_column(SmallInteger, default=0)
    alpha: Mapped[float | None] = mapped_column(Double)
    temp_coefficient: Mapped[float | None] = mapped_column(Double)
    humidity_coefficient: Mapped[float | None] = mapped_column(Double)
    extended_calibration: Mapped[bytes] = mapped_column(LargeBinary, default=b"")
    first_read_by: Mapped[str | None] = mapped_column(String(64))  # read by the release before this one only
    released_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    first_read_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    last_read_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Proof(StrEnum):
    """What makes a cartridge verified; `NONE` leaves it unverified."""

    SIGNATURE = "signature"
    REGISTRY = "registry"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedCartridge:
    """A cartridge as it counts: the registry's values before those of a signed tag; of other tags only what names it.

    Args:
        owner_user_id: whose reading this is.
        alpha, temp_coefficient, humidity_coefficient: None when unverified: the defaults of the type apply.
        required_channels, measurement_s: None when unverified: those of the type apply.
        remaining_uses: by the platform's count for this owner.
    """

    uid: str
    owner_user_id: str
    proof: Proof
    category: int
    type_index: int
    legacy_code: int | None
    lot_id: str
    expires_on: dt.date | None
    remaining_uses: int
    max_uses: int
    required_channels: int | None
    measurement_s: int | None
    alpha: float | None
    temp_coefficient: float | None
    humidity_coefficient: float | None

    @property
    def verified(self) -> bool:
        """Whether its signature or the factory's registry verifies it."""
        return self.proof is not Proof.NONE

    @property
    def expires_at(self) -> datetime | None:
        """The first instant at which it is expired: the end of its last day, UTC; None = it names no last day."""
        if self.expires_on is None or self.expires_on == dt.date.max:
            return None
        return datetime.combine(self.expires_on + dt.timedelta(days=1), dt.time(), UTC)

    def is_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and now >= self.expires_at

    @property
    def expiry_text(self) -> str:
        """The last day of use as YYYYMMDD; empty when none is known."""
        return self.expires_on.strftime("%Y%m%d") if self.expires_on else ""


class CartridgeUsage(Base):
    """One use of a cartridge by one session."""

    __tablename__ = "cartridge_usages"
    __table_args__ = (
        UniqueConstraint("cartridge_uid", "session_id"),
        Index("ix_cartridge_usages_user", "user_id", "used_at", "record_id"),
    )

    record_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    cartridge_uid: Mapped[str] = mapped_column(String(64))
    session_id: Mapped[str] = mapped_column(String(64))
    user_id: Mapped[str] = mapped_column(String(64))
    category: Mapped[int] = mapped_column(SmallInteger)
    type_index: Mapped[int] = mapped_column(SmallInteger)
    used_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Refusal(StrEnum):
    """Why a cartridge may not be used; the value is the stable reason of every transport."""

    UNKNOWN = "CARTRIDGE_UNKNOWN"
    EXPIRED = "CARTRIDGE_EXPIRED"
    USED_UP = "CARTRIDGE_USED_UP"
    TYPE_UNKNOWN = "CARTRIDGE_TYPE_UNKNOWN"
    TYPE_INACTIVE = "CARTRIDGE_TYPE_INACTIVE"
    TYPE_MISMATCH = "CARTRIDGE_TYPE_MISMATCH"

    def message(self, locale: Literal["ko", "en"] = "en") -> str:
        """A sentence for the person who holds the cartridge."""
        english, korean = _REFUSAL_MESSAGES[self]
        return korean if locale == "ko" else english


UNVERIFIED_MESSAGES: dict[Literal["ko", "en"], str] = {
    "en": "This cartridge is not verified by its manufacturer: results are marked as unverified.",
    "ko": "제조사에서 확인되지 않은 카트리지입니다. 측정 결과는 미확인으로 표시됩니다.",
}
"""For the person who holds a cartridge that may be used and is not verified."""

_REFUSAL_MESSAGES = {
    Refusal.UNKNOWN: ("This cartridge was never read.", "읽은 적이 없는 카트리지입니다."),
    Refusal.EXPIRED: ("This cartridge has expired.", "유효 기간이 지난 카트리지입니다."),
    Refusal.USED_UP: ("This cartridge has no use left.", "사용 횟수를 모두 쓴 카트리지입니다."),
    Refusal.TYPE_UNKNOWN: ("The registry does not know this type of cartridge.", "등록되지 않은 카트리지 종류입니다."),
    Refusal.TYPE_INACTIVE: (
        "Cartridges of this type may not be used at present.",
        "현재 사용할 수 없는 카트리지 종류입니다.",
    ),
    Refusal.TYPE_MISMATCH: ("The cartridge is of another type than named.", "카트리지 종류가 지정한 것과 다릅니다."),
}


@dataclass(frozen=True, slots=True)
class CartridgeDetail:
    """A cartridge with its type (None = not in the registry), and why it may not be used now (None = it may)."""

    cartridge: ResolvedCartridge
    type: CartridgeType | None
    refusal: Refusal | None


class PlanLevel(StrEnum):
    """How a person's plan treats a type."""

    INCLUDED = "included"
    LIMITED = "limited"
    ADD_ON = "add_on"
    RESTRICTED = "restricted"
    BETA = "beta"


@dataclass(frozen=True, slots=True)
class PlanRule:
    """What a person's plan says about a type: how it treats it, and whether it may be used at this moment."""

    level: PlanLevel
    allowed: bool


@dataclass(frozen=True, slots=True)
class Validation:
    """Whether a cartridge may be used now.

    Args:
        detail: None when it was never read.
        plan: what the person's plan says of its type, beside that; None when nobody could be asked. It refuses nothing
            here: a measurement that somebody needs is not kept from them by what they have bought.
    """

    refusal: Refusal | None
    detail: CartridgeDetail | None
    plan: PlanRule | None = None


@dataclass(frozen=True, slots=True)
class CategorySummary:
    """A category and how many types are registered in it."""

    category: CartridgeCategory
    type_count: int
