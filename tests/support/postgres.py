"""Databases for tests on a shared embedded server: every test gets its own, as a migrated template has it.

A clone costs several times what most tests do with it. So a database is lent: when its test is over, all who are still
connected to it are thrown out, it gets another name, which nobody whom the test left running knows, and its rows become
those of the template again. Where the test changed more than rows, or left many of them, it is dropped instead.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from pydantic import SecretStr

from domain.catalog import Group
from domain.ids import new_id
from infra.local.postgres import EmbeddedPostgres
from subgraphs.runtime.database import Database
from subgraphs.runtime.migrations import migrate
from subgraphs.runtime.settings import DatabaseSettings
from tests.support.shared import locked, shared_server

DatabaseFor = Callable[[Group], Awaitable[Database]]
"""`await database_for(Group.IDENTITY)`: a fresh, migrated database of a group, of this test alone."""

_KEEP = """
CREATE SCHEMA kept;
CREATE TABLE kept.changes (command text);
CREATE FUNCTION kept.note_change() RETURNS event_trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO kept.changes VALUES (tg_tag); END $$;
CREATE TABLE kept.way_back (statement text, bytes bigint);
"""
_WATCH = "CREATE EVENT TRIGGER kept_change ON ddl_command_end EXECUTE FUNCTION kept.note_change()"
_TABLES = """
SELECT format('%I.%I', nspname, relname) AS name, format('kept.%I', nspname || '.' || relname) AS kept,
    (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '') AS columns
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind = 'r' AND nspname NOT IN ('kept', 'information_schema') AND nspname NOT LIKE 'pg\\_%'
ORDER BY 1
"""
_SEQUENCES = """
SELECT format('SELECT setval(%L, %s, %L)', format('%I.%I', schemaname, sequencename),
    coalesce(last_value, start_value), last_value IS NOT NULL) AS statement
FROM pg_sequences WHERE schemaname <> 'kept'
"""
_WAY_BACK = """
SELECT statement FROM kept.way_back
WHERE NOT EXISTS (SELECT FROM kept.changes) AND pg_database_size(current_database()) < 2 * bytes
"""


class PostgresServer:
    """The server that the tests of a run share.

    It does not wait for the disk; a test about durability starts an `EmbeddedPostgres` of its own.
    """

    def __init__(self, dsn: str, root: Path) -> None:
        parts = urlsplit(dsn)
        self.root = root
        self._free: defaultdict[str, list[str]] = defaultdict(list)
        self._templates: set[str] = set()
        self.settings = DatabaseSettings(
            host=parts.hostname or "",
            port=parts.port or 0,
            user=parts.username or "",
            password=SecretStr(parts.password or ""),
            max_connections=5,
        )

    def dsn(self, database: str = "postgres") -> str:
        """An asyncpg connection string."""
        settings = self.settings
        password = settings.password.get_secret_value()
        return f"postgresql://{settings.user}:{password}@{settings.host}:{settings.port}/{database}"

    async def create_database(self, *, template: str = "template0") -> str:
        """The name of a fresh database."""
        name = _new_name()
        await self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    async def drop_database(self, name: str) -> None:
        """Drop it, whoever is still connected."""
        await self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    @asynccontextmanager
    async def lent(self, template: str) -> AsyncIterator[str]:
        """The name of a database as the template is, for the block alone."""
        free = self._free[template]
        name = free.pop() if free else await self.create_database(template=template)
        try:
            yield name
        finally:
            fresh = _new_name()
            if await self._take_back(name, fresh):
                free.append(fresh)
            else:
                await self.drop_database(fresh)

    async def template(self, name: str, prepare: Callable[[str], Awaitable[None]]) -> str:
        """The name of a database to clone, made once a run.

        Args:
            prepare: fills the empty database of that name; nobody is connected to it afterwards.
        """
        if name not in self._templates:
            await asyncio.to_thread(self._template_locked, name, prepare)
            self._templates.add(name)
        return name

    async def template_of(self, group: Group) -> str:
        """The migrated template of a group."""

        async def prepare(database: str) -> None:
            await migrate(self.settings, group, name=database)

        return await self.template(f"template_{group.value}", prepare)

    def _template_locked(self, name: str, prepare: Callable[[str], Awaitable[None]]) -> None:
        async def make() -> None:
            connection = await asyncpg.connect(self.dsn())
            try:
                if await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                    return
                # Under another name until it is whole: a failed migration must fail every test that needs it.
                draft = f"{name}_draft"
                await connection.execute(f'DROP DATABASE IF EXISTS "{draft}" WITH (FORCE)')
                await connection.execute(f'CREATE DATABASE "{draft}" TEMPLATE template0')
                await prepare(draft)
                await self._keep_rows(draft)
                await connection.execute(f'ALTER DATABASE "{draft}" RENAME TO "{name}"')
            finally:
                await connection.close()

        with locked(self.root, name):  # blocks, which is why this runs in a thread with a loop of its own
            asyncio.run(make())

    async def _keep_rows(self, name: str) -> None:
        """Write into the database how its rows become again what they are now."""
        async with self._connected(name) as connection:
            await connection.execute(_KEEP)
            # Neither triggers nor foreign keys have a say in it.
            statements = ["SET session_replication_role = replica"]
            for table, kept, columns in await connection.fetch(_TABLES):
                statements.append(f"DELETE FROM {table}")
                if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {table})"):
                    await connection.execute(f"CREATE TABLE {kept} AS SELECT {columns} FROM {table}")
                    statements.append(
                        f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {kept}"
                    )
            statements += [statement for (statement,) in await connection.fetch(_SEQUENCES)]
            await connection.execute(
                "INSERT INTO kept.way_back VALUES ($1, pg_database_size(current_database()))", ";\n".join(statements)
            )
            await connection.execute(_WATCH)

    async def _take_back(self, name: str, fresh: str) -> bool:
        """Give a database another name and the template's rows; False when it has to go."""
        async with self._connected("postgres") as connection:
            await connection.fetch(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", name
            )
            await connection.execute(f'ALTER DATABASE "{name}" RENAME TO "{fresh}"')
        async with self._connected(fresh) as connection:
            statement = await connection.fetchval(_WAY_BACK)
            if statement is not None:
                await connection.execute(statement)
            return statement is not None

    @asynccontextmanager
    async def _connected(self, database: str) -> "AsyncIterator[asyncpg.Connection[Any]]":
        connection: asyncpg.Connection[Any] = await asyncpg.connect(self.dsn(database))
        try:
            yield connection
        finally:
            await connection.close()

    async def _execute(self, statement: str) -> None:
        async with self._connected("postgres") as connection:
            await connection.execute(statement)


def _new_name() -> str:
    return f"test_{new_id().replace('-', '')}"


@contextmanager
def shared_postgres(root: Path) -> Iterator[PostgresServer]:
    """The shared server of this run."""

    async def start(lifeline: int) -> tuple[EmbeddedPostgres, str]:
        server = EmbeddedPostgres(root / "postgres", durable=False, lifeline=lifeline)
        address = await server.start()
        return server, address.dsn()

    with shared_server(root, "postgres", start) as dsn:
        yield PostgresServer(dsn, root)
