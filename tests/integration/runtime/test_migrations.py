"""Every group's migrations: they make what the models say, they can be taken back, and many may start at once."""

import asyncio
from importlib.resources import as_file, files

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from domain.catalog import Group, built_groups
from domain.messaging import OUTBOX_SHARDS
from subgraphs.runtime.database import Database
from subgraphs.runtime.migrations import head_of, metadatas, migrate
from tests.support.postgres import DatabaseFor, PostgresServer

GROUPS = [group for group in built_groups() if files(f"subgraphs.{group.value}").joinpath("migrations").is_dir()]


def test_every_built_group_has_migrations() -> None:
    assert set(GROUPS) == set(built_groups())


def _run(connection: Connection, group: Group, revision: str) -> None:
    with as_file(files(f"subgraphs.{group.value}") / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder))
        config.attributes.update({"connection": connection, "metadata": list(metadatas(group))})
        if revision == "base":
            command.downgrade(config, "base")
        else:
            command.upgrade(config, revision)


def _differences(connection: Connection, group: Group) -> list[object]:
    own, common = metadatas(group)
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": False})
    return list(compare_metadata(context, [own, common]))  # type: ignore[arg-type]  # a list is taken, the stubs lack it


def _objects(connection: Connection) -> set[str]:
    inspector = inspect(connection)
    tables = set(inspector.get_table_names()) - {"alembic_version"}
    types = connection.execute(
        text(
            "SELECT typname FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace WHERE typtype = 'e' AND nspname = 'public'"
        )
    )
    return tables | set(types.scalars()) | set(inspector.get_sequence_names())


@pytest.mark.parametrize("group", GROUPS)
async def test_models_and_migrations_agree(group: Group, database_for: DatabaseFor) -> None:
    database = await database_for(group)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(_differences, group) == []
        shards = await connection.scalar(text("SELECT count(*) FROM outbox_shards"))
    assert shards == OUTBOX_SHARDS


@pytest.mark.parametrize("group", GROUPS)
async def test_migrations_can_be_taken_back_and_made_again(group: Group, database_for: DatabaseFor) -> None:
    database = await database_for(group)
    async with database.engine.begin() as connection:
        made = await connection.run_sync(_objects)
        await connection.run_sync(_run, group, "base")
    async with database.engine.begin() as connection:
        assert await connection.run_sync(_objects) == set()
        await connection.run_sync(_run, group, "head")
    async with database.engine.begin() as connection:
        assert await connection.run_sync(_objects) == made
        assert await connection.run_sync(_differences, group) == []


async def test_many_processes_may_migrate_at_once(postgres: PostgresServer) -> None:
    """Each of them would create the database and its tables; one does, the others find them."""
    name = await postgres.create_database()
    await postgres.drop_database(name)
    await asyncio.gather(*(migrate(postgres.settings, Group.IDENTITY, name=name) for _ in range(4)))
    database = Database(postgres.settings, Group.IDENTITY, name=name)
    async with database.read() as session:
        assert await session.scalar(text("SELECT version_num FROM alembic_version")) == head_of(Group.IDENTITY)
        assert await session.scalar(text("SELECT count(*) FROM outbox_shards")) == OUTBOX_SHARDS
    await database.close()
    await postgres.drop_database(name)


async def test_a_database_of_a_later_release_is_left_as_it_is(
    database_for: DatabaseFor, postgres: PostgresServer
) -> None:
    database = await database_for(Group.IDENTITY)
    async with database.transaction() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await migrate(postgres.settings, Group.IDENTITY, name=database.name)
    async with database.read() as session:
        assert await session.scalar(text("SELECT version_num FROM alembic_version")) == "9999"


async def test_measurements_are_migrated_on_the_server_of_their_own(postgres: PostgresServer) -> None:
    own = postgres.settings
    settings = own.model_copy(
        update={"host": "127.0.0.1", "port": 1, "timescale_host": own.host, "timescale_port": own.port}
    )
    name = await postgres.create_database()
    await postgres.drop_database(name)
    await migrate(settings, Group.MEASUREMENT, name=name)
    database = Database(settings, Group.MEASUREMENT, name=name)
    async with database.read() as session:
        assert await session.scalar(text("SELECT count(*) FROM measurement_sessions")) == 0
    await database.close()
    with pytest.raises(ConnectionRefusedError):
        await migrate(settings, Group.HARDWARE, name=name)
    await postgres.drop_database(name)
