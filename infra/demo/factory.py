"""The factory of the demo: it makes the cartridges and readers of the simulator, and registers them with the platform."""

import hashlib
import hmac
from base64 import b32encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from devices.nfc_signature import Ed25519Lot
from devices.simulator.fleet import GLUCOSE_CATEGORY, GLUCOSE_TYPE, SIMULATED_LOT, serial_number_of
from domain.hardware.cartridge.lot_file import COLUMNS as LOT_COLUMNS
from domain.hardware.device.claims import claim_hash
from domain.hardware.device.record_file import COLUMNS as DEVICE_COLUMNS
from infra.factory import import_devices, import_lots

_CODE_BYTES = 10


@dataclass(frozen=True, slots=True)
class DemoFactory:
    """Makes the same keys and codes at every start of one platform, and others on every platform.

    Args:
        secret: of this platform; signatures of this factory cannot be made without it.
    """

    secret: str = field(repr=False)

    @property
    def lot(self) -> Ed25519Lot:
        """The lot of the simulator's cartridges."""
        return Ed25519Lot.of_seed(SIMULATED_LOT, self._derived("lot"))

    def claim_code(self, device_id: str) -> str:
        """The code that is shown on a simulated reader."""
        return b32encode(self._derived(f"claim code of {device_id}")[:_CODE_BYTES]).decode()

    @property
    def lot_file(self) -> bytes:
        """Declares the lot and its public key; its cartridges are verified by their signatures."""
        row = {
            "lot_id": self.lot.lot_id,
            "category": str(GLUCOSE_CATEGORY),
            "type_index": str(GLUCOSE_TYPE),
            "key_type": "ed25519",
            "key": self.lot.public_key.hex(),
        }
        return _csv(LOT_COLUMNS, [row])

    def device_file(self, device_ids: Sequence[str]) -> bytes:
        """Records of simulated readers."""
        rows = []
        for device_id in device_ids:
            serial_number = serial_number_of(device_id)
            hashed = claim_hash(serial_number, self.claim_code(device_id)).hex()
            rows.append({"serial_number": serial_number, "claim_code_hash": hashed, "device_id": device_id})
        return _csv(DEVICE_COLUMNS, rows)

    async def register(self, environ: Mapping[str, str], device_ids: Sequence[str]) -> None:
        """Import both files into the platform of an environment. Raises as `import_lots` and `import_devices`."""
        await import_lots(environ, self.lot_file, replace=True)
        await import_devices(environ, self.device_file(device_ids), replace=True)

    def _derived(self, purpose: str) -> bytes:
        return hmac.digest(self.secret.encode(), f"demo factory: {purpose}".encode(), hashlib.sha256)


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> bytes:
    return "\n".join([",".join(columns), *(",".join(row.get(name, "") for name in columns) for row in rows)]).encode()
