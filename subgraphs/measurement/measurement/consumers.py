"""What measurement-service hears from the others."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from domain.events import DomainEvent
from domain.ids import UserId
from domain.measurement.measurement.service import MeasurementService
from domain.units import ResultUnits
from subgraphs.runtime.faces import Consumer, EventMetadata


class CalibrationCompleted(DomainEvent):
    """A reader has been calibrated; the fields that are read here."""

    topic = "calibration.completed"
    source = "calibration"

    device_id: str
    cartridge_category: int
    cartridge_type_index: int

    @property
    def key(self) -> str:
        return self.device_id


def calibration_completed(service: MeasurementService) -> Consumer[CalibrationCompleted]:
    """Marks the running sessions of the reader."""

    async def handle(session: AsyncSession, event: CalibrationCompleted, _: EventMetadata) -> None:
        await service.note_calibration(
            session,
            device_id=event.device_id,
            category_code=event.cartridge_category,
            type_index=event.cartridge_type_index,
        )

    return Consumer("measurement", CalibrationCompleted.topic, CalibrationCompleted, handle)


class ResultUnitsChosen(DomainEvent):
    """A person has chosen the kind of unit that they read results in."""

    topic = "profile.result_units_chosen"
    source = "user"

    user_id: str
    result_units: ResultUnits
    chosen_at: datetime

    @property
    def key(self) -> str:
        return self.user_id


def result_units_chosen(service: MeasurementService) -> Consumer[ResultUnitsChosen]:
    """Results are shown to the person so from now on."""

    async def handle(session: AsyncSession, event: ResultUnitsChosen, _: EventMetadata) -> None:
        await service.note_units(session, UserId(event.user_id), event.result_units, at=event.chosen_at)

    return Consumer("measurement", ResultUnitsChosen.topic, ResultUnitsChosen, handle)
