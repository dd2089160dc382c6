"""Tables and values of readers."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    SmallInteger,
    String,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from domain.hardware.base import Base


class DeviceStatus(StrEnum):
    """State of a reader, as it was last heard of."""

    UNKNOWN = "unknown"  # registered, and never heard of
    ONLINE = "online"
    OFFLINE = "offline"
    MEASURING = "measuring"
    UPDATING = "updating"
    ERROR = "error"


class CommandType(StrEnum):
    """What a reader can be asked to do."""

    START_MEASUREMENT = "start_measurement"
    STOP_MEASUREMENT = "stop_measurement"
    CALIBRATE = "calibrate"
    REBOOT = "reboot"
    OTA_UPDATE = "ota_update"


class DeviceRecord(Base):
    """A reader that the factory has made: who holds it can read the claim code off it, of which the hash is kept.

    Args:
        serial_key: the serial number in lower case: they are compared without case.
        device_id: the id that its firmware has; None when the factory's record names none.
    """

    __tablename__ = "device_records"
    __table_args__ = (
        Index("uq_device_records_device_key", text("lower(device_id)"), unique=True),
        CheckConstraint("octet_length(claim_hash) = 32", name="claim_hash"),
        CheckConstraint("serial_key = lower(serial_number)", name="serial_key"),
    )

    serial_key: Mapped[str] = mapped_column(String(64), primary_key=True)
    serial_number: Mapped[str] = mapped_column(String(64))
    device_id: Mapped[str | None] = mapped_column(String(64))
    claim_hash: Mapped[bytes] = mapped_column(LargeBinary)
    imported_by: Mapped[str] = mapped_column(String(64))
    imported_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Device(Base):
    """A registered reader; its presence, and the cartridge that it holds.

    Args:
        device_key, serial_key: id and serial number in lower case: they are compared without case. Rows from before that
            was so, which differ from an older one in case only, have `#` and a number behind it.
        verified: whether its owner has proven to hold it, with the claim code of the factory's record.
    """

    __tablename__ = "devices"
    __table_args__ = (
        CheckConstraint("battery_percent BETWEEN 0 AND 100", name="battery_percent"),
        Index("ix_devices_owner", "owner_user_id", "registered_at", "device_id"),
        Index(
            "ix_devices_last_heard",
            "last_heard_at",
            postgresql_where=text("status NOT IN ('offline', 'unknown')"),
        ),
        Index("uq_devices_device_key", "device_key", unique=True),
        Index("uq_devices_serial_key", "serial_key", unique=True),
    )

    device_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    device_key: Mapped[str] = mapped_column(String(80))
    serial_key: Mapped[str] = mapped_column(String(80))
    verified: Mapped[bool] = mapped_column(Boolean, default=False)
    owner_user_id: Mapped[str] = mapped_column(String(64))
    serial_number: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(80))
    firmware_version: Mapped[str] = mapped_column(String(32))
    status: Mapped[DeviceStatus] = mapped_column(String(16), default=DeviceStatus.UNKNOWN)
    battery_percent: Mapped[int | None] = mapped_column(SmallInteger)
    signal_strength: Mapped[int | None] = mapped_column(SmallInteger)
    last_heard_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    registered_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    last_calibrated_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    cartridge_uid: Mapped[str | None] = mapped_column(String(64))
    cartridge_category: Mapped[int | None] = mapped_column(SmallInteger)
    cartridge_type_index: Mapped[int | None] = mapped_column(SmallInteger)
    cartridge_lot_id: Mapped[str | None] = mapped_column(String(16))

    @property
    def last_seen_at(self) -> datetime:
        """The last heartbeat, or the registration when there was none."""
        return self.last_heard_at or self.registered_at


class DeviceCredential(Base):
    """The credential of a reader, as a hash; a reader has at most one that is not revoked."""

    __tablename__ = "device_credentials"
    __table_args__ = (
        Index("uq_device_credentials_active", "device_id", unique=True, postgresql_where=text("revoked_at IS NULL")),
    )

    credential_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    device_id: Mapped[str] = mapped_column(ForeignKey("devices.device_id", ondelete="CASCADE"))
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    issued_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class QueuedCommand(Base):
    """Something for a reader to do: waiting, sent, or known to have arrived."""

    __tablename__ = "device_commands"
    __table_args__ = (
        Index(
            "ix_device_commands_pending", "device_id", "command_id", postgresql_where=text("acknowledged_at IS NULL")
        ),
    )

    command_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    device_id: Mapped[str] = mapped_column(ForeignKey("devices.device_id", ondelete="CASCADE"))
    command_type: Mapped[CommandType] = mapped_column(String(24))
    payload: Mapped[dict[str, object]] = mapped_column(JSONB)
    requested_by: Mapped[str] = mapped_column(String(64))
    queued_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    delivered_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    acknowledged_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Firmware(Base):
    """A published firmware image; the image itself lies in the object store."""

    __tablename__ = "firmware"
    __table_args__ = (CheckConstraint("size_bytes > 0", name="size_bytes"),)

    version: Mapped[str] = mapped_column(String(32), primary_key=True)
    object_key: Mapped[str] = mapped_column(String(200))
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    min_version: Mapped[str | None] = mapped_column(String(32))
    notes: Mapped[str] = mapped_column(String(2000), default="")
    published_by: Mapped[str] = mapped_column(String(64))
    published_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class OtaUpdate(Base):
    """One answer to a request for firmware."""

    __tablename__ = "ota_updates"
    __table_args__ = (Index("ix_ota_updates_device", "device_id", "requested_at"),)

    update_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    device_id: Mapped[str] = mapped_column(ForeignKey("devices.device_id", ondelete="CASCADE"))
    from_version: Mapped[str] = mapped_column(String(32))
    target_version: Mapped[str] = mapped_column(ForeignKey("firmware.version"))
    requested_by: Mapped[str] = mapped_column(String(64))
    requested_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    url_expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


@dataclass(frozen=True, slots=True)
class Registration:
    """A reader and its fresh credential, in clear: it is shown this once."""

    device: Device
    credential: str
    registered_at: datetime


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a reader says of itself. `status` None means: as before; ranges are checked by the command."""

    status: DeviceStatus | None
    battery_percent: int
    signal_strength: int


@dataclass(frozen=True, slots=True)
class FirmwareDownload:
    """Where a firmware image lies, for a limited time.

    Args:
        checksum: SHA-256 of the image, lower-case hexadecimal.
    """

    update_id: str
    version: str
    url: str
    checksum: str
    size_bytes: int
    expires_at: datetime
