"""What the calibration service needs from the group's other services."""

from collections.abc import Collection
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from domain.hardware.codes import CartridgeCode, VersionedUnit
from domain.ids import UserId


class ReaderOwners(Protocol):
    """Whoever knows to whom a reader belongs."""

    async def owner_of(self, session: AsyncSession, device_id: str) -> UserId | None:
        """Who registered the reader; None when nobody has."""
        ...

    async def owners_of(self, session: AsyncSession, device_ids: Collection[str]) -> dict[str, UserId]:
        """Who registered the readers; those that nobody has are missing."""
        ...


class TypeUnits(Protocol):
    """The units of cartridge types."""

    async def unit_of(self, session: AsyncSession, code: CartridgeCode) -> VersionedUnit | None:
        """The unit of a type now; None when the registry does not know the type."""
        ...
