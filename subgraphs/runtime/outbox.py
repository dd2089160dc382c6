"""The outbox relay: publishes what a group's transactions have committed, at least once and in order for each key.

A relay claims whole shards (row locks, SKIP LOCKED), so any number of processes may relay for one database and still a
key has one publisher at a time. In a round it builds one Kafka batch for each partition from the claimed rows in the
order of their ids and waits for all of them: a batch is appended whole or not at all, so a failure can never let a later
event of a key overtake an earlier one. (Sending row by row with several requests on the way could.) The rows are
marked in the transaction that claimed them; a crash in between publishes them again, and inboxes drop the duplicates.

A broker that keeps its log in memory forgets it when it restarts. Published rows stay for `OUTBOX_RETENTION_HOURS`
with partition and offset, and the relay keeps a *witness*: one published row whose record it looks for at the broker
every few seconds. When the record is not there any more, all retained rows become pending again, under the locks of all
shards. Comparing end offsets would be cheaper, but a forgetful broker may have grown past them by then, and the embedded
broker answers that question wrongly (it tells the first offset of the last batch).
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.partitioner import DefaultPartitioner
from prometheus_client import Counter, Gauge
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.messaging import OUTBOX_CHANNEL, OutboxRow, payload_context
from domain.sealing import SealBroken, Sealer
from subgraphs.runtime.cancellation import end_within
from subgraphs.runtime.database import Database
from subgraphs.runtime.events import CONTENT_TYPE, CommittedEvent, EventWriter, MalformedEvent, decode
from subgraphs.runtime.kafka import REQUEST_TIMEOUT_MS, ensure_topics, is_broker_outage, let_go, silence_client_log
from subgraphs.runtime.outages import is_outage
from subgraphs.runtime.settings import KafkaSettings
from subgraphs.runtime.signature_trees import GROUP
from subgraphs.runtime.tls import kafka_connection

OUTBOX_PUBLISHED = Counter("outbox_published_total", "Events that the broker has acknowledged", ["group", "topic"])
OUTBOX_PENDING = Gauge("outbox_pending", "Events that are committed and not yet published", ["group"])
OUTBOX_LAG_SECONDS = Gauge("outbox_lag_seconds", "Age of the oldest event that is not yet published", ["group"])
OUTBOX_RESTORED = Counter("outbox_restored_total", "Events published again because the broker lost them", ["group"])

_BATCH_ROWS = 1000
_BATCH_BYTES = 512 * 1024
_PRUNE_ROWS = 5000
_MOST_TOLD = 10_000
_PRUNE_EVERY_S = 300.0
_BACK_OFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
_PROBE_TIMEOUT_MS = 1500
_ANSWER_TIMEOUT_S = 2 * REQUEST_TIMEOUT_MS / 1000
_END_WITHIN_S = 2.0

_CLAIM = text(
    """
    SELECT shard FROM outbox_shards s
    WHERE EXISTS (
        SELECT 1 FROM outbox o
        WHERE o.shard = s.shard AND o.published_at IS NULL AND o.source = ANY (CAST(:sources AS varchar[]))
    )
    ORDER BY shard FOR UPDATE SKIP LOCKED
    """
)
_MARK = text(
    """
    UPDATE outbox o SET published_at = now(), partition = m.partition, broker_offset = m.broker_offset
    FROM unnest(CAST(:ids AS bigint[]), CAST(:partitions AS integer[]), CAST(:offsets AS bigint[]))
        AS m (id, partition, broker_offset)
    WHERE o.id = m.id
    """
)
_RESTORE = text(
    """
    UPDATE outbox SET published_at = NULL, partition = NULL, broker_offset = NULL
    WHERE published_at > now() - make_interval(hours => :hours)
    """
)
_PRUNE = text(
    """
    DELETE FROM outbox WHERE id IN (
        SELECT id FROM outbox WHERE published_at < now() - make_interval(hours => :hours)
        ORDER BY published_at LIMIT :rows FOR UPDATE SKIP LOCKED
    )
    """
)
_PENDING = text(
    """
    SELECT count(*), min(occurred_at), array_agg(DISTINCT source) FILTER (WHERE source <> ALL (CAST(:sources AS varchar[])))
    FROM outbox WHERE published_at IS NULL
    """
)


class BrokerForgot(Exception):
    """The broker gave an offset that it had given before: it has lost its log."""


@dataclass(frozen=True, slots=True)
class _Witness:
    """A published row whose record tells whether the broker still has what it acknowledged."""

    row_id: int
    event_id: str
    place: TopicPartition
    offset: int


@dataclass(frozen=True, slots=True)
class _Acknowledged:
    ids: Sequence[int]
    place: TopicPartition
    base_offset: int


class OutboxRelay:
    """The relay of one group's database in one process.

    Args:
        sealer: opens the payloads that carry health data.
        writer: seals and signs what is published.
        poll_interval_s: how long a committed event waits at most when its notification is lost.
        check_interval_s: how often the broker is asked whether it still has what it acknowledged.
    """

    def __init__(
        self,
        *,
        database: Database,
        kafka: KafkaSettings,
        sealer: Sealer,
        writer: EventWriter,
        poll_interval_s: float = 1.0,
        check_interval_s: float = 5.0,
    ) -> None:
        self._database = database
        self._group = database.group.value
        self._connection = kafka_connection(kafka)
        self._sealer = sealer
        self._writer = writer
        self._sources = writer.sources
        self._retention_hours = kafka.outbox_retention_hours
        self._poll_interval_s = poll_interval_s
        self._check_interval_s = check_interval_s
        self._wake = asyncio.Event()
        self._partition_of = DefaultPartitioner()
        self._witness: _Witness | None = None
        self._last_offsets: dict[TopicPartition, int] = {}
        self._known_topics: set[str] = set()
        self._broken: set[int] = set()
        self._log = structlog.get_logger("outbox").bind(group=self._group)
        silence_client_log()

    async def run(self) -> None:
        """Publish until cancelled; waits for a broker or a database that is away, however long.

        Ends within a few seconds of the cancellation, even if neither of them answers.
        """
        async with asyncio.TaskGroup() as tasks:
            for work in (self._listen(), self._maintain(), self._relay()):
                tasks.create_task(end_within(work, what=f"outbox {self._group}", within_s=_END_WITHIN_S))

    async def _relay(self) -> None:
        failures = 0
        while True:
            try:
                async with self._producer() as producer:
                    await self._restore_what_broker_forgot()
                    if failures:
                        self._log.info("the relay works again")
                    failures = 0
                    await self._publish_for_ever(producer)
            except BrokerForgot:
                continue  # connects again, which restores first
            except Exception as error:
                if not (is_outage(error) or is_broker_outage(error)):
                    raise
                if not failures:
                    self._log.warning("the relay waits for broker or database", error=repr(error))
            await asyncio.sleep(_BACK_OFF_S[min(failures, len(_BACK_OFF_S) - 1)])
            failures += 1

    @asynccontextmanager
    async def _producer(self) -> AsyncIterator[AIOKafkaProducer]:
        self._known_topics.clear()
        # No idempotence: the embedded broker has none, and inboxes drop duplicates anyway.
        producer = AIOKafkaProducer(
            **self._connection,
            acks="all",
            enable_idempotence=False,
            max_batch_size=_BATCH_BYTES,
            max_request_size=4 * _BATCH_BYTES,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            await producer.start()
            yield producer
        finally:
            await let_go(producer.stop())

    async def _publish_for_ever(self, producer: AIOKafkaProducer) -> None:
        loop = asyncio.get_running_loop()
        checked = loop.time()
        while True:
            self._wake.clear()
            while await self._publish_round(producer):
                if loop.time() - checked > self._check_interval_s:
                    break
            if loop.time() - checked > self._check_interval_s:
                await self._restore_what_broker_forgot()
                checked = loop.time()
                continue
            # Not wait_for, here and below: before Python 3.12 it may lose a cancellation that meets the end of its wait.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_interval_s):
                    await self._wake.wait()
            # A broker that was restarted meanwhile must know its topics before it is written to: the embedded one takes
            # records for a topic that it does not know, and starts its log over when the topic is made.
            # It costs 1 ms of an event's 8 while there is one now and then, and nothing while one round follows another.
            if self._wake.is_set():
                async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                    if not await producer.client.force_metadata_update():
                        raise KafkaConnectionError("the broker does not answer")

    async def _publish_round(self, producer: AIOKafkaProducer) -> int:
        """How many rows were published: of each partition, as many as fit into one batch.

        Raises:
            BrokerForgot: the broker has lost its log.
            KafkaError: a batch was not acknowledged; those that were are marked.
        """
        async with self._database.transaction() as session:
            rows = await self._claim(session)
            if not rows:
                return 0
            acknowledged, failure = await self._send(producer, rows)
            await self._mark(session, acknowledged)
        for batch in acknowledged:
            if batch.ids:
                self._last_offsets[batch.place] = batch.base_offset + len(batch.ids) - 1
            OUTBOX_PUBLISHED.labels(self._group, batch.place.topic).inc(len(batch.ids))
        if failure is not None:
            raise failure
        return sum(len(batch.ids) for batch in acknowledged)

    async def _claim(self, session: AsyncSession) -> Sequence[Any]:
        """Pending rows, in order, of shards that nobody else relays at this moment; the session's locks hold them."""
        shards = (await session.scalars(_CLAIM, {"sources": self._sources})).all()
        if not shards:
            return ()
        # A second statement, so that it sees what the previous owner of a shard has marked.
        result = await session.execute(
            select(
                OutboxRow.id,
                OutboxRow.event_id,
                OutboxRow.topic,
                OutboxRow.key,
                OutboxRow.source,
                OutboxRow.occurred_at,
                OutboxRow.payload,
                OutboxRow.sealed_payload,
                OutboxRow.correlation_id,
                OutboxRow.traceparent,
            )
            .where(
                OutboxRow.shard.in_(shards),
                OutboxRow.published_at.is_(None),
                OutboxRow.source.in_(self._sources),
            )
            .order_by(OutboxRow.id)
            .limit(_BATCH_ROWS)
        )
        return result.all()

    def _opened(self, row: Any) -> CommittedEvent:
        """The event of a row as it travels, its payload opened if need be."""
        payload, health = row.payload, None
        if payload is None:
            opened = self._sealer.open_json(row.sealed_payload, context=payload_context(row.event_id))
            payload, health = opened if isinstance(opened, list) else ({}, opened)
        return CommittedEvent(
            id=row.id,
            event_id=row.event_id,
            topic=row.topic,
            key=self._key(row),
            source=row.source,
            occurred_at=row.occurred_at,
            payload=payload,
            correlation_id=row.correlation_id,
            traceparent=row.traceparent,
            health=health,
        )

    def _readable(self, row: Any) -> CommittedEvent | None:
        """The event of a row; None, and the row waits, when its payload does not open: the others must not wait for it."""
        try:
            return self._opened(row)
        except SealBroken:
            if row.id not in self._broken and len(self._broken) < _MOST_TOLD:
                self._broken.add(row.id)
                self._log.error("an event cannot be opened and waits", topic=row.topic, event_id=row.event_id)
            return None

    def _key(self, row: Any) -> str:
        return self._writer.partition_key(row.key, topic=row.topic, has_health_data=row.payload is None)

    async def _send(
        self, producer: AIOKafkaProducer, rows: Sequence[Any]
    ) -> tuple[list[_Acknowledged], BaseException | None]:
        by_place: defaultdict[TopicPartition, list[Any]] = defaultdict(list)
        partitions: dict[str, list[int]] = {}
        if new_topics := {row.topic for row in rows} - self._known_topics:
            await ensure_topics(self._connection, new_topics)
            self._known_topics |= new_topics
        for row in rows:
            if row.topic not in partitions:
                partitions[row.topic] = sorted(await producer.partitions_for(row.topic))
            everywhere = partitions[row.topic]
            partition: int = self._partition_of(self._key(row).encode(), everywhere, everywhere)
            by_place[TopicPartition(row.topic, partition)].append(row)
        sent = await asyncio.gather(
            *(self._send_batch(producer, place, rows) for place, rows in by_place.items()), return_exceptions=True
        )
        acknowledged = [batch for batch in sent if isinstance(batch, _Acknowledged)]
        failures = [failure for failure in sent if isinstance(failure, BaseException)]
        # Any other failure waits: the broker's loss has to be repaired before anything else is published.
        forgot = next((failure for failure in failures if isinstance(failure, BrokerForgot)), None)
        if forgot is not None:
            raise forgot
        return acknowledged, failures[0] if failures else None

    async def _send_batch(
        self, producer: AIOKafkaProducer, place: TopicPartition, rows: Sequence[Any]
    ) -> _Acknowledged:
        batch = producer.create_batch()
        ids = self._fill(batch, rows)
        batch.close()
        if not ids:
            return _Acknowledged(ids=(), place=place, base_offset=-1)
        delivery = await producer.send_batch(batch, place.topic, partition=place.partition)
        # The client's own limit counts from the last metadata it got; a broker that dies without a word needs this one.
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            answer = await delivery
        if answer.offset <= self._last_offsets.get(place, -1):
            raise BrokerForgot(f"{place.topic} {place.partition}: offset {answer.offset} came again")
        return _Acknowledged(ids=ids, place=place, base_offset=answer.offset)

    def _fill(self, batch: Any, rows: Sequence[Any]) -> list[int]:
        """Write events into a batch until it is full; the ids of their rows."""
        ids: list[int] = []
        for start in range(0, len(rows), GROUP):
            events = [event for row in rows[start : start + GROUP] if (event := self._readable(row)) is not None]
            for event, value in zip(events, self._writer.write_all(events), strict=True):
                appended = batch.append(
                    key=event.key.encode(),
                    value=value,
                    timestamp=int(event.occurred_at.timestamp() * 1000),
                    headers=[("content-type", CONTENT_TYPE)],
                )
                if appended is None:
                    return ids  # the rest of this partition waits for the next round
                ids.append(event.id)
        return ids

    @staticmethod
    async def _mark(session: AsyncSession, acknowledged: Sequence[_Acknowledged]) -> None:
        if not acknowledged:
            return
        await session.execute(
            _MARK,
            {
                "ids": [row_id for batch in acknowledged for row_id in batch.ids],
                "partitions": [batch.place.partition for batch in acknowledged for _ in batch.ids],
                "offsets": [batch.base_offset + i for batch in acknowledged for i in range(len(batch.ids))],
            },
        )

    async def _restore_what_broker_forgot(self) -> None:
        """Make every retained row pending again when the witness's record is gone; choose a new witness."""
        async with self._database.read() as session:
            newest = await self._newest_published(session)
        if self._witness is None:
            self._witness = newest
        if self._witness is not None and not await self._has(self._witness):
            await self._restore(self._witness)
            self._witness = None
            self._last_offsets.clear()
            return
        # The witness is older than `newest` and was there just now: so the broker has not restarted since `newest`.
        self._witness = newest

    async def _restore(self, lost: _Witness) -> None:
        async with self._database.transaction() as session:
            await session.execute(text("SELECT shard FROM outbox_shards ORDER BY shard FOR UPDATE"))
            recorded = (
                await session.execute(
                    select(OutboxRow.partition, OutboxRow.broker_offset).where(OutboxRow.id == lost.row_id)
                )
            ).one_or_none()
            if recorded is None or tuple(recorded) != (lost.place.partition, lost.offset):
                return  # another relay noticed first, or the row is past its retention
            result = await session.execute(_RESTORE, {"hours": self._retention_hours})
        restored = int(getattr(result, "rowcount", 0))
        OUTBOX_RESTORED.labels(self._group).inc(restored)
        self._log.warning("the broker has lost its log; publishing again", events=restored)

    @staticmethod
    async def _newest_published(session: AsyncSession) -> _Witness | None:
        row = (
            await session.execute(
                select(OutboxRow.id, OutboxRow.event_id, OutboxRow.topic, OutboxRow.partition, OutboxRow.broker_offset)
                .where(OutboxRow.published_at.is_not(None))
                .order_by(OutboxRow.published_at.desc(), OutboxRow.id.desc())
                .limit(1)
            )
        ).one_or_none()
        if row is None or row.partition is None or row.broker_offset is None:
            return None
        return _Witness(row.id, row.event_id, TopicPartition(row.topic, row.partition), row.broker_offset)

    async def _has(self, witness: _Witness) -> bool:
        """Whether the broker still has the record of this event at its place.

        Raises:
            KafkaError: the broker does not answer, so nobody knows.
        """
        await ensure_topics(self._connection, [witness.place.topic])
        probe = AIOKafkaConsumer(
            **self._connection,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            await probe.start()
            probe.assign([witness.place])
            probe.seek(witness.place, witness.offset)
            fetched = await probe.getmany(witness.place, timeout_ms=_PROBE_TIMEOUT_MS, max_records=1)
            for record in fetched.get(witness.place, ()):
                with suppress(MalformedEvent):
                    return (
                        record.offset == witness.offset and decode(record.value).metadata.event_id == witness.event_id
                    )
                return False
            # Nothing there. Only a broker that answers says so; one that is away says nothing.
            await ensure_topics(self._connection, [witness.place.topic])
            return False
        finally:
            await let_go(probe.stop())

    async def _listen(self) -> None:
        """Wake the relay at each commit; while this has no connection, the relay polls."""
        while True:
            try:
                connection = await self._database.listen_connection()
            except Exception as error:
                if not is_outage(error):
                    raise
                await asyncio.sleep(self._poll_interval_s)
                continue
            closed = asyncio.Event()
            try:
                connection.add_termination_listener(lambda _, closed=closed: closed.set())
                await connection.add_listener(OUTBOX_CHANNEL, lambda *_: self._wake.set())
                self._wake.set()
                await closed.wait()
            except Exception as error:
                if not is_outage(error):
                    raise
                await asyncio.sleep(self._poll_interval_s)
            finally:
                connection.terminate()

    async def _maintain(self) -> None:
        """Keep the gauges fresh, and delete what is past its retention."""
        loop = asyncio.get_running_loop()
        pruned = float("-inf")
        complained = False
        while True:
            try:
                async with self._database.read() as session:
                    pending = await session.execute(_PENDING, {"sources": self._sources})
                    count, oldest, not_ours = pending.one()
                if not_ours and not complained:
                    self._log.error("events wait for a process that holds the keys of their sources", sources=not_ours)
                complained = bool(not_ours)
                OUTBOX_PENDING.labels(self._group).set(count)
                OUTBOX_LAG_SECONDS.labels(self._group).set(_age_s(oldest))
                if loop.time() - pruned > _PRUNE_EVERY_S:
                    await self.prune()
                    pruned = loop.time()
            except Exception as error:
                if not is_outage(error):
                    raise
            await asyncio.sleep(self._check_interval_s)

    async def prune(self) -> int:
        """Delete published rows that are past their retention, in batches; how many."""
        total = 0
        while True:
            async with self._database.transaction() as session:
                result = await session.execute(_PRUNE, {"hours": self._retention_hours, "rows": _PRUNE_ROWS})
            deleted = int(getattr(result, "rowcount", 0))
            total += deleted
            if deleted < _PRUNE_ROWS:
                return total


def _age_s(moment: datetime | None) -> float:
    return 0.0 if moment is None else max(0.0, (datetime.now(UTC) - moment).total_seconds())
