"""Key pairs of all services for tests within one process; processes of a platform have theirs in a folder."""

from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from domain.catalog import WORKLOADS
from domain.sealing import EventSealer
from subgraphs.runtime.events import EventReader, EventRefused, EventWriter, publishers_of
from subgraphs.runtime.service_keys import PublicKeys, SigningKeys, in_memory
from subgraphs.runtime.service_tokens import ServiceTokens


@cache
def service_keys() -> tuple[SigningKeys, PublicKeys]:
    """The key pairs of every service of the catalogue, and of `bench`, which tests call a producer of their own."""
    return in_memory([*(workload.name for workload in WORKLOADS), "bench"])


def service_tokens() -> ServiceTokens:
    """Tokens of every service, as if one process held all keys."""
    return ServiceTokens(*service_keys())


EVENT_SEALER = EventSealer([bytes(range(32))])


def event_writer() -> EventWriter:
    """Signs as every service."""
    return EventWriter(service_keys()[0], EVENT_SEALER)


def event_reader(*, now: datetime | None = None) -> EventReader:
    """Takes what `event_writer` wrote, on the topics of the catalogue and, from `device` and `bench`, on those of tests."""
    return EventReader(service_keys()[1], EVENT_SEALER, publishers=_publishers, now=lambda: now or datetime.now(UTC))


def _publishers(topic: str) -> Collection[str]:
    return ("device", "bench") if topic.startswith(("test.", "bench.")) else publishers_of(topic)


def payloads_in(records: Iterable[Any]) -> list[tuple[Any, dict[str, Any]]]:
    """Those records of a broker that are genuine here, with their payloads; tests of other keys share the broker."""
    found = []
    for record in records:
        with suppress(EventRefused):
            found.append((record, opened(record)))
    return found


def opened(record: Any) -> dict[str, Any]:
    """The payload of a genuine record of a broker, opened."""
    event = event_reader().read(record.topic, record.key, record.value, max_age=timedelta(days=1))
    return dict(event.payload)
