"""Reads files of device records: CSV in UTF-8 with a header, one reader a line, as the factory exports them.

=================== ===========================================================================================
column              meaning
=================== ===========================================================================================
``serial_number``   1 to 64 letters, digits and ``. _ / -``, as on the reader; compared without case
``claim_code_hash`` 64 hexadecimal digits: SHA-256 of the claim code that is shown on the reader, see `claim_hash`
``device_id``       id that its firmware has, 1 to 64 letters, digits and ``. _ : -``; empty when it is not known
=================== ===========================================================================================

The whole file is checked before anything of it is stored, and every fault is reported with its line.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from domain.hardware.csv_file import refuse_faults, rows_of
from domain.hardware.device.errors import DeviceFileInvalid

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_LINES = 100_000
COLUMNS = ("serial_number", "claim_code_hash", "device_id")

DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z")
SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}\Z")
_HASH = re.compile(r"[0-9A-Fa-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class RecordEntry:
    """A reader of the file. The hash of its claim code does not print."""

    line: int
    serial_number: str
    claim_hash: bytes = field(repr=False)
    device_id: str | None

    @property
    def serial_key(self) -> str:
        return self.serial_number.lower()


def parse_record_file(content: bytes) -> Sequence[RecordEntry]:
    """The readers of a file, in its order.

    Raises:
        DeviceFileInvalid: the file is too large or not such a file, or lines are wrong: the message names them.
    """
    faults: list[str] = []
    entries: dict[str, RecordEntry] = {}
    ids: dict[str, int] = {}
    lines = rows_of(content, COLUMNS, refusal=DeviceFileInvalid, max_bytes=MAX_FILE_BYTES, max_lines=MAX_LINES)
    for line, row in lines:
        fault = _fault(row)
        if fault is None:
            entry = RecordEntry(
                line, row["serial_number"], bytes.fromhex(row["claim_code_hash"]), row["device_id"] or None
            )
            first = entries.setdefault(entry.serial_key, entry)
            if first is not entry:
                fault = f"serial number {entry.serial_number} is in line {first.line} already"
            elif entry.device_id and ids.setdefault(entry.device_id.lower(), line) != line:
                fault = f"device_id {entry.device_id} is in line {ids[entry.device_id.lower()]} already"
        if fault is not None:
            faults.append(f"line {line}: {fault}")
    refuse_faults(faults, DeviceFileInvalid)
    if not entries:
        raise DeviceFileInvalid("The file has no line beside its header.")
    return tuple(entries.values())


def _fault(row: dict[str, str]) -> str | None:
    if not SERIAL.match(row["serial_number"]):
        return (
            f"serial_number is {row['serial_number'][:64]!r}; it must have 1 to 64 letters, digits and . _ / -, "
            "and begin with a letter or digit"
        )
    if not _HASH.match(row["claim_code_hash"]):  # not repeated: it may be the code itself
        return "claim_code_hash must have 64 hexadecimal digits"
    if row["device_id"] and not DEVICE_ID.match(row["device_id"]):
        return f"device_id is {row['device_id'][:64]!r}; it must have 1 to 64 letters, digits and . _ : -"
    return None
