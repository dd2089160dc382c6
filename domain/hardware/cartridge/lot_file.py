"""Reads lot files: CSV in UTF-8 with a header, one cartridge a line, as the factory exports them.

====================== ========================================================================================
column                 meaning
====================== ========================================================================================
``lot_id``             1 to 8 printable ASCII characters without blanks, as on the tags
``category``           category byte of the type, decimal or 0x..
``type_index``         type within the category, decimal or 0x..
``key_type``           ``ed25519``, ``aes-cmac``, or empty when the tags of the lot are not signed
``key``                hexadecimal: the public key (32 bytes) or the secret key (16 bytes)
``lot_expires_on``     last day of use of every cartridge of the lot, YYYY-MM-DD; may be empty
``uid``                16 hexadecimal digits; empty = the line declares the lot only
``alpha``              share of the reference signal to subtract, 0 to 2
``temp_coefficient``   per degree Celsius away from 25, -1 to 1
``humidity_coefficient`` per percentage point of relative humidity away from 50, -1 to 1
``max_uses``           1 to 65535
``expires_on``         last day of use, YYYY-MM-DD
====================== ========================================================================================

The columns may stand in any order. Lines of one lot agree in its columns. The whole file is checked before anything of it
is stored, and every fault is reported with its line.
"""

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from domain.hardware.cartridge.errors import LotFileInvalid
from domain.hardware.cartridge.tag_signature import LotKeyKind
from domain.hardware.csv_file import refuse_faults, rows_of
from domain.hardware.ranges import alpha_fault, coefficient_fault, expiry_fault, uses_fault

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_LINES = 100_000

LOT_COLUMNS = ("lot_id", "category", "type_index", "key_type", "key", "lot_expires_on")
CARTRIDGE_COLUMNS = ("uid", "alpha", "temp_coefficient", "humidity_coefficient", "max_uses", "expires_on")
COLUMNS = LOT_COLUMNS + CARTRIDGE_COLUMNS

_LOT_ID = re.compile(r"[!-~]{1,8}\Z")
_UID = re.compile(r"[0-9A-Fa-f]{16}\Z")
_BYTE = re.compile(r"0[xX][0-9A-Fa-f]{1,2}\Z|[0-9]{1,3}\Z", re.ASCII)
_DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?\Z", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,5}\Z", re.ASCII)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class LotEntry:
    """A lot of the file; `line` is where it is first declared. The key does not print."""

    line: int
    lot_id: str
    category: int
    type_index: int
    key_kind: LotKeyKind | None
    key: bytes | None = field(repr=False)
    expires_on: dt.date | None


@dataclass(frozen=True, slots=True)
class CartridgeEntry:
    """A cartridge of the file; `uid` in upper case."""

    line: int
    uid: str
    lot_id: str
    alpha: float
    temp_coefficient: float
    humidity_coefficient: float
    max_uses: int
    expires_on: dt.date


@dataclass(frozen=True, slots=True)
class LotFile:
    """What a file says, in its order."""

    lots: Sequence[LotEntry]
    cartridges: Sequence[CartridgeEntry]


class _Fault(Exception):
    """What is wrong with one field of one line."""


def parse_lot_file(content: bytes) -> LotFile:
    """The lots and cartridges of a file.

    Raises:
        LotFileInvalid: the file is too large or not such a file, or lines are wrong: the message names the first
            faults with their lines.
    """
    faults: list[str] = []
    lots: dict[str, LotEntry] = {}
    cartridges: dict[str, CartridgeEntry] = {}
    for line, row in rows_of(content, COLUMNS, refusal=LotFileInvalid, max_bytes=MAX_FILE_BYTES, max_lines=MAX_LINES):
        try:
            lot = _lot(line, row)
            known = lots.setdefault(lot.lot_id, lot)
            if known is not lot and _differs(known, lot):
                raise _Fault(f"lot {lot.lot_id} is declared with other values in line {known.line}")
            cartridge = _cartridge(line, row, lot)
            if cartridge is not None:
                first = cartridges.setdefault(cartridge.uid, cartridge)
                if first is not cartridge:
                    raise _Fault(f"uid {cartridge.uid} is in line {first.line} already")
        except _Fault as fault:
            faults.append(f"line {line}: {fault}")
    refuse_faults(faults, LotFileInvalid)
    if not lots:
        raise LotFileInvalid("The file has no line beside its header.")
    return LotFile(tuple(lots.values()), tuple(cartridges.values()))


def _lot(line: int, row: dict[str, str]) -> LotEntry:
    lot_id = row["lot_id"]
    if not _LOT_ID.match(lot_id):
        raise _Fault(f"lot_id is {lot_id[:40]!r}; it must have 1 to 8 printable ASCII characters without blanks")
    kind, key = _key(row["key_type"].lower(), row["key"])
    return LotEntry(
        line=line,
        lot_id=lot_id,
        category=_byte("category", row["category"]),
        type_index=_byte("type_index", row["type_index"]),
        key_kind=kind,
        key=key,
        expires_on=_day("lot_expires_on", row["lot_expires_on"]) if row["lot_expires_on"] else None,
    )


def _cartridge(line: int, row: dict[str, str], lot: LotEntry) -> CartridgeEntry | None:
    if not row["uid"]:
        if filled := [name for name in CARTRIDGE_COLUMNS if row[name]]:
            raise _Fault(f"the line has no uid, but {', '.join(filled)}")
        return None
    if not _UID.match(row["uid"]):
        raise _Fault(f"uid is {row['uid'][:40]!r}; it must have 16 hexadecimal digits")
    if not _WHOLE.match(row["max_uses"]):
        raise _Fault(f"max_uses is {row['max_uses'][:40]!r}; it must be a whole number")
    entry = CartridgeEntry(
        line=line,
        uid=row["uid"].upper(),
        lot_id=lot.lot_id,
        alpha=_number("alpha", row["alpha"]),
        temp_coefficient=_number("temp_coefficient", row["temp_coefficient"]),
        humidity_coefficient=_number("humidity_coefficient", row["humidity_coefficient"]),
        max_uses=int(row["max_uses"]),
        expires_on=_day("expires_on", row["expires_on"]),
    )
    for fault in (
        alpha_fault(entry.alpha),
        coefficient_fault("temp_coefficient", entry.temp_coefficient),
        coefficient_fault("humidity_coefficient", entry.humidity_coefficient),
        uses_fault("max_uses", entry.max_uses),
    ):
        if fault is not None:
            raise _Fault(fault)
    if lot.expires_on is not None and entry.expires_on > lot.expires_on:
        raise _Fault(f"expires_on is {entry.expires_on}, after the lot's {lot.expires_on}")
    return entry


def _key(kind: str, text: str) -> tuple[LotKeyKind | None, bytes | None]:
    if not kind:
        if text:
            raise _Fault("there is a key, and key_type is empty")
        return None, None
    try:
        key_kind = LotKeyKind(kind)
    except ValueError:
        kinds = ", ".join(known.value for known in LotKeyKind)
        raise _Fault(f"key_type is {kind[:40]!r}; it must be {kinds} or empty") from None
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != key_kind.key_bytes:  # the key itself is not repeated: one of the kinds is secret
        raise _Fault(f"key must have {2 * key_kind.key_bytes} hexadecimal digits for {key_kind.value}")
    if key_kind is LotKeyKind.ED25519:
        _check_public_key(key)
    return key_kind, key


@lru_cache(maxsize=128)  # all lines of a lot have the same
def _check_public_key(key: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key)
    except ValueError:
        raise _Fault("key is not a public key of ed25519") from None


def _byte(name: str, text: str) -> int:
    value = int(text, 0 if text[:2].lower() == "0x" else 10) if _BYTE.match(text) else 0
    if not 1 <= value <= 0xFF:
        raise _Fault(f"{name} is {text[:40]!r}; it must be from 1 to 255")
    return value


def _number(name: str, text: str) -> float:
    if not _DECIMAL.match(text):
        raise _Fault(f"{name} is {text[:40]!r}; it must be a number")
    return float(text)


def _day(name: str, text: str) -> dt.date:
    try:
        day = dt.date.fromisoformat(text) if _DAY.match(text) else None
    except ValueError:
        day = None
    if day is None:
        raise _Fault(f"{name} is {text[:40]!r}; it must be a day as YYYY-MM-DD")
    if (fault := expiry_fault(day)) is not None:
        raise _Fault(fault)
    return day


def _differs(one: LotEntry, other: LotEntry) -> bool:
    return (one.category, one.type_index, one.key_kind, one.key, one.expires_on) != (
        other.category,
        other.type_index,
        other.key_kind,
        other.key,
        other.expires_on,
    )
