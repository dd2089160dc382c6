"""Whose a reader becomes: what somebody who registers it has to show, and what is left of an earlier owner."""

from enum import Enum, auto

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from domain.hardware.access import DeviceNotFound
from domain.hardware.device.claims import RegistrationRules, is_claim
from domain.hardware.device.errors import DeviceLimitReached, SerialNumberTaken
from domain.hardware.device.models import Device
from domain.hardware.device.record_file import SERIAL
from domain.hardware.device.repository import DeviceRepository
from domain.ids import UserId, new_id
from domain.principal import Principal, PrincipalKind

_log = structlog.get_logger("device")


class Proof(Enum):
    """What somebody who registers a reader has shown."""

    CODE = auto()
    MISSING = auto()  # the factory has a record of the reader, and no code was given
    UNKNOWN_READER = auto()  # the factory has no record of it, and the platform accepts such readers


class Claims:
    """The rules of `DeviceService.register`, which says what they are."""

    def __init__(self, rules: RegistrationRules) -> None:
        self._rules = rules

    async def id_of(self, session: AsyncSession, serial_number: str) -> str:
        """The id of a reader that does not name one: the factory's, else a fresh one."""
        record = await DeviceRepository(session).record_of(serial_number) if SERIAL.match(serial_number) else None
        return record.device_id if record is not None and record.device_id else new_id()

    async def claim(
        self, session: AsyncSession, principal: Principal, asked: Device, *, claim_code: str, max_devices: int | None
    ) -> Device:
        """The reader, which is the owner's from now on.

        Raises:
            DeviceClaimRefused, TooManyClaims, SerialNumberTaken, DeviceLimitReached: see `DeviceService.register`.
        """
        owner = UserId(asked.owner_user_id)
        devices = DeviceRepository(session)
        await devices.lock_owner(owner)
        known = await devices.get_for_update(asked.device_id)
        is_own = known is not None and known.owner_user_id == owner
        if claim_code or not is_own:
            await self._rules.check_attempts(owner)
        if known is not None and is_own:
            return await self._register_again(session, known, asked, claim_code)
        proof = await self._proof(session, asked, claim_code)
        with_serial = await devices.by_serial_for_update(asked.serial_number)
        if known is None and with_serial is not None and with_serial.owner_user_id == owner:
            raise SerialNumberTaken(
                "You have registered this device under another id.", device_id=with_serial.device_id
            )
        before = {found.device_id: found for found in (known, with_serial) if found is not None}
        hands_over = principal.kind is PrincipalKind.DEVELOPMENT and known is with_serial
        takes_over = proof is Proof.CODE or (hands_over and proof is Proof.UNKNOWN_READER)
        if proof is Proof.MISSING or any(found.verified or not takes_over for found in before.values()):
            raise await self._rules.refuse(owner)
        await self._require_room(devices, principal, owner, max_devices)
        for replaced in before:
            await devices.remove(replaced)
        asked.verified = proof is Proof.CODE
        if not await devices.add(asked):  # somebody else was faster
            raise await self._rules.refuse(owner)
        if self._rules.field_calibrations is not None:
            await self._rules.field_calibrations.forget(session, asked.device_id)
        device = await devices.get_for_update(asked.device_id)
        if device is None:
            raise DeviceNotFound(asked.device_id)
        return device

    async def _register_again(self, session: AsyncSession, known: Device, asked: Device, claim_code: str) -> Device:
        if known.serial_number.casefold() != asked.serial_number.casefold():
            raise SerialNumberTaken(
                f"The device {known.device_id} is registered with another serial number.", device_id=known.device_id
            )
        if claim_code and await self._proof(session, asked, claim_code) is Proof.CODE:
            known.verified = True
        known.firmware_version = asked.firmware_version
        return known

    async def _proof(self, session: AsyncSession, asked: Device, claim_code: str) -> Proof:
        """What the caller has shown.

        Raises:
            DeviceClaimRefused: a wrong code, another id than the factory's, or no factory record.
        """
        devices = DeviceRepository(session)
        record = await devices.record_of(asked.serial_number)
        bound = await devices.record_of_device(asked.device_id)
        owner = UserId(asked.owner_user_id)
        right = is_claim(record.claim_hash if record else None, asked.serial_number, claim_code)
        if bound is not None and (record is None or bound.serial_key != record.serial_key):
            raise await self._rules.refuse(owner)  # the id of another reader
        if record is None:
            if not self._rules.takes_unknown:
                raise await self._rules.refuse(owner)
            return Proof.UNKNOWN_READER
        if record.device_id is not None and record.device_id.casefold() != asked.device_id.casefold():
            raise await self._rules.refuse(owner)
        if claim_code and not right:
            raise await self._rules.refuse(owner)
        return Proof.CODE if right else Proof.MISSING

    @staticmethod
    async def _require_room(
        devices: DeviceRepository, principal: Principal, owner: UserId, max_devices: int | None
    ) -> None:
        if max_devices is None or await devices.count_owned(owner) < max_devices:
            return
        if principal.kind is not PrincipalKind.DEVELOPMENT:
            raise DeviceLimitReached(max_devices)
        _log.warning("more devices than the plan allows, on a development network", max_devices=max_devices)
