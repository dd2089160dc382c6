"""The relay over a real database and a real broker."""

import asyncio

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from domain.messaging import Outbox
from subgraphs.runtime.database import Database
from subgraphs.runtime.events import EventWriter, decode
from subgraphs.runtime.outbox import OutboxRelay
from subgraphs.runtime.service_keys import SigningKeys
from subgraphs.runtime.settings import KafkaSettings
from tests.integration.messaging.scene import (
    SEALER,
    counted,
    effects,
    host_of,
    pending,
    records_of,
    relay_of,
    running,
    tell,
    until,
)
from tests.support.trust import EVENT_SEALER, opened, service_keys


async def published(database: Database) -> bool:
    return await pending(database) == 0


async def test_an_event_reaches_the_topic_as_a_cloud_event(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    async with database.transaction() as session:
        await Outbox(session, correlation_id="c-1", traceparent="00-aa-bb-01").add(
            counted(topic)(aggregate="d-1", number=7)
        )
    async with running(relay_of(database, kafka)):
        await until(lambda: published(database))
    (record,) = await records_of(kafka.brokers, topic)
    event = decode(record.value)
    assert record.key == b"d-1"
    assert dict(record.headers)["content-type"].startswith(b"application/cloudevents+json")
    assert (event.metadata.topic, event.metadata.key, event.metadata.source) == (topic, "d-1", "device")
    assert (event.metadata.correlation_id, event.metadata.traceparent) == ("c-1", "00-aa-bb-01")
    assert event.payload == {"aggregate": "d-1", "number": 7}
    async with database.read() as session:
        place = (await session.execute(text("SELECT partition, broker_offset FROM outbox"))).one()
    assert tuple(place) == (record.partition, record.offset)


async def test_health_data_lies_sealed_in_the_outbox_and_travels_sealed(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    kind = type("Sealed", (counted(topic),), {"carries_health_data": True})
    async with database.transaction() as session:
        await Outbox(session, sealer=SEALER).add(kind(aggregate="person", number=4711))
    async with database.read() as session:
        plain, sealed = (await session.execute(text("SELECT payload, sealed_payload FROM outbox"))).one()
    assert plain is None
    assert b"4711" not in sealed
    async with running(relay_of(database, kafka)):
        await until(lambda: published(database))
    (record,) = await records_of(kafka.brokers, topic)
    assert b"4711" not in record.value
    assert b"person" not in record.value + record.key
    assert opened(record) == {"aggregate": "person", "number": 4711}


async def test_health_data_without_a_sealer_is_not_told(database: Database, topic: str) -> None:
    kind = type("Sealed", (counted(topic),), {"carries_health_data": True})
    async with database.transaction() as session:
        with pytest.raises(ValueError, match="sealer"):
            await Outbox(session).add(kind(aggregate="person", number=1))
    assert await pending(database) == 0


async def test_nothing_is_published_before_its_transaction_commits_or_when_it_rolls_back(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    kind = counted(topic)
    async with running(relay_of(database, kafka)):
        async with database.transaction() as session:
            await Outbox(session).add(kind(aggregate="k", number=1))
            await tell(database, topic, ("k", 2))  # committed by another transaction meanwhile
            await until(lambda: published(database))
            assert [decode(r.value).payload["number"] for r in await records_of(kafka.brokers, topic)] == [2]

        async def roll_back() -> None:
            async with database.transaction() as session:
                await Outbox(session).add(kind(aggregate="k", number=3))
                raise LookupError

        with pytest.raises(LookupError):
            await roll_back()
        await until(lambda: published(database))
    assert [decode(r.value).payload["number"] for r in await records_of(kafka.brokers, topic)] == [2, 1]


async def test_two_relays_at_once_keep_each_key_in_order(database: Database, kafka: KafkaSettings, topic: str) -> None:
    async def tell_of(key: str) -> None:
        for number in range(60):
            await tell(database, topic, (key, number))

    async with running(relay_of(database, kafka), relay_of(database, kafka)):
        await asyncio.gather(*(tell_of(f"k{i}") for i in range(6)))
        await until(lambda: published(database))
    told: dict[str, list[object]] = {}
    for record in await records_of(kafka.brokers, topic):
        event = decode(record.value)
        told.setdefault(event.metadata.key, []).append(event.payload["number"])
    assert told == {f"k{i}": list(range(60)) for i in range(6)}


async def test_more_events_than_fit_into_one_batch_arrive_in_order(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    await tell(database, topic, *(("one", number) for number in range(3000)))
    async with running(relay_of(database, kafka)):
        await until(lambda: published(database))
    assert [decode(r.value).payload["number"] for r in await records_of(kafka.brokers, topic)] == list(range(3000))


async def test_a_relay_that_dies_before_it_marks_its_rows_causes_a_duplicate_that_the_inbox_drops(
    database: Database, kafka: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tell(database, topic, ("k", 1), ("k", 2))
    dying = relay_of(database, kafka)

    async def die(*_: object) -> None:
        raise SystemError("killed between the acknowledgement and the mark")

    monkeypatch.setattr(dying, "_mark", die)
    with pytest.raises(ExceptionGroup):
        await dying.run()
    assert await pending(database) == 2
    async with running(relay_of(database, kafka), host_of(database, kafka, [topic])):
        await tell(database, topic, ("k", 3))
        await until(lambda: published(database))
        await until(lambda: _has(database, 3))
    assert len(await records_of(kafka.brokers, topic)) == 5
    assert await effects(database) == [1, 2, 3]


async def _has(database: Database, count: int) -> bool:
    return len(await effects(database)) >= count


async def test_published_events_are_deleted_after_their_retention_and_pending_ones_never(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    await tell(database, topic, ("old", 1), ("fresh", 2), ("waiting", 3))
    async with database.transaction() as session:
        await session.execute(text("UPDATE outbox SET published_at = now() - interval '73 hours' WHERE key = 'old'"))
        await session.execute(text("UPDATE outbox SET published_at = now() - interval '71 hours' WHERE key = 'fresh'"))
        await session.execute(text("UPDATE outbox SET occurred_at = now() - interval '90 days' WHERE key = 'waiting'"))
    assert await relay_of(database, kafka).prune() == 1
    async with database.read() as session:
        assert (await session.scalars(text("SELECT key FROM outbox ORDER BY key"))).all() == ["fresh", "waiting"]


async def test_an_event_whose_source_has_no_key_here_waits_and_keeps_no_other_from_leaving(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    foreign = type("Foreign", (counted(topic),), {"source": "payment"})
    async with database.transaction() as session:
        await Outbox(session).add(foreign(aggregate="k", number=1), counted(topic)(aggregate="k", number=2))
    keys = SigningKeys([service_keys()[0].of("device")])
    relay = OutboxRelay(
        database=database,
        kafka=kafka,
        sealer=SEALER,
        writer=EventWriter(keys, EVENT_SEALER),
        poll_interval_s=0.2,
        check_interval_s=0.5,
    )
    with capture_logs() as logs:
        async with running(relay):
            await until(lambda: _left(database, 1))
    assert [decode(r.value).payload["number"] for r in await records_of(kafka.brokers, topic)] == [2]
    assert [entry["sources"] for entry in logs if "hold" in entry["event"]] == [["payment"]]


async def _left(database: Database, count: int) -> bool:
    return await pending(database) == count


async def test_an_event_that_does_not_open_waits_and_keeps_no_other_from_leaving(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    kind = type("Sealed", (counted(topic),), {"carries_health_data": True})
    async with database.transaction() as session:
        await Outbox(session, sealer=SEALER).add(*(kind(aggregate="k", number=number) for number in range(3)))
        await session.execute(
            text("UPDATE outbox SET sealed_payload = set_byte(sealed_payload, 30, get_byte(sealed_payload, 30) # 1)")
        )
        await Outbox(session).add(counted(topic)(aggregate="k", number=7))
    async with running(relay_of(database, kafka)):
        await until(lambda: _left(database, 3))
        await tell(database, topic, ("k", 8))
        await until(lambda: _left(database, 3))
    assert [decode(r.value).payload["number"] for r in await records_of(kafka.brokers, topic)] == [7, 8]
