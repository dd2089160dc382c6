"""Codec of the binary packet that a reader sends over BLE or MQTT: one frame of one session.

All numbers are little endian.

======== ====== ================== ===========================================================================
offset   size   field              meaning
======== ====== ================== ===========================================================================
0        4      magic              ``MPKF``
4        1      version            1
5        1      flags              bit 0: channels are f32 instead of f64; bit 1: the session id is a binary UUID;
                                   all other bits are zero
6        2      channel count n    u16, 1 to 65535
8        4      ``sequence``       u32, counts the frames of a session from 0; gaps show losses on the radio link
12       8      ``timestamp_us``   u64, microseconds since 1970-01-01T00:00Z
20       8      ``s_det``          f64, nanoampere
28       8      ``s_ref``          f64, nanoampere
36       8      ``alpha``          f64
44       4      ``temp_c``         f32, degrees Celsius
48       4      ``humidity_pct``   f32, percent relative humidity
52       4      ``pressure_kpa``   f32, kilopascal
56       1      id length k        u8, 1 to 128; 16 with flag bit 1
57       k      ``session_id``     UTF-8, or the 16 bytes of the UUID
57+k     n*8    ``raw_channels``   f64 (or f32: n*4), nanoampere
...      4      checksum           u32, CRC-32 (IEEE 802.3, as in zlib) over all bytes before it
======== ====== ================== ===========================================================================

The time is in microseconds, not milliseconds, because the platform names a frame by session and time.
A canonical lower-case UUID is always sent in 16 bytes, so every packet has exactly one encoding.
On its way on, `devices.client.messages.to_measurement_data` makes the frame a message of the wire contract.
Splitting a packet to the size of a radio link is the link's work (GATT long writes, MQTT carries it whole).
"""

import struct
import uuid
import zlib
from dataclasses import dataclass
from enum import IntFlag

import numpy as np

from devices.errors import (
    PacketChecksumMismatch,
    PacketHeaderInvalid,
    PacketTooLong,
    PacketTruncated,
)
from devices.frame import RawFrame

MAGIC = b"MPKF"
VERSION = 1
MAX_SESSION_ID_BYTES = 128

_HEADER = struct.Struct("<4sBBHIQdddfffB")
_CHECKSUM = struct.Struct("<I")
HEADER_BYTES = _HEADER.size


class PacketFlags(IntFlag):
    """Flag bits of the header."""

    CHANNELS_F32 = 1
    SESSION_IS_UUID = 2


_KNOWN_FLAGS = int(PacketFlags.CHANNELS_F32 | PacketFlags.SESSION_IS_UUID)


@dataclass(frozen=True, slots=True)
class Packet:
    """A frame with the session it belongs to and its place in it.

    Raises:
        PacketHeaderInvalid: the session id or the sequence does not fit the header.
    """

    session_id: str
    sequence: int
    frame: RawFrame

    def __post_init__(self) -> None:
        size = len(self.session_id.encode())
        if not 1 <= size <= MAX_SESSION_ID_BYTES:
            raise PacketHeaderInvalid("session_id", self.session_id, f"must have 1 to {MAX_SESSION_ID_BYTES} bytes")
        if not 0 <= self.sequence <= 0xFFFF_FFFF:
            raise PacketHeaderInvalid("sequence", self.sequence, "must be from 0 to 4294967295")


def encode_packet(packet: Packet, *, compact: bool = False) -> bytes:
    """The bytes of a packet.

    Args:
        compact: send channels as f32: half the bytes, about 7 significant digits.
    Raises:
        PacketHeaderInvalid: a channel or an ambient value is beyond the range of f32.
    """
    frame = packet.frame
    flags = PacketFlags.CHANNELS_F32 if compact else PacketFlags(0)
    session = _binary_uuid(packet.session_id)
    if session is None:
        session = packet.session_id.encode()
    else:
        flags |= PacketFlags.SESSION_IS_UUID
    if compact and np.abs(frame.raw_channels).max() > np.finfo(np.float32).max:
        raise PacketHeaderInvalid("raw_channels", "beyond f32", "must fit the compact encoding")
    try:
        header = _HEADER.pack(
            MAGIC,
            VERSION,
            int(flags),
            frame.raw_channels.size,
            packet.sequence,
            frame.timestamp_us,
            frame.s_det,
            frame.s_ref,
            frame.alpha,
            frame.temp_c,
            frame.humidity_pct,
            frame.pressure_kpa,
            len(session),
        )
    except OverflowError as error:  # only the three f32 fields can overflow; integers were checked before
        ambient = (frame.temp_c, frame.humidity_pct, frame.pressure_kpa)
        raise PacketHeaderInvalid("temp_c, humidity_pct, pressure_kpa", ambient, "must fit f32") from error
    body = header + session + frame.raw_channels.astype("<f4" if compact else "<f8").tobytes()
    return body + _CHECKSUM.pack(zlib.crc32(body))


def packet_size(raw: bytes) -> int:
    """Whole size in bytes of the packet that starts here, so that a byte stream can be cut into packets.

    Raises:
        PacketTruncated: fewer bytes than a header.
        PacketHeaderInvalid: no packet starts here.
    """
    if len(raw) < HEADER_BYTES:
        raise PacketTruncated(needed=HEADER_BYTES, got=len(raw))
    magic, version, flags, count, *_, id_bytes = _HEADER.unpack_from(raw)
    if magic != MAGIC:
        raise PacketHeaderInvalid("magic", magic, f"must be {MAGIC!r}")
    if version != VERSION:
        raise PacketHeaderInvalid("version", version, f"must be {VERSION}")
    if flags & ~_KNOWN_FLAGS:
        raise PacketHeaderInvalid("flags", flags, "has unknown bits")
    if count == 0:
        raise PacketHeaderInvalid("channel count", count, "must be at least 1")
    is_uuid = bool(flags & PacketFlags.SESSION_IS_UUID)
    if not 1 <= id_bytes <= MAX_SESSION_ID_BYTES or (is_uuid and id_bytes != 16):
        raise PacketHeaderInvalid("id length", id_bytes, f"must be 1 to {MAX_SESSION_ID_BYTES}, 16 for a UUID")
    width = 4 if flags & PacketFlags.CHANNELS_F32 else 8
    return HEADER_BYTES + int(id_bytes) + int(count) * width + _CHECKSUM.size


def decode_packet(raw: bytes) -> Packet:
    """The packet in exactly these bytes.

    Raises:
        PacketTruncated, PacketTooLong: the length differs from what the header says.
        PacketHeaderInvalid: not a packet of this version, or its session id is not UTF-8.
        PacketChecksumMismatch: the bytes were damaged on the way.
        FrameInvalid: the checksum fits, but a value is not finite or out of range.
    """
    size = packet_size(raw)
    if len(raw) < size:
        raise PacketTruncated(needed=size, got=len(raw))
    if len(raw) > size:
        raise PacketTooLong(expected=size, got=len(raw))
    (stored,) = _CHECKSUM.unpack_from(raw, size - _CHECKSUM.size)
    computed = zlib.crc32(memoryview(raw)[: size - _CHECKSUM.size])
    if stored != computed:
        raise PacketChecksumMismatch(stored=stored, computed=computed)
    _, _, flags, count, sequence, timestamp_us, s_det, s_ref, alpha, temp, humidity, pressure, id_bytes = (
        _HEADER.unpack_from(raw)
    )
    session = bytes(raw[HEADER_BYTES : HEADER_BYTES + id_bytes])
    width = "<f4" if flags & PacketFlags.CHANNELS_F32 else "<f8"
    channels = np.frombuffer(raw, dtype=width, count=count, offset=HEADER_BYTES + id_bytes)
    return Packet(
        session_id=_read_session_id(session, is_uuid=bool(flags & PacketFlags.SESSION_IS_UUID)),
        sequence=sequence,
        frame=RawFrame(
            timestamp_us=timestamp_us,
            raw_channels=channels.astype(np.float64),
            s_det=s_det,
            s_ref=s_ref,
            alpha=alpha,
            temp_c=temp,
            humidity_pct=humidity,
            pressure_kpa=pressure,
        ),
    )


def _binary_uuid(session_id: str) -> bytes | None:
    try:
        parsed = uuid.UUID(session_id)
    except ValueError:
        return None
    return parsed.bytes if str(parsed) == session_id else None


def _read_session_id(raw: bytes, *, is_uuid: bool) -> str:
    if is_uuid:
        return str(uuid.UUID(bytes=raw))
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise PacketHeaderInvalid("session_id", raw, "must be UTF-8") from error
