"""What calibration-service listens to."""

from datetime import datetime
from typing import ClassVar

from sqlalchemy.ext.asyncio import AsyncSession

from domain.events import DomainEvent
from domain.hardware.calibration.service import CalibrationService
from domain.hardware.codes import CartridgeCode
from subgraphs.runtime.faces import Consumer, EventMetadata


class CartridgeReplaced(DomainEvent):
    """What calibration-service reads of `cartridge.replaced`."""

    topic: ClassVar[str] = "cartridge.replaced"
    source: ClassVar[str] = "device"

    device_id: str
    cartridge_category: int
    cartridge_type_index: int
    lot_id: str
    previous_cartridge_category: int
    previous_cartridge_type_index: int
    previous_lot_id: str
    replaced_at: datetime

    @property
    def key(self) -> str:
        return self.device_id


def calibration_consumers(calibrations: CalibrationService) -> tuple[Consumer[CartridgeReplaced]]:
    """The topics that calibration-service takes part in."""

    async def cartridge_replaced(session: AsyncSession, event: CartridgeReplaced, _metadata: EventMetadata) -> None:
        # The cartridge that was taken out first: of the reader's very first one there was no event.
        if event.previous_cartridge_category:
            previous = CartridgeCode(event.previous_cartridge_category, event.previous_cartridge_type_index)
            await calibrations.note_cartridge_lot(
                session,
                device_id=event.device_id,
                code=previous,
                lot_id=event.previous_lot_id,
                at=event.replaced_at,
            )
        await calibrations.note_cartridge_lot(
            session,
            device_id=event.device_id,
            code=CartridgeCode(event.cartridge_category, event.cartridge_type_index),
            lot_id=event.lot_id,
            at=event.replaced_at,
        )

    return (
        Consumer(
            service="calibration",
            topic=CartridgeReplaced.topic,
            event=CartridgeReplaced,
            handle=cartridge_replaced,
        ),
    )
