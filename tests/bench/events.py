"""Events from commit to consumer: relay, broker and consumer host of the runtime, in this process."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar
from uuid import uuid4

import numpy as np
import psutil
from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog import Group
from domain.events import DomainEvent
from domain.messaging import Outbox
from domain.sealing import Sealer
from subgraphs.runtime.consumers import ConsumerHost
from subgraphs.runtime.database import Database
from subgraphs.runtime.faces import Consumer, EventMetadata
from subgraphs.runtime.migrations import migrate
from subgraphs.runtime.outbox import OutboxRelay
from subgraphs.runtime.settings import Settings
from tests.bench.load import WARM_UP_S, Result, cpu_seconds
from tests.support.trust import event_reader, event_writer

_TELLERS = 8
_IN_FLIGHT = 64
_BACKLOG = 20_000
_BACKLOG_WARM_UP = 2_000
_BACKLOG_TRANSACTION = 500


class Happened(DomainEvent):
    """What the benchmark tells, on a topic of the run's own."""

    source: ClassVar[str] = "bench"
    number: int
    aggregate: str

    @property
    def key(self) -> str:
        return self.aggregate


@dataclass(slots=True)
class _Handled:
    """What the consumer has seen.

    Args:
        event: its kind, with the topic.
        lags: seconds from each event to its handler, while `measuring`.
        room: limits the events on their way; released by the consumer.
    """

    event: type[Happened]
    room: asyncio.Semaphore
    count: int = 0
    measuring: bool = False
    lags: list[float] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, _: AsyncSession, __: Happened, metadata: EventMetadata) -> None:
        self.room.release()
        self.count += 1
        if self.measuring:
            self.lags.append((datetime.now(UTC) - metadata.occurred_at).total_seconds())
        self._changed.set()

    async def reach(self, count: int) -> None:
        """Wait until so many events have been handled."""
        while self.count < count:
            self._changed.clear()
            await self._changed.wait()


async def events(settings: Settings, seconds: float) -> list[Result]:
    """The event path with the commands that commit the events, and the event path alone."""
    return [await _commit_to_consumer(settings, seconds), await _backlog(settings)]


async def _commit_to_consumer(settings: Settings, seconds: float) -> Result:
    """Committed one a transaction by eight tellers, at most 64 on their way; the latency is from the command to the handler."""
    handled = _Handled(_event(), asyncio.Semaphore(_IN_FLIGHT))
    async with _database(settings) as database, _event_path(settings, database, handled):
        tellers = [asyncio.create_task(_tell(database, handled, f"aggregate-{n}")) for n in range(_TELLERS)]
        try:
            await asyncio.sleep(WARM_UP_S + 6)  # a consumer group takes some seconds to form
            handled.measuring = True
            started, cpu = time.perf_counter(), _cpu_seconds()
            await asyncio.sleep(seconds)
            handled.measuring = False
            elapsed, cpu = time.perf_counter() - started, _cpu_seconds() - cpu
        finally:
            for teller in tellers:
                teller.cancel()
            await asyncio.gather(*tellers, return_exceptions=True)
    lags = handled.lags
    p50, p99 = (float(q) * 1000 for q in np.percentile(lags, [50, 99])) if lags else (float("nan"),) * 2
    return Result("events, commit to consumer", len(lags), elapsed, p50, p99, _TELLERS, cpu)


async def _backlog(settings: Settings) -> Result:
    """Relay, broker and consumers work off events that were committed before: what the path costs without the commands."""
    handled = _Handled(_event(), asyncio.Semaphore(0))
    async with _database(settings) as database:
        for start in range(0, _BACKLOG, _BACKLOG_TRANSACTION):
            async with database.transaction() as session:
                numbers = range(start, start + _BACKLOG_TRANSACTION)
                await Outbox(session).add(
                    *(handled.event(number=n, aggregate=f"aggregate-{n % _TELLERS}") for n in numbers)
                )
        async with _event_path(settings, database, handled):
            await handled.reach(_BACKLOG_WARM_UP)
            started, cpu, before = time.perf_counter(), _cpu_seconds(), handled.count
            await handled.reach(_BACKLOG)
            elapsed, cpu, count = time.perf_counter() - started, _cpu_seconds() - cpu, handled.count - before
    return Result("events, backlog", count, elapsed, float("nan"), float("nan"), 0, cpu)


def _event() -> type[Happened]:
    return type("HappenedOnTopic", (Happened,), {"topic": f"bench.happened-{uuid4().hex[:8]}"})


def _cpu_seconds() -> float:
    return cpu_seconds([psutil.Process(os.getpid())])


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    name = f"bench_events_{uuid4().hex[:8]}"
    await migrate(settings.database, Group.IDENTITY, name=name)
    database = Database(settings.database, Group.IDENTITY, name=name, max_connections=_TELLERS + 8)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def _event_path(settings: Settings, database: Database, handled: _Handled) -> AsyncIterator[None]:
    """A relay and a consumer host at work."""
    kafka = settings.kafka.model_copy(update={"group_id": database.name})
    consumer = Consumer(service="bench", topic=handled.event.topic, event=handled.event, handle=handled.handle)
    host = ConsumerHost(
        database=database, kafka=kafka, consumers=[consumer], reader=event_reader(), principal_service="bench"
    )
    relay = OutboxRelay(database=database, kafka=kafka, sealer=Sealer({1: bytes(32)}), writer=event_writer())
    work = [asyncio.create_task(relay.run()), asyncio.create_task(host.run())]
    try:
        yield
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


async def _tell(database: Database, handled: _Handled, aggregate: str) -> None:
    """Tell one event after another, as long as the consumer keeps up: the lag is not that of a growing queue."""
    number = 0
    while True:
        await handled.room.acquire()
        number += 1
        async with database.transaction() as session:
            await Outbox(session).add(handled.event(number=number, aggregate=aggregate))
