"""Codec of the NFC tag on a cartridge, versions 1 and 2.

Version 2: at least 80 bytes, numbers little endian unless said otherwise, text ASCII padded with NUL.

====== ==== ========================= =======================================================================
offset size field                     meaning
====== ==== ========================= =======================================================================
0      8    ``cartridge_uid``         opaque; shown as 16 upper-case hexadecimal digits in byte order
8      1    ``category``              cartridge category code, e.g. 0x01
9      1    ``type_index``            type within the category, e.g. 0x01 (glucose)
10     1    ``legacy_code``           the one-byte type code of version 1
11     1    version                   2
12     8    ``lot_id``                printable ASCII without blanks
20     8    ``expires_on``            ASCII ``YYYYMMDD``; the cartridge may be used through that day
28     2    ``remaining_uses``        u16, never more than ``max_uses``
30     2    ``max_uses``              u16
32     2    ``required_channels``     u16, **high byte first**
34     1    ``measurement_s``         length of a measurement in seconds
35     1    ``flags``                 bit field, kept as it is
36     8    ``alpha``                 f64, share of the reference signal to subtract
44     8    ``temp_coefficient``      f64, per degree Celsius, relative to 25 degrees Celsius
52     8    ``humidity_coefficient``  f64, per percent relative humidity, relative to 50 %
60     4    checksum                  u32, CRC-32 (IEEE 802.3, as in zlib) over bytes 0 to 59
64     16+  ``extended_calibration``  not covered by the checksum; of a signed tag, it begins with the signature of the
                                      lot (see `devices.nfc_signature`), else it is opaque
====== ==== ========================= =======================================================================

Version 1: at least 9 bytes; ``cartridge_uid`` 0-7, ``legacy_code`` 8, the rest is ignored. It has no checksum.

A tag does not say which version it is in a place that both versions share (byte 11 of a version 1 tag may hold
anything), so the version is given by the reader, which knows it from the tag's NDEF record.
"""

import datetime as dt
import math
import re
import struct
import zlib
from dataclasses import dataclass

from devices.errors import TagChecksumMismatch, TagFieldInvalid, TagTooShort, TagVersionUnsupported

V1_MIN_BYTES = 9
V2_MIN_BYTES = 80
V2_CHECKED_BYTES = 60
V2_FIXED_BYTES = 64
V2_MIN_EXTENDED_BYTES = V2_MIN_BYTES - V2_FIXED_BYTES

_V2_HEAD = struct.Struct("<8sBBBB8s8sHH")  # bytes 0-31
_V2_CHANNELS = struct.Struct(">H")  # bytes 32-33, the one big endian number
_V2_TAIL = struct.Struct("<BBddd")  # bytes 34-59
_CHECKSUM = struct.Struct("<I")  # bytes 60-63

_UID = re.compile(r"[0-9A-F]{16}\Z")
_LOT = re.compile(r"[!-~]{1,8}\Z")


@dataclass(frozen=True, slots=True)
class TagV1:
    """Contents of a version 1 tag. Its type is looked up from ``legacy_code``.

    Raises:
        TagFieldInvalid: a field cannot be stored in the tag.
    """

    cartridge_uid: str
    legacy_code: int

    def __post_init__(self) -> None:
        _check_uid(self.cartridge_uid)
        _check_uint("legacy_code", self.legacy_code, bits=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class TagV2:
    """Contents of a version 2 tag, in the units of the table above.

    Raises:
        TagFieldInvalid: a field cannot be stored in the tag, or contradicts another.
    """

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
    alpha: float
    temp_coefficient: float
    humidity_coefficient: float
    flags: int = 0
    extended_calibration: bytes = bytes(V2_MIN_EXTENDED_BYTES)

    def __post_init__(self) -> None:
        _check_uid(self.cartridge_uid)
        for name in ("category", "type_index", "legacy_code", "measurement_s", "flags"):
            _check_uint(name, getattr(self, name), bits=8)
        for name in ("remaining_uses", "max_uses", "required_channels"):
            _check_uint(name, getattr(self, name), bits=16)
        if not _LOT.match(self.lot_id):
            raise TagFieldInvalid("lot_id", self.lot_id, "must be 1 to 8 printable ASCII characters without blanks")
        if self.expires_on.year < 1000:
            raise TagFieldInvalid("expires_on", self.expires_on, "the year must have four digits")
        if self.remaining_uses > self.max_uses:
            raise TagFieldInvalid("remaining_uses", self.remaining_uses, f"must not exceed max_uses {self.max_uses}")
        if self.required_channels == 0:
            raise TagFieldInvalid("required_channels", 0, "must be at least 1")
        for name in ("alpha", "temp_coefficient", "humidity_coefficient"):
            if not math.isfinite(getattr(self, name)):
                raise TagFieldInvalid(name, getattr(self, name), "must be a finite number")
        if len(self.extended_calibration) < V2_MIN_EXTENDED_BYTES:
            rule = f"must have at least {V2_MIN_EXTENDED_BYTES} bytes"
            raise TagFieldInvalid("extended_calibration", self.extended_calibration, rule)


def encode_v1(tag: TagV1) -> bytes:
    """The 9 bytes of a version 1 tag."""
    return bytes.fromhex(tag.cartridge_uid) + bytes([tag.legacy_code])


def decode_v1(raw: bytes) -> TagV1:
    """Contents of a version 1 tag.

    Raises:
        TagTooShort: fewer than 9 bytes.
    """
    if len(raw) < V1_MIN_BYTES:
        raise TagTooShort(version=1, needed=V1_MIN_BYTES, got=len(raw))
    return TagV1(cartridge_uid=_show_uid(raw[:8]), legacy_code=raw[8])


def encode_v2(tag: TagV2) -> bytes:
    """The bytes of a version 2 tag, checksum included."""
    checked = (
        _V2_HEAD.pack(
            bytes.fromhex(tag.cartridge_uid),
            tag.category,
            tag.type_index,
            tag.legacy_code,
            2,
            tag.lot_id.encode("ascii"),
            tag.expires_on.strftime("%Y%m%d").encode("ascii"),
            tag.remaining_uses,
            tag.max_uses,
        )
        + _V2_CHANNELS.pack(tag.required_channels)
        + _V2_TAIL.pack(tag.measurement_s, tag.flags, tag.alpha, tag.temp_coefficient, tag.humidity_coefficient)
    )
    return checked + _CHECKSUM.pack(zlib.crc32(checked)) + tag.extended_calibration


def decode_v2(raw: bytes) -> TagV2:
    """Contents of a version 2 tag.

    The checksum is verified before any field is read, so a misread tag is reported as such and not as a bad field.

    Raises:
        TagTooShort: fewer than 80 bytes.
        TagChecksumMismatch: bytes 0 to 63 were misread or tampered with.
        TagFieldInvalid: the checksum fits, but a field breaks the format.
    """
    if len(raw) < V2_MIN_BYTES:
        raise TagTooShort(version=2, needed=V2_MIN_BYTES, got=len(raw))
    (stored,) = _CHECKSUM.unpack_from(raw, V2_CHECKED_BYTES)
    computed = zlib.crc32(raw[:V2_CHECKED_BYTES])
    if stored != computed:
        raise TagChecksumMismatch(stored=stored, computed=computed)
    uid, category, type_index, legacy_code, version, lot_id, expires_on, remaining_uses, max_uses = (
        _V2_HEAD.unpack_from(raw)
    )
    if version != 2:
        raise TagFieldInvalid("version", version, "must be 2")
    (required_channels,) = _V2_CHANNELS.unpack_from(raw, 32)
    measurement_s, flags, alpha, temp_coefficient, humidity_coefficient = _V2_TAIL.unpack_from(raw, 34)
    return TagV2(
        cartridge_uid=_show_uid(uid),
        category=category,
        type_index=type_index,
        legacy_code=legacy_code,
        lot_id=_read_lot(lot_id),
        expires_on=_read_expiry(expires_on),
        remaining_uses=remaining_uses,
        max_uses=max_uses,
        required_channels=required_channels,
        measurement_s=measurement_s,
        flags=flags,
        alpha=alpha,
        temp_coefficient=temp_coefficient,
        humidity_coefficient=humidity_coefficient,
        extended_calibration=bytes(raw[V2_FIXED_BYTES:]),
    )


def decode_tag(raw: bytes, version: int) -> TagV1 | TagV2:
    """Contents of a tag whose version the reader knows.

    Raises:
        TagVersionUnsupported: the version is neither 1 nor 2.
        TagTooShort, TagChecksumMismatch, TagFieldInvalid: as `decode_v1` and `decode_v2`.
    """
    match version:
        case 1:
            return decode_v1(raw)
        case 2:
            return decode_v2(raw)
        case _:
            raise TagVersionUnsupported(version)


def _show_uid(raw: bytes) -> str:
    return raw.hex().upper()


def _check_uid(uid: str) -> None:
    if not _UID.match(uid):
        raise TagFieldInvalid("cartridge_uid", uid, "must be 16 upper-case hexadecimal digits")


def _check_uint(name: str, value: int, *, bits: int) -> None:
    if not 0 <= value < 1 << bits:
        raise TagFieldInvalid(name, value, f"must be from 0 to {(1 << bits) - 1}")


def _read_lot(raw: bytes) -> str:
    # latin-1 maps every byte, so that bytes outside ASCII reach the check in TagV2 and are shown in its message.
    return raw.rstrip(b"\0 ").decode("latin-1")


def _read_expiry(raw: bytes) -> dt.date:
    if not raw.isdigit():  # int() and strptime would also take signs and blanks
        raise TagFieldInvalid("expires_on", raw, "must be YYYYMMDD")
    try:
        return dt.date(int(raw[:4]), int(raw[4:6]), int(raw[6:]))
    except ValueError as error:
        raise TagFieldInvalid("expires_on", raw, "is not a day of the calendar") from error
