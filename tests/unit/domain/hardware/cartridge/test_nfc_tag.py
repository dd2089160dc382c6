"""The platform reads exactly what the readers' own codec writes, and nothing that was damaged on the way."""

import datetime as dt
import struct
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.nfc_tag import TagV2 as WrittenTag
from devices.nfc_tag import encode_v2
from domain.hardware.cartridge.nfc_tag import (
    TagForged,
    TagInvalid,
    TagTooShort,
    TagV1,
    TagV2,
    TagVersionUnsupported,
    decode,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
BYTE = st.integers(0, 255)


@st.composite
def written_tags(draw: st.DrawFn) -> WrittenTag:
    most = draw(st.integers(0, 0xFFFF))
    return WrittenTag(
        cartridge_uid=draw(st.binary(min_size=8, max_size=8)).hex().upper(),
        category=draw(st.integers(1, 255)),
        type_index=draw(st.integers(1, 255)),
        legacy_code=draw(BYTE),
        lot_id=draw(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=8)),
        expires_on=draw(st.dates(min_value=dt.date(1000, 1, 1))),
        remaining_uses=draw(st.integers(0, most)),
        max_uses=most,
        required_channels=draw(st.integers(1, 0xFFFF)),
        measurement_s=draw(BYTE),
        alpha=draw(FINITE),
        temp_coefficient=draw(FINITE),
        humidity_coefficient=draw(FINITE),
        flags=draw(BYTE),
        extended_calibration=draw(st.binary(min_size=16, max_size=64)),
    )


@given(written_tags())
def test_a_tag_that_was_written_by_a_reader_is_read_field_by_field(written: WrittenTag) -> None:
    read = decode(encode_v2(written))
    assert isinstance(read, TagV2)
    for field in WrittenTag.__dataclass_fields__:
        assert getattr(read, field) == getattr(written, field), field


@given(written_tags(), st.integers(0, 60 * 8 - 1))
def test_every_single_bit_flip_in_the_checked_bytes_is_told_as_forged(written: WrittenTag, bit: int) -> None:
    raw = bytearray(encode_v2(written))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(TagForged):
        decode(bytes(raw), 2)
    with pytest.raises(TagForged):  # also when the version byte itself was hit
        decode(bytes(raw), 0)


@given(st.binary(max_size=200), st.sampled_from([0, 1, 2]))
def test_any_bytes_are_read_or_refused_with_a_reason(raw: bytes, version: int) -> None:
    with suppress(TagInvalid):  # anything else that is raised fails this test
        assert isinstance(decode(raw, version), (TagV1, TagV2))


def layout(
    *,
    expiry: bytes = b"20271231",
    lot: bytes = b"LOT-0042",
    remaining: int = 7,
    alpha: float = 0.95,
) -> bytes:
    """A tag written byte by byte from the table of the specification, independent of either codec."""
    checked = bytes.fromhex("0123456789ABCDEF") + bytes([0x01, 0x01, 0x01, 2]) + lot + expiry
    checked += struct.pack("<HH", remaining, 10) + bytes([0x03, 0x80]) + bytes([15, 0xA5])
    checked += struct.pack("<ddd", alpha, 0.002, -0.001)
    return checked + struct.pack("<I", zlib.crc32(checked)) + b"extended calibration"


def test_the_layout_of_version_2_is_that_of_the_specification() -> None:
    tag = decode(layout())
    assert tag == TagV2(
        cartridge_uid="0123456789ABCDEF",
        category=1,
        type_index=1,
        legacy_code=1,
        lot_id="LOT-0042",
        expires_on=dt.date(2027, 12, 31),
        remaining_uses=7,
        max_uses=10,
        required_channels=896,  # 0x0380, high byte first
        measurement_s=15,
        flags=0xA5,
        alpha=0.95,
        temp_coefficient=0.002,
        humidity_coefficient=-0.001,
        extended_calibration=b"extended calibration",
    )


@pytest.mark.parametrize(
    "raw",
    [
        layout(expiry=b"20270230"),
        layout(expiry=b"+2027123"),
        layout(expiry=bytes(8)),
        layout(lot=b"\xff" * 8),
        layout(lot=b"LOT\n0001"),
        layout(remaining=11),
        layout(alpha=float("nan")),
        layout(alpha=float("inf")),
    ],
)
def test_a_field_that_makes_no_sense_is_refused_although_the_checksum_fits(raw: bytes) -> None:
    with pytest.raises(TagInvalid) as refusal:
        decode(raw)
    assert refusal.value.reason == "CARTRIDGE_TAG_INVALID"


def test_a_version_1_tag_is_its_uid_and_its_legacy_code() -> None:
    raw = bytes.fromhex("0123456789abcdef") + b"\x22"
    assert decode(raw) == TagV1("0123456789ABCDEF", 0x22)
    assert decode(raw + b"ignored", 1) == TagV1("0123456789ABCDEF", 0x22)


def test_tags_that_are_too_short_for_their_version_are_refused() -> None:
    for raw, version in ((b"", 0), (b"12345678", 1), (layout()[:79], 2), (layout()[:79], 0)):
        with pytest.raises(TagTooShort):
            decode(raw, version)


def test_a_version_that_there_is_not_is_refused() -> None:
    for version in (-1, 3):
        with pytest.raises(TagVersionUnsupported):
            decode(layout(), version)


def test_a_long_tag_with_another_version_byte_is_no_version_1_tag() -> None:
    checked = layout()[:11] + b"\x07" + layout()[12:60]
    with pytest.raises(TagVersionUnsupported):
        decode(checked + struct.pack("<I", zlib.crc32(checked)) + bytes(16))
