"""Signatures of tags: what the readers' codec signs, the platform verifies, and nothing that was changed since."""

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.nfc_signature import CmacLot, Ed25519Lot, signed_message
from devices.nfc_tag import TagV2, decode_v2, encode_v2
from domain.hardware.cartridge import tag_signature
from domain.hardware.cartridge.tag_signature import LotKeyKind, is_signed
from tests.unit.domain.hardware.cartridge.test_nfc_tag import written_tags

LOT = Ed25519Lot.of_seed("LOT-A", bytes(range(32)))
SECRET_LOT = CmacLot("LOT-C", bytes(range(16)))
KEYS: dict[LotKeyKind, tuple[Ed25519Lot | CmacLot, bytes]] = {
    LotKeyKind.ED25519: (LOT, LOT.public_key),
    LotKeyKind.AES_CMAC: (SECRET_LOT, SECRET_LOT.key),
}
KINDS = st.sampled_from(list(LotKeyKind))


def _with_checksum(raw: bytearray) -> bytes:
    struct.pack_into("<I", raw, 60, zlib.crc32(raw[:60]))
    return bytes(raw)


@given(written_tags(), KINDS)
def test_a_signed_tag_is_verified_and_read_as_before(tag: TagV2, kind: LotKeyKind) -> None:
    lot, key = KEYS[kind]
    signed = lot.sign(tag)
    raw = encode_v2(signed)
    assert signed_message(raw) == tag_signature.signed_message(raw)
    assert is_signed(raw, kind, key)
    read = decode_v2(raw)
    assert read == signed
    assert (read.lot_id, read.extended_calibration.endswith(tag.extended_calibration)) == (lot.lot_id, True)


@given(written_tags(), KINDS, st.integers(0, 0xFFFF))
def test_the_remaining_uses_may_be_lowered_without_a_new_signature(
    tag: TagV2, kind: LotKeyKind, remaining: int
) -> None:
    lot, key = KEYS[kind]
    raw = bytearray(encode_v2(lot.sign(tag)))
    struct.pack_into("<H", raw, 28, min(remaining, tag.max_uses))
    assert is_signed(_with_checksum(raw), kind, key)


SIGNED_BITS = [bit for bit in range(60 * 8) if not 28 * 8 <= bit < 30 * 8]
"""Of what is signed: all but the remaining uses and the checksum."""


@pytest.mark.parametrize("kind", list(LotKeyKind))
@settings(max_examples=5)  # each of them flips a thousand bits
@given(tag=written_tags())
def test_every_flipped_bit_breaks_the_signature_whatever_the_checksum_says(kind: LotKeyKind, tag: TagV2) -> None:
    lot, key = KEYS[kind]
    raw = encode_v2(lot.sign(tag))
    length = 64 if kind is LotKeyKind.ED25519 else 16
    for bit in [*SIGNED_BITS, *range(64 * 8, (64 + length) * 8)]:
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not is_signed(_with_checksum(flipped), kind, key), bit


@given(written_tags(), KINDS)
def test_an_unsigned_tag_is_not_verified(tag: TagV2, kind: LotKeyKind) -> None:
    assert not is_signed(encode_v2(tag), kind, KEYS[kind][1])


@given(written_tags(), KINDS)
def test_another_lots_key_does_not_verify(tag: TagV2, kind: LotKeyKind) -> None:
    raw = encode_v2(KEYS[kind][0].sign(tag))
    other = Ed25519Lot.of_seed("LOT-A", bytes(32)).public_key if kind is LotKeyKind.ED25519 else bytes(16)
    assert not is_signed(raw, kind, other)


def test_keys_do_not_print() -> None:
    assert SECRET_LOT.key.hex() not in repr(SECRET_LOT)
    assert "000102" not in repr(LOT)
