"""Lot files: every fault is reported with its line, and no number out of range is accepted."""

import datetime as dt
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.nfc_signature import Ed25519Lot
from domain.hardware.cartridge.errors import LotFileInvalid
from domain.hardware.cartridge.lot_file import COLUMNS, MAX_FILE_BYTES, parse_lot_file
from domain.hardware.cartridge.tag_signature import LotKeyKind
from domain.hardware.csv_file import MAX_REPORTED_FAULTS

KEY = Ed25519Lot.of_seed("LOT-A", bytes(range(32))).public_key.hex()
GOOD = {
    "lot_id": "LOT-A",
    "category": "0x01",
    "type_index": "1",
    "key_type": "ed25519",
    "key": KEY,
    "lot_expires_on": "2028-06-30",
    "uid": "00112233445566aa",
    "alpha": "0.95",
    "temp_coefficient": "-2e-3",
    "humidity_coefficient": "0",
    "max_uses": "30",
    "expires_on": "2028-06-30",
}


def file_of(*rows: dict[str, str], header: tuple[str, ...] = COLUMNS) -> bytes:
    return "\n".join(
        [",".join(header), *(",".join({**GOOD, **row}[name] for name in COLUMNS) for row in rows)]
    ).encode()


def test_a_file_is_read_field_by_field() -> None:
    found = parse_lot_file(b"\xef\xbb\xbf" + file_of({}, {"uid": "00112233445566AB"}) + b"\r\n\r\n")
    [lot] = found.lots
    assert (lot.lot_id, lot.category, lot.type_index, lot.key_kind) == ("LOT-A", 1, 1, LotKeyKind.ED25519)
    assert (lot.key, lot.expires_on) == (bytes.fromhex(KEY), dt.date(2028, 6, 30))
    first, second = found.cartridges
    assert (first.line, second.line, second.uid) == (2, 3, "00112233445566AB")
    assert (first.uid, first.lot_id, first.alpha, first.temp_coefficient) == ("00112233445566AA", "LOT-A", 0.95, -0.002)
    assert (first.max_uses, first.expires_on) == (30, dt.date(2028, 6, 30))


def test_a_line_without_a_uid_tells_of_the_lot_alone() -> None:
    nothing = dict.fromkeys(("uid", "alpha", "temp_coefficient", "humidity_coefficient", "max_uses", "expires_on"), "")
    found = parse_lot_file(file_of(nothing))
    assert (len(found.lots), len(found.cartridges)) == (1, 0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lot_id": ""}, "lot_id"),
        ({"lot_id": "LOT-TOO-LONG"}, "lot_id"),
        ({"lot_id": "LÖT"}, "lot_id"),
        ({"category": "0"}, "category"),
        ({"category": "256"}, "category"),
        ({"type_index": "-1"}, "type_index"),
        ({"type_index": "1e1"}, "type_index"),
        ({"key_type": "rsa"}, "key_type"),
        ({"key_type": "aes-cmac"}, "key must have 32"),
        ({"key": "ab"}, "key must have 64"),
        ({"key_type": ""}, "key_type is empty"),
        ({"lot_expires_on": "30.06.2028"}, "lot_expires_on"),
        ({"uid": "00112233445566A"}, "uid"),
        ({"uid": "00112233445566AG"}, "uid"),
        ({"uid": ""}, "no uid"),
        ({"alpha": ""}, "alpha"),
        ({"alpha": "nan"}, "alpha"),
        ({"alpha": "inf"}, "alpha"),
        ({"alpha": "1e99"}, "alpha"),
        ({"alpha": "1e300"}, "alpha"),
        ({"alpha": "-0.1"}, "alpha"),
        ({"alpha": "2.1"}, "alpha"),
        ({"temp_coefficient": "1.1"}, "temp_coefficient"),
        ({"humidity_coefficient": "-1.1"}, "humidity_coefficient"),
        ({"max_uses": "0"}, "max_uses"),
        ({"max_uses": "65536"}, "max_uses"),
        ({"max_uses": "1.5"}, "max_uses"),
        ({"max_uses": "٣"}, "max_uses"),
        ({"expires_on": "2028-02-30"}, "expires_on"),
        ({"expires_on": "9999-12-31"}, "expires_on"),
        ({"expires_on": ""}, "expires_on"),
        ({"expires_on": "2028-07-01"}, "after the lot's"),
    ],
)
def test_a_wrong_field_is_told_with_its_line(change: dict[str, str], says: str) -> None:
    with pytest.raises(LotFileInvalid, match="line 3: ") as refusal:
        parse_lot_file(file_of({"uid": "00112233445566AB"}, change, {"uid": "00112233445566AC"}))
    assert says in refusal.value.message
    assert KEY not in refusal.value.message


def test_all_faults_of_a_file_are_told_at_once_up_to_a_bound() -> None:
    with pytest.raises(LotFileInvalid) as refusal:
        parse_lot_file(file_of(*({"alpha": "3"} for _ in range(50))))
    lines = refusal.value.message.splitlines()
    assert (len(lines), lines[-1]) == (MAX_REPORTED_FAULTS + 1, "... and 30 more")
    assert lines[0].startswith("line 2: ")


def test_a_uid_twice_and_a_lot_told_in_two_ways_are_faults() -> None:
    with pytest.raises(LotFileInvalid, match="line 3: uid 00112233445566AA is in line 2 already"):
        parse_lot_file(file_of({}, {"uid": "00112233445566AA"}))
    with pytest.raises(LotFileInvalid, match="line 3: lot LOT-A is declared with other values in line 2"):
        parse_lot_file(file_of({}, {"uid": "00112233445566AB", "type_index": "2"}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"lot_id,uid\nA,B",
        file_of({}, header=(*COLUMNS[:-1], "expires")),
        file_of(),
        file_of({}) + b",more",
        file_of({"uid": "x" * 300}),
        b'"' + file_of({}),
        b"x" * (MAX_FILE_BYTES + 1),
    ],
)
def test_what_is_no_lot_file_is_refused(content: bytes) -> None:
    with pytest.raises(LotFileInvalid):
        parse_lot_file(content)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_with_a_reason(content: bytes) -> None:
    with suppress(LotFileInvalid):
        parse_lot_file(",".join(COLUMNS).encode() + b"\n" + content)
