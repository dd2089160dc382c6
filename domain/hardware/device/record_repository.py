"""Every SQL statement that writes device records. Imports run one after another."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.hardware.batches import batches
from domain.hardware.device.models import DeviceRecord

_IMPORT_LOCK = 0x72656164  # "read"


class RecordRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock(self) -> None:
        """Wait for other imports to end."""
        await self._session.execute(select(func.pg_advisory_xact_lock(_IMPORT_LOCK)))

    async def by_keys(self, serial_keys: Sequence[str]) -> dict[str, DeviceRecord]:
        found: dict[str, DeviceRecord] = {}
        for batch in batches(serial_keys):
            rows = await self._session.scalars(select(DeviceRecord).where(DeviceRecord.serial_key.in_(batch)))
            found.update({record.serial_key: record for record in rows})
        return found

    async def serial_keys_of_ids(self, device_ids: Sequence[str]) -> dict[str, str]:
        """The serial key of the reader that has each id, by the id in lower case."""
        key = func.lower(DeviceRecord.device_id)
        found: dict[str, str] = {}
        for batch in batches(device_ids):
            rows = await self._session.execute(
                select(key, DeviceRecord.serial_key).where(key.in_([device_id.lower() for device_id in batch]))
            )
            found.update({row[0]: row[1] for row in rows})
        return found

    async def upsert(self, rows: Sequence[dict[str, object]]) -> None:
        for batch in batches(rows):
            statement = insert(DeviceRecord).values(list(batch))
            changed = {name: statement.excluded[name] for name in batch[0] if name != "serial_key"}
            await self._session.execute(statement.on_conflict_do_update(index_elements=["serial_key"], set_=changed))
