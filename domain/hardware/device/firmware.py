"""Publishing firmware, and handing it to readers: a signed address that works for a limited time, and a checksum."""

import hashlib
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.hardware.device.errors import (
    DeviceFieldInvalid,
    FirmwareAlreadyPublished,
    FirmwareNotFound,
    FirmwareNotNewer,
    FirmwareStepNeeded,
)
from domain.hardware.device.firmware_version import FirmwareVersion
from domain.hardware.device.models import Device, Firmware, FirmwareDownload, OtaUpdate
from domain.hardware.device.ports import FirmwareStore
from domain.hardware.device.repository import FirmwareRepository
from domain.hardware.device.service import DeviceService
from domain.ids import new_id
from domain.principal import Principal, Scope

MAX_IMAGE_BYTES = 8 * 1024 * 1024
MAX_NOTES_LENGTH = 2000
URL_TTL = timedelta(minutes=15)


class FirmwareService:
    """Commands about firmware.

    Args:
        url_ttl: how long the address of a download works.
    """

    def __init__(
        self, clock: Clock, devices: DeviceService, store: FirmwareStore, *, url_ttl: timedelta = URL_TTL
    ) -> None:
        self._clock = clock
        self._devices = devices
        self._store = store
        self._url_ttl = url_ttl

    async def publish(
        self,
        session: AsyncSession,
        principal: Principal,
        *,
        version: str,
        content: bytes,
        min_version: str | None = None,
        notes: str = "",
    ) -> Firmware:
        """Publish an image. Publishing the same content again answers what is there.

        Args:
            min_version: what a reader must run to install it; None means any.
        Raises:
            Forbidden: without the scope firmware:write.
            DeviceFieldInvalid: no content, more than 8 MiB, or notes that are too long.
            FirmwareVersionInvalid: not a version.
            FirmwareAlreadyPublished: the version is there with other content.
        """
        principal.require_scope(Scope.FIRMWARE_WRITE)
        FirmwareVersion.parse(version)
        if min_version is not None:
            FirmwareVersion.parse(min_version)
        if not 0 < len(content) <= MAX_IMAGE_BYTES:
            raise DeviceFieldInvalid(
                f"The image has {len(content)} bytes; it must have 1 to {MAX_IMAGE_BYTES}.", field="content"
            )
        if len(notes) > MAX_NOTES_LENGTH:
            raise DeviceFieldInvalid(f"notes exceed {MAX_NOTES_LENGTH} characters.", field="notes")
        checksum = hashlib.sha256(content).hexdigest()
        firmware = Firmware(
            version=version,
            # Named by content: a lost race leaves an object that nobody refers to, never a wrong one.
            object_key=f"firmware/{version}/{checksum}.bin",
            sha256=checksum,
            size_bytes=len(content),
            min_version=min_version,
            notes=notes,
            published_by=principal.subject,
            published_at=self._clock.now(),
        )
        await self._store.put(firmware.object_key, content)
        registry = FirmwareRepository(session)
        if await registry.add(firmware):
            return firmware
        published = await registry.get(version)
        if published is None or published.sha256 != checksum:
            raise FirmwareAlreadyPublished(f"Firmware {version} is published with other content.", version=version)
        return published

    async def request_update(
        self, session: AsyncSession, principal: Principal, *, device_id: str, target_version: str
    ) -> FirmwareDownload:
        """Where a reader finds the firmware it asks for.

        Args:
            target_version: empty means the newest that this reader can install.
        Raises:
            DeviceNotFound, Forbidden: the reader is not registered, or not the caller's.
            FirmwareNotFound: nothing was published under this version.
            FirmwareNotNewer: the reader runs it, or a newer one.
            FirmwareStepNeeded: the reader has to install another version first.
        """
        device = await self._devices.get(session, principal, device_id)
        firmware = await self._choose(session, device, target_version)
        now = self._clock.now()
        update = OtaUpdate(
            update_id=new_id(),
            device_id=device.device_id,
            from_version=device.firmware_version,
            target_version=firmware.version,
            requested_by=principal.subject,
            requested_at=now,
            url_expires_at=now + self._url_ttl,
        )
        await FirmwareRepository(session).add_update(update)
        return FirmwareDownload(
            update_id=update.update_id,
            version=firmware.version,
            url=await self._store.signed_url(firmware.object_key, self._url_ttl),
            checksum=firmware.sha256,
            size_bytes=firmware.size_bytes,
            expires_at=update.url_expires_at,
        )

    async def _choose(self, session: AsyncSession, device: Device, target_version: str) -> Firmware:
        registry = FirmwareRepository(session)
        current = FirmwareVersion.parse(device.firmware_version)
        if not target_version:
            fitting = [f for f in await registry.all() if _is_newer(f, current) and _can_install(f, current)]
            if not fitting:
                raise FirmwareNotNewer(f"There is no firmware newer than {current.text} for this device.")
            return max(fitting, key=lambda f: FirmwareVersion.parse(f.version))
        firmware = await registry.get(target_version)
        if firmware is None:
            raise FirmwareNotFound(f"There is no firmware {target_version[:40]}.", version=target_version[:40])
        if not _is_newer(firmware, current):
            raise FirmwareNotNewer(f"The device runs {current.text}, which is not older than {firmware.version}.")
        if not _can_install(firmware, current):
            raise FirmwareStepNeeded(
                f"Firmware {firmware.version} needs at least {firmware.min_version}; the device runs {current.text}.",
                min_version=firmware.min_version,
            )
        return firmware


def _is_newer(firmware: Firmware, current: FirmwareVersion) -> bool:
    return current < FirmwareVersion.parse(firmware.version)


def _can_install(firmware: Firmware, current: FirmwareVersion) -> bool:
    return firmware.min_version is None or not current < FirmwareVersion.parse(firmware.min_version)
