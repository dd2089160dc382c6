"""What consumers refused or could not handle: `manpasik dead-letters` lists it and sends it again.

Sending again puts the record, as it was signed, on its own topic. Services that have handled it know it by their inboxes
and do nothing; what is not genuine is refused again. So it helps where the reason was outside the event: a public key
that was not deployed, another master key, a fault in a handler that is mended.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from domain.catalog import DEAD_LETTER_TOPIC
from domain.sealing import EventSealer, SealBroken, master_key
from subgraphs.runtime.events import MalformedEvent, decode
from subgraphs.runtime.kafka import REQUEST_TIMEOUT_MS, ensure_topics, silence_client_log
from subgraphs.runtime.record_batches import guard_batches
from subgraphs.runtime.settings import Settings
from subgraphs.runtime.tls import kafka_connection

_QUIET_MS = 2000
_MOST_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Letter:
    """A record that a consumer group could not take.

    Args:
        reason: stable word, a colon, and what was wrong; never content.
        value: as it was published, opened where it was sealed; None where the letter does not hold it.
    """

    topic: str
    partition: int
    offset: int
    group: str
    reason: str
    value: bytes | None

    @property
    def code(self) -> str:
        return self.reason.partition(":")[0]


async def letters(settings: Settings) -> AsyncIterator[Letter]:
    """All letters that the broker still has, in the order of their partitions.

    Raises:
        KafkaError: the broker is away, or refuses us.
    """
    connection = kafka_connection(settings.kafka)
    sealer = EventSealer([master_key(settings.master_secret)])
    silence_client_log()
    guard_batches()
    await ensure_topics(connection, [DEAD_LETTER_TOPIC])
    consumer = AIOKafkaConsumer(
        **connection, enable_auto_commit=False, auto_offset_reset="earliest", request_timeout_ms=REQUEST_TIMEOUT_MS
    )
    await consumer.start()
    try:
        partitions = consumer.partitions_for_topic(DEAD_LETTER_TOPIC) or {0}
        for partition in sorted(partitions):
            place = TopicPartition(DEAD_LETTER_TOPIC, partition)
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            while fetched := await consumer.getmany(place, timeout_ms=_QUIET_MS, max_records=_MOST_AT_ONCE):
                for record in fetched[place]:
                    letter = _letter(dict(record.headers), record.value, sealer)
                    if letter is not None:
                        yield letter
    finally:
        await consumer.stop()


def _letter(headers: Mapping[str, bytes], value: bytes | None, sealer: EventSealer) -> Letter | None:
    """The letter of a record; None when a consumer of ours did not write it."""
    try:
        topic, group, reason = (headers[f].decode() for f in ("original-topic", "consumer-group", "error-reason"))
        partition, offset = int(headers["original-partition"]), int(headers["original-offset"])
    except (KeyError, ValueError):
        return None
    if headers.get("sealed") == b"true" and value:
        try:
            value = sealer.open(value, topic=DEAD_LETTER_TOPIC, event_id=f"{topic} {partition} {offset}")
        except SealBroken:
            value = None
    return Letter(topic, partition, offset, group, reason, value or None)


async def chosen(settings: Settings, *, topic: str, reason: str) -> list[Letter]:
    """The letters of a topic and with a reason's code; an empty text chooses all."""
    return [letter async for letter in letters(settings) if topic in ("", letter.topic) and reason in ("", letter.code)]


def summary(found: Sequence[Letter]) -> list[tuple[str, str, str, int]]:
    """How many letters there are by topic, consumer group and reason's code."""
    counts = Counter((letter.topic, letter.group, letter.code) for letter in found)
    return [(*names, count) for names, count in sorted(counts.items())]


async def send_again(settings: Settings, found: Sequence[Letter]) -> int:
    """Publish each record once more, in the order of the letters; how many could be.

    Raises:
        KafkaError: the broker is away, or refuses us; what was sent before stays sent.
    """
    sent: set[tuple[str, int, int]] = set()
    async with _producer(settings) as producer:
        for letter in found:
            place = (letter.topic, letter.partition, letter.offset)
            if letter.value is None or place in sent:
                continue
            try:
                key = decode(letter.value).metadata.key
            except MalformedEvent:
                continue
            await producer.send_and_wait(letter.topic, value=letter.value, key=key.encode())
            sent.add(place)
    return len(sent)


@asynccontextmanager
async def _producer(settings: Settings) -> AsyncIterator[Any]:
    producer = AIOKafkaProducer(
        **kafka_connection(settings.kafka), acks="all", enable_idempotence=False, request_timeout_ms=REQUEST_TIMEOUT_MS
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()
