"""Databases with the common tables only, topics of a test's own, and servers that a test may stop."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from domain.catalog import Group
from domain.ids import new_id
from domain.messaging import OUTBOX_SHARDS
from domain.tables import CommonBase
from infra.local.broker import EmbeddedBroker
from subgraphs.runtime.database import Database
from subgraphs.runtime.settings import DatabaseSettings, KafkaSettings
from tests.support.postgres import PostgresServer

EFFECTS = "CREATE TABLE effects (id bigserial PRIMARY KEY, key text NOT NULL, number integer NOT NULL)"


async def make_tables(settings: DatabaseSettings, name: str) -> None:
    """The common tables, and one that handlers write their effects to."""
    database = Database(settings, Group.HARDWARE, name=name, max_connections=2)
    try:
        async with database.engine.begin() as connection:
            await connection.run_sync(CommonBase.metadata.create_all)
            await connection.execute(text(f"INSERT INTO outbox_shards SELECT generate_series(0, {OUTBOX_SHARDS - 1})"))
            await connection.execute(text(EFFECTS))
    finally:
        await database.close()


@pytest.fixture
async def database(postgres: PostgresServer) -> AsyncIterator[Database]:
    """A database with the common tables and `effects`."""

    async def prepare(name: str) -> None:
        await make_tables(postgres.settings, name)

    async with postgres.lent(await postgres.template("template_messaging", prepare)) as name:
        database = Database(postgres.settings, Group.HARDWARE, name=name, max_connections=15)
        try:
            yield database
        finally:
            await database.close()


@pytest.fixture
def kafka(broker: str) -> KafkaSettings:
    """The shared broker, with a consumer group of this test's own."""
    return KafkaSettings(brokers=broker, group_id=f"group-{new_id()}")


@pytest.fixture
def topic() -> str:
    """The name of a topic that no other test uses."""
    return f"test.{new_id()}"


@pytest.fixture
async def own_broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedBroker]:
    """A broker that the test may stop and start."""
    async with EmbeddedBroker(tmp_path_factory.mktemp("broker"), topics=()) as broker:
        yield broker
