"""Databases for tests on a shared embedded server: every test gets its own, cloned from a migrated template."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
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
"""`await database_for(Group.IDENTITY)`: a fresh, migrated database of a group; dropped after the test."""


class PostgresServer:
    """The server that the tests of a run share.

    It does not wait for the disk; a test about durability starts an `EmbeddedPostgres` of its own.
    """

    def __init__(self, dsn: str, root: Path) -> None:
        parts = urlsplit(dsn)
        self._root = root
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
        name = f"test_{new_id().replace('-', '')}"
        await self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    async def drop_database(self, name: str) -> None:
        """Drop it, whoever is still connected."""
        await self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def template(self, name: str, prepare: Callable[[str], Awaitable[None]]) -> str:
        """The name of a database to clone, made once a run.

        Args:
            prepare: fills the empty database of that name; nobody is connected to it afterwards.
        """
        return await asyncio.to_thread(self._template_locked, name, prepare)

    async def template_of(self, group: Group) -> str:
        """The migrated template of a group."""

        async def prepare(database: str) -> None:
            await migrate(self.settings, group, name=database)

        return await self.template(f"template_{group.value}", prepare)

    def _template_locked(self, name: str, prepare: Callable[[str], Awaitable[None]]) -> str:
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
                await connection.execute(f'ALTER DATABASE "{draft}" RENAME TO "{name}"')
            finally:
                await connection.close()

        with locked(self._root, name):  # blocks, which is why this runs in a thread with a loop of its own
            asyncio.run(make())
        return name

    async def _execute(self, statement: str) -> None:
        connection: asyncpg.Connection[Any] = await asyncpg.connect(self.dsn())
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@contextmanager
def shared_postgres(root: Path) -> Iterator[PostgresServer]:
    """The shared server of this run."""

    async def start(lifeline: int) -> tuple[EmbeddedPostgres, str]:
        server = EmbeddedPostgres(root / "postgres", durable=False, lifeline=lifeline)
        address = await server.start()
        return server, address.dsn()

    with shared_server(root, "postgres", start) as dsn:
        yield PostgresServer(dsn, root)
