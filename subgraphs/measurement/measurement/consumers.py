"""What measurement-service hears from the others."""

from sqlalchemy.ext.asyncio import AsyncSession

from domain.events import DomainEvent
from domain.measurement.measurement.service import MeasurementService
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
