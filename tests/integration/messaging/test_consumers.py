"""Consumers over a real database and a real broker."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog import DEAD_LETTER_TOPIC
from domain.errors import WrongState
from domain.ids import new_id
from domain.messaging import Outbox
from domain.principal import PrincipalKind
from domain.sealing import SealBroken
from subgraphs.runtime import consumers
from subgraphs.runtime.context import RequestContext, current
from subgraphs.runtime.database import Database
from subgraphs.runtime.events import CommittedEvent, EventWriter, decode
from subgraphs.runtime.faces import EventMetadata
from subgraphs.runtime.kafka import ensure_topics
from subgraphs.runtime.service_keys import ServiceKey, SigningKeys
from subgraphs.runtime.settings import KafkaSettings
from tests.integration.messaging.scene import (
    Counted,
    counted,
    effects,
    host_of,
    pending,
    publish_raw,
    records_of,
    relay_of,
    running,
    tell,
    until,
    write_down,
)
from tests.support.patience import PATIENCE_S
from tests.support.trust import EVENT_SEALER, event_reader, event_writer


class Refused(WrongState):
    """What a handler says about a poison event."""

    reason = "REFUSED_FOR_THE_TEST"


async def dead_letters_of(kafka: KafkaSettings, topic: str) -> list[tuple[bytes, dict[str, bytes]]]:
    """Value and headers of the dead letters that came from a topic."""
    records = await records_of(kafka.brokers, DEAD_LETTER_TOPIC)
    letters = [(record.value, dict(record.headers)) for record in records]
    return [letter for letter in letters if letter[1]["original-topic"] == topic.encode()]


async def handled(database: Database, count: int) -> bool:
    return len(await effects(database)) >= count


async def test_events_of_a_key_take_effect_in_order(database: Database, kafka: KafkaSettings, topic: str) -> None:
    async with running(relay_of(database, kafka), host_of(database, kafka, [topic])):
        for number in range(0, 60, 2):
            await tell(database, topic, ("a", number), ("b", number), ("a", number + 1))
        await until(lambda: handled(database, 90))
    assert await effects(database, "a") == list(range(60))
    assert await effects(database, "b") == list(range(0, 60, 2))


async def test_a_redelivered_event_takes_effect_once(database: Database, kafka: KafkaSettings, topic: str) -> None:
    await tell(database, topic, ("k", 1))
    async with running(relay_of(database, kafka), host_of(database, kafka, [topic])):
        await until(lambda: handled(database, 1))
        (record,) = await records_of(kafka.brokers, topic)
        for _ in range(3):
            await publish_raw(kafka.brokers, topic, record.value)
        await tell(database, topic, ("k", 2))
        await until(lambda: handled(database, 2))
    assert await effects(database) == [1, 2]


async def test_an_event_that_fails_is_tried_again_and_then_takes_effect_once(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    tries = 0

    async def fail_twice(session: AsyncSession, event: Counted, metadata: EventMetadata) -> None:
        nonlocal tries
        tries += 1
        await write_down(session, event, metadata)
        if tries < 3:
            raise Refused("not yet")

    await tell(database, topic, ("k", 1))
    async with running(relay_of(database, kafka), host_of(database, kafka, [topic], fail_twice)):
        await until(lambda: handled(database, 1))
    assert tries == 3
    assert await effects(database) == [1]
    assert await dead_letters_of(kafka, topic) == []


async def test_a_poison_event_goes_to_the_dead_letter_topic_and_its_partition_moves_on(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    tries = 0

    async def refuse_one(session: AsyncSession, event: Counted, metadata: EventMetadata) -> None:
        nonlocal tries
        await write_down(session, event, metadata)
        if event.number == 1:
            tries += 1
            raise Refused("never")

    await tell(database, topic, ("k", 1), ("k", 2))
    async with running(relay_of(database, kafka), host_of(database, kafka, [topic], refuse_one)):
        await until(lambda: handled(database, 1))
    assert tries == 4  # once, and again after each of three delays
    assert await effects(database) == [2]
    ((value, headers),) = await dead_letters_of(kafka, topic)
    assert decode(value).payload == {"aggregate": "k", "number": 1}
    assert headers["error-reason"] == b"REFUSED_FOR_THE_TEST"
    assert headers["original-offset"] == b"0"
    assert headers["original-partition"].isdigit()


async def test_a_poison_event_delays_only_its_partition(database: Database, kafka: KafkaSettings, topic: str) -> None:
    refused = asyncio.Event()

    async def refuse_one(session: AsyncSession, event: Counted, metadata: EventMetadata) -> None:
        if event.aggregate == "poison":
            refused.set()
            raise Refused("never")
        await write_down(session, event, metadata)

    host = host_of(database, kafka, [topic], refuse_one, retry_delays_s=(300,))
    async with running(relay_of(database, kafka), host):
        await tell(database, topic, ("poison", 0))
        await asyncio.wait_for(refused.wait(), PATIENCE_S)
        await tell(database, topic, *((f"k{number}", number) for number in range(30)))
        # Some keys share the partition of the poison event; with three partitions most do not.
        await until(lambda: handled(database, 10))
    assert await dead_letters_of(kafka, topic) == []


async def test_malformed_events_go_to_the_dead_letter_topic_at_once(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    await ensure_topics({"bootstrap_servers": kafka.brokers}, [topic], partitions=1)
    await publish_raw(kafka.brokers, topic, b"{not json")
    await publish_raw(kafka.brokers, topic, b"[1, 2]")
    await publish_raw(kafka.brokers, topic, None)
    await tell(database, topic, ("k", 1))
    async with running(relay_of(database, kafka), host_of(database, kafka, [topic], retry_delays_s=(300,))):
        await until(lambda: handled(database, 1))
    letters = await dead_letters_of(kafka, topic)
    assert [int(headers["original-bytes"]) for _, headers in letters] == [9, 6, 0]
    assert all(headers["error-reason"].startswith(b"MALFORMED_EVENT") for _, headers in letters)


async def test_a_payload_without_a_needed_field_goes_to_the_dead_letter_topic_without_its_values(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    async with database.transaction() as session:
        await Outbox(session).add(counted(topic)(aggregate="k", number=1))
        await session.execute(text("""UPDATE outbox SET payload = '{"aggregate": "k", "number": "a secret"}'"""))
    await tell(database, topic, ("k", 1))
    async with running(relay_of(database, kafka), host_of(database, kafka, [topic])):
        await until(lambda: handled(database, 1))
    ((_, headers),) = await dead_letters_of(kafka, topic)
    assert b"number" in headers["error-reason"]
    assert b"secret" not in headers["error-reason"]


async def test_a_handler_acts_as_its_service_and_follow_up_events_keep_correlation_and_trace(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    seen: list[RequestContext] = []

    async def follow_up(session: AsyncSession, event: Counted, metadata: EventMetadata) -> None:
        seen.append(current())
        await Outbox(session).add(counted(f"{topic}.next")(aggregate=event.aggregate, number=2))
        await write_down(session, event, metadata)

    async with database.transaction() as session:
        await Outbox(session, correlation_id="c-1", traceparent="00-aa-bb-01").add(
            counted(topic)(aggregate="k", number=1)
        )
    async with running(relay_of(database, kafka), host_of(database, kafka, [topic], follow_up)):
        await until(lambda: handled(database, 1))
    assert (seen[0].principal.kind, seen[0].principal.subject) == (PrincipalKind.SERVICE, "calibration")
    async with database.read() as session:
        query = text("SELECT correlation_id, traceparent FROM outbox WHERE topic = :topic")
        assert tuple((await session.execute(query, {"topic": f"{topic}.next"})).one()) == ("c-1", "00-aa-bb-01")


async def test_a_host_that_stops_finishes_the_record_in_hand_and_the_next_one_goes_on_behind_it(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    in_hand, go_on = asyncio.Event(), asyncio.Event()

    async def slow(session: AsyncSession, event: Counted, metadata: EventMetadata) -> None:
        await write_down(session, event, metadata)
        in_hand.set()
        await go_on.wait()

    await tell(database, topic, *(("k", number) for number in range(5)))
    async with running(relay_of(database, kafka)):
        first = asyncio.create_task(host_of(database, kafka, [topic], slow).run())
        await asyncio.wait_for(in_hand.wait(), PATIENCE_S)
        first.cancel()
        await asyncio.sleep(0)  # the cancellation arrives while the record is in hand
        go_on.set()
        await asyncio.wait([first])
        done = await effects(database)
        assert done == list(range(len(done)))
        assert 0 < len(done) < 5
        async with running(host_of(database, kafka, [topic])):
            await until(lambda: handled(database, 5))
    assert await effects(database) == [0, 1, 2, 3, 4]


async def test_records_that_wait_share_a_transaction_and_keep_their_order_and_their_context(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    transactions: list[int] = []
    next_kind = counted(f"{topic}.next")

    async def follow_up(session: AsyncSession, event: Counted, metadata: EventMetadata) -> None:
        transactions.append(int(await session.scalar(text("SELECT txid_current()")) or 0))
        await write_down(session, event, metadata)
        await Outbox(session).add(next_kind(aggregate=event.aggregate, number=event.number))

    for number in range(40):
        async with database.transaction() as session:
            await Outbox(session, correlation_id=f"c-{number}").add(counted(topic)(aggregate="k", number=number))
    async with running(relay_of(database, kafka)):
        await until(lambda: _all_published(database, topic))
        async with running(host_of(database, kafka, [topic], follow_up)):
            await until(lambda: handled(database, 40))
    assert await effects(database) == list(range(40))
    assert len(set(transactions)) < len(transactions) == 40
    async with database.read() as session:
        query = text("SELECT correlation_id FROM outbox WHERE topic = :topic ORDER BY id")
        assert list(await session.scalars(query, {"topic": f"{topic}.next"})) == [f"c-{n}" for n in range(40)]


async def _all_published(database: Database, topic: str) -> bool:
    async with database.read() as session:
        query = text("SELECT count(*) FROM outbox WHERE topic = :topic AND published_at IS NULL")
        return bool(await session.scalar(query, {"topic": topic}) == 0)


async def test_a_poison_event_takes_nothing_from_those_that_share_its_transaction(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    async def refuse_two(session: AsyncSession, event: Counted, metadata: EventMetadata) -> None:
        await write_down(session, event, metadata)
        if event.number in (7, 8):
            raise Refused("never")

    await tell(database, topic, *(("k", number) for number in range(20)))
    async with running(relay_of(database, kafka)):
        await until(lambda: _all_published(database, topic))
        async with running(host_of(database, kafka, [topic], refuse_two)):
            await until(lambda: handled(database, 18))
    assert await effects(database) == [number for number in range(20) if number not in (7, 8)]
    assert [decode(value).payload["number"] for value, _ in await dead_letters_of(kafka, topic)] == [7, 8]


async def test_an_event_that_comes_twice_in_one_transaction_takes_effect_once(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    await tell(database, topic, ("k", 1), ("k", 2))
    async with running(relay_of(database, kafka)):
        await until(lambda: _all_published(database, topic))
        for record in await records_of(kafka.brokers, topic):
            for _ in range(2):
                await publish_raw(kafka.brokers, topic, record.value)
        await tell(database, topic, ("k", 3))
        await until(lambda: _all_published(database, topic))
        async with running(host_of(database, kafka, [topic])):
            await until(lambda: handled(database, 3))
    assert await effects(database) == [1, 2, 3]


async def test_a_transaction_that_has_lasted_long_enough_leaves_the_other_records_to_the_next_one(
    database: Database, kafka: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "BATCH_SECONDS", 0.0)
    transactions: set[int] = set()

    async def note(session: AsyncSession, event: Counted, metadata: EventMetadata) -> None:
        transactions.add(int(await session.scalar(text("SELECT txid_current()")) or 0))
        await write_down(session, event, metadata)

    await tell(database, topic, *(("k", number) for number in range(10)))
    async with running(relay_of(database, kafka)):
        await until(lambda: _all_published(database, topic))
        async with running(host_of(database, kafka, [topic], note)):
            await until(lambda: handled(database, 10))
    assert await effects(database) == list(range(10))
    assert len(transactions) == 10
    async with database.read() as session:
        assert await session.scalar(text("SELECT count(*) FROM inbox WHERE consumer = 'calibration'")) == 10


async def test_two_hosts_share_the_partitions_and_nothing_takes_effect_twice_when_one_leaves(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    async with running(relay_of(database, kafka), host_of(database, kafka, [topic])):
        async with running(host_of(database, kafka, [topic])):
            for number in range(100):
                await tell(database, topic, (f"k{number % 7}", number))
            await until(lambda: handled(database, 50))
        await until(lambda: handled(database, 100))
    numbers = await effects(database)
    assert sorted(numbers) == list(range(100))
    for key in range(7):
        of_key = await effects(database, f"k{key}")
        assert of_key == sorted(of_key)


async def test_inbox_rows_are_kept_four_times_as_long_as_published_events(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    async with database.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO inbox (consumer, event_id, handled_at) VALUES"
                " ('calibration', 'old', now() - interval '289 hours'),"
                " ('calibration', 'kept', now() - interval '287 hours'),"
                " ('device', 'of somebody else', now() - interval '1000 hours')"
            )
        )
    assert await host_of(database, kafka, [topic]).prune() == 1
    async with database.read() as session:
        left = (await session.scalars(text("SELECT event_id FROM inbox ORDER BY event_id"))).all()
    assert left == ["kept", "of somebody else"]


# --- what is not genuine


def signed(topic: str, number: int, *, by: EventWriter | None = None, **changes: object) -> bytes:
    """A record of a topic that no outbox has: signed by device, or by another writer."""
    row = CommittedEvent(
        id=0,
        event_id=new_id(),
        topic=topic,
        key="k",
        source="device",
        occurred_at=datetime.now(UTC),
        payload={"aggregate": "k", "number": number},
    )
    return (by or event_writer()).write(replace(row, **changes))  # type: ignore[arg-type]  # fields of a row


def refused(service: str, topic: str, reason: str) -> float:
    labels = {"service": service, "topic": topic, "reason": reason}
    return REGISTRY.get_sample_value("events_refused_total", labels) or 0.0


async def test_forged_events_have_no_effect_and_stop_nothing(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    stranger = EventWriter(SigningKeys([ServiceKey.generate("device")]), EVENT_SEALER)
    genuine = signed(topic, 7)
    unsigned = {n: v for n, v in json.loads(genuine).items() if n not in ("signature", "keyid", "signedat")}
    forged = {
        "NOT_SIGNED": json.dumps({**unsigned, "id": "forged-1"}).encode(),
        "KEY_UNKNOWN": signed(topic, 8, by=stranger),
        "NOT_A_PUBLISHER": signed(topic, 8, source="payment"),
        "TYPE_OF_ANOTHER_TOPIC": signed(f"{topic}.other", 8),
        "SIGNATURE_INVALID": genuine.replace(b'"number":7', b'"number":8'),
        "FROM_THE_FUTURE": signed(topic, 8, occurred_at=datetime.now(UTC) + timedelta(hours=1)),
    }
    await ensure_topics({"bootstrap_servers": kafka.brokers}, [topic], partitions=1)
    for value in forged.values():
        await publish_raw(kafka.brokers, topic, value)
    await publish_raw(kafka.brokers, topic, signed(topic, 1), key="of another partition")
    await publish_raw(kafka.brokers, topic, genuine)
    async with running(host_of(database, kafka, [topic], retry_delays_s=(300,))):
        await until(lambda: handled(database, 1))
    assert await effects(database) == [7]
    letters = await dead_letters_of(kafka, topic)
    reasons = [headers["error-reason"].partition(b":")[0].decode() for _, headers in letters]
    assert reasons == [*forged, "KEY_MISMATCH"]
    assert all(refused("calibration", topic, reason) == 1 for reason in reasons)


async def test_a_dead_letter_of_what_is_not_genuine_is_sealed_and_opens_for_its_place(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    await ensure_topics({"bootstrap_servers": kafka.brokers}, [topic], partitions=1)
    await publish_raw(kafka.brokers, topic, b'{"glucose": 452, "user_id": "u-1"}', key="u-1")
    await publish_raw(kafka.brokers, topic, signed(topic, 1))
    async with running(host_of(database, kafka, [topic])):
        await until(lambda: handled(database, 1))
    ((value, headers),) = await dead_letters_of(kafka, topic)
    assert b"452" not in value
    assert b"u-1" not in b"".join([value, *headers.values()])
    assert headers["sealed"] == b"true"
    opened = event_reader().open_letter(value, topic=DEAD_LETTER_TOPIC, place=f"{topic} 0 0")
    assert opened == b'{"glucose": 452, "user_id": "u-1"}'
    with pytest.raises(SealBroken):
        event_reader().open_letter(value, topic=DEAD_LETTER_TOPIC, place=f"{topic} 0 1")


async def test_an_old_event_that_was_stolen_is_refused_when_its_inbox_row_is_gone(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    await ensure_topics({"bootstrap_servers": kafka.brokers}, [topic], partitions=1)
    stolen = signed(topic, 1)
    await publish_raw(kafka.brokers, topic, stolen)
    host = host_of(database, kafka, [topic])
    async with running(host):
        await until(lambda: handled(database, 1))
    async with database.transaction() as session:  # as if 12 days had passed
        await session.execute(text("UPDATE inbox SET handled_at = handled_at - interval '289 hours'"))
    assert await host.prune() == 1
    late = event_reader(now=datetime.now(UTC) + timedelta(hours=289))
    await publish_raw(kafka.brokers, topic, stolen)
    async with running(host_of(database, kafka, [topic], reader=late)):
        await until(lambda: _has_letter(kafka, topic))
    assert await effects(database) == [1]
    ((_, headers),) = await dead_letters_of(kafka, topic)
    assert headers["error-reason"].startswith(b"TOO_OLD")


async def _has_letter(kafka: KafkaSettings, topic: str) -> bool:
    return bool(await dead_letters_of(kafka, topic))


async def test_an_event_that_would_still_be_taken_has_its_inbox_row(
    database: Database, kafka: KafkaSettings, topic: str
) -> None:
    """A relay may sign an event again until its outbox row goes; the copy that it signed last must meet the row as well."""
    hours = kafka.outbox_retention_hours
    host = host_of(database, kafka, [topic])
    handled_at = datetime.now(UTC)
    signed_last = handled_at + timedelta(hours=hours)
    taken_until = signed_last + host.max_age
    pruned_from = handled_at + timedelta(hours=host.inbox_hours)
    assert taken_until <= pruned_from


async def test_records_beyond_the_bounds_stop_nothing(database: Database, kafka: KafkaSettings, topic: str) -> None:
    await ensure_topics({"bootstrap_servers": kafka.brokers}, [topic], partitions=1)
    large = b"x" * 900_000
    await publish_raw(kafka.brokers, topic, large)
    await publish_raw(kafka.brokers, topic, b'{"a":' * 40_000)
    await publish_raw(kafka.brokers, topic, signed(topic, 3), headers=[(f"h{n}", b"x") for n in range(500)])
    await publish_raw(kafka.brokers, topic, signed(topic, 4))
    async with running(host_of(database, kafka, [topic])):
        await until(lambda: handled(database, 1))
    assert await effects(database) == [4]
    letters = await dead_letters_of(kafka, topic)
    assert all(headers["error-reason"].startswith(b"MALFORMED_EVENT") for _, headers in letters)
    assert [int(headers["original-bytes"]) for _, headers in letters][:2] == [900_000, 200_000]
    assert letters[0][0] in (b"", None)
    assert letters[0][1]["original-sha256"] == sha256(large).hexdigest().encode()


async def test_an_event_too_large_to_be_taken_fails_in_its_command(database: Database, topic: str) -> None:
    with pytest.raises(ValueError, match="more than"):
        await tell(database, topic, ("k" * 200_000, 1))
    assert await pending(database) == 0
