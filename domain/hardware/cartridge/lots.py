"""The command that imports lots and cartridges from the factory."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.hardware.cartridge.errors import LotFileInvalid
from domain.hardware.cartridge.lot_file import CartridgeEntry, LotEntry, parse_lot_file
from domain.hardware.cartridge.lot_keys import LotKeys
from domain.hardware.cartridge.lot_repository import LotRepository
from domain.hardware.cartridge.models import CartridgeLot, RegisteredCartridge
from domain.hardware.cartridge.repository import RegistryRepository
from domain.hardware.cartridge.tag_signature import LotKeyKind
from domain.hardware.codes import CartridgeCode
from domain.hardware.csv_file import refuse_faults
from domain.hardware.factory import require_factory
from domain.principal import Principal


@dataclass(frozen=True, slots=True)
class LotImport:
    """How many lots and cartridges a file brought, how many of them it changed, and how many were known as they are."""

    lots_added: int
    cartridges_added: int
    replaced: int
    unchanged: int


class LotService:
    """Takes lots over from the factory.

    Args:
        keys: seals the secret keys of lots.
    """

    def __init__(self, clock: Clock, keys: LotKeys) -> None:
        self._clock = clock
        self._keys = keys

    async def import_file(
        self, session: AsyncSession, principal: Principal, content: bytes, *, replace: bool = False
    ) -> LotImport:
        """Store the lots and cartridges of a file (see `lot_file`): all of them or none. The same file again changes nothing.

        Args:
            replace: whether the file may change what is stored of a lot or a cartridge. Sessions that have begun keep the
                values that they began with.
        Raises:
            Forbidden: neither the factory's service nor somebody with the scope registry:write.
            LotFileInvalid: the file is wrong, names a type that the registry lacks, or contradicts what is stored; the
                message names the lines.
        """
        require_factory(principal)
        file = await asyncio.to_thread(parse_lot_file, content)  # seconds, for the largest
        await self._check_types(session, file.lots)
        lots = LotRepository(session)
        await lots.lock()
        known_lots = await lots.lots([entry.lot_id for entry in file.lots])
        known = await lots.cartridges([entry.uid for entry in file.cartridges])
        changed_lots = [e for e in file.lots if e.lot_id in known_lots and not self._same_lot(known_lots[e.lot_id], e)]
        changed = [e for e in file.cartridges if e.uid in known and not _same_cartridge(known[e.uid], e)]
        if not replace:
            faults = [(e.line, f"lot {e.lot_id} is stored with other values") for e in changed_lots]
            faults += [(e.line, f"cartridge {e.uid} is stored with other values") for e in changed]
            refuse_faults(
                [f"line {line}: {says}; import with replace to change them" for line, says in sorted(faults)],
                LotFileInvalid,
            )
        new_lots = [entry for entry in file.lots if entry.lot_id not in known_lots]
        new = [entry for entry in file.cartridges if entry.uid not in known]
        await lots.upsert_lots([self._lot_row(entry, principal) for entry in (*new_lots, *changed_lots)])
        await lots.upsert_cartridges([self._cartridge_row(entry) for entry in (*new, *changed)])
        replaced = len(changed_lots) + len(changed)
        total = len(file.lots) + len(file.cartridges)
        return LotImport(len(new_lots), len(new), replaced, total - len(new_lots) - len(new) - replaced)

    async def _check_types(self, session: AsyncSession, entries: Sequence[LotEntry]) -> None:
        codes = {CartridgeCode(entry.category, entry.type_index) for entry in entries}
        types = await RegistryRepository(session).types_by_codes(codes)
        refuse_faults(
            [
                f"line {entry.line}: the registry has no cartridge type {entry.category}/{entry.type_index}"
                for entry in entries
                if CartridgeCode(entry.category, entry.type_index) not in types
            ],
            LotFileInvalid,
        )

    def _same_lot(self, stored: CartridgeLot, entry: LotEntry) -> bool:
        return (
            stored.category == entry.category
            and stored.type_index == entry.type_index
            and stored.key_kind == entry.key_kind
            and stored.expires_on == entry.expires_on
            and self._keys.key(stored) == entry.key
        )

    def _lot_row(self, entry: LotEntry, principal: Principal) -> dict[str, object]:
        public = entry.key if entry.key_kind is LotKeyKind.ED25519 else None
        secret = entry.key if entry.key_kind is LotKeyKind.AES_CMAC else None
        return {
            "lot_id": entry.lot_id,
            "category": entry.category,
            "type_index": entry.type_index,
            "key_kind": entry.key_kind,
            "public_key": public,
            "sealed_key": self._keys.seal(entry.lot_id, secret) if secret is not None else None,
            "expires_on": entry.expires_on,
            "imported_by": principal.subject,
            "imported_at": self._clock.now(),
        }

    def _cartridge_row(self, entry: CartridgeEntry) -> dict[str, object]:
        return {
            "uid": entry.uid,
            "lot_id": entry.lot_id,
            "alpha": entry.alpha,
            "temp_coefficient": entry.temp_coefficient,
            "humidity_coefficient": entry.humidity_coefficient,
            "max_uses": entry.max_uses,
            "expires_on": entry.expires_on,
            "imported_at": self._clock.now(),
        }


def _same_cartridge(stored: RegisteredCartridge, entry: CartridgeEntry) -> bool:
    return (
        stored.lot_id,
        stored.alpha,
        stored.temp_coefficient,
        stored.humidity_coefficient,
        stored.max_uses,
        stored.expires_on,
    ) == (
        entry.lot_id,
        entry.alpha,
        entry.temp_coefficient,
        entry.humidity_coefficient,
        entry.max_uses,
        entry.expires_on,
    )
