import datetime as dt
import struct
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.errors import TagChecksumMismatch, TagFieldInvalid, TagTooShort, TagVersionUnsupported
from devices.nfc_tag import TagV1, TagV2, decode_tag, decode_v1, decode_v2, encode_v1, encode_v2
from tests.unit.devices.strategies import tags_v2

GLUCOSE = TagV2(
    cartridge_uid="04A1B2C3D4E5F607",
    category=0x01,
    type_index=0x01,
    legacy_code=0x01,
    lot_id="LOT2026A",
    expires_on=dt.date(2027, 12, 31),
    remaining_uses=9,
    max_uses=10,
    required_channels=88,
    measurement_s=15,
    flags=0x80,
    alpha=0.95,
    temp_coefficient=0.012,
    humidity_coefficient=0.001,
)


def _with_checksum(raw: bytearray) -> bytes:
    raw[60:64] = struct.pack("<I", zlib.crc32(raw[:60]))
    return bytes(raw)


def test_every_field_stands_at_its_documented_offset() -> None:
    raw = encode_v2(GLUCOSE)
    assert len(raw) == 80
    assert raw[0:8] == bytes.fromhex("04A1B2C3D4E5F607")
    assert list(raw[8:12]) == [1, 1, 1, 2]
    assert raw[12:20] == b"LOT2026A"
    assert raw[20:28] == b"20271231"
    assert raw[28:30] == b"\x09\x00"
    assert raw[30:32] == b"\x0a\x00"
    assert raw[32:34] == b"\x00\x58"
    assert list(raw[34:36]) == [15, 0x80]
    assert struct.unpack("<3d", raw[36:60]) == (0.95, 0.012, 0.001)
    assert struct.unpack("<I", raw[60:64])[0] == zlib.crc32(raw[:60])


def test_channels_above_a_byte_keep_the_high_byte_first() -> None:
    assert encode_v2(replace(GLUCOSE, required_channels=1792))[32:34] == b"\x07\x00"


@given(tags_v2())
def test_a_version_2_tag_survives_the_round_trip(tag: TagV2) -> None:
    assert decode_v2(encode_v2(tag)) == tag


@given(st.binary(min_size=8, max_size=8), st.integers(0, 255), st.binary(max_size=20))
def test_a_version_1_tag_survives_the_round_trip_whatever_follows(uid: bytes, code: int, rest: bytes) -> None:
    tag = TagV1(cartridge_uid=uid.hex().upper(), legacy_code=code)
    assert decode_v1(encode_v1(tag) + rest) == tag


def test_each_flipped_bit_of_the_fixed_part_is_detected() -> None:
    whole = encode_v2(GLUCOSE)
    for bit in range(64 * 8):
        raw = bytearray(whole)
        raw[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TagChecksumMismatch):
            decode_v2(bytes(raw))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_a_tag_error_or_a_tag(raw: bytes) -> None:
    try:
        tag = decode_v2(raw)
    except (TagTooShort, TagChecksumMismatch, TagFieldInvalid):
        return
    assert encode_v2(tag)[:60] == raw[:60]


@given(st.binary(min_size=60, max_size=60), st.binary(min_size=16, max_size=20))
def test_arbitrary_contents_with_a_fitting_checksum_never_escape_the_field_checks(fixed: bytes, rest: bytes) -> None:
    raw = _with_checksum(bytearray(fixed + bytes(4) + rest))
    with pytest.raises(TagFieldInvalid) as caught:
        decode_v2(raw)
    assert caught.value.field in str(caught.value)


@pytest.mark.parametrize("size", [0, 8, 63, 64, 79])
def test_a_short_version_2_tag_says_how_many_bytes_it_lacks(size: int) -> None:
    with pytest.raises(TagTooShort, match=f"80 bytes, got {size}"):
        decode_v2(encode_v2(GLUCOSE)[:size])


def test_a_short_version_1_tag_says_how_many_bytes_it_lacks() -> None:
    with pytest.raises(TagTooShort, match="9 bytes, got 8"):
        decode_v1(bytes(8))


@pytest.mark.parametrize(
    ("offset", "replacement", "field"),
    [
        (11, b"\x03", "version"),
        (12, b"LOT\xc3\xa9   ", "lot_id"),
        (12, bytes(8), "lot_id"),
        (20, b"20270230", "expires_on"),
        (20, b"+2027123", "expires_on"),
        (20, b"2027 1 1", "expires_on"),
        (28, b"\x0b\x00", "remaining_uses"),
        (32, b"\x00\x00", "required_channels"),
        (36, struct.pack("<d", float("nan")), "alpha"),
        (44, struct.pack("<d", float("inf")), "temp_coefficient"),
        (52, struct.pack("<d", float("-inf")), "humidity_coefficient"),
    ],
)
def test_a_forbidden_value_under_a_right_checksum_names_its_field(offset: int, replacement: bytes, field: str) -> None:
    raw = bytearray(encode_v2(GLUCOSE))
    raw[offset : offset + len(replacement)] = replacement
    with pytest.raises(TagFieldInvalid) as caught:
        decode_v2(_with_checksum(raw))
    assert caught.value.field == field


def test_a_short_lot_is_padded_and_read_back_without_the_padding() -> None:
    tag = replace(GLUCOSE, lot_id="L1")
    assert encode_v2(tag)[12:20] == b"L1" + bytes(6)
    assert decode_v2(encode_v2(tag)).lot_id == "L1"


@pytest.mark.parametrize(
    "uid", ["04a1b2c3d4e5f607", "04A1", "04A1B2C3D4E5F6070", "ZZA1B2C3D4E5F607", "04A1B2C3D4E5F607\n"]
)
def test_a_uid_that_is_not_16_upper_case_digits_is_refused(uid: str) -> None:
    with pytest.raises(TagFieldInvalid, match="cartridge_uid"):
        TagV1(cartridge_uid=uid, legacy_code=1)


def test_the_version_chooses_the_codec() -> None:
    assert decode_tag(encode_v2(GLUCOSE), 2) == GLUCOSE
    assert decode_tag(encode_v2(GLUCOSE), 1) == TagV1("04A1B2C3D4E5F607", 0x01)
    with pytest.raises(TagVersionUnsupported, match="3"):
        decode_tag(encode_v2(GLUCOSE), 3)
