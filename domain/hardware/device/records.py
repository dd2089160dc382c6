"""The command that imports device records from the factory."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.hardware.csv_file import refuse_faults
from domain.hardware.device.errors import DeviceFileInvalid
from domain.hardware.device.models import DeviceRecord
from domain.hardware.device.record_file import RecordEntry, parse_record_file
from domain.hardware.device.record_repository import RecordRepository
from domain.hardware.factory import require_factory
from domain.principal import Principal


@dataclass(frozen=True, slots=True)
class RecordImport:
    """How many readers a file brought, how many it changed, and how many were known as they are."""

    added: int
    replaced: int
    unchanged: int


class DeviceRecordService:
    """Takes device records over from the factory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def import_file(
        self, session: AsyncSession, principal: Principal, content: bytes, *, replace: bool = False
    ) -> RecordImport:
        """Store the readers of a file (see `record_file`): all of them or none. The same file again changes nothing.

        Readers that are registered stay registered; their owners prove that they hold them by registering again.

        Args:
            replace: whether the file may change the claim code or the id of a reader that is stored.
        Raises:
            Forbidden: neither the factory's service nor somebody with the scope registry:write.
            DeviceFileInvalid: the file is wrong, or contradicts what is stored; the message names the lines.
        """
        require_factory(principal)
        entries = await asyncio.to_thread(parse_record_file, content)  # seconds, for the largest
        records = RecordRepository(session)
        await records.lock()
        known = await records.by_keys([entry.serial_key for entry in entries])
        changed = [e for e in entries if e.serial_key in known and not _same(known[e.serial_key], e)]
        if not replace:
            refuse_faults(
                [
                    f"line {e.line}: reader {e.serial_number} is stored with other values; "
                    "import with replace to change them"
                    for e in changed
                ],
                DeviceFileInvalid,
            )
        new = [entry for entry in entries if entry.serial_key not in known]
        await self._refuse_taken_ids(records, [*new, *changed])
        await records.upsert([self._row(entry, principal) for entry in (*new, *changed)])
        return RecordImport(len(new), len(changed), len(entries) - len(new) - len(changed))

    @staticmethod
    async def _refuse_taken_ids(records: RecordRepository, entries: Sequence[RecordEntry]) -> None:
        holders = await records.serial_keys_of_ids([e.device_id for e in entries if e.device_id])
        refuse_faults(
            [
                f"line {e.line}: device_id {e.device_id} is stored with another serial number"
                for e in entries
                if e.device_id and holders.get(e.device_id.lower(), e.serial_key) != e.serial_key
            ],
            DeviceFileInvalid,
        )

    def _row(self, entry: RecordEntry, principal: Principal) -> dict[str, object]:
        return {
            "serial_key": entry.serial_key,
            "serial_number": entry.serial_number,
            "device_id": entry.device_id,
            "claim_hash": entry.claim_hash,
            "imported_by": principal.subject,
            "imported_at": self._clock.now(),
        }


def _same(stored: DeviceRecord, entry: RecordEntry) -> bool:
    return (stored.claim_hash, stored.device_id) == (entry.claim_hash, entry.device_id)
