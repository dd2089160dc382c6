"""What the cartridge service needs from the group's other services."""

from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from domain.principal import Principal


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
