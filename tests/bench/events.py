"""Events from commit to consumer: relay, broker and consumer host of the runtime, in this process."""

import asyncio
import os
import time
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


class Happened(DomainEvent):
    """What the benchmark tells."""

    topic: ClassVar[str] = "bench.happened"
    source: ClassVar[str] = "bench"
    number: int
    aggregate: str

    @property
    def key(self) -> str:
        return self.aggregate


async def events(settings: Settings, seconds: float) -> list[Result]:
    """Committed one a transaction by eight tellers, at most 64 on their way; the latency is from the command to the handler."""
    name = f"bench_events_{uuid4().hex[:8]}"
    await migrate(settings.database, Group.IDENTITY, name=name)
    database = Database(settings.database, Group.IDENTITY, name=name, max_connections=_TELLERS + 8)
    lags: list[float] = []
    measuring = asyncio.Event()
    told = asyncio.Semaphore(_IN_FLIGHT)
    kafka = settings.kafka.model_copy(update={"group_id": name})

    async def handle(_: AsyncSession, __: Happened, metadata: EventMetadata) -> None:
        told.release()
        if measuring.is_set():
            lags.append((datetime.now(UTC) - metadata.occurred_at).total_seconds())

    consumer = Consumer(service="bench", topic=Happened.topic, event=Happened, handle=handle)
    host = ConsumerHost(
        database=database, kafka=kafka, consumers=[consumer], reader=event_reader(), principal_service="bench"
    )
    work = [
        asyncio.create_task(
            OutboxRelay(database=database, kafka=kafka, sealer=Sealer({1: bytes(32)}), writer=event_writer()).run()
        ),
        asyncio.create_task(host.run()),
    ]
    process = psutil.Process(os.getpid())
    try:
        tellers = [asyncio.create_task(_tell(database, f"aggregate-{n}", told)) for n in range(_TELLERS)]
        await asyncio.sleep(WARM_UP_S + 6)  # a consumer group takes some seconds to form
        measuring.set()
        started, cpu = time.perf_counter(), cpu_seconds([process])
        await asyncio.sleep(seconds)
        measuring.clear()
        elapsed, cpu = time.perf_counter() - started, cpu_seconds([process]) - cpu
    finally:
        for task in (*tellers, *work):
            task.cancel()
        await asyncio.gather(*tellers, *work, return_exceptions=True)
        await database.close()
    p50, p99 = (float(q) * 1000 for q in np.percentile(lags, [50, 99])) if lags else (float("nan"),) * 2
    return [Result("events, commit to consumer", len(lags), elapsed, p50, p99, _TELLERS, cpu)]


async def _tell(database: Database, aggregate: str, told: asyncio.Semaphore) -> None:
    """Tell one event after another, as long as the consumer keeps up: the lag is not that of a growing queue."""
    number = 0
    while True:
        await told.acquire()
        number += 1
        async with database.transaction() as session:
            await Outbox(session).add(Happened(number=number, aggregate=aggregate))
