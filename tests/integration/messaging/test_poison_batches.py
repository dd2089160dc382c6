"""Batches that the client library cannot read: they stop neither their partition nor their consumer."""

import gzip
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c
from prometheus_client import REGISTRY

from domain.ids import new_id
from subgraphs.runtime.database import Database
from subgraphs.runtime.events import CommittedEvent
from subgraphs.runtime.kafka import ensure_topics
from subgraphs.runtime.settings import KafkaSettings
from tests.integration.messaging.scene import effects, host_of, running, until
from tests.support.trust import event_writer

_RECORDS_AT = 61


def event(topic: str, number: int) -> bytes:
    row = CommittedEvent(
        id=0,
        event_id=new_id(),
        topic=topic,
        key="k",
        source="device",
        occurred_at=datetime.now(UTC),
        payload={"aggregate": "k", "number": number},
    )
    return event_writer().write(row)


def _with(batch: bytes, records: bytes, codec: int) -> bytes:
    """The batch with other bytes for its records, said to be compressed, and a right checksum."""
    changed = bytearray(batch[:_RECORDS_AT] + records)
    struct.pack_into(">i", changed, 8, len(changed) - 12)
    struct.pack_into(">h", changed, 21, codec)
    struct.pack_into(">I", changed, 17, calc_crc32c(bytes(changed[21:])))
    return bytes(changed)


_SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "snappy": lambda batch: _with(batch, batch[_RECORDS_AT:], 2),
    "lz4": lambda batch: _with(batch, batch[_RECORDS_AT:], 3),
    "zstd": lambda batch: _with(batch, batch[_RECORDS_AT:], 4),
    "gzip that is none": lambda batch: _with(batch, batch[_RECORDS_AT:], 1),
    "gzip that is cut off": lambda batch: _with(batch, gzip.compress(batch[_RECORDS_AT:])[:-20], 1),
    "gzip that grows without end": lambda batch: _with(batch, gzip.compress(bytes(300_000_000), 9), 1),
    "cut off records": lambda batch: _with(batch, batch[_RECORDS_AT:-10], 0),
    "a wrong checksum": lambda batch: batch[:-1] + bytes([batch[-1] ^ 1]),
}


async def publish(brokers: str, topic: str, *values: bytes, spoil: Callable[[bytes], bytes] | None = None) -> None:
    """Put the values on a topic as one batch, changed before it leaves."""
    producer: Any = AIOKafkaProducer(bootstrap_servers=brokers)
    await producer.start()
    try:
        batch = producer.create_batch()
        for value in values:
            batch.append(timestamp=None, key=b"k", value=value)
        built = batch._build()
        if spoil is not None:
            batch._buffer = spoil(bytes(built))
        await (await producer.send_batch(batch, topic, partition=0))
    finally:
        await producer.stop()


@pytest.mark.parametrize("kind", _SPOILT)
async def test_a_batch_that_cannot_be_read_is_skipped_and_those_around_it_take_effect(
    database: Database, kafka: KafkaSettings, topic: str, kind: str
) -> None:
    await ensure_topics({"bootstrap_servers": kafka.brokers}, [topic], partitions=1)
    before = REGISTRY.get_sample_value("event_batches_unreadable_total") or 0.0
    await publish(kafka.brokers, topic, event(topic, 1))
    await publish(kafka.brokers, topic, *(event(topic, number) for number in (2, 3, 4)), spoil=_SPOILT[kind])
    await publish(kafka.brokers, topic, event(topic, 5))

    async def arrived() -> bool:
        return 5 in await effects(database)

    async with running(host_of(database, kafka, [topic])):
        await until(arrived)
    assert await effects(database) == [1, 5]
    assert (REGISTRY.get_sample_value("event_batches_unreadable_total") or 0.0) > before


async def test_a_gzip_batch_within_the_bounds_is_read(database: Database, kafka: KafkaSettings, topic: str) -> None:
    await ensure_topics({"bootstrap_servers": kafka.brokers}, [topic], partitions=1)
    await publish(
        kafka.brokers,
        topic,
        event(topic, 1),
        event(topic, 2),
        spoil=lambda batch: _with(batch, gzip.compress(batch[_RECORDS_AT:]), 1),
    )

    async def arrived() -> bool:
        return len(await effects(database)) == 2

    async with running(host_of(database, kafka, [topic])):
        await until(arrived)
    assert await effects(database) == [1, 2]
