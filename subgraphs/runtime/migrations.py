"""Migrations of a group's database: Alembic, run by the process itself, under a lock so that many can start at once."""

import re
from importlib import import_module
from importlib.resources import as_file, files

import asyncpg
import sqlalchemy as sa
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.dialects.postgresql import JSONB

from domain.catalog import Group
from domain.messaging import OUTBOX_SHARDS
from domain.tables import CommonBase
from subgraphs.runtime.database import Database, ensure_database
from subgraphs.runtime.settings import DatabaseSettings

_REVISION = re.compile(r'^revision = "([0-9_]+)"', re.MULTILINE)
_LOCK = 0x6D616E70  # "manp": the advisory lock that migrating processes share within a database


def metadatas(group: Group) -> tuple[MetaData, MetaData]:
    """The tables that a group's database should have: its own, and those of every group."""
    import_module("domain.audit")  # registers its table, also for groups that read no health data
    import_module(f"subgraphs.{group.value}.group")  # registers the tables of all its services
    own: MetaData = import_module(f"domain.{group.value}.base").Base.metadata
    return own, CommonBase.metadata


def create_common_tables() -> None:
    """For a group's first migration: the tables that every group has, and the outbox's shards.

    Written out rather than made from the models, since it is history: a later change of these tables gets a function of
    its own, for every group's next migration.
    """
    from alembic import op  # noqa: PLC0415 - slow to import

    moment = sa.DateTime(timezone=True)
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("event_id", sa.String(36), nullable=False),
        sa.Column("shard", sa.SmallInteger, nullable=False),
        sa.Column("topic", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("occurred_at", moment, nullable=False),
        sa.Column("payload", JSONB),
        sa.Column("sealed_payload", sa.LargeBinary),
        sa.Column("correlation_id", sa.String, nullable=False),
        sa.Column("traceparent", sa.String, nullable=False),
        sa.Column("published_at", moment),
        sa.Column("partition", sa.Integer),
        sa.Column("broker_offset", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.CheckConstraint("num_nonnulls(payload, sealed_payload) = 1", name=op.f("ck_outbox_payload")),
    )
    op.create_index("ix_outbox_pending", "outbox", ["shard", "id"], postgresql_where=sa.text("published_at IS NULL"))
    op.create_index("ix_outbox_published", "outbox", ["published_at"])
    op.create_table(
        "outbox_shards",
        sa.Column("shard", sa.SmallInteger, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("shard", name="pk_outbox_shards"),
    )
    op.execute(sa.text(f"INSERT INTO outbox_shards SELECT generate_series(0, {OUTBOX_SHARDS - 1})"))
    op.create_table(
        "inbox",
        sa.Column("consumer", sa.String, nullable=False),
        sa.Column("event_id", sa.String(36), nullable=False),
        sa.Column("handled_at", moment, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("consumer", "event_id", name="pk_inbox"),
    )
    op.create_index("ix_inbox_handled_at", "inbox", ["handled_at"])
    op.create_table(
        "data_keys",
        sa.Column("key_id", sa.Integer, sa.Identity(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        sa.Column("created_at", moment, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_data_keys"),
    )
    op.create_table(
        "health_data_access",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("subject_user_id", sa.String, nullable=False),
        sa.Column("actor_kind", sa.String, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("resource_type", sa.String, nullable=False),
        sa.Column("resource_ids", JSONB, nullable=False),
        sa.Column("request_id", sa.String, nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("position", sa.BigInteger),
        sa.Column("previous_hash", sa.LargeBinary),
        sa.Column("entry_hash", sa.LargeBinary),
        sa.PrimaryKeyConstraint("id", name="pk_health_data_access"),
        sa.UniqueConstraint("subject_user_id", "position", name="uq_health_data_access_subject_user_id_position"),
    )
    op.create_index(
        "ix_health_data_access_unsealed", "health_data_access", ["id"], postgresql_where=sa.text("position IS NULL")
    )


def drop_common_tables() -> None:
    """The reverse of `create_common_tables`."""
    from alembic import op  # noqa: PLC0415 - slow to import

    for table in ("health_data_access", "data_keys", "inbox", "outbox_shards", "outbox"):
        op.drop_table(table)


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

    # A migration takes as long as it takes, and so may the one of another process that this one waits for.
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    with as_file(files(f"subgraphs.{group.value}") / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.attributes.update({"connection": connection, "metadata": list(metadatas(group))})
        command.upgrade(config, "head")


def head_of(group: Group) -> str:
    """The newest revision id of a group: of its files, whose names begin with their date and a number, the last one's.

    Ids are numbers in text (`0001`), and since December 2026 the date and the number (`2026_12_01_0600`): in the order of
    their making they are in the order of texts too.
    """
    versions = files(f"subgraphs.{group.value}") / "migrations" / "versions"
    scripts = [entry for entry in versions.iterdir() if entry.name.endswith(".py") and entry.name[0].isdigit()]
    found = [_REVISION.search(entry.read_text(encoding="utf-8")) for entry in scripts]
    return max(match.group(1) for match in found if match is not None)


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
        await ensure_database(settings.of(group), database.name)
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
