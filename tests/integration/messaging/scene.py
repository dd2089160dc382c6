"""What the messaging tests play with: an event with a number, a handler that writes it down, hosts and relays."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.events import DomainEvent
from domain.messaging import Outbox
from domain.sealing import Sealer
from subgraphs.runtime.consumers import ConsumerHost
from subgraphs.runtime.database import Database
from subgraphs.runtime.events import EventReader
from subgraphs.runtime.faces import Consumer, EventMetadata
from subgraphs.runtime.outbox import OutboxRelay
from subgraphs.runtime.settings import KafkaSettings
from tests.support.trust import event_reader, event_writer

Handler = Callable[[AsyncSession, "Counted", EventMetadata], Awaitable[None]]


class Counted(DomainEvent):
    """An event of one aggregate, with a number that tells the order."""

    source: ClassVar[str] = "device"
    aggregate: str
    number: int

    @property
    def key(self) -> str:
        return self.aggregate


def counted(topic: str) -> type[Counted]:
    """`Counted` on a topic of the test's own."""
    return type("CountedOnTopic", (Counted,), {"topic": topic})


async def tell(database: Database, topic: str, *events: tuple[str, int]) -> None:
    """Commit events in one transaction, in this order."""
    kind = counted(topic)
    async with database.transaction() as session:
        await Outbox(session).add(*(kind(aggregate=key, number=number) for key, number in events))


async def write_down(session: AsyncSession, event: Counted, _: EventMetadata) -> None:
    """The effect of an event: a row."""
    await session.execute(
        text("INSERT INTO effects (key, number) VALUES (:key, :number)"),
        {"key": event.aggregate, "number": event.number},
    )


async def effects(database: Database, key: str | None = None) -> list[int]:
    """The numbers that were written down, in the order of their commits for one key."""
    async with database.read() as session:
        query = "SELECT number FROM effects WHERE CAST(:key AS text) IS NULL OR key = :key ORDER BY id"
        return list((await session.scalars(text(query), {"key": key})).all())


async def pending(database: Database) -> int:
    async with database.read() as session:
        return int(await session.scalar(text("SELECT count(*) FROM outbox WHERE published_at IS NULL")) or 0)


async def until(condition: Callable[[], Awaitable[bool]], *, timeout_s: float = 30.0) -> None:
    """Wait until it holds.

    Raises:
        AssertionError: it does not hold in time.
    """
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.02)


class Runs(Protocol):
    async def run(self) -> None: ...


@asynccontextmanager
async def running(*things: Runs) -> AsyncIterator[None]:
    """Runs relays and hosts during the block; that one of them fails, or does not end, fails the test."""
    tasks = [asyncio.create_task(thing.run()) for thing in things]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended, still = await asyncio.wait(tasks, timeout=30)
        for task in ended:
            with suppress(asyncio.CancelledError):
                await task
        assert not still, "cancelled, it went on"


SEALER = Sealer({1: bytes(range(32))})


def relay_of(database: Database, kafka: KafkaSettings) -> OutboxRelay:
    return OutboxRelay(
        database=database,
        kafka=kafka,
        sealer=database.sealer or SEALER,
        writer=event_writer(),
        poll_interval_s=0.2,
        check_interval_s=0.5,
    )


def host_of(
    database: Database,
    kafka: KafkaSettings,
    topics: Sequence[str],
    handle: Handler = write_down,
    *,
    retry_delays_s: Sequence[float] = (0.01, 0.02, 0.04),
    stop_within_s: float = 5.0,
    reader: EventReader | None = None,
) -> ConsumerHost:
    return ConsumerHost(
        database=database,
        kafka=kafka,
        consumers=[
            Consumer(service="calibration", topic=topic, event=counted(topic), handle=handle) for topic in topics
        ],
        reader=reader or event_reader(),
        principal_service="calibration",
        retry_delays_s=retry_delays_s,
        session_timeout_s=1.0,  # the embedded broker lets a member wait half of it before a group begins
        stop_within_s=stop_within_s,
    )


async def records_of(brokers: str, topic: str, *, quiet_s: float = 0.5) -> list[ConsumerRecord]:
    """All records of a topic: read from the start until there is nothing more for a while."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=brokers, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        records: list[ConsumerRecord] = []
        while fetched := await consumer.getmany(timeout_ms=int(quiet_s * 1000)):
            for of_partition in fetched.values():
                records += of_partition
        return records
    finally:
        await consumer.stop()


async def publish_raw(
    brokers: str, topic: str, value: bytes | None, *, key: str = "k", headers: Sequence[tuple[str, bytes]] = ()
) -> None:
    """Put a record on a topic without an outbox."""
    producer: Any = AIOKafkaProducer(bootstrap_servers=brokers)
    await producer.start()
    try:
        await producer.send_and_wait(topic, value=value, key=key.encode(), headers=list(headers))
    finally:
        await producer.stop()
