"""Broker and database go away and come back: nothing is lost, nothing happens twice."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from pydantic import SecretStr

from domain.catalog import Group
from infra.local.broker import EmbeddedBroker
from infra.local.postgres import EmbeddedPostgres
from subgraphs.runtime.database import Database, ensure_database
from subgraphs.runtime.settings import DatabaseSettings, KafkaSettings
from tests.integration.messaging.conftest import make_tables
from tests.integration.messaging.scene import effects, host_of, pending, records_of, relay_of, running, tell, until


async def handled(database: Database, count: int) -> bool:
    return len(await effects(database)) >= count


async def test_every_event_takes_effect_once_although_the_broker_comes_back_empty(
    database: Database, own_broker: EmbeddedBroker, topic: str
) -> None:
    kafka = KafkaSettings(brokers=own_broker.address, group_id="restart")
    async with running(relay_of(database, kafka), host_of(database, kafka, [topic])):
        await tell(database, topic, *(("k", number) for number in range(10)))
        await until(lambda: handled(database, 10))
        await own_broker.stop()
        await tell(database, topic, ("k", 10))
        await asyncio.sleep(0.5)  # long enough for both to notice
        await own_broker.start()
        await tell(database, topic, ("k", 11))
        # A batch that was on its way when the broker died is waited for first, by the client's own limits.
        await until(lambda: handled(database, 12), timeout_s=100)
        await until(lambda: _nothing_pending(database))
    assert await effects(database) == list(range(12))


async def test_what_was_published_and_not_consumed_survives_the_restart_of_the_broker(
    database: Database, own_broker: EmbeddedBroker, topic: str
) -> None:
    kafka = KafkaSettings(brokers=own_broker.address, group_id="restart")
    await tell(database, topic, *(("k", number) for number in range(10)))
    async with running(relay_of(database, kafka)):
        await until(lambda: _nothing_pending(database))
        await own_broker.stop()  # nobody has read anything yet
        await own_broker.start()
        # Nothing new is told: the relay finds out by itself.
        async with running(host_of(database, kafka, [topic])):
            await until(lambda: handled(database, 10))
    assert await effects(database) == list(range(10))


async def test_a_relay_that_starts_after_the_broker_lost_its_log_publishes_again_what_it_held(
    database: Database, own_broker: EmbeddedBroker, topic: str
) -> None:
    kafka = KafkaSettings(brokers=own_broker.address, group_id="restart")
    await tell(database, topic, ("k", 1), ("k", 2))
    async with running(relay_of(database, kafka)):
        await until(lambda: _nothing_pending(database))
    await own_broker.stop()
    await own_broker.start()
    async with running(relay_of(database, kafka), relay_of(database, kafka), host_of(database, kafka, [topic])):
        await until(lambda: handled(database, 2))
    assert await effects(database) == [1, 2]


async def test_an_intact_broker_is_not_written_to_again(database: Database, kafka: KafkaSettings, topic: str) -> None:
    await tell(database, topic, *(("k", number) for number in range(50)))
    for _ in range(2):
        async with running(relay_of(database, kafka)):
            await until(lambda: _nothing_pending(database))
            await asyncio.sleep(1.5)  # three checks
    assert len(await records_of(kafka.brokers, topic)) == 50


async def _nothing_pending(database: Database) -> bool:
    return await pending(database) == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
async def test_events_wait_for_a_database_that_is_away_and_are_not_counted_as_failed(
    tmp_path: Path, kafka: KafkaSettings, topic: str, how: signal.Signals
) -> None:
    server = EmbeddedPostgres(tmp_path / "db")
    address = await server.start()
    settings = DatabaseSettings(
        host=address.host, port=address.port, user=address.user, password=SecretStr(address.password)
    )
    await ensure_database(settings, "messaging")
    await make_tables(settings, "messaging")
    database = Database(settings, Group.HARDWARE, name="messaging", max_connections=15)
    again = EmbeddedPostgres(tmp_path / "db", port=address.port)
    try:
        await tell(database, topic, *(("k", number) for number in range(200)))
        host = host_of(database, kafka, [topic], retry_delays_s=(0.01,))
        async with running(relay_of(database, kafka), host):
            await until(lambda: handled(database, 5))  # in the middle of the work
            os.kill(int((tmp_path / "db" / "postmaster.pid").read_text().split("\n", 1)[0]), how)
            await server.stop()
            await asyncio.sleep(2)
            await again.start()
            await tell(database, topic, ("k", 200))
            await until(lambda: handled(database, 201))
        assert await effects(database) == list(range(201))
    finally:
        await database.close()
        await server.stop()
        await again.stop()
