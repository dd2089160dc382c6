"""What device-service listens to."""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy.ext.asyncio import AsyncSession

from domain.events import DomainEvent
from domain.hardware.device.service import DeviceService
from subgraphs.runtime.account_proof import account_proof_consumer
from subgraphs.runtime.faces import Consumer, EventMetadata


class CalibrationCompleted(DomainEvent):
    """What device-service reads of `calibration.completed`."""

    topic: ClassVar[str] = "calibration.completed"
    source: ClassVar[str] = "calibration"

    device_id: str
    calibrated_at: datetime

    @property
    def key(self) -> str:
        return self.device_id


def device_consumers(devices: DeviceService) -> tuple[Consumer[Any], ...]:
    """The topics that device-service takes part in."""

    async def calibration_completed(
        session: AsyncSession, event: CalibrationCompleted, _metadata: EventMetadata
    ) -> None:
        await devices.record_calibration(session, device_id=event.device_id, at=event.calibrated_at)

    return (
        Consumer(
            service="device",
            topic=CalibrationCompleted.topic,
            event=CalibrationCompleted,
            handle=calibration_completed,
        ),
        account_proof_consumer("device", devices.drop),
    )
