"""Claim codes: what is shown on a reader proves to the platform who holds it."""

import hashlib
import hmac
import re
from dataclasses import dataclass

from domain.hardware.device.errors import DeviceClaimRefused
from domain.hardware.device.ports import Allowances, ClaimAttempts, FieldCalibrations
from domain.ids import UserId

MIN_CODE_CHARACTERS = 12
"""Of letters and digits: 60 bits in base 32, so that neither guessing nor a stolen hash gives the code away."""
MAX_CODE_CHARACTERS = 64

_PREFIX = b"manpasik claim code\0"
_SEPARATORS = str.maketrans("", "", " -")
_CODE = re.compile(rf"[0-9A-Z]{{{MIN_CODE_CHARACTERS},{MAX_CODE_CHARACTERS}}}\Z")
_NO_HASH = bytes(32)


@dataclass(frozen=True, slots=True)
class RegistrationRules:
    """Who may register which reader.

    Args:
        takes_unknown: whether readers without a record of the factory are taken, as unverified ones.
        attempts: None: they are not counted.
        allowances: None: plans limit nothing.
    """

    takes_unknown: bool = True
    attempts: ClaimAttempts | None = None
    allowances: Allowances | None = None
    field_calibrations: FieldCalibrations | None = None

    async def check_attempts(self, user_id: UserId) -> None:
        """Raises: TooManyClaims: too many registrations were refused to this account."""
        if self.attempts is not None:
            await self.attempts.check(user_id)

    async def refuse(self, user_id: UserId) -> DeviceClaimRefused:
        """The one answer to every claim that does not hold; it is counted."""
        if self.attempts is not None:
            await self.attempts.refused(user_id)
        return DeviceClaimRefused()


def normal_code(text: str) -> str | None:
    """A claim code as it is hashed: letters in upper case, without blanks and hyphens; None when it is none."""
    if len(text) > 2 * MAX_CODE_CHARACTERS:
        return None
    code = text.translate(_SEPARATORS).upper()
    return code if _CODE.match(code) else None


def claim_hash(serial_number: str, code: str) -> bytes:
    """What the factory exports instead of a claim code: SHA-256 over a prefix, the serial number in lower case,
    a NUL, and the code in upper case without blanks and hyphens.
    """
    return hashlib.sha256(_PREFIX + serial_number.lower().encode() + b"\0" + code.encode()).digest()


def is_claim(stored: bytes | None, serial_number: str, text: str) -> bool:
    """Whether a text is the claim code of a reader. Takes as long when there is no such reader, or no code."""
    code = normal_code(text)
    shown = claim_hash(serial_number, code or "")
    matches = hmac.compare_digest(shown, stored or _NO_HASH)
    return matches and stored is not None and code is not None
