"""Every SQL statement about readers. Lock order: the reader's row, then its credentials and commands."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import ScalarSelect, Select, String, any_, bindparam, case, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.hardware.device.models import (
    Device,
    DeviceCredential,
    DeviceRecord,
    DeviceStatus,
    Firmware,
    Heartbeat,
    OtaUpdate,
    QueuedCommand,
)
from domain.ids import DeviceId, UserId
from domain.keyset import OwnedList
from domain.paging import Page, PageRequest

COMMANDS_CHANNEL = "device_commands"
"""NOTIFY channel that wakes the open streams; the payload is the device id."""


class DeviceRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, device_id: str) -> Device | None:
        """The reader with an id, in whatever case it is written."""
        if "\0" in device_id:
            return None
        return (await self._session.scalars(_named(device_id))).one_or_none()

    async def get_for_update(self, device_id: str) -> Device | None:
        """The same, locked."""
        if "\0" in device_id:  # PostgreSQL cannot even be asked for it
            return None
        locked = _named(device_id).with_for_update().execution_options(populate_existing=True)
        return (await self._session.scalars(locked)).one_or_none()

    async def by_serial_for_update(self, serial_number: str) -> Device | None:
        """The reader with a serial number, in whatever case it is written; locked."""
        return await self._session.scalar(
            select(Device)
            .where(Device.serial_key == serial_number.lower())
            .with_for_update()
            .execution_options(populate_existing=True)
        )

    async def by_ids(self, device_ids: Collection[str]) -> dict[str, Device]:
        """Those of the readers that there are, by the id as it was given."""
        named = [device_id for device_id in device_ids if "\0" not in device_id]
        found = await self._session.scalars(
            _BY_IDS, {"device_ids": named, "device_keys": [device_id.lower() for device_id in named]}
        )
        devices = found.all()
        exact = {device.device_id: device for device in devices}
        by_key = {device.device_key: device for device in devices}
        answers = {device_id: exact.get(device_id) or by_key.get(device_id.lower()) for device_id in named}
        return {device_id: device for device_id, device in answers.items() if device is not None}

    async def add(self, device: Device) -> bool:
        """False when its id or its serial number is taken; then nothing was stored."""
        values = {
            "device_id": device.device_id,
            "device_key": device.device_id.lower(),
            "owner_user_id": device.owner_user_id,
            "serial_number": device.serial_number,
            "serial_key": device.serial_number.lower(),
            "verified": device.verified,
            "name": device.name,
            "firmware_version": device.firmware_version,
            "status": device.status,
            "registered_at": device.registered_at,
        }
        statement = insert(Device).values(values).on_conflict_do_nothing().returning(Device.device_id)
        return await self._session.scalar(statement) is not None

    async def lock_owner(self, user_id: UserId) -> None:
        """One registration of a person at a time, so that what is counted stays true until the transaction ends."""
        name = f"devices of {user_id}"
        await self._session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))

    async def count_owned(self, user_id: UserId) -> int:
        return await self._session.scalar(select(func.count()).where(Device.owner_user_id == user_id)) or 0

    async def record_of(self, serial_number: str) -> DeviceRecord | None:
        """The factory's record of the reader with a serial number."""
        return await self._session.get(DeviceRecord, serial_number.lower())

    async def record_of_device(self, device_id: str) -> DeviceRecord | None:
        """The factory's record of the reader with an id."""
        return await self._session.scalar(
            select(DeviceRecord).where(func.lower(DeviceRecord.device_id) == device_id.lower())
        )

    async def remove(self, device_id: str) -> None:
        await self._session.execute(delete(Device).where(Device.device_id == device_id))

    async def registered_until_for_update(self, user_id: UserId, until: datetime) -> Sequence[Device]:
        """A person's readers that were registered until a moment, which is included; locked in the order of their ids."""
        found = await self._session.scalars(
            select(Device)
            .where(Device.owner_user_id == user_id, Device.registered_at <= until)
            .order_by(Device.device_id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        return found.all()

    async def owned_by(self, user_id: UserId) -> Sequence[Device]:
        """All of a person's readers, oldest registration first."""
        found = await self._session.scalars(
            select(Device).where(Device.owner_user_id == user_id).order_by(Device.registered_at, Device.device_id)
        )
        return found.all()

    async def pages_of(self, user_ids: Collection[str], page: PageRequest) -> dict[str, Page[Device]]:
        """One page for every person, in one statement; oldest registration first."""
        return await _OWNED.pages(self._session, user_ids, page)

    async def record_heartbeat(self, device_id: str, beat: Heartbeat, *, at: datetime) -> Device | None:
        """The reader after the heartbeat; None when it is not registered."""
        if "\0" in device_id:
            return None
        silent = Device.status.in_((DeviceStatus.OFFLINE, DeviceStatus.UNKNOWN))
        status = beat.status or case((silent, DeviceStatus.ONLINE.value), else_=Device.status)
        statement = (
            update(Device)
            .where(Device.device_id == _named_id(device_id))
            .values(
                status=status,
                battery_percent=beat.battery_percent,
                signal_strength=beat.signal_strength,
                last_heard_at=at,
            )
            .returning(Device)
            .execution_options(populate_existing=True)
        )
        return (await self._session.scalars(statement)).one_or_none()

    async def mark_silent_offline(self, *, heard_before: datetime, limit: int) -> Sequence[str]:
        """Ids of readers that counted as connected and were not heard of since; they are offline now.

        Rows that another instance is working on are left to it.
        """
        silent = (
            select(Device.device_id)
            .where(Device.status.not_in(("offline", "unknown")), Device.last_heard_at < heard_before)
            .order_by(Device.last_heard_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        found = await self._session.scalars(
            update(Device)
            .where(Device.device_id.in_(silent))
            .values(status=DeviceStatus.OFFLINE)
            .returning(Device.device_id)
            .execution_options(synchronize_session=False)
        )
        return found.all()

    async def record_calibration(self, device_id: str, *, at: datetime) -> None:
        """Events may arrive late: an older calibration never replaces a newer one."""
        await self._session.execute(
            update(Device)
            .where(Device.device_id == _named_id(device_id))
            .values(last_calibrated_at=func.greatest(func.coalesce(Device.last_calibrated_at, at), at))
        )


_BY_IDS = select(Device).where(
    or_(
        Device.device_id == any_(bindparam("device_ids", type_=ARRAY(String))),
        Device.device_key == any_(bindparam("device_keys", type_=ARRAY(String))),
    )
)


def _named(device_id: str) -> Select[Device]:
    """The reader with this very id, else the one whose id differs in case only."""
    exactly = Device.device_id == device_id
    return select(Device).where(or_(exactly, Device.device_key == device_id.lower())).order_by(exactly.desc()).limit(1)


def _named_id(device_id: str) -> ScalarSelect[str]:
    return _named(device_id).with_only_columns(Device.device_id).scalar_subquery()


_OWNED = OwnedList(Device, owner=Device.owner_user_id, at=Device.registered_at, id=Device.device_id, newest_first=False)


class CredentialRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, credential: DeviceCredential) -> None:
        self._session.add(credential)
        await self._session.flush()

    async def revoke(self, device_id: str, *, at: datetime) -> None:
        await self._session.execute(
            update(DeviceCredential)
            .where(DeviceCredential.device_id == device_id, DeviceCredential.revoked_at.is_(None))
            .values(revoked_at=at)
        )

    async def active_hash(self, device_id: str) -> tuple[Device, bytes] | None:
        """The reader and the hash of the credential that is in force."""
        if "\0" in device_id:
            return None
        row = (
            await self._session.execute(
                select(Device, DeviceCredential.secret_hash)
                .join(DeviceCredential, DeviceCredential.device_id == Device.device_id)
                .where(Device.device_id == _named_id(device_id), DeviceCredential.revoked_at.is_(None))
            )
        ).one_or_none()
        return None if row is None else (row[0], row[1])


class CommandRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def queue(self, command: QueuedCommand) -> None:
        """Store a command and, at commit, wake the stream of its reader in whichever process it is open."""
        self._session.add(command)
        await self._session.flush()
        await self._session.execute(select(func.pg_notify(COMMANDS_CHANNEL, command.device_id)))

    async def count_pending(self, device_id: str, *, now: datetime) -> int:
        pending = select(func.count()).where(
            QueuedCommand.device_id == device_id,
            QueuedCommand.acknowledged_at.is_(None),
            QueuedCommand.expires_at > now,
        )
        return await self._session.scalar(pending) or 0

    async def deliver(self, device_id: DeviceId, *, sent: Collection[str], now: datetime) -> Sequence[QueuedCommand]:
        """Commands that wait for a reader, in the order they were queued, marked as delivered now."""
        waiting = (
            select(QueuedCommand)
            .where(
                QueuedCommand.device_id == device_id,
                QueuedCommand.acknowledged_at.is_(None),
                QueuedCommand.expires_at > now,
                QueuedCommand.command_id.not_in(sent),
            )
            .order_by(QueuedCommand.command_id)
        )
        commands = (await self._session.scalars(waiting)).all()
        for command in commands:
            command.delivered_at = now
        await self._session.flush()
        return commands

    async def acknowledge(self, command_ids: Collection[str], *, at: datetime) -> None:
        await self._session.execute(
            update(QueuedCommand)
            .where(QueuedCommand.command_id.in_(command_ids), QueuedCommand.acknowledged_at.is_(None))
            .values(acknowledged_at=at)
        )


class FirmwareRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, version: str) -> Firmware | None:
        return await self._session.get(Firmware, version)

    async def all(self) -> Sequence[Firmware]:
        return (await self._session.scalars(select(Firmware))).all()

    async def add(self, firmware: Firmware) -> bool:
        """False when the version was there already."""
        values = {c.key: getattr(firmware, c.key) for c in Firmware.__table__.columns}
        statement = insert(Firmware).values(values).on_conflict_do_nothing().returning(Firmware.version)
        return await self._session.scalar(statement) is not None

    async def add_update(self, ota: OtaUpdate) -> None:
        self._session.add(ota)
        await self._session.flush()
