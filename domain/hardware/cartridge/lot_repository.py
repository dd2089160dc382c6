"""Every SQL statement that writes lots and the factory's cartridges. Imports run one after another."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.hardware.batches import batches
from domain.hardware.cartridge.models import CartridgeLot, RegisteredCartridge

_IMPORT_LOCK = 0x6C6F7473  # "lots"


class LotRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock(self) -> None:
        """Wait for other imports to end."""
        await self._session.execute(select(func.pg_advisory_xact_lock(_IMPORT_LOCK)))

    async def lots(self, lot_ids: Sequence[str]) -> dict[str, CartridgeLot]:
        found: dict[str, CartridgeLot] = {}
        for batch in batches(lot_ids):
            rows = await self._session.scalars(select(CartridgeLot).where(CartridgeLot.lot_id.in_(batch)))
            found.update({lot.lot_id: lot for lot in rows})
        return found

    async def cartridges(self, uids: Sequence[str]) -> dict[str, RegisteredCartridge]:
        found: dict[str, RegisteredCartridge] = {}
        for batch in batches(uids):
            rows = await self._session.scalars(select(RegisteredCartridge).where(RegisteredCartridge.uid.in_(batch)))
            found.update({cartridge.uid: cartridge for cartridge in rows})
        return found

    async def upsert_lots(self, rows: Sequence[dict[str, object]]) -> None:
        await self._upsert(CartridgeLot, "lot_id", rows)

    async def upsert_cartridges(self, rows: Sequence[dict[str, object]]) -> None:
        await self._upsert(RegisteredCartridge, "uid", rows)

    async def _upsert(self, table: type[Any], key: str, rows: Sequence[dict[str, object]]) -> None:
        for batch in batches(rows):
            statement = insert(table).values(list(batch))
            changed = {name: statement.excluded[name] for name in batch[0] if name != key}
            await self._session.execute(statement.on_conflict_do_update(index_elements=[key], set_=changed))
