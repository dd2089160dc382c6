"""Signs version 2 tags with the key of their lot, as the factory does.

The Ed25519 signature (RFC 8032) lies in bytes 64 to 127, the begin of the extended area. It covers a fixed prefix and bytes 0
to 27 and 30 to 59: neither the remaining uses, which readers lower, nor the checksum, which covers them. Lots with a secret
key carry an AES-128-CMAC (RFC 4493) over the same message in bytes 64 to 79 instead.
"""

from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.cmac import CMAC

from devices.nfc_tag import V2_CHECKED_BYTES, TagV2, encode_v2

SIGNED_PREFIX = b"manpasik cartridge tag 2\0"
_USES = slice(28, 30)


def signed_message(raw: bytes) -> bytes:
    """What is signed of a version 2 tag; `raw` has at least 60 bytes."""
    return SIGNED_PREFIX + raw[: _USES.start] + raw[_USES.stop : V2_CHECKED_BYTES]


@dataclass(frozen=True, slots=True)
class Ed25519Lot:
    """A lot whose tags are signed with a private key. The key does not print."""

    lot_id: str
    key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def of_seed(cls, lot_id: str, seed: bytes) -> "Ed25519Lot":
        """The lot whose key has this seed of 32 bytes. Raises ValueError: another length."""
        return cls(lot_id, Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def public_key(self) -> bytes:
        """The 32 bytes that the platform checks tags of this lot with."""
        return self.key.public_key().public_bytes_raw()

    def sign(self, tag: TagV2) -> TagV2:
        """The tag as one of this lot, signed; what was in its extended area follows the signature."""
        unsigned = replace(tag, lot_id=self.lot_id)
        signature = self.key.sign(signed_message(encode_v2(unsigned)))
        return replace(unsigned, extended_calibration=signature + tag.extended_calibration)


@dataclass(frozen=True, slots=True)
class CmacLot:
    """A lot whose tags carry a CMAC under a secret key of 16 bytes. The key does not print."""

    lot_id: str
    key: bytes = field(repr=False)

    def sign(self, tag: TagV2) -> TagV2:
        """The tag as one of this lot, with its CMAC; what was in its extended area follows."""
        unsigned = replace(tag, lot_id=self.lot_id)
        mac = CMAC(AES128(self.key))
        mac.update(signed_message(encode_v2(unsigned)))
        return replace(unsigned, extended_calibration=mac.finalize() + tag.extended_calibration)
