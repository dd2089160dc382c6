"""Every SQL statement about calibrations."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.hardware.calibration.models import Calibration, CalibrationKind, CalibrationModel, CartridgeLot
from domain.hardware.codes import CartridgeCode
from domain.keyset import OwnedList
from domain.paging import Page, PageRequest


class CalibrationRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock(self, device_id: str, code: CartridgeCode) -> None:
        """Only one calibration of a reader for a type at a time, until the transaction ends."""
        name = f"calibration:{device_id.lower()}:{code}"
        await self._session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))

    async def in_force(self, device_id: str, code: CartridgeCode, *, now: datetime) -> Calibration | None:
        """The newest that is neither superseded nor expired."""
        return await self._session.scalar(
            select(Calibration)
            .where(*self._about(device_id, code), Calibration.superseded_at.is_(None), Calibration.expires_at > now)
            .order_by(Calibration.calibrated_at.desc(), Calibration.calibration_id.desc())
            .limit(1)
        )

    async def newest(self, device_id: str, code: CartridgeCode) -> Calibration | None:
        return await self._session.scalar(
            select(Calibration)
            .where(*self._about(device_id, code))
            .order_by(Calibration.calibrated_at.desc(), Calibration.calibration_id.desc())
            .limit(1)
        )

    async def factory_in_force(self, device_id: str, code: CartridgeCode, *, now: datetime) -> Calibration | None:
        """The factory calibration that field calibrations stand on."""
        return await self._session.scalar(
            select(Calibration)
            .where(
                *self._about(device_id, code),
                Calibration.kind == CalibrationKind.FACTORY,
                Calibration.superseded_at.is_(None),
                Calibration.expires_at > now,
            )
            .order_by(Calibration.calibrated_at.desc())
            .limit(1)
        )

    async def fitted_to(
        self,
        device_id: str,
        code: CartridgeCode,
        *,
        reference: Sequence[float],
        measured: Sequence[float],
        unit: str | None,
        since: datetime | None,
    ) -> Calibration | None:
        """The newest field calibration of a time on that was fitted to these very points."""
        return await self._session.scalar(
            select(Calibration)
            .where(
                *self._about(device_id, code),
                Calibration.kind == CalibrationKind.FIELD,
                Calibration.reference_values == list(reference),
                Calibration.measured_values == list(measured),
                Calibration.unit.is_not_distinct_from(unit),
                *([Calibration.calibrated_at >= since] if since is not None else []),
            )
            .order_by(Calibration.calibrated_at.desc())
            .limit(1)
        )

    async def add(self, calibration: Calibration) -> None:
        self._session.add(calibration)
        await self._session.flush()

    async def supersede(
        self, device_id: str, code: CartridgeCode, *, kinds: Collection[CalibrationKind], at: datetime
    ) -> None:
        await self._session.execute(
            update(Calibration)
            .where(
                *self._about(device_id, code), Calibration.superseded_at.is_(None), Calibration.kind.in_(list(kinds))
            )
            .values(superseded_at=at)
        )

    async def history(self, device_id: str, *, limit: int, offset: int) -> tuple[Sequence[Calibration], int]:
        """A page of a reader's calibrations, newest first, and how many there are."""
        of_device = func.lower(Calibration.device_id) == device_id.lower()
        total = await self._session.scalar(select(func.count()).where(of_device))
        found = await self._session.scalars(
            select(Calibration)
            .where(of_device)
            .order_by(Calibration.calibrated_at.desc(), Calibration.calibration_id.desc())
            .limit(limit)
            .offset(offset)
        )
        return found.all(), total or 0

    async def remove_field(self, device_id: str) -> None:
        """Remove the field calibrations of a reader, and what is known of the lots that it has used."""
        await self._session.execute(
            delete(Calibration).where(
                func.lower(Calibration.device_id) == device_id.lower(), Calibration.kind == CalibrationKind.FIELD
            )
        )
        await self._session.execute(delete(CartridgeLot).where(func.lower(CartridgeLot.device_id) == device_id.lower()))

    async def pages_of(self, device_ids: Collection[str], page: PageRequest) -> dict[str, Page[Calibration]]:
        """One page for every reader, newest first, in one statement."""
        return await _OF_READERS.pages(self._session, device_ids, page)

    async def newest_in_force(
        self, wanted: Collection[tuple[str, CartridgeCode]], *, now: datetime
    ) -> dict[tuple[str, CartridgeCode], Calibration]:
        """What is in force for each pair of reader and type, in one statement."""
        key = tuple_(Calibration.device_id, Calibration.category, Calibration.type_index)
        found = await self._session.scalars(
            select(Calibration)
            .ext(distinct_on(Calibration.device_id, Calibration.category, Calibration.type_index))
            .where(
                key.in_([(device_id, code.category, code.type_index) for device_id, code in wanted]),
                Calibration.superseded_at.is_(None),
                Calibration.expires_at > now,
            )
            .order_by(
                Calibration.device_id,
                Calibration.category,
                Calibration.type_index,
                Calibration.calibrated_at.desc(),
                Calibration.calibration_id.desc(),
            )
        )
        return {(c.device_id, CartridgeCode(c.category, c.type_index)): c for c in found}

    async def by_ids(self, calibration_ids: Collection[str]) -> dict[str, Calibration]:
        found = await self._session.scalars(select(Calibration).where(Calibration.calibration_id.in_(calibration_ids)))
        return {calibration.calibration_id: calibration for calibration in found}

    async def models(self) -> Sequence[CalibrationModel]:
        """All models, by category and type."""
        order = (CalibrationModel.category, CalibrationModel.type_index, CalibrationModel.created_at)
        return (await self._session.scalars(select(CalibrationModel).order_by(*order))).all()

    async def model_for(self, code: CartridgeCode) -> CalibrationModel | None:
        """The newest model of a type."""
        return await self._session.scalar(
            select(CalibrationModel)
            .where(CalibrationModel.category == code.category, CalibrationModel.type_index == code.type_index)
            .order_by(CalibrationModel.created_at.desc(), CalibrationModel.model_id.desc())
            .limit(1)
        )

    @staticmethod
    def _about(device_id: str, code: CartridgeCode) -> tuple[ColumnElement[bool], ...]:
        return (
            func.lower(Calibration.device_id) == device_id.lower(),
            Calibration.category == code.category,
            Calibration.type_index == code.type_index,
        )


class LotRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, device_id: str, code: CartridgeCode) -> CartridgeLot | None:
        return await self._session.get(CartridgeLot, (device_id, code.category, code.type_index))

    async def ensure_for_update(
        self, device_id: str, code: CartridgeCode, *, lot_id: str, at: datetime
    ) -> CartridgeLot:
        """The row of a reader and type, locked; made with this lot when there is none."""
        key = {"device_id": device_id, "category": code.category, "type_index": code.type_index}
        await self._session.execute(
            insert(CartridgeLot).values(**key, lot_id=lot_id, seen_at=at).on_conflict_do_nothing()
        )
        return await self._session.get_one(
            CartridgeLot,
            (device_id, code.category, code.type_index),
            with_for_update=True,
            populate_existing=True,
        )

    async def clear_check(self, device_id: str, code: CartridgeCode) -> None:
        await self._session.execute(
            update(CartridgeLot)
            .where(
                CartridgeLot.device_id == device_id,
                CartridgeLot.category == code.category,
                CartridgeLot.type_index == code.type_index,
            )
            .values(check_needed_since=None)
        )


_OF_READERS = OwnedList(
    Calibration, owner=Calibration.device_id, at=Calibration.calibrated_at, id=Calibration.calibration_id
)
