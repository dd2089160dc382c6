"""What happened to readers."""

from datetime import datetime
from typing import Annotated, ClassVar

from domain.events import HEALTH_DATA, DomainEvent


class CartridgeReplaced(DomainEvent):
    """A reader holds another cartridge than before. Lots are empty where a tag (version 1) names none.

    What a person's cartridges measure tells what the person lives with, so they are health data.
    """

    topic: ClassVar[str] = "cartridge.replaced"
    source: ClassVar[str] = "device"

    device_id: str
    user_id: Annotated[str, HEALTH_DATA]
    cartridge_uid: Annotated[str, HEALTH_DATA]
    cartridge_category: Annotated[int, HEALTH_DATA]
    cartridge_type_index: Annotated[int, HEALTH_DATA]
    lot_id: Annotated[str, HEALTH_DATA]
    previous_cartridge_uid: Annotated[str, HEALTH_DATA]
    previous_cartridge_category: Annotated[int, HEALTH_DATA]
    previous_cartridge_type_index: Annotated[int, HEALTH_DATA]
    previous_lot_id: Annotated[str, HEALTH_DATA]
    replaced_at: datetime

    @property
    def key(self) -> str:
        return self.device_id
