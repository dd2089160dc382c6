"""Keeps a batch of records that cannot be read from stopping its partition.

The client library raises while it unpacks a batch whose checksum is wrong, whose records are cut off, or which is
compressed in a way that it has no library for; it neither moves on nor tells where the batch ends, so a consumer meets
the same batch for ever. It also decompresses without a limit. Here such a batch counts as empty, is logged with its
offsets, and counted; a gzip batch may grow to `MAX_BATCH_BYTES`. Our own producers do not compress.

The library offers no place for this, so the class that it unpacks fetched bytes with is replaced: `guard_batches`.

Source: Apache Kafka protocol, record batch (message format 2): length at byte 8, attributes at 21, records from 61.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import structlog
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaError
from aiokafka.record.memory_records import MemoryRecords
from prometheus_client import Counter

MAX_BATCH_BYTES = 16 * 1024 * 1024

BATCHES_UNREADABLE = Counter(
    "event_batches_unreadable_total", "Batches of records that were skipped: they cannot be read"
)

_LENGTH_AT, _OVERHEAD, _MAGIC_AT, _ATTRIBUTES_AT, _RECORDS_AT = 8, 12, 16, 21, 61
_CODEC_BITS, _GZIP = 0x07, 1
_UNREADABLE = (
    KafkaError,
    OSError,
    EOFError,
    zlib.error,
    ValueError,
    IndexError,
    struct.error,
    AssertionError,
    MemoryError,
)

_log = structlog.get_logger("record batches")


class GuardedRecords:
    """The batches in fetched bytes; those that cannot be read are empty."""

    def __init__(self, fetched: bytes) -> None:
        self._fetched = fetched
        self._records = MemoryRecords(fetched)
        self._position = 0

    def size_in_bytes(self) -> int:
        return int(self._records.size_in_bytes())

    def has_next(self) -> bool:
        return bool(self._records.has_next())

    def next_batch(self) -> "_GuardedBatch":
        start = self._position
        (length,) = struct.unpack_from(">i", self._fetched, start + _LENGTH_AT)
        self._position = start + _OVERHEAD + length
        return _GuardedBatch(self._records.next_batch(), _grows_too_large(self._fetched[start : self._position]))


def _grows_too_large(batch: bytes) -> bool:
    """Whether a batch is compressed with gzip and holds more than `MAX_BATCH_BYTES`."""
    if len(batch) <= _RECORDS_AT or batch[_MAGIC_AT] < 2:
        return len(batch) > _MAGIC_AT and batch[_MAGIC_AT] < 2 and _is_compressed_legacy(batch)
    (attributes,) = struct.unpack_from(">h", batch, _ATTRIBUTES_AT)
    if attributes & _CODEC_BITS != _GZIP:
        return False
    unpacking = zlib.decompressobj(31)
    try:
        return len(unpacking.decompress(batch[_RECORDS_AT:], MAX_BATCH_BYTES + 1)) > MAX_BATCH_BYTES
    except zlib.error:
        return True


def _is_compressed_legacy(batch: bytes) -> bool:
    """Of the formats before 2, which no producer of ours writes, only plain messages are read: attributes at byte 17."""
    return len(batch) > _MAGIC_AT + 1 and bool(batch[_MAGIC_AT + 1] & _CODEC_BITS)


class _GuardedBatch:
    """A batch whose records are unpacked before any of them is given out, or none of them."""

    def __init__(self, batch: Any, is_too_large: bool) -> None:
        self._batch = batch
        self._is_too_large = is_too_large

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def validate_crc(self) -> bool:
        """Always true: a wrong checksum makes the batch empty instead of ending the consumer."""
        return True

    def __iter__(self) -> Iterator[Any]:
        try:
            if self._is_too_large:
                raise ValueError("it holds too much, or is compressed in an old format")
            if not self._batch.validate_crc():
                raise ValueError("its checksum is wrong")
            return iter(list(self._batch))
        except _UNREADABLE as error:
            BATCHES_UNREADABLE.inc()
            _log.error(
                "a batch of records cannot be read and is skipped",
                base_offset=self._batch.base_offset,
                next_offset=self._batch.next_offset,
                error=type(error).__name__,
            )
            return iter(())


def guard_batches() -> None:
    """Let all consumers of this process unpack what they fetch with `GuardedRecords`."""
    fetcher.MemoryRecords = GuardedRecords
