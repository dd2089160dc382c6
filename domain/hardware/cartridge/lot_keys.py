"""The keys of lots: stored with the lot, the secret ones sealed."""

import structlog

from domain.hardware.cartridge.models import CartridgeLot
from domain.hardware.cartridge.nfc_tag import TagV2
from domain.hardware.cartridge.tag_signature import LotKeyKind, is_signed
from domain.sealing import SealBroken, Sealer

_log = structlog.get_logger("cartridge")


class LotKeys:
    """Checks signatures of tags under the keys of their lots.

    Args:
        sealer: of the group's database; None where no secret key can be kept or opened.
    """

    def __init__(self, sealer: Sealer | None) -> None:
        self._sealer = sealer

    def seal(self, lot_id: str, key: bytes) -> bytes:
        """A secret key as it is stored.

        Raises:
            RuntimeError: this process has no data keys.
        """
        if self._sealer is None:
            raise RuntimeError("secret keys of lots need the group's data keys")
        return self._sealer.seal(key, context=_context(lot_id))

    def key(self, lot: CartridgeLot) -> bytes | None:
        """The key that tags of a lot are checked with; None when they are not signed, or it cannot be opened here."""
        if lot.public_key is not None:
            return lot.public_key
        if lot.sealed_key is None or self._sealer is None:
            return None
        try:
            return self._sealer.open(lot.sealed_key, context=_context(lot.lot_id))
        except SealBroken as error:  # cartridges of this lot are unverified until it is imported again
            _log.error("the key of a lot does not open", lot_id=lot.lot_id, error=str(error))
            return None

    def verifies(self, lot: CartridgeLot, tag: TagV2, raw: bytes) -> bool:
        """Whether a tag of the lot's type carries a signature of the lot."""
        key = self.key(lot)
        if key is None or lot.key_kind is None or (tag.category, tag.type_index) != (lot.category, lot.type_index):
            return False
        return is_signed(raw, LotKeyKind(lot.key_kind), key)


def _context(lot_id: str) -> str:
    return f"cartridge_lots.sealed_key:{lot_id}"
