"""Starting a session: what is checked, and in which order things become durable.

1. Reader, cartridge, its permission and the calibration are asked for, as much at once as possible.
2. The session is committed as `starting`, with everything that its results depend on. From here its id is fixed.
3. One use is taken off the cartridge for that id: repeating this takes nothing more.
4. The session is committed as `active`, and its id is told.

A cartridge that the platform does not know has no uses to take: its session is committed as `active` in step 2.

So a use is never taken without a session that it belongs to, and never twice for one. Should the process die (or the
cartridge's service not answer) between 2 and 4, the caller has been told nothing: a use may have been taken for a session
that nobody knows. The next start by the same person with the same reader and cartridge finds that session and goes on
with step 3 under its id, so the use is not lost. A start that nobody takes up again for an hour is given up.

A caller that names its start with a key may repeat it: it gets the session that it has, and no other use is taken.

An unreachable service never makes a session unverified: the start fails, and can be repeated.

A session is verified when its reader is registered and its cartridge is verified. With a cartridge that was
read and is not verified it has the type that the tag names and the coefficients of the reader's calibration or the
defaults, never those of the tag. With an unknown reader or cartridge it has neither type nor calibration.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.errors import AppError, InvalidInput, TimedOut, Unavailable
from domain.ids import UserId, new_id
from domain.measurement.measurement.access import user_of
from domain.measurement.measurement.correction import FloatArray
from domain.measurement.measurement.errors import (
    CalibrationUnitUnknown,
    CartridgeMismatch,
    CartridgeRefused,
    DeviceForeign,
    StartInProgress,
    UnverifiedRefused,
)
from domain.measurement.measurement.models import (
    ARBITRARY_UNIT,
    UNKNOWN_TYPE,
    Coefficients,
    SessionRow,
    SessionStatus,
    identity_coefficients,
)
from domain.measurement.measurement.ports import (
    Hardware,
    KnownCalibration,
    KnownCartridge,
    KnownDevice,
    KnownType,
    Permission,
    Transactions,
)
from domain.measurement.measurement.quality import UNKNOWN_RANGE
from domain.measurement.measurement.repository import SessionRepository
from domain.principal import Principal, PrincipalKind, Scope

ATTEMPT = timedelta(seconds=15)
"""How long an attempt may take before another one may go on with its session; longer than all its deadlines."""

GIVE_UP_AFTER = timedelta(hours=1)

_MAX_ID = 128


@dataclass(frozen=True, slots=True)
class StartRequest:
    """What a reader or an app asks for. Codes of 0 mean: as the cartridge says; an empty user: the caller.

    Args:
        key: names this start of this reader for this person, so that it can be repeated; empty: each call starts one.
    """

    device_id: str
    cartridge_uid: str
    user_id: str = ""
    category_code: int = 0
    type_index: int = 0
    key: str = ""


@dataclass(frozen=True, slots=True)
class _Checked:
    """The answers of the hardware; None = it does not know."""

    device: KnownDevice | None
    cartridge: KnownCartridge | None
    calibration: KnownCalibration | None
    required_channels: int | None

    @property
    def known(self) -> bool:
        return self.device is not None and self.cartridge is not None

    @property
    def verified(self) -> bool:
        return self.known and self.cartridge is not None and self.cartridge.verified


class SessionStarter:
    """The command that starts sessions.

    Args:
        allow_unverified: whether a reader or cartridge may be unknown.
        idle_timeout: how long a session lives without a signal.
    """

    def __init__(
        self,
        hardware: Hardware,
        transactions: Transactions,
        clock: Clock,
        *,
        default_alpha: float,
        allow_unverified: bool,
        idle_timeout: timedelta,
    ) -> None:
        self._hardware = hardware
        self._transactions = transactions
        self._clock = clock
        self._default_alpha = default_alpha
        self._allow_unverified = allow_unverified
        self._idle_timeout = idle_timeout

    async def start(self, principal: Principal, request: StartRequest) -> SessionRow:
        """An active session. This command makes its transactions itself, for the reasons above.

        Raises:
            InvalidInput: an id is missing or too long, or a code is not a byte.
            DeviceForeign: the reader is another person's, or the credential another reader's.
            CartridgeMismatch: the cartridge is of another type than the request says.
            CartridgeRefused, WrongState: the cartridge is expired, used up or not in the person's plan.
            UnverifiedRefused: reader or cartridge are unknown, and that is not allowed here.
            StartInProgress: the same start, by its key, is being worked on.
            Unavailable, TimedOut: it cannot be checked now.
        """
        user_id = user_of(principal, request.user_id, Scope.MEASUREMENT_WRITE)
        _check_request(request)
        if principal.kind is PrincipalKind.DEVICE:
            if principal.subject.casefold() != request.device_id.casefold():
                raise DeviceForeign("A reader can start sessions only for itself.", device_id=request.device_id)
            request = replace(request, device_id=principal.subject)
        if request.key:
            async with self._transactions() as session:
                known = await self._known(session, user_id, request)
            if known is not None and known.status != SessionStatus.STARTING:
                return known
        checked = await self._check(user_id, request)
        if checked.device is not None:  # ids are compared without case: kept as it is registered
            request = replace(request, device_id=checked.device.device_id)
        async with self._transactions() as session:
            row = await self._begin(session, user_id, request, checked)
        if row.status != SessionStatus.STARTING:
            return row
        await self._charge(row)
        async with self._transactions() as session:
            return await self._open(session, row.id)

    async def _check(self, user_id: UserId, request: StartRequest) -> _Checked:
        if request.category_code and request.type_index:
            codes = (request.category_code, request.type_index)
            device, cartridge, permission, calibration = await asyncio.gather(
                self._hardware.device(request.device_id),
                self._hardware.cartridge(request.cartridge_uid, user_id=user_id),
                self._permission(user_id, request, codes),
                self._calibration(request, codes),
            )
        else:
            device, cartridge = await asyncio.gather(
                self._hardware.device(request.device_id),
                self._hardware.cartridge(request.cartridge_uid, user_id=user_id),
            )
            permission, calibration = Permission(), None
            if cartridge is not None:
                codes = (cartridge.type.category_code, cartridge.type.type_index)
                permission, calibration = await asyncio.gather(
                    self._permission(user_id, request, codes), self._calibration(request, codes)
                )
        if device is not None and device.owner_user_id != user_id:
            raise DeviceForeign("The reader is registered to another user.", device_id=request.device_id)
        if cartridge is not None:
            _check_type(request, cartridge.type)
            if permission.refusal is not None:
                raise CartridgeRefused(permission.refusal, permission.message, cartridge_uid=cartridge.cartridge_uid)
        checked = _Checked(device, cartridge, calibration, permission.required_channels)
        if not checked.known and not self._allow_unverified:
            unknown = "reader is not registered" if device is None else "cartridge has never been read"
            raise UnverifiedRefused(f"The {unknown}: register the reader and read the cartridge first.")
        return checked

    async def _permission(self, user_id: UserId, request: StartRequest, codes: tuple[int, int]) -> Permission:
        return await self._hardware.permission(
            user_id=user_id, cartridge_uid=request.cartridge_uid, category_code=codes[0], type_index=codes[1]
        )

    async def _calibration(self, request: StartRequest, codes: tuple[int, int]) -> KnownCalibration | None:
        return await self._hardware.calibration(
            device_id=request.device_id, category_code=codes[0], type_index=codes[1]
        )

    async def _known(self, session: AsyncSession, user_id: UserId, request: StartRequest) -> SessionRow | None:
        """The session of the key, locked: one that was told of, or one whose start has broken off."""
        row = await SessionRepository(session).find_start(user_id=user_id, device_id=request.device_id, key=request.key)
        if row is None:
            return None
        if row.cartridge_uid.casefold() != request.cartridge_uid.casefold():
            raise InvalidInput("The idempotency key was used for a start with another cartridge.")
        if row.status == SessionStatus.STARTING and row.idle_deadline > self._clock.now():
            raise StartInProgress
        return row

    async def _begin(
        self, session: AsyncSession, user_id: UserId, request: StartRequest, checked: _Checked
    ) -> SessionRow:
        """A session that is starting: a new one, or one whose start broke off, brought up to date.

        It is active already when there is no use to take. With a key, it may be one that another call has meanwhile started.
        """
        now = self._clock.now()
        sessions = SessionRepository(session)
        # The registry has one spelling for an id; what it does not know is kept as it was brought.
        uid = checked.cartridge.cartridge_uid if checked.cartridge is not None else request.cartridge_uid
        row = await self._known(session, user_id, request) if request.key else None
        if row is not None and row.status != SessionStatus.STARTING:
            return row  # another call with the key was faster
        if row is None:
            row = await sessions.find_unfinished_start(
                user_id=user_id, device_id=request.device_id, cartridge_uid=uid, now=now
            )
        if row is None:
            row = SessionRow(
                id=new_id(),
                user_id=user_id,
                device_id=request.device_id,
                cartridge_uid=uid,
                status=SessionStatus.STARTING.value,
            )
            sessions.add(row)
        row.start_key = request.key or None
        row.started_at = now
        row.idle_deadline = now + ATTEMPT
        self._describe(row, request, checked)
        if not row.cartridge_known:  # no use to take, so nothing can break off between the two commits
            row.status = SessionStatus.ACTIVE.value
            row.idle_deadline = now + self._idle_timeout
        await session.flush()
        return row

    def _describe(self, row: SessionRow, request: StartRequest, checked: _Checked) -> None:
        """Copy into the session what its results depend on."""
        kind = checked.cartridge.type if checked.cartridge is not None and checked.known else None
        calibration = checked.calibration if checked.known else None
        if calibration is not None:
            # The numbers of a calibration are in its own unit, and limits with it: the type may be in another one since.
            kind = calibration.type
            if kind is None:
                raise CalibrationUnitUnknown(device_id=request.device_id)
        row.verified = checked.verified
        row.calibrated = calibration is not None
        row.cartridge_known = checked.cartridge is not None
        row.category_code = kind.category_code if kind else request.category_code
        row.type_index = kind.type_index if kind else request.type_index
        row.type_name_en = kind.name_en if kind else UNKNOWN_TYPE
        row.type_name_ko = kind.name_ko if kind else "알 수 없음"
        row.unit = kind.unit if kind and row.calibrated else ARBITRARY_UNIT
        row.loinc_code = kind.loinc_code if kind else ""
        row.required_channels = (checked.required_channels or kind.required_channels or None) if kind else None
        row.reference_low = kind.reference_low if kind else None
        row.reference_high = kind.reference_high if kind else None
        row.critical_low = kind.critical_low if kind else None
        row.critical_high = kind.critical_high if kind else None
        # A signal without calibration is in arbitrary units, of which no range is known.
        within = kind.measuring if kind and row.calibrated else UNKNOWN_RANGE
        row.measuring_low, row.measuring_high = within.low, within.high
        row.min_confidence, row.decimal_places = within.min_confidence, within.decimal_places
        coefficients = self._coefficients(checked)
        if row.required_channels is not None and not coefficients.fits(row.required_channels):
            raise InvalidInput("The reader's calibration is for another number of channels; calibrate it again.")
        row.alpha = coefficients.alpha
        row.temp_coefficient = coefficients.temp
        row.humidity_coefficient = coefficients.humidity
        row.channel_gains = _packed(coefficients.gains)
        row.channel_offsets = _packed(coefficients.offsets)

    def _coefficients(self, checked: _Checked) -> Coefficients:
        """With a known reader and cartridge: each from the cartridge, else the calibration, else the default."""
        cartridge, calibration = checked.cartridge, checked.calibration
        if not checked.known or cartridge is None:
            return identity_coefficients(self._default_alpha)
        alpha, temp, humidity = cartridge.alpha, cartridge.temp_coefficient, cartridge.humidity_coefficient
        if calibration is None:
            return identity_coefficients(
                self._default_alpha if alpha is None else alpha, temp=temp or 0.0, humidity=humidity or 0.0
            )
        if alpha is None:
            alpha = self._default_alpha if calibration.alpha is None else calibration.alpha
        return Coefficients(
            alpha=alpha,
            temp=calibration.temp_coefficient if temp is None else temp,
            humidity=calibration.humidity_coefficient if humidity is None else humidity,
            gains=calibration.gains,
            offsets=calibration.offsets,
        )

    async def _charge(self, row: SessionRow) -> None:
        """Take the use. A refusal gives the session up; no answer leaves it to the next attempt."""
        try:
            await self._hardware.record_use(
                user_id=row.user_id,
                session_id=row.id,
                cartridge_uid=row.cartridge_uid,
                category_code=row.category_code,
                type_index=row.type_index,
            )
        except AppError as error:
            unknown = isinstance(error, (Unavailable, TimedOut))
            async with self._transactions() as session:
                starting = await SessionRepository(session).get_starting(row.id)
                if starting is not None:
                    starting.idle_deadline = self._clock.now()
                    starting.status = (SessionStatus.STARTING if unknown else SessionStatus.ABANDONED).value
                    if not unknown:
                        starting.start_key = None  # repeated, it is refused again, or starts anew
            raise

    async def _open(self, session: AsyncSession, session_id: str) -> SessionRow:
        now = self._clock.now()
        row = await SessionRepository(session).open(session_id, at=now, idle_deadline=now + self._idle_timeout)
        if row is None:  # the attempt took so long that another one has gone on with the session
            raise TimedOut("The session could not be started in time; start it again.")
        return row


def _check_request(request: StartRequest) -> None:
    for field, value in (("device_id", request.device_id), ("cartridge_id", request.cartridge_uid)):
        if not value.strip():
            raise InvalidInput(f"{field} is empty.", field=field)
        if len(value) > _MAX_ID or not value.isprintable():
            raise InvalidInput(f"{field} is not an id: at most {_MAX_ID} printable characters.", field=field)
    if len(request.key) > _MAX_ID or not request.key.isprintable():
        raise InvalidInput(f"The idempotency key is not one: at most {_MAX_ID} printable characters.")
    if len(request.user_id) > _MAX_ID:
        raise InvalidInput("user_id is too long.", field="user_id")
    codes = (("cartridge_category", request.category_code), ("cartridge_type_index", request.type_index))
    for field, code in codes:
        if not 0 <= code <= 0xFF:
            raise InvalidInput(f"{field} is {code}; it must be between 0 and 255.", field=field)


def _check_type(request: StartRequest, kind: KnownType) -> None:
    wrong_category = request.category_code not in (0, kind.category_code)
    wrong_type = request.type_index not in (0, kind.type_index)
    if wrong_category or wrong_type:
        raise CartridgeMismatch(
            f"The cartridge is of category {kind.category_code}, type {kind.type_index}, not as requested.",
            field="cartridge_category" if wrong_category else "cartridge_type_index",
        )


def _packed(row: FloatArray) -> bytes:
    return np.asarray(row, dtype="<f8").tobytes()
