"""What the cartridge service needs from others: the group's services, and who knows people's plans."""

from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from domain.hardware.cartridge.models import PlanRule
from domain.hardware.codes import CartridgeCode
from domain.ids import UserId
from domain.principal import Principal


class Plans(Protocol):
    """Whoever knows people's plans."""

    async def rule(self, user_id: UserId, code: CartridgeCode) -> PlanRule | None:
        """What a person's plan says about a type now; None while nobody can say."""
        ...


class ReaderSlot(Protocol):
    """Whoever knows which cartridge a reader holds."""

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
        """Note which cartridge a reader holds now.

        Raises:
            DeviceNotFound, Forbidden: the reader is not registered, or not the caller's.
        """
        ...
