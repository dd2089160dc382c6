"""Reads the NFC tag of a cartridge, versions 1 and 2, as the platform receives it from readers and phones.

Version 2: 80 bytes or more. Numbers are little endian, except the channels; text is ASCII, padded with NUL or blanks.

====== ======================= =====================================================================
bytes  field                   meaning
====== ======================= =====================================================================
0-7    ``cartridge_uid``       opaque; shown as 16 upper-case hexadecimal digits
8      category                code of the category
9      type index              type within the category
10     legacy code             type code of version 1; 0 = none
11     version                 2
12-19  ``lot_id``              production lot
20-27  ``expires_on``          YYYYMMDD; usable through that day
28-29  ``remaining_uses``      u16
30-31  ``max_uses``            u16
32-33  ``required_channels``   u16, high byte first
34     ``measurement_s``       seconds
35     ``flags``               kept as they are
36-43  ``alpha``               f64, factor of the reference electrode
44-51  ``temp_coefficient``    f64, per degree Celsius away from 25
52-59  ``humidity_coefficient`` f64, per percentage point of relative humidity away from 50
60-63  checksum                u32, CRC-32 (IEEE 802.3) over bytes 0-59
64-    ``extended_calibration`` of a signed tag, it begins with the signature of the lot; kept
====== ======================= =====================================================================

Version 1: 9 bytes or more; ``cartridge_uid`` in 0-7 and the legacy type code in byte 8. It has no checksum.

A CRC tells a misread or clumsily edited tag, not a determined forger: it has no key. What protects against the latter
are the signature of the lot (`tag_signature`) and the factory's registry (`proof`).
"""

import datetime as dt
import math
import struct
import zlib
from dataclasses import dataclass

from domain.errors import InvalidInput

V1_MIN_BYTES = 9
V2_MIN_BYTES = 80
MAX_BYTES = 8192
"""More than any tag holds; a bound for what is stored."""

_CHECKED_BYTES = 60
_FIXED_BYTES = 64
_VERSION_OFFSET = 11
_HEAD = struct.Struct("<8sBBBB8s8sHH")
_CHANNELS = struct.Struct(">H")
_TAIL = struct.Struct("<BBddd")
_CHECKSUM = struct.Struct("<I")


class TagInvalid(InvalidInput):
    """The tag does not hold what its version says it should."""

    reason = "CARTRIDGE_TAG_INVALID"


class TagTooShort(TagInvalid):
    """The tag has fewer bytes than its version needs."""

    reason = "CARTRIDGE_TAG_TOO_SHORT"


class TagForged(TagInvalid):
    """The checksum does not fit the content, or the content contradicts what was read from this cartridge before."""

    reason = "CARTRIDGE_TAG_FORGED"


class TagVersionUnsupported(TagInvalid):
    """The version is neither 1 nor 2, or not the one that was asked for."""

    reason = "CARTRIDGE_TAG_VERSION_UNSUPPORTED"


@dataclass(frozen=True, slots=True)
class TagV1:
    """A version 1 tag: only the legacy code says what it is."""

    cartridge_uid: str
    legacy_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TagV2:
    """A version 2 tag in the units of the table above; `legacy_code` 0 means none."""

    cartridge_uid: str
    category: int
    type_index: int
    legacy_code: int
    lot_id: str
    expires_on: dt.date
    remaining_uses: int
    max_uses: int
    required_channels: int
    measurement_s: int
    flags: int
    alpha: float
    temp_coefficient: float
    humidity_coefficient: float
    extended_calibration: bytes


def decode(raw: bytes, version: int = 0) -> TagV1 | TagV2:
    """What a tag says.

    Args:
        version: 1 or 2; 0 takes it from the tag: one that is long enough and says 2 in byte 11 is version 2.
    Raises:
        TagVersionUnsupported: another version is asked for, or a version 2 tag says another one in byte 11.
        TagTooShort: fewer bytes than the version needs.
        TagForged: the checksum does not fit.
        TagInvalid: the checksum fits, and a field makes no sense.
    """
    if len(raw) > MAX_BYTES:
        raise TagInvalid(f"The tag has {len(raw)} bytes; at most {MAX_BYTES} are read.", field="nfc_tag_data")
    if version == 0:
        says_two = len(raw) > _VERSION_OFFSET and raw[_VERSION_OFFSET] == 2
        # A long tag whose version byte is damaged is a broken version 2 tag, never a healthy version 1 tag.
        version = 2 if says_two or len(raw) >= V2_MIN_BYTES else 1
    match version:
        case 1:
            return _decode_v1(raw)
        case 2:
            return _decode_v2(raw)
        case _:
            raise TagVersionUnsupported(f"tag_version is {version}; it must be 0, 1 or 2.", field="tag_version")


def _decode_v1(raw: bytes) -> TagV1:
    _require_length(raw, V1_MIN_BYTES, version=1)
    return TagV1(cartridge_uid=raw[:8].hex().upper(), legacy_code=raw[8])


def _decode_v2(raw: bytes) -> TagV2:
    _require_length(raw, V2_MIN_BYTES, version=2)
    (stored,) = _CHECKSUM.unpack_from(raw, _CHECKED_BYTES)
    # Before any field is believed: a misread tag is reported as such and not as a strange field.
    if stored != zlib.crc32(raw[:_CHECKED_BYTES]):
        raise TagForged("The checksum of the tag does not fit its content.", field="nfc_tag_data")
    uid, category, type_index, legacy_code, version, lot, expiry, remaining, most = _HEAD.unpack_from(raw)
    if version != 2:
        raise TagVersionUnsupported(f"The tag says version {version}, not 2.", field="tag_version")
    (channels,) = _CHANNELS.unpack_from(raw, 32)
    measurement_s, flags, alpha, temp, humidity = _TAIL.unpack_from(raw, 34)
    if not (category and type_index):
        raise TagInvalid("The tag names no cartridge type.", field="category")
    if remaining > most:
        raise TagInvalid(f"The tag says {remaining} of {most} uses are left.", field="remaining_uses")
    if not all(math.isfinite(value) for value in (alpha, temp, humidity)):
        raise TagInvalid("The tag's coefficients are not finite numbers.", field="alpha")
    return TagV2(
        cartridge_uid=uid.hex().upper(),
        category=category,
        type_index=type_index,
        legacy_code=legacy_code,
        lot_id=_lot(lot),
        expires_on=_expiry(expiry),
        remaining_uses=remaining,
        max_uses=most,
        required_channels=channels,
        measurement_s=measurement_s,
        flags=flags,
        alpha=alpha,
        temp_coefficient=temp,
        humidity_coefficient=humidity,
        extended_calibration=bytes(raw[_FIXED_BYTES:]),
    )


def _require_length(raw: bytes, needed: int, *, version: int) -> None:
    if len(raw) < needed:
        raise TagTooShort(
            f"The tag has {len(raw)} bytes; version {version} needs {needed}.", field="nfc_tag_data", version=version
        )


def _lot(raw: bytes) -> str:
    text = raw.rstrip(b"\0 ")
    if not text.isascii() or not text.decode("ascii").isprintable():
        raise TagInvalid("The tag's lot id is not printable ASCII.", field="lot_id")
    return text.decode("ascii")


def _expiry(raw: bytes) -> dt.date:
    try:
        if not raw.isdigit():  # int() would also take signs and blanks
            raise ValueError(raw)
        return dt.date(int(raw[:4]), int(raw[4:6]), int(raw[6:]))
    except ValueError as error:
        raise TagInvalid("The tag's expiry date is not a day as YYYYMMDD.", field="expiry_date") from error
