"""What happened to readers."""

from datetime import datetime
from typing import ClassVar

from domain.events import DomainEvent


class CartridgeReplaced(DomainEvent):
    """A reader holds another cartridge than before. Lots are empty where a tag (version 1) names none."""

    topic: ClassVar[str] = "cartridge.replaced"
    source: ClassVar[str] = "device"

    device_id: str
    user_id: str
    cartridge_uid: str
    cartridge_category: int
    cartridge_type_index: int
    lot_id: str
    previous_cartridge_uid: str
    previous_cartridge_category: int
    previous_cartridge_type_index: int
    previous_lot_id: str
    replaced_at: datetime

    @property
    def key(self) -> str:
        return self.device_id
