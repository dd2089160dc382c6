"""Migrations of a group's database: Alembic, run by the process itself, under a lock so that many can start at once."""

from importlib import import_module
from importlib.resources import as_file, files

import asyncpg
from sqlalchemy import Connection, MetaData, text

from domain.catalog import Group
from domain.messaging import OUTBOX_SHARDS
from domain.tables import CommonBase
from subgraphs.runtime.database import Database, ensure_database
from subgraphs.runtime.settings import DatabaseSettings

_LOCK = 0x6D616E70  # "manp": the advisory lock that migrating processes share within a database


def metadatas(group: Group) -> tuple[MetaData, MetaData]:
    """The tables that a group's database should have: its own, and those of every group."""
    import_module(f"subgraphs.{group.value}.group")  # registers the tables of all its services
    own: MetaData = import_module(f"domain.{group.value}.base").Base.metadata
    return own, CommonBase.metadata


def create_common_tables() -> None:
    """For a group's first migration: the tables that every group has, and the outbox's shards."""
    from alembic import op  # noqa: PLC0415 - slow to import

    CommonBase.metadata.create_all(op.get_bind(), checkfirst=False)
    op.execute(text(f"INSERT INTO outbox_shards SELECT generate_series(0, {OUTBOX_SHARDS - 1})"))


def drop_common_tables() -> None:
    """The reverse of `create_common_tables`."""
    from alembic import op  # noqa: PLC0415 - slow to import

    CommonBase.metadata.drop_all(op.get_bind(), checkfirst=False)


def run_env() -> None:
    """The body of every group's `env.py`: run the revisions on the connection that `migrate` holds."""
    from alembic import context  # noqa: PLC0415 - slow to import

    connection: Connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=context.config.attributes["metadata"])
    with context.begin_transaction():
        context.run_migrations()


def _upgrade(connection: Connection, group: Group) -> None:
    # Alembic takes 0.3 s to import: a start that finds its database up to date does without it.
    from alembic import command  # noqa: PLC0415 - slow to import
    from alembic.config import Config  # noqa: PLC0415 - slow to import

    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    with as_file(files(f"subgraphs.{group.value}") / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.attributes.update({"connection": connection, "metadata": list(metadatas(group))})
        command.upgrade(config, "head")


def head_of(group: Group) -> str:
    """The newest revision id of a group: revision ids are numbers in text (`0001`), so it is the greatest one."""
    versions = files(f"subgraphs.{group.value}") / "migrations" / "versions"
    names = [entry.name for entry in versions.iterdir() if entry.name.endswith(".py") and entry.name[0].isdigit()]
    return max(name.split("_")[3] for name in names)


async def migrate(settings: DatabaseSettings, group: Group, *, name: str | None = None) -> None:
    """Bring the group's database to the newest revision, creating it if it is not there.

    A database that a later release has migrated is left as it is: migrations keep the release before working.
    Safe when several processes start at once: one migrates, the others wait for it and find nothing left to do.
    """
    database = Database(settings, group, name=name, max_connections=2)
    try:
        try:
            at_head = (await _revision(database) or "") >= head_of(group)
        except (asyncpg.InvalidCatalogNameError, asyncpg.UndefinedTableError):
            at_head = False
        if at_head:
            return
        await ensure_database(settings, database.name)
        async with database.engine.connect() as connection, connection.begin():
            await connection.run_sync(_upgrade, group)
    finally:
        await database.close()


async def _revision(database: Database) -> str | None:
    connection = await database.listen_connection()
    try:
        revision: str | None = await connection.fetchval("SELECT max(version_num) FROM alembic_version")
        return revision
    finally:
        await connection.close()


async def migrate_all(settings: DatabaseSettings, groups: tuple[Group, ...]) -> None:
    """`migrate` for several groups, one after the other: Alembic keeps its environment in globals of the process."""
    for group in groups:
        await migrate(settings, group)
