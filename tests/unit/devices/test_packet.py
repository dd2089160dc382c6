import struct
import uuid
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.errors import (
    DeviceError,
    FrameInvalid,
    PacketChecksumMismatch,
    PacketHeaderInvalid,
    PacketTooLong,
    PacketTruncated,
)
from devices.frame import RawFrame
from devices.packet import HEADER_BYTES, Packet, decode_packet, encode_packet, packet_size
from tests.unit.devices.strategies import raw_frames, session_ids

SESSION = str(uuid.UUID(int=0x0192_7C1B_7000_8000_0000_0000_0000_0001))
FRAME = RawFrame(
    timestamp_us=1_790_000_000_123_456,
    raw_channels=np.linspace(-1.0, 60.0, 88),
    s_det=1.234,
    s_ref=0.012,
    alpha=0.95,
    temp_c=25.5,
    humidity_pct=50.0,
    pressure_kpa=101.25,
)


def _with_checksum(raw: bytearray) -> bytes:
    raw[-4:] = struct.pack("<I", zlib.crc32(raw[:-4]))
    return bytes(raw)


@given(session_ids, st.integers(0, 2**32 - 1), raw_frames())
def test_a_packet_survives_the_round_trip(session_id: str, sequence: int, frame: RawFrame) -> None:
    packet = Packet(session_id, sequence, frame)
    assert decode_packet(encode_packet(packet)) == packet


@given(session_ids, raw_frames(f32=True))
def test_a_compact_packet_keeps_what_f32_can_hold(session_id: str, frame: RawFrame) -> None:
    packet = Packet(session_id, 7, frame)
    assert decode_packet(encode_packet(packet, compact=True)) == packet


@given(st.binary(max_size=120))
def test_arbitrary_bytes_give_a_typed_error(raw: bytes) -> None:
    with pytest.raises(DeviceError):
        decode_packet(raw)


@given(st.data())
def test_each_flipped_bit_is_detected(data: st.DataObject) -> None:
    raw = bytearray(encode_packet(Packet(SESSION, 3, FRAME)))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises((PacketChecksumMismatch, PacketHeaderInvalid, PacketTruncated, PacketTooLong)):
        decode_packet(bytes(raw))


def test_the_layout_is_the_documented_one() -> None:
    raw = encode_packet(Packet(SESSION, 3, FRAME))
    assert HEADER_BYTES == 57
    assert raw[:8] == b"MPKF" + bytes([1, 2]) + struct.pack("<H", 88)
    assert struct.unpack_from("<IQddd", raw, 8) == (3, FRAME.timestamp_us, 1.234, 0.012, 0.95)
    assert struct.unpack_from("<fffB", raw, 44) == (25.5, 50.0, 101.25, 16)
    assert raw[57:73] == uuid.UUID(SESSION).bytes
    assert np.array_equal(np.frombuffer(raw, "<f8", 88, 73), FRAME.raw_channels)
    assert len(raw) == 73 + 88 * 8 + 4
    assert struct.unpack_from("<I", raw, len(raw) - 4)[0] == zlib.crc32(raw[:-4])


def test_compact_channels_take_half_the_bytes() -> None:
    whole, compact = (encode_packet(Packet(SESSION, 0, FRAME), compact=compact) for compact in (False, True))
    assert len(whole) - len(compact) == 88 * 4


def test_packets_can_be_cut_from_a_byte_stream() -> None:
    packets = [Packet(name, number, FRAME) for number, name in enumerate([SESSION, "s-1", "another"])]
    stream = b"".join(encode_packet(packet, compact=packet.sequence == 1) for packet in packets)
    cut = []
    while stream:
        size = packet_size(stream)
        cut.append(decode_packet(stream[:size]).session_id)
        stream = stream[size:]
    assert cut == [SESSION, "s-1", "another"]


@pytest.mark.parametrize("missing", [1, 4, 500, 700])
def test_a_truncated_packet_is_told_from_a_damaged_one(missing: int) -> None:
    with pytest.raises(PacketTruncated):
        decode_packet(encode_packet(Packet(SESSION, 0, FRAME))[:-missing])


def test_bytes_after_the_packet_are_refused() -> None:
    with pytest.raises(PacketTooLong):
        decode_packet(encode_packet(Packet(SESSION, 0, FRAME)) + b"\0")


@pytest.mark.parametrize(
    ("offset", "replacement", "field"),
    [
        (0, b"NOPE", "magic"),
        (4, b"\x02", "version"),
        (5, b"\x04", "flags"),
        (6, b"\x00\x00", "channel count"),
        (56, b"\x00", "id length"),
        (56, b"\x0f", "id length"),
    ],
)
def test_a_foreign_header_names_its_field(offset: int, replacement: bytes, field: str) -> None:
    raw = bytearray(encode_packet(Packet(SESSION, 0, FRAME)))
    raw[offset : offset + len(replacement)] = replacement
    with pytest.raises(PacketHeaderInvalid) as caught:
        decode_packet(_with_checksum(raw))
    assert caught.value.field == field


def test_a_session_id_that_is_not_utf8_is_refused() -> None:
    raw = bytearray(encode_packet(Packet("abc", 0, FRAME)))
    raw[57] = 0xFF
    with pytest.raises(PacketHeaderInvalid, match="UTF-8"):
        decode_packet(_with_checksum(raw))


def test_nan_on_the_wire_is_refused_although_the_checksum_fits() -> None:
    raw = bytearray(encode_packet(Packet("abc", 0, FRAME)))
    raw[60 + 8 * 5 : 60 + 8 * 6] = struct.pack("<d", float("nan"))
    with pytest.raises(FrameInvalid, match=r"raw_channels\[5\]"):
        decode_packet(_with_checksum(raw))


@pytest.mark.parametrize("session_id", ["", "x" * 129, "é" * 65])
def test_a_session_id_that_the_header_cannot_hold_is_refused(session_id: str) -> None:
    with pytest.raises(PacketHeaderInvalid, match="session_id"):
        Packet(session_id, 0, FRAME)


def test_values_beyond_f32_are_refused_and_not_turned_into_infinity() -> None:
    wide = RawFrame(
        timestamp_us=0,
        raw_channels=np.array([1e300]),
        s_det=0,
        s_ref=0,
        alpha=0,
        temp_c=0,
        humidity_pct=0,
        pressure_kpa=0,
    )
    with pytest.raises(PacketHeaderInvalid, match="raw_channels"):
        encode_packet(Packet("s", 0, wide), compact=True)
    hot = RawFrame(
        timestamp_us=0, raw_channels=np.ones(1), s_det=0, s_ref=0, alpha=0, temp_c=1e300, humidity_pct=0, pressure_kpa=0
    )
    with pytest.raises(PacketHeaderInvalid, match="temp_c"):
        encode_packet(Packet("s", 0, hot))
