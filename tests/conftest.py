"""Fixtures that every test may use: real servers shared by the run, a database of its own for each test."""

from collections.abc import AsyncIterator, Iterator

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.catalog import Group
from domain.sealing import Sealer
from subgraphs.runtime.database import Database
from tests.support.broker import shared_broker
from tests.support.postgres import DatabaseFor, PostgresServer, shared_postgres
from tests.support.shared import shared_root


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The embedded PostgreSQL of this run, shared by its workers."""
    with shared_postgres(shared_root(tmp_path_factory)) as server:
        yield server


@pytest.fixture
async def empty_database(postgres: PostgresServer) -> AsyncIterator[str]:
    """The asyncpg connection string of a database without tables."""
    name = await postgres.create_database()
    yield postgres.dsn(name)
    await postgres.drop_database(name)


@pytest.fixture
async def database_for(postgres: PostgresServer) -> AsyncIterator[DatabaseFor]:
    """`await database_for(Group.IDENTITY)`: a fresh, migrated database of the group; asked twice, two of them."""
    made: list[Database] = []

    async def make(group: Group) -> Database:
        name = await postgres.create_database(template=await postgres.template_of(group))
        made.append(Database(postgres.settings, group, name=name))
        return made[-1]

    yield make
    for database in made:
        await database.close()
        await postgres.drop_database(database.name)


@pytest.fixture
def sealer() -> Sealer:
    """Seals with a key of this test's own."""
    return Sealer({1: AESGCM.generate_key(256)})


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the event broker of this run, shared by its workers; use topics and groups of your own on it."""
    with shared_broker(shared_root(tmp_path_factory)) as address:
        yield address
