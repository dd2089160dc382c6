"""The rules of readers: who registers them, how they prove themselves, when they count as connected."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

import orjson
import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from domain import validation
from domain.clock import Clock
from domain.errors import Forbidden
from domain.hardware.access import DeviceNotFound, require_access, require_scope
from domain.hardware.device.claims import RegistrationRules
from domain.hardware.device.errors import (
    CredentialRefused,
    DeviceFieldInvalid,
    TooManyCommands,
)
from domain.hardware.device.events import CartridgeReplaced
from domain.hardware.device.firmware_version import FirmwareVersion
from domain.hardware.device.models import (
    CommandType,
    Device,
    DeviceCredential,
    DeviceStatus,
    Heartbeat,
    QueuedCommand,
    Registration,
)
from domain.hardware.device.record_file import DEVICE_ID, SERIAL
from domain.hardware.device.registration import Claims
from domain.hardware.device.repository import CommandRepository, CredentialRepository, DeviceRepository
from domain.ids import DeviceId, UserId, new_id
from domain.messaging import Outbox
from domain.paging import Page, PageRequest
from domain.principal import Principal, PrincipalKind, Scope

_log = structlog.get_logger("device")

COMMAND_TTL = timedelta(hours=24)
"""A command that was not fetched for this long is dropped: nobody wants last week's reboot."""

MAX_PENDING_COMMANDS = 100
MAX_COMMAND_PAYLOAD_BYTES = 4096
MAX_NAME_LENGTH = 80
SWEEP_SIZE = 500

SIGNAL_RANGE = (-127, 100)
"""dBm, or 1 to 100 from readers that report the quality of the signal in percent; 0 is wired or unknown."""

_CREDENTIAL_BYTES = 32
_NO_HASH = bytes(32)


class DeviceService:
    """Commands and queries about readers.

    Args:
        offline_after: a reader that was not heard of for this long is offline (three missed heartbeats).
        registration: who may register which reader.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        offline_after: timedelta,
        registration: RegistrationRules | None = None,
    ) -> None:
        self._clock = clock
        self._offline_after = offline_after
        self._rules = registration or RegistrationRules()
        self._claims = Claims(self._rules)

    async def allowance(self, principal: Principal, *, user_id: str) -> int | None:
        """How many readers the owner's plan allows, for `register`: asked of another service, so outside of any session."""
        if self._rules.allowances is None or principal.kind is PrincipalKind.DEVICE:
            return None
        return await self._rules.allowances.max_devices(principal.acting_for(user_id))

    async def register(
        self,
        session: AsyncSession,
        principal: Principal,
        *,
        device_id: str,
        serial_number: str,
        firmware_version: str,
        user_id: str,
        claim_code: str = "",
        max_devices: int | None = None,
    ) -> Registration:
        """Bind a reader to its owner and issue its credential.

        A reader with a factory record is registered with the claim code that is shown on it. A reader without one is
        registered as unverified where the platform accepts such readers. The owner may register it again with
        the same serial number and needs no code: that issues a new credential and revokes the old one, for a reader that
        was reset or lost it. The code takes a reader over from somebody who has registered it without; from an owner
        who had it, it does not: that person removes it. On a development network, where the caller's word for the user is
        taken, a reader changes its owner without a code, too.

        Args:
            max_devices: what `allowance` has answered; None: no limit is known.
        Raises:
            DeviceFieldInvalid: an id, serial number or version that no reader has.
            DeviceClaimRefused: the caller has not proven to hold the reader, or it is another person's.
            TooManyClaims: too many were refused to this account.
            SerialNumberTaken: the owner's own reader has another serial number or another id.
            DeviceLimitReached: the owner's plan allows no further reader.
            Forbidden: a reader cannot register readers.
        """
        require_scope(principal, Scope.DEVICE_WRITE)
        if principal.kind is PrincipalKind.DEVICE:
            raise Forbidden("A person registers a device, with an access token.")
        owner = principal.acting_for(user_id)
        device_id = device_id or await self._claims.id_of(session, serial_number)
        _require(DEVICE_ID, device_id, field="device_id", rule="1 to 64 letters, digits and . _ : -")
        _require(SERIAL, serial_number, field="serial_number", rule="1 to 64 letters, digits and . _ / -")
        FirmwareVersion.parse(firmware_version)
        now = self._clock.now()
        asked = Device(
            device_id=device_id,
            owner_user_id=owner,
            serial_number=serial_number,
            name=serial_number,
            firmware_version=firmware_version,
            status=DeviceStatus.UNKNOWN,
            verified=False,
            registered_at=now,
        )
        device = await self._claims.claim(session, principal, asked, claim_code=claim_code, max_devices=max_devices)
        credential = await self._issue_credential(session, device)
        return Registration(device=device, credential=credential, registered_at=now)

    async def _issue_credential(self, session: AsyncSession, device: Device) -> str:
        now = self._clock.now()
        credentials = CredentialRepository(session)
        await credentials.revoke(device.device_id, at=now)
        secret = secrets.token_urlsafe(_CREDENTIAL_BYTES)
        await credentials.add(
            DeviceCredential(
                credential_id=new_id(), device_id=device.device_id, secret_hash=_hash(secret), issued_at=now
            )
        )
        return secret

    async def verify_credential(self, session: AsyncSession, *, device_id: str, credential: str) -> Device:
        """The reader that a credential belongs to.

        Raises:
            CredentialRefused: unknown reader, or not its credential.
        """
        found = await CredentialRepository(session).active_hash(device_id)
        # SHA-256 without salt or stretching is right here: the secret has 256 random bits. Compared also for unknown
        # readers, so that the time does not tell them apart.
        matches = hmac.compare_digest(_hash(credential), found[1] if found else _NO_HASH)
        if found is None or not matches:
            raise CredentialRefused
        return found[0]

    async def get(self, session: AsyncSession, principal: Principal, device_id: str) -> Device:
        """Raises: DeviceNotFound, Forbidden: see `require_access`."""
        device = await DeviceRepository(session).get(device_id)
        owner = UserId(device.owner_user_id) if device else None
        require_access(principal, DeviceId(device_id), owner, scope=Scope.DEVICE_READ, technicians=True)
        if device is None:
            raise DeviceNotFound(device_id)
        return device

    async def owner_of(self, session: AsyncSession, device_id: str) -> UserId | None:
        """Who registered the reader; None when nobody has. For the group's other services."""
        device = await DeviceRepository(session).get(device_id)
        return UserId(device.owner_user_id) if device else None

    async def owners_of(self, session: AsyncSession, device_ids: Collection[str]) -> dict[str, UserId]:
        """Who registered the readers; those that nobody has are missing."""
        found = await DeviceRepository(session).by_ids(device_ids)
        return {device_id: UserId(device.owner_user_id) for device_id, device in found.items()}

    async def visible(
        self, session: AsyncSession, principal: Principal, device_ids: Collection[str]
    ) -> dict[str, Device]:
        """Those of the named readers that exist and that the caller may see; for references from other subgraphs."""
        found = await DeviceRepository(session).by_ids(device_ids)
        return {device_id: device for device_id, device in found.items() if _may_see(principal, device)}

    async def list_owned(self, session: AsyncSession, principal: Principal, *, user_id: str) -> Sequence[Device]:
        """A person's readers, oldest registration first; a reader that asks sees itself."""
        require_scope(principal, Scope.DEVICE_READ)
        owned = await DeviceRepository(session).owned_by(principal.acting_for(user_id))
        if principal.kind is PrincipalKind.DEVICE:
            return [device for device in owned if device.device_id == principal.subject]
        return owned

    async def pages_owned(
        self, session: AsyncSession, principal: Principal, *, user_ids: Collection[str], page: PageRequest
    ) -> dict[str, Page[Device]]:
        """A page of readers for each person, oldest registration first.

        Raises:
            Forbidden: one of them is somebody else, or the caller is a reader.
        """
        require_scope(principal, Scope.DEVICE_READ)
        if principal.kind is PrincipalKind.DEVICE:
            raise Forbidden("A device cannot list its owner's devices; this needs an access token.")
        for user_id in user_ids:
            principal.acting_for(user_id)
        return await DeviceRepository(session).pages_of(user_ids, page)

    async def rename(self, session: AsyncSession, principal: Principal, *, device_id: str, name: str) -> Device:
        """Raises: DeviceFieldInvalid: an empty name, or one of more than 80 characters. Forbidden: not its owner."""
        device = await self._own_for_update(session, principal, device_id, by_person=True)
        device.name = validation.line(name, field="name", longest=MAX_NAME_LENGTH, error=_field_invalid)
        await session.flush()
        return device

    async def remove(self, session: AsyncSession, principal: Principal, *, device_id: str) -> None:
        """Remove a reader: its credential stops working, and its next owner can register it.

        Raises:
            DeviceNotFound, Forbidden: it is not registered, or the caller is not its owner; its own credential is not enough.
        """
        device = await self._own_for_update(session, principal, device_id, by_person=True)
        await DeviceRepository(session).remove(device.device_id)

    async def drop(self, session: AsyncSession, user_id: UserId, until: datetime) -> None:
        """Remove the readers that were registered for a person until a moment, with their credentials, commands and field
        calibrations: an unproven holder of the account registered them. Who holds them can register them again.
        """
        devices = DeviceRepository(session)
        for device in await devices.registered_until_for_update(user_id, until):
            if self._rules.field_calibrations is not None:
                await self._rules.field_calibrations.forget(session, device.device_id)
            await devices.remove(device.device_id)

    async def set_status(self, session: AsyncSession, principal: Principal, *, device_id: str, status: str) -> Device:
        """Set a reader's state; it counts as a sign of life.

        Args:
            status: a state's name, in any case, with or without `DEVICE_STATUS_` before it.
        Raises:
            DeviceFieldInvalid: no such state.
        """
        parsed = parse_status(status)
        device = await self._own_for_update(session, principal, device_id)
        device.status = parsed
        device.last_heard_at = self._clock.now()
        await session.flush()
        return device

    async def record_heartbeat(
        self, session: AsyncSession, principal: Principal, *, device_id: str, beat: Heartbeat
    ) -> Device:
        """Take note of what a reader says of itself.

        Raises:
            DeviceFieldInvalid: charge not within 0 to 100, signal not within -127 to 100.
            DeviceNotFound, Forbidden: see `require_access`.
        """
        if not 0 <= beat.battery_percent <= 100:
            raise DeviceFieldInvalid(
                f"battery_percent is {beat.battery_percent}; it must be between 0 and 100.", field="battery_percent"
            )
        low, high = SIGNAL_RANGE
        if not low <= beat.signal_strength <= high:
            raise DeviceFieldInvalid(
                f"signal_strength is {beat.signal_strength}; it must be between {low} and {high}.",
                field="signal_strength",
            )
        device = await DeviceRepository(session).record_heartbeat(device_id, beat, at=self._clock.now())
        owner = UserId(device.owner_user_id) if device else None
        require_access(principal, DeviceId(device_id), owner, scope=Scope.DEVICE_WRITE, technicians=False)
        if device is None:
            raise DeviceNotFound(device_id)
        return device

    async def mark_silent_offline(self, session: AsyncSession) -> Sequence[str]:
        """Ids of up to 500 readers that have fallen silent; several processes may do this at once."""
        heard_before = self._clock.now() - self._offline_after
        return await DeviceRepository(session).mark_silent_offline(heard_before=heard_before, limit=SWEEP_SIZE)

    async def send_command(
        self,
        session: AsyncSession,
        principal: Principal,
        *,
        device_id: str,
        command_type: CommandType,
        payload: Mapping[str, object],
    ) -> QueuedCommand:
        """Queue a command; an open stream delivers it at once, otherwise the next one does, within 24 hours.

        Raises:
            DeviceFieldInvalid: arguments of more than 4 KiB.
            TooManyCommands: 100 commands wait already.
        """
        if principal.kind is PrincipalKind.DEVICE:
            raise Forbidden("A reader takes commands; it sends none.")
        device = await self._own_for_update(session, principal, device_id)
        if len(orjson.dumps(payload)) > MAX_COMMAND_PAYLOAD_BYTES:
            raise DeviceFieldInvalid(f"payload exceeds {MAX_COMMAND_PAYLOAD_BYTES} bytes.", field="payload")
        now = self._clock.now()
        commands = CommandRepository(session)
        if await commands.count_pending(device.device_id, now=now) >= MAX_PENDING_COMMANDS:
            raise TooManyCommands(f"{MAX_PENDING_COMMANDS} commands wait for this device already.")
        command = QueuedCommand(
            command_id=new_id(),
            device_id=device.device_id,
            command_type=command_type,
            payload=dict(payload),
            requested_by=principal.subject,
            queued_at=now,
            expires_at=now + COMMAND_TTL,
        )
        await commands.queue(command)
        return command

    async def deliver_commands(
        self, session: AsyncSession, device_id: DeviceId, *, sent: Collection[str]
    ) -> Sequence[QueuedCommand]:
        """What waits for a reader, less what its open stream has `sent`; oldest first. The stream was authorised."""
        return await CommandRepository(session).deliver(device_id, sent=sent, now=self._clock.now())

    async def acknowledge_commands(self, session: AsyncSession, command_ids: Collection[str]) -> None:
        """Note that commands have arrived: they are not delivered again."""
        if command_ids:
            await CommandRepository(session).acknowledge(command_ids, at=self._clock.now())

    async def cartridge_inserted(
        self,
        session: AsyncSession,
        principal: Principal,
        *,
        device_id: str,
        uid: str,
        category: int,
        type_index: int,
        lot_id: str,
    ) -> None:
        """Note which cartridge a reader holds. Another one than before is told as `cartridge.replaced`."""
        device = await self._own_for_update(session, principal, device_id)
        if device.cartridge_uid == uid:
            return
        if device.cartridge_uid is not None:
            await Outbox(session).add(
                CartridgeReplaced(
                    device_id=device.device_id,
                    user_id=device.owner_user_id,
                    cartridge_uid=uid,
                    cartridge_category=category,
                    cartridge_type_index=type_index,
                    lot_id=lot_id,
                    previous_cartridge_uid=device.cartridge_uid,
                    previous_cartridge_category=device.cartridge_category or 0,
                    previous_cartridge_type_index=device.cartridge_type_index or 0,
                    previous_lot_id=device.cartridge_lot_id or "",
                    replaced_at=self._clock.now(),
                )
            )
        device.cartridge_uid = uid
        device.cartridge_category = category
        device.cartridge_type_index = type_index
        device.cartridge_lot_id = lot_id
        await session.flush()

    async def record_calibration(self, session: AsyncSession, *, device_id: str, at: datetime) -> None:
        """Note when a reader was calibrated; nothing happens for one that is not registered (yet)."""
        await DeviceRepository(session).record_calibration(device_id, at=at)

    async def _own_for_update(
        self, session: AsyncSession, principal: Principal, device_id: str, *, by_person: bool = False
    ) -> Device:
        """A reader that the caller may act on, locked.

        Args:
            by_person: whether only its owner may, and not the reader itself: its credential can be extracted from the hardware.
        """
        if by_person and principal.kind is PrincipalKind.DEVICE:
            raise Forbidden("This needs the owner's access token; a device's credential is not enough.")
        device = await DeviceRepository(session).get_for_update(device_id)
        owner = UserId(device.owner_user_id) if device else None
        require_access(principal, DeviceId(device_id), owner, scope=Scope.DEVICE_WRITE, technicians=False)
        if device is None:
            raise DeviceNotFound(device_id)
        return device


def parse_status(text: str) -> DeviceStatus:
    """Raises: DeviceFieldInvalid: no state of a reader that can be set has this name."""
    name = text[:64].strip().lower().removeprefix("device_status_")
    settable = [status for status in DeviceStatus if status is not DeviceStatus.UNKNOWN]
    if name not in settable:
        raise DeviceFieldInvalid(f"status is {text[:40]!r}; it must be one of {', '.join(settable)}.", field="status")
    return DeviceStatus(name)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _may_see(principal: Principal, device: Device) -> bool:
    try:
        require_access(
            principal,
            DeviceId(device.device_id),
            UserId(device.owner_user_id),
            scope=Scope.DEVICE_READ,
            technicians=True,
        )
    except Forbidden:
        return False
    return True


def _field_invalid(field: str, rule: str) -> DeviceFieldInvalid:
    return DeviceFieldInvalid(f"{field} {rule}.", field=field)


def _require(pattern: re.Pattern[str], value: str, *, field: str, rule: str) -> None:
    if not pattern.match(value):
        raise DeviceFieldInvalid(f"{field} is {value[:64]!r}; it must have {rule}.", field=field)
