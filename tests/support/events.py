"""Reads the events of a broker as a consumer would that knows each by its id."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from subgraphs.runtime.events import EventReader, EventRefused, ReceivedEvent
from subgraphs.runtime.kafka import silence_client_log


class EventTap:
    """All events of some topics, from the broker's first record on.

    `events` holds each event once, by its id; `deliveries` counts how often it came.
    """

    def __init__(self, brokers: str, *topics: str, reader: EventReader) -> None:
        self._topics = topics
        self._reader = reader
        self._brokers = brokers
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self.events: dict[str, ReceivedEvent] = {}
        self.deliveries: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        silence_client_log()
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._brokers, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        await consumer.start()
        places = [
            TopicPartition(topic, partition)
            for topic in self._topics
            for partition in sorted(consumer.partitions_for_topic(topic) or ())
        ]
        assert places, "the broker has none of these topics"
        consumer.assign(places)
        await consumer.seek_to_beginning()
        self._consumer = consumer
        self._task = asyncio.create_task(self._read(consumer))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        assert self._consumer is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._consumer.stop()

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        async for record in consumer:
            try:
                event = self._reader.read(record.topic, record.key, record.value, max_age=timedelta(days=1))
            except EventRefused:
                continue  # of another platform on the same broker
            async with self._changed:
                self.events[event.metadata.event_id] = event
                self.deliveries[event.metadata.event_id] += 1
                self._changed.notify_all()

    def payloads(self, **expected: object) -> list[dict[str, Any]]:
        """Payloads of distinct events whose fields are as expected."""
        return [
            event.payload
            for event in self.events.values()
            if all(event.payload.get(name) == value for name, value in expected.items())
        ]

    async def until(self, condition: Callable[[], bool], *, within_s: float = 30.0) -> None:
        """Wait for the events that make the condition true.

        Raises:
            TimeoutError: they did not come.
        """
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(condition)
