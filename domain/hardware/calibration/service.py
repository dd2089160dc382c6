"""The rules of calibration: what replaces what, what a field fit changes, and how long either holds.

A factory calibration replaces everything before it; a field calibration replaces earlier field calibrations and stands
on the one in force, so that the factory's is there again when the field's has expired.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.hardware.access import require_access, require_scope
from domain.hardware.calibration.errors import (
    CalibrationFitPoor,
    CalibrationInvalid,
    CalibrationNotFound,
    CalibrationUnitOutdated,
)
from domain.hardware.calibration.events import CalibrationCompleted
from domain.hardware.calibration.least_squares import MAX_POINTS, MIN_POINTS, Line, fit_line
from domain.hardware.calibration.models import (
    Calibration,
    CalibrationKind,
    CalibrationModel,
    CalibrationStatus,
    StatusReport,
)
from domain.hardware.calibration.ports import ReaderOwners, TypeUnits
from domain.hardware.calibration.repository import CalibrationRepository, LotRepository
from domain.hardware.codes import CHANNEL_COUNTS, DEFAULT_VALIDITY_DAYS, CartridgeCode, VersionedUnit
from domain.hardware.ranges import alpha_fault, coefficient_fault, gains_fault, offsets_fault
from domain.ids import DeviceId, UserId, new_id
from domain.messaging import Outbox
from domain.paging import Page, PageRequest, page_limit
from domain.principal import Principal, PrincipalKind, Role, Scope

FIELD_VALIDITY_DAYS = 90
"""A field calibration holds for at most this long, and never longer than its model says."""

EXPIRING_WITHIN = timedelta(days=7)
MAX_FIELD_GAIN = 1.5
MAX_FIELD_OFFSET_SHARE = 0.2
"""How much all field calibrations together may change: a factor, and an offset as a share of the largest reference. A reader that
needs more is broken, or its references are wrong. Engineering choices: ISO 15197 allows a sound glucose reader 15 %."""
TEMPERATURE_RANGE_C = (-40.0, 85.0)
MAX_TEXT_LENGTH = 200
MAX_UNIT_LENGTH = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class FactoryValues:
    """What the factory measured; see `models` for what the values mean.

    Args:
        alpha: 0 means the default of the type's model.
        channel_offsets, channel_gains: one entry for all channels, or one a channel; empty means 0 and 1.
        unit: of the values that they give (UCUM); empty: the type's, while it has had but one.
    """

    alpha: float
    channel_offsets: Sequence[float]
    channel_gains: Sequence[float]
    temp_coefficient: float
    humidity_coefficient: float
    reference_standard: str
    calibrated_by: str
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencePoints:
    """What a reader showed (`measured`) where the truth was known (`reference`), both in `unit`.

    Args:
        unit: UCUM; empty: the type's, while it has had but one.
    """

    reference: Sequence[float]
    measured: Sequence[float]
    temp_c: float
    humidity_pct: float
    unit: str = ""


class CalibrationService:
    """Commands and queries about calibrations.

    Args:
        default_alpha: for types without a model (`DEFAULT_ALPHA`).
    """

    def __init__(self, clock: Clock, readers: ReaderOwners, types: TypeUnits, *, default_alpha: float) -> None:
        self._clock = clock
        self._readers = readers
        self._types = types
        self._default_alpha = default_alpha

    async def register_factory(
        self,
        session: AsyncSession,
        principal: Principal,
        *,
        device_id: str,
        code: CartridgeCode,
        values: FactoryValues,
    ) -> Calibration:
        """Record what the factory measured; the reader need not be registered yet.

        Raises:
            Forbidden: without the scope calibration:factory.
            CalibrationInvalid: values that are not finite, out of range, or for another number of channels; another unit
                than the type's, or none where the type has had several.
        """
        principal.require_scope(Scope.CALIBRATION_FACTORY)
        _check_device_id(device_id)
        _check_factory(values)
        unit = _unit(values.unit, await self._types.unit_of(session, code))
        calibrations = CalibrationRepository(session)
        await calibrations.lock(device_id, code)
        model = await calibrations.model_for(code)
        now = self._clock.now()
        validity_days = model.validity_days if model else DEFAULT_VALIDITY_DAYS
        calibration = Calibration(
            calibration_id=new_id(),
            device_id=device_id,
            category=code.category,
            type_index=code.type_index,
            kind=CalibrationKind.FACTORY,
            alpha=values.alpha or self._alpha_of(model),
            channel_offsets=list(values.channel_offsets) or [0.0],
            channel_gains=list(values.channel_gains) or [1.0],
            temp_coefficient=values.temp_coefficient,
            humidity_coefficient=values.humidity_coefficient,
            unit=unit,
            accuracy_score=1.0,  # by definition: field fits are judged against it
            reference_standard=values.reference_standard.strip(),
            calibrated_by=values.calibrated_by.strip() or principal.subject,
            calibrated_at=now,
            expires_at=now + timedelta(days=validity_days),
        )
        await calibrations.supersede(device_id, code, kinds=tuple(CalibrationKind), at=now)
        return await self._complete(session, calibration, code)

    async def perform_field(
        self,
        session: AsyncSession,
        principal: Principal,
        *,
        device_id: str,
        user_id: str,
        code: CartridgeCode,
        points: ReferencePoints,
    ) -> Calibration:
        """Fit a line to reference points and put it on top of the calibration in force.

        With `value = gains * x + offsets` in force and `reference = g * value + o` fitted, the new calibration has
        `g * gains` and `g * offsets + o`; alpha and coefficients are inherited.

        The same points again change nothing: what they corrected is corrected, and a repeated call must not correct it twice.

        Raises:
            Forbidden, DeviceNotFound: the reader is not the caller's, or nobody registered it.
            CalibrationInvalid: fewer than 3 points, unequal numbers, values that are not finite or do not differ; or points
                that an earlier field calibration was fitted to.
            CalibrationFitPoor: R2 or a residual is beyond its limit, or all field calibrations together change what the
                factory has calibrated by more than theirs; the message names it.
            CalibrationUnitOutdated: the calibration in force is in another unit than the type is now.
        """
        user = principal.acting_for(user_id)
        await self._require_access(session, principal, device_id, scope=Scope.DEVICE_WRITE, technicians=False)
        line = _fit(points)
        unit = _unit(points.unit, await self._types.unit_of(session, code))
        calibrations = CalibrationRepository(session)
        await calibrations.lock(device_id, code)
        now = self._clock.now()
        current = await calibrations.in_force(device_id, code, now=now)
        if current is not None and current.unit != unit:
            # Which unit the points are in would be a guess: what the reader showed is in that of the calibration.
            raise CalibrationUnitOutdated(
                f"The calibration in force is in {current.unit or 'an unknown unit'}, the type in {unit or 'none'}: "
                "have the reader calibrated by the factory first."
            )
        factory = await calibrations.factory_in_force(device_id, code, now=now)
        repeated = await calibrations.fitted_to(
            device_id,
            code,
            reference=points.reference,
            measured=points.measured,
            unit=unit,
            since=factory.calibrated_at if factory is not None else None,
        )
        if repeated is not None:
            if current is not None and repeated.calibration_id == current.calibration_id:
                return current
            raise CalibrationInvalid(
                f"An earlier calibration ({repeated.calibrated_at:%Y-%m-%d %H:%M} UTC) was fitted to these points; measure "
                "the references again.",
                field="measured_values",
            )
        model = await calibrations.model_for(code)
        validity_days = min(FIELD_VALIDITY_DAYS, model.validity_days if model else FIELD_VALIDITY_DAYS)
        offsets = [line.gain * offset + line.offset for offset in (current.channel_offsets if current else [0.0])]
        gains = [line.gain * gain for gain in (current.channel_gains if current else [1.0])]
        if (fault := gains_fault(gains) or offsets_fault(offsets)) is not None:
            raise CalibrationFitPoor(f"On top of the calibration in force, {fault}.", gain=f"{line.gain:.6g}")
        _require_small(gains, offsets, factory, points)
        calibration = Calibration(
            calibration_id=new_id(),
            device_id=device_id,
            category=code.category,
            type_index=code.type_index,
            kind=CalibrationKind.FIELD,
            alpha=current.alpha if current else self._alpha_of(model),
            channel_offsets=offsets,
            channel_gains=gains,
            temp_coefficient=current.temp_coefficient if current else 0.0,
            humidity_coefficient=current.humidity_coefficient if current else 0.0,
            unit=unit,
            accuracy_score=line.r_squared,
            max_residual=line.max_residual,
            reference_values=list(points.reference),
            measured_values=list(points.measured),
            ambient_temp_c=points.temp_c,
            ambient_humidity_pct=points.humidity_pct,
            based_on=current.calibration_id if current else None,
            reference_standard=f"{len(points.reference)} reference points",
            calibrated_by=user,
            calibrated_at=now,
            expires_at=now + timedelta(days=validity_days),
        )
        await calibrations.supersede(device_id, code, kinds=(CalibrationKind.FIELD, CalibrationKind.AUTO), at=now)
        return await self._complete(session, calibration, code)

    async def _complete(self, session: AsyncSession, calibration: Calibration, code: CartridgeCode) -> Calibration:
        await CalibrationRepository(session).add(calibration)
        await LotRepository(session).clear_check(calibration.device_id, code)
        await Outbox(session).add(CalibrationCompleted.of(calibration))
        return calibration

    async def in_force(
        self, session: AsyncSession, principal: Principal, *, device_id: str, code: CartridgeCode
    ) -> Calibration:
        """The calibration to measure with: the newest that is neither superseded nor expired.

        Raises:
            CalibrationNotFound: there is none.
        """
        await self._require_access(session, principal, device_id)
        found = await CalibrationRepository(session).in_force(device_id, code, now=self._clock.now())
        if found is None:
            raise CalibrationNotFound(f"No calibration of {device_id} for type {code} is in force.")
        return found

    async def unit_of(self, session: AsyncSession, calibration_id: str) -> str | None:
        """The unit of a calibration, for the platform's own services; None when it is not known.

        Raises:
            CalibrationNotFound: there is no such calibration.
        """
        found = (await CalibrationRepository(session).by_ids([calibration_id])).get(calibration_id)
        if found is None:
            raise CalibrationNotFound("There is no calibration with this id.")
        return found.unit

    async def history(
        self, session: AsyncSession, principal: Principal, *, device_id: str, limit: int, offset: int
    ) -> tuple[Sequence[Calibration], int]:
        """A page of a reader's calibrations of all types, newest first, and how many there are."""
        await self._require_access(session, principal, device_id)
        limit, offset = page_limit(limit, offset)
        return await CalibrationRepository(session).history(device_id, limit=limit, offset=offset)

    async def status(
        self, session: AsyncSession, principal: Principal, *, device_id: str, code: CartridgeCode
    ) -> StatusReport:
        """Whether a reader needs calibration: it has none, it has expired, or the cartridges are of another lot."""
        await self._require_access(session, principal, device_id)
        now = self._clock.now()
        calibrations = CalibrationRepository(session)
        current = await calibrations.in_force(device_id, code, now=now)
        newest = current or await calibrations.newest(device_id, code)
        if newest is None:
            return StatusReport(CalibrationStatus.NEEDED, device_id, None, 0, lot_changed=False)
        lot = await LotRepository(session).get(device_id, code)
        lot_changed = lot is not None and lot.check_needed_since is not None
        status = self.status_of(newest)
        if lot_changed and status is not CalibrationStatus.EXPIRED:
            status = CalibrationStatus.NEEDED
        days = (newest.expires_at - now) // timedelta(days=1)
        return StatusReport(status, device_id, newest, days, lot_changed=lot_changed)

    def status_of(self, calibration: Calibration) -> CalibrationStatus:
        """Whether a calibration holds at this moment, by its time alone; one that was superseded has expired."""
        now = self._clock.now()
        ended = calibration.superseded_at is not None and calibration.superseded_at <= now
        if ended or calibration.expires_at <= now:
            return CalibrationStatus.EXPIRED
        near = calibration.expires_at - now <= EXPIRING_WITHIN
        return CalibrationStatus.EXPIRING if near else CalibrationStatus.VALID

    async def models(self, session: AsyncSession) -> Sequence[CalibrationModel]:
        """How readers are calibrated, by category and type."""
        return await CalibrationRepository(session).models()

    async def note_cartridge_lot(
        self, session: AsyncSession, *, device_id: str, code: CartridgeCode, lot_id: str, at: datetime
    ) -> bool:
        """Note which lot of a type a reader uses; True when that calls for a check because the lot has changed.

        Tags without a lot say nothing. An event that arrives late never undoes a newer one.
        """
        if not lot_id:
            return False
        lot = await LotRepository(session).ensure_for_update(device_id, code, lot_id=lot_id, at=at)
        if lot.seen_at > at:
            return False
        changed = lot.lot_id != lot_id
        lot.lot_id = lot_id
        lot.seen_at = at
        if changed:
            lot.check_needed_since = at
        await session.flush()
        return changed

    async def pages(
        self, session: AsyncSession, principal: Principal, *, device_ids: Collection[str], page: PageRequest
    ) -> dict[str, Page[Calibration]]:
        """A page of calibrations for each reader that the caller may see; the others are missing."""
        visible = await self._visible(session, principal, device_ids)
        return await CalibrationRepository(session).pages_of(visible, page)

    async def many_in_force(
        self, session: AsyncSession, principal: Principal, wanted: Collection[tuple[str, CartridgeCode]]
    ) -> dict[tuple[str, CartridgeCode], Calibration]:
        """What is in force for pairs of reader and type; pairs without one, or not visible, are missing."""
        visible = await self._visible(session, principal, {device_id for device_id, _ in wanted})
        allowed = [(device_id, code) for device_id, code in wanted if device_id in visible]
        return await CalibrationRepository(session).newest_in_force(allowed, now=self._clock.now())

    async def by_ids(
        self, session: AsyncSession, principal: Principal, calibration_ids: Collection[str]
    ) -> dict[str, Calibration]:
        """Those of the calibrations that exist and that the caller may see."""
        found = await CalibrationRepository(session).by_ids(calibration_ids)
        visible = await self._visible(session, principal, {c.device_id for c in found.values()})
        return {key: calibration for key, calibration in found.items() if calibration.device_id in visible}

    async def _visible(
        self, session: AsyncSession, principal: Principal, device_ids: Collection[str]
    ) -> Collection[str]:
        principal.require_authenticated()
        if principal.has_scope(Scope.CALIBRATION_FACTORY):
            return device_ids
        require_scope(principal, Scope.DEVICE_READ)
        if principal.role is Role.ADMIN:
            return device_ids
        if principal.kind is PrincipalKind.DEVICE:
            return [device_id for device_id in device_ids if device_id == principal.subject]
        owners = await self._readers.owners_of(session, device_ids)
        return [device_id for device_id in device_ids if owners.get(device_id) == principal.user_id]

    async def _require_access(
        self,
        session: AsyncSession,
        principal: Principal,
        device_id: str,
        *,
        scope: Scope = Scope.DEVICE_READ,
        technicians: bool = True,
    ) -> None:
        _check_device_id(device_id)
        principal.require_authenticated()
        owner: UserId | None = None
        if not principal.is_trusted:
            owner = await self._readers.owner_of(session, device_id)
        require_access(principal, DeviceId(device_id), owner, scope=scope, technicians=technicians)

    def _alpha_of(self, model: CalibrationModel | None) -> float:
        return model.default_alpha if model else self._default_alpha


def _unit(given: str, known: VersionedUnit | None) -> str | None:
    """The unit of a new calibration; None when the type is not registered and the caller names none."""
    if len(given) > MAX_UNIT_LENGTH or not given.isprintable():
        raise CalibrationInvalid(f"unit must be a UCUM code of up to {MAX_UNIT_LENGTH} characters.", field="unit")
    if known is None:
        return given or None
    if not given and known.version > 1:
        raise CalibrationInvalid(
            f"This type has had more than one unit, and is in {known.unit} now: say which unit the values are in.",
            field="unit",
        )
    if given not in ("", known.unit):
        raise CalibrationInvalid(f"The values are in {given}, the type is in {known.unit}.", field="unit")
    return known.unit


def _require_small(
    gains: Sequence[float], offsets: Sequence[float], factory: Calibration | None, points: ReferencePoints
) -> None:
    """Check what field calibrations together change of the factory's values, or without one, of what the reader shows.

    Raises:
        CalibrationFitPoor: more than a sound reader drifts.
    """
    gain = gains[0] / (factory.channel_gains[0] if factory else 1.0)
    offset = offsets[0] - gain * (factory.channel_offsets[0] if factory else 0.0)
    most_offset = MAX_FIELD_OFFSET_SHARE * max(abs(value) for value in points.reference)
    if not 1 / MAX_FIELD_GAIN <= gain <= MAX_FIELD_GAIN or abs(offset) > most_offset:
        raise CalibrationFitPoor(
            f"All field calibrations together would change values by the factor {gain:.3g} and by {offset:+.3g}; at most "
            f"{1 / MAX_FIELD_GAIN:.2g} to {MAX_FIELD_GAIN:.2g} and {most_offset:.3g} are taken. Check the references, or have "
            "the reader calibrated by the factory.",
            gain=f"{gain:.6g}",
            offset=f"{offset:.6g}",
        )


def _fit(points: ReferencePoints) -> Line:
    low, high = TEMPERATURE_RANGE_C
    if not (low <= points.temp_c <= high):
        raise CalibrationInvalid(f"temperature_c must be between {low:g} and {high:g}.", field="temperature_c")
    if not (0.0 <= points.humidity_pct <= 100.0):
        raise CalibrationInvalid("humidity_pct must be between 0 and 100.", field="humidity_pct")
    if len(points.reference) != len(points.measured):
        raise CalibrationInvalid(
            f"There are {len(points.reference)} reference and {len(points.measured)} measured values.",
            field="measured_values",
        )
    if not MIN_POINTS <= len(points.reference) <= MAX_POINTS:
        raise CalibrationInvalid(
            f"There are {len(points.reference)} points; {MIN_POINTS} to {MAX_POINTS} are needed.",
            field="reference_values",
        )
    try:
        line = fit_line(points.measured, points.reference)
    except ValueError as error:
        raise CalibrationInvalid(f"No line fits these points: {error}.", field="reference_values") from error
    objection = line.objection()
    if objection is not None:
        raise CalibrationFitPoor(
            objection,
            r_squared=f"{line.r_squared:.6f}",
            max_residual=f"{line.max_residual:.6g}",
            residual_share=f"{line.residual_share:.6f}",
            gain=f"{line.gain:.6g}",
        )
    return line


def _check_factory(values: FactoryValues) -> None:
    for name, fault in (
        ("alpha", alpha_fault(values.alpha)),
        ("temp_coefficient", coefficient_fault("temp_coefficient", values.temp_coefficient)),
        ("humidity_coefficient", coefficient_fault("humidity_coefficient", values.humidity_coefficient)),
    ):
        if fault is not None:
            raise CalibrationInvalid(f"{fault}.", field=name)
    lengths = set()
    for name in ("channel_offsets", "channel_gains"):
        channel_values: Sequence[float] = getattr(values, name)
        if len(channel_values) not in (0, 1, *CHANNEL_COUNTS):
            raise CalibrationInvalid(
                f"{name} has {len(channel_values)} entries; it must have 0, 1 or one a channel {CHANNEL_COUNTS}.",
                field=name,
            )
        lengths.add(len(channel_values))
    if len(lengths - {0, 1}) > 1:
        raise CalibrationInvalid(
            "channel_offsets and channel_gains are for different numbers of channels.", field="channel_gains"
        )
    for name, fault in (
        ("channel_gains", gains_fault(values.channel_gains)),
        ("channel_offsets", offsets_fault(values.channel_offsets)),
    ):
        if fault is not None:
            raise CalibrationInvalid(f"{fault}.", field=name)
    for name in ("reference_standard", "calibrated_by"):
        if len(getattr(values, name)) > MAX_TEXT_LENGTH:
            raise CalibrationInvalid(f"{name} has more than {MAX_TEXT_LENGTH} characters.", field=name)


def _check_device_id(device_id: str) -> None:
    if not 1 <= len(device_id) <= 64 or not device_id.isprintable():
        raise CalibrationInvalid("device_id must have 1 to 64 printable characters.", field="device_id")
