"""Consumers: each event takes effect once, in order within its partition, and a poison event delays only its partition.

Every assigned partition has a worker: fetch, work through the records one after another, commit the offset. A record's
work and its inbox row share one transaction, so a second delivery (a crash before the commit of the offset, a rebalance,
a relay that published twice) finds the row and does nothing. A record that fails is tried again after 1, 2 and 4 s and
then goes to the dead-letter topic; only when that is acknowledged does the partition move on. While the database or the
broker is away nothing counts as a try: the worker waits.

Records that wait share a transaction: the round trips and the write-ahead log's flush of a transaction cost more than most
handlers. A transaction takes records until `BATCH_SECONDS` have passed, so that locks are not held for long. When a
handler fails, the transaction is rolled back: the records before the failed one are handled again without it, and it is
tried alone.

Only genuine events are worked on: see `events`. What is refused goes to the dead-letter topic at once. A replay finds the
inbox row of the first delivery. Inbox rows are deleted after `_INBOX_KEEPS` times the outbox's retention; a relay may sign
an event again for as long as its row is kept, so events are taken for one retention less: then every event that would still
be taken has its inbox row.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from prometheus_client import Counter, Histogram
from pydantic import ValidationError
from sqlalchemy import text

from domain.catalog import DEAD_LETTER_TOPIC
from domain.errors import AppError
from domain.events import DomainEvent
from domain.principal import service_principal
from subgraphs.runtime.cancellation import finish
from subgraphs.runtime.context import RequestContext, enter
from subgraphs.runtime.database import Database
from subgraphs.runtime.events import MAX_EVENT_BYTES, EventReader, EventRefused, MalformedEvent, ReceivedEvent
from subgraphs.runtime.faces import Consumer
from subgraphs.runtime.kafka import REQUEST_TIMEOUT_MS, ensure_topics, is_broker_outage, silence_client_log
from subgraphs.runtime.outages import is_outage
from subgraphs.runtime.record_batches import guard_batches
from subgraphs.runtime.settings import KafkaSettings
from subgraphs.runtime.tls import kafka_connection

EVENTS_CONSUMED = Counter("events_consumed_total", "Records, by what became of them", ["service", "topic", "outcome"])
EVENTS_REFUSED = Counter(
    "events_refused_total",
    "Records that are not genuine or beyond the bounds, by reason",
    ["service", "topic", "reason"],
)
EVENT_DELIVERY_SECONDS = Histogram(
    "event_delivery_seconds",
    "Seconds from an event to the commit of its effect",
    ["service", "topic"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)

RETRY_DELAYS_S = (1.0, 2.0, 4.0)
BATCH_SECONDS = 0.1
"""How long a transaction takes up further records."""
_BACK_OFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
_FETCH_TIMEOUT_MS = 500
_COMMIT_TIMEOUT_S = 2.0
_CHUNK_RECORDS = 100
_PRUNE_EVERY_S = 3600.0
_PRUNE_ROWS = 5000
_MOST_REASON = 300
_INBOX_KEEPS = 4  # times the outbox's retention: with the default 12 days, so that an event is taken for 9

_RECEIVE = text(
    """
    INSERT INTO inbox (consumer, event_id)
    SELECT :consumer, event_id FROM unnest(CAST(:event_ids AS varchar[])) AS received (event_id)
    ON CONFLICT DO NOTHING RETURNING event_id
    """
)
_PUT_BACK = text("DELETE FROM inbox WHERE consumer = :consumer AND event_id = ANY(CAST(:event_ids AS varchar[]))")
_PRUNE = text(
    """
    DELETE FROM inbox WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM inbox
        WHERE consumer = :consumer AND handled_at < now() - make_interval(hours => :hours) LIMIT :rows
    ))
    """
)


class _Stopped(Exception):
    """The partition was taken away, or the process stops: the record in hand is left for the next delivery."""


class _HandlerFailed(Exception):
    """The handler of one record of a transaction failed; the transaction is rolled back.

    Args:
        position: of the record among those of the transaction.
    """

    def __init__(self, position: int, cause: Exception) -> None:
        super().__init__(position)
        self.position = position
        self.cause = cause


@dataclass(frozen=True, slots=True)
class _Genuine:
    """A genuine record whose payload the consumer's model accepts."""

    record: ConsumerRecord
    consumer: Consumer[Any]
    event: ReceivedEvent
    payload: DomainEvent


@dataclass(frozen=True, slots=True)
class _Refused:
    """A record that no handler gets, and why. `is_genuine`: a published event, whose health data is sealed."""

    reason: str
    is_genuine: bool


class ConsumerHost:
    """The consumers of one service in one process.

    Args:
        reader: takes genuine events only.
        principal_service: short name of the service on whose behalf the handlers act.
        retry_delays_s: seconds before each further try of a record that failed.
        session_timeout_s: after how long the broker gives a silent member's partitions to others.
        stop_within_s: how long the end may take. Half of it is for the records in hand; those that take longer are
            abandoned, and come again.
    """

    def __init__(
        self,
        *,
        database: Database,
        kafka: KafkaSettings,
        consumers: Sequence[Consumer[Any]],
        reader: EventReader,
        principal_service: str,
        retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
        session_timeout_s: float = 6.0,
        stop_within_s: float = 5.0,
    ) -> None:
        self._consumers = {consumer.topic: consumer for consumer in consumers}
        if len(self._consumers) != len(consumers):
            raise ValueError(f"{principal_service} has two consumers of one topic; an event is handled once a service")
        self._database = database
        self._connection = kafka_connection(kafka)
        self._service = principal_service
        self._group_id = kafka.group_id or f"{principal_service}-service"
        self._reader = reader
        self.inbox_hours = _INBOX_KEEPS * kafka.outbox_retention_hours
        self.max_age = timedelta(hours=(_INBOX_KEEPS - 1) * kafka.outbox_retention_hours)
        self._retry_delays_s = tuple(retry_delays_s)
        self._session_timeout_ms = int(session_timeout_s * 1000)
        self._stop_within_s = stop_within_s
        self._failed: asyncio.Future[None] | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._producer: AIOKafkaProducer | None = None
        self._log = structlog.get_logger("consumers").bind(service=principal_service)
        silence_client_log()
        guard_batches()

    async def run(self) -> None:
        """Consume until cancelled; then finish the records in hand, commit and leave the group."""
        pruning = asyncio.create_task(self._prune_for_ever())
        failures = 0
        try:
            while True:
                try:
                    async with self._connected() as failed:
                        if failures:
                            self._log.info("the consumers work again")
                        failures = 0
                        await failed
                except KafkaError as error:
                    if not failures:
                        self._log.warning("the consumers wait for the broker", error=repr(error))
                await asyncio.sleep(_BACK_OFF_S[min(failures, len(_BACK_OFF_S) - 1)])
                failures += 1
        finally:
            pruning.cancel()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncio.Future[None]]:
        """Yields a future that fails when a worker does."""
        await ensure_topics(self._connection, [*self._consumers, DEAD_LETTER_TOPIC])
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        consumer = AIOKafkaConsumer(
            **self._connection,
            group_id=self._group_id,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            request_timeout_ms=REQUEST_TIMEOUT_MS + self._session_timeout_ms,
            session_timeout_ms=self._session_timeout_ms,
            # Short, because the embedded broker answers a fetch of several partitions late when one of them has records;
            # and not shorter, because every service asks this often for as long as nothing happens.
            fetch_max_wait_ms=100,
            heartbeat_interval_ms=max(200, self._session_timeout_ms // 6),
            rebalance_timeout_ms=30_000,
            # Workers stop fetching while the database is away; that must not cost them their partitions.
            max_poll_interval_ms=24 * 3_600_000,
        )
        producer = AIOKafkaProducer(
            **self._connection, acks="all", enable_idempotence=False, request_timeout_ms=REQUEST_TIMEOUT_MS
        )
        self._consumer, self._producer, self._failed = consumer, producer, failed
        assignment = _Assignment(self)
        consumer.subscribe(list(self._consumers), listener=assignment)

        async def disconnect() -> None:
            await assignment.end(within_s=self._stop_within_s / 2)
            await consumer.stop()  # leaves the group, so that others take over at once
            await producer.stop()

        try:
            await producer.start()
            await consumer.start()
            yield failed
        finally:
            await finish(disconnect(), what=f"consumers of {self._service}", within_s=self._stop_within_s)
            if failed.done() and not failed.cancelled():
                failed.exception()  # it may have come too late for anybody to wait for it

    def worker_failed(self, error: BaseException) -> None:
        """A worker met what it cannot handle: everything starts over."""
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def fetch(self, place: TopicPartition) -> Sequence[ConsumerRecord]:
        """The next records of a partition; none when there are none for a while."""
        fetched = await self._require(self._consumer).getmany(
            place, timeout_ms=_FETCH_TIMEOUT_MS, max_records=_CHUNK_RECORDS
        )
        records: Sequence[ConsumerRecord] = fetched.get(place, ())
        return records

    async def rewind_if_forgotten(self, place: TopicPartition) -> None:
        """Read from the start when the position lies beyond the end of the log: the broker has lost it.

        Kafka answers a fetch there with an error, upon which the client rewinds; the embedded broker answers it with
        nothing, for ever.
        """
        consumer = self._require(self._consumer)
        highwater = consumer.highwater(place)
        if highwater is None:
            return
        # Bounded, because the client waits for the group to know, and that may be waiting for this worker to let go.
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                position = await consumer.position(place)
            if position > highwater:
                self._log.warning("the broker has lost its log; reading from the start", topic=place.topic)
                consumer.seek(place, 0)

    async def commit(self, place: TopicPartition, next_offset: int) -> None:
        """Commit an offset. That it fails is harmless: the records come again, and the inbox drops them."""
        # Bounded, because the client tries for ever while the broker is away, and this may be on the way out.
        with suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(_COMMIT_TIMEOUT_S):
                await self._require(self._consumer).commit({place: next_offset})

    async def process(self, records: Sequence[ConsumerRecord], stop: asyncio.Event) -> int:
        """Handle the first records of some, or send the first one to the dead-letter topic; how many are done, at least one.

        Raises:
            _Stopped: the worker has to stop while a record waits for its next try.
        """
        first = self._read(records[0])
        if isinstance(first, _Refused):
            await self._dead_letter(records[0], reason=first.reason, stop=stop, is_genuine=first.is_genuine)
            return 1
        batch = [first]
        for record in records[1:]:
            read = self._read(record)
            if isinstance(read, _Refused):
                break  # it comes first next time
            batch.append(read)
        failure: Exception | None = None
        while len(batch) > 1 and failure is None:
            try:
                return await self._handle(batch, stop)
            except _HandlerFailed as failed:
                batch = batch[: failed.position]
                failure = None if batch else failed.cause
            except Exception:  # noqa: BLE001 - of the transaction as a whole; the record alone meets it again
                batch = []
        await self._handle_alone(first, stop, failure)
        return 1

    def _read(self, record: ConsumerRecord) -> _Genuine | _Refused:
        consumer = self._consumers[record.topic]
        try:
            event = self._reader.read(
                record.topic, record.key, record.value, header_count=len(record.headers), max_age=self.max_age
            )
        except (MalformedEvent, EventRefused) as error:
            reason = error.reason if isinstance(error, EventRefused) else "MALFORMED_EVENT"
            return _Refused(f"{reason}: {error}", is_genuine=False)
        try:
            return _Genuine(record, consumer, event, consumer.event.model_validate(event.payload))
        except ValidationError as error:
            return _Refused(f"MALFORMED_EVENT: {_fields_of(error)}", is_genuine=True)

    async def _handle_alone(self, item: _Genuine, stop: asyncio.Event, failure: Exception | None) -> None:
        """Handle one record in a transaction of its own, with its further tries.

        Args:
            failure: of its first try, when that was made together with others.
        """
        topic = item.record.topic
        tries = waits = 0
        while True:
            try:
                if failure is not None:
                    raise failure
                await self._handle([item], stop)
                return
            except Exception as error:  # noqa: BLE001 - the boundary of consumers
                cause = error.cause if isinstance(error, _HandlerFailed) else error
                failure = None
                if await self._is_outage(cause):
                    if not waits:
                        self._log.warning("a consumer waits for the database", topic=topic, error=repr(cause))
                    await self._pause(_BACK_OFF_S[min(waits, len(_BACK_OFF_S) - 1)], stop)
                    waits += 1
                    continue
                self._log.warning(
                    "an event failed",
                    topic=topic,
                    event_id=item.event.metadata.event_id,
                    tries=tries + 1,
                    exc_info=cause,
                )
                if tries == len(self._retry_delays_s):
                    await self._dead_letter(item.record, reason=_reason_of(cause), stop=stop)
                    return
                EVENTS_CONSUMED.labels(self._service, topic, "retried").inc()
                await self._pause(self._retry_delays_s[tries], stop)
                tries += 1

    async def _handle(self, batch: Sequence[_Genuine], stop: asyncio.Event) -> int:
        """Let records take effect in one transaction, in their order; how many of the first did.

        Raises:
            _HandlerFailed: nothing took effect.
        """
        until = time.monotonic() + BATCH_SECONDS
        principal = service_principal(self._service)
        outcomes: list[str] = []
        enter(RequestContext(principal=principal))
        async with self._database.transaction() as session:
            received = await session.scalars(
                _RECEIVE, {"consumer": self._service, "event_ids": [item.event.metadata.event_id for item in batch]}
            )
            fresh = set(received)
            for position, item in enumerate(batch):
                if position and (stop.is_set() or time.monotonic() > until):
                    await session.execute(_PUT_BACK, {"consumer": self._service, "event_ids": list(fresh)})
                    break
                metadata = item.event.metadata
                if metadata.event_id not in fresh:
                    outcomes.append("duplicate")
                    continue
                fresh.remove(metadata.event_id)
                # The worker's task is its own, so this is the context of this record only; the session hands correlation id
                # and trace on to the events that follow from it.
                enter(
                    RequestContext(
                        principal=principal,
                        request_id=metadata.correlation_id or metadata.event_id,
                        traceparent=metadata.traceparent,
                    )
                )
                self._database.tag(session)
                try:
                    await item.consumer.handle(session, item.payload, metadata)
                    await session.flush()
                except Exception as error:
                    raise _HandlerFailed(position, error) from error
                session.expunge_all()  # the next record's handler sees rows as they are, as in a session of its own
                outcomes.append("handled")
        self._count(batch, outcomes)
        return len(outcomes)

    def _count(self, batch: Sequence[_Genuine], outcomes: Sequence[str]) -> None:
        now = datetime.now(UTC)
        for item, outcome in zip(batch, outcomes, strict=False):
            EVENTS_CONSUMED.labels(self._service, item.consumer.topic, outcome).inc()
            if outcome == "handled":
                EVENT_DELIVERY_SECONDS.labels(self._service, item.consumer.topic).observe(
                    max(0.0, (now - item.event.metadata.occurred_at).total_seconds())
                )

    async def _is_outage(self, error: Exception) -> bool:
        """Whether the database is away. What looks like it may be a bug in a handler, so the database is asked."""
        if not is_outage(error):
            return False
        try:
            await self._database.ping()
        except Exception as again:  # noqa: BLE001 - whatever it is, it is no answer
            return is_outage(again)
        return False

    async def _dead_letter(
        self, record: ConsumerRecord, *, reason: str, stop: asyncio.Event, is_genuine: bool = True
    ) -> None:
        """Publish a record to the dead-letter topic; waits for the broker if need be.

        A genuine event goes as it came: its health data is sealed. Any other record is sealed as a whole, and one that is
        too large for a letter is told by its size and digest.
        """
        place = f"{record.topic} {record.partition} {record.offset}"
        value = record.value or b""
        reason = reason[:_MOST_REASON]
        headers = [
            ("original-topic", record.topic.encode()),
            ("original-partition", str(record.partition).encode()),
            ("original-offset", str(record.offset).encode()),
            ("consumer-group", self._group_id.encode()),
            ("error-reason", reason.encode()),
        ]
        key: bytes | None = record.key
        if not is_genuine:
            key = sha256(record.key or b"").hexdigest()[:32].encode()
            headers += [
                ("original-bytes", str(len(value)).encode()),
                ("original-sha256", sha256(value).hexdigest().encode()),
            ]
            value = value if len(value) <= MAX_EVENT_BYTES else b""
            if value:
                value = self._reader.seal_letter(value, topic=DEAD_LETTER_TOPIC, place=place)
                headers.append(("sealed", b"true"))
        failures = 0
        while True:
            try:
                await self._require(self._producer).send_and_wait(
                    DEAD_LETTER_TOPIC, value=value, key=key, headers=headers
                )
                break
            except Exception as error:
                if not is_broker_outage(error):
                    raise
                await self._pause(_BACK_OFF_S[min(failures, len(_BACK_OFF_S) - 1)], stop)
                failures += 1
        if not is_genuine:
            EVENTS_REFUSED.labels(self._service, record.topic, reason.partition(":")[0]).inc()
        EVENTS_CONSUMED.labels(self._service, record.topic, "dead_letter").inc()
        self._log.error(
            "an event went to the dead-letter topic",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=reason,
        )

    @staticmethod
    async def _pause(seconds: float, stop: asyncio.Event) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stop.wait()
        if stop.is_set():
            raise _Stopped

    async def _prune_for_ever(self) -> None:
        while True:
            try:
                await self.prune()
            except Exception as error:  # noqa: BLE001 - housekeeping must not stop the consumers; it tries again
                self._log.warning("the inbox could not be pruned", error=repr(error))
            await asyncio.sleep(_PRUNE_EVERY_S)

    async def prune(self) -> int:
        """Delete inbox rows that no delivery can need any more, in batches; how many."""
        values = {"consumer": self._service, "hours": self.inbox_hours, "rows": _PRUNE_ROWS}
        total = 0
        while True:
            async with self._database.transaction() as session:
                deleted = int(getattr(await session.execute(_PRUNE, values), "rowcount", 0))
            total += deleted
            if deleted < _PRUNE_ROWS:
                return total

    @staticmethod
    def _require(client: Any) -> Any:
        if client is None:
            raise IllegalStateError("not connected")
        return client


class _Assignment(ConsumerRebalanceListener):  # type: ignore[misc]  # the library has no types
    """The workers of one connection. A client that is still on its way out does not touch those of the next one."""

    def __init__(self, host: ConsumerHost) -> None:
        self._host = host
        self._workers: dict[TopicPartition, _Worker] = {}
        self._ended = False

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Called by the client: a worker for each."""
        if not self._ended:
            self._workers |= {place: _Worker(self._host, place) for place in assigned}

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Called by the client before others get them: finish the record in hand, commit."""
        stopping = {place: worker for place in revoked if (worker := self._workers.get(place))}
        await asyncio.gather(*(worker.stop() for worker in stopping.values()))
        # Only now: the end, which may come meanwhile, abandons those that take too long.
        for place in stopping:
            self._workers.pop(place, None)

    async def end(self, *, within_s: float) -> None:
        """Finish the records in hand, and commit; abandon those that take longer."""
        self._ended = True
        await asyncio.gather(*(worker.stop(within_s=within_s) for worker in self._workers.values()))


class _Worker:
    """Works through one partition, record after record, until it is told to stop."""

    def __init__(self, host: ConsumerHost, place: TopicPartition) -> None:
        self._host = host
        self._place = place
        self._stop = asyncio.Event()
        self._fetching: asyncio.Task[Sequence[ConsumerRecord]] | None = None
        self._task = asyncio.create_task(self._run(), name=f"{place.topic} {place.partition}")

    async def stop(self, *, within_s: float | None = None) -> None:
        """Finish the record in hand, commit, end; abandon it when that takes longer than `within_s`."""
        self._stop.set()
        if self._fetching is not None:
            self._fetching.cancel()
        _, still = await asyncio.wait([self._task], timeout=within_s)
        for task in still:
            task.cancel()

    async def _run(self) -> None:
        try:
            while not self._stop.is_set():
                records = await self._fetch()
                if not records and not self._stop.is_set():
                    await self._host.rewind_if_forgotten(self._place)
                await self._work_through(records)
        except _Stopped:
            pass
        except IllegalStateError:
            if not self._stop.is_set():  # the partition was taken away between two fetches otherwise
                await self._stop.wait()
        except Exception as error:  # noqa: BLE001 - handed to the host, which starts over
            self._host.worker_failed(error)

    async def _fetch(self) -> Sequence[ConsumerRecord]:
        """The next records; none when there are none for a while, or when the worker has to stop meanwhile.

        In a task that `stop` cancels: the client lets a fetch wait for the end of a rebalance, and the rebalance waits
        for this worker.
        """
        self._fetching = asyncio.create_task(self._host.fetch(self._place))
        await asyncio.wait([self._fetching])
        return () if self._fetching.cancelled() else self._fetching.result()

    async def _work_through(self, records: Sequence[ConsumerRecord]) -> None:
        done: int | None = None
        try:
            while records and not self._stop.is_set():
                count = await self._host.process(records, self._stop)
                done = records[count - 1].offset + 1
                records = records[count:]
        finally:
            if done is not None:
                await self._host.commit(self._place, done)


def _reason_of(error: Exception) -> str:
    """What may be told about a failure: never its text, which may hold health data."""
    return error.reason if isinstance(error, AppError) else type(error).__name__


def _fields_of(error: ValidationError) -> str:
    """The fields that a payload lacks or has wrong, without their values."""
    return ", ".join(f"{'.'.join(str(part) for part in e['loc'])} ({e['type']})" for e in error.errors())
