"""Signatures of version 2 tags, made by the factory with the key of the lot.

What is signed is fixed when the cartridge is made: bytes 0 to 27 and 30 to 59 of the tag, after a prefix that no other
message begins with. The two bytes of the remaining uses (28 and 29) are left out because readers lower them, and the
checksum (60 to 63) because it covers them.

========= ======================= ================================================================================
key       bytes of the tag        algorithm
========= ======================= ================================================================================
ed25519   64 to 127               Ed25519 (RFC 8032); the platform holds the public key only
aes-cmac  64 to 79                AES-128-CMAC (RFC 4493); the platform holds the secret key, sealed
========= ======================= ================================================================================

Whatever follows the signature stays opaque.
"""

from enum import StrEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.cmac import CMAC

SIGNED_PREFIX = b"manpasik cartridge tag 2\0"
SIGNATURE_OFFSET = 64
ED25519_SIGNATURE_BYTES = 64
CMAC_BYTES = 16

_USES_OFFSET = 28
_AFTER_USES = 30
_CHECKSUM_OFFSET = 60


class LotKeyKind(StrEnum):
    """How the tags of a lot are signed."""

    ED25519 = "ed25519"
    AES_CMAC = "aes-cmac"

    @property
    def key_bytes(self) -> int:
        """Length of a key: the public one of Ed25519, the secret one of AES-128-CMAC."""
        return 32 if self is LotKeyKind.ED25519 else 16


def signed_message(raw: bytes) -> bytes:
    """What the factory signs of a tag; `raw` has at least 64 bytes."""
    return SIGNED_PREFIX + raw[:_USES_OFFSET] + raw[_AFTER_USES:_CHECKSUM_OFFSET]


def is_signed(raw: bytes, kind: LotKeyKind, key: bytes) -> bool:
    """Whether a version 2 tag carries a signature that holds under the key of its lot. Never raises for the tag's bytes.

    Raises:
        ValueError: the key is not one of its kind.
    """
    area = raw[SIGNATURE_OFFSET:]
    try:
        match kind:
            case LotKeyKind.ED25519:
                if len(area) < ED25519_SIGNATURE_BYTES:
                    return False
                Ed25519PublicKey.from_public_bytes(key).verify(area[:ED25519_SIGNATURE_BYTES], signed_message(raw))
            case LotKeyKind.AES_CMAC:
                mac = CMAC(AES128(key))
                mac.update(signed_message(raw))
                mac.verify(area[:CMAC_BYTES])
    except InvalidSignature:
        return False
    return True
