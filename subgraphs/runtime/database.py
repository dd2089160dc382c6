"""A group's database: engine, sessions, and the raw connections that COPY and LISTEN need."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Any, Literal, cast

import asyncpg
from sqlalchemy import URL, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from domain.catalog import Group
from domain.sealing import Sealer
from subgraphs.runtime.context import current
from subgraphs.runtime.settings import DatabaseSettings
from subgraphs.runtime.shares import Shares
from subgraphs.runtime.tls import client_context

_DUPLICATE_DATABASE = "42P04"


def _ssl_of(settings: DatabaseSettings) -> SSLContext | Literal["prefer", "allow", "require", False]:
    """libpq's modes as asyncpg takes them: a checking context for verify-*, the mode's name otherwise."""
    match settings.sslmode:
        case "disable":
            return False
        case "verify-full" | "verify-ca":
            return client_context(
                ca=settings.ssl_root_cert,
                cert=settings.ssl_cert,
                key=settings.ssl_key,
                check_hostname=settings.sslmode == "verify-full",
            )
        case mode:
            return mode


class Database:
    """The database of one group, from one process.

    Args:
        group: its database is `<DB_NAME>_<group>`.
        max_connections: of this process; `DB_MAX_CONNS` when not given.
    """

    def __init__(
        self, settings: DatabaseSettings, group: Group, *, name: str | None = None, max_connections: int | None = None
    ) -> None:
        self.group = group
        self.name = name or f"{settings.name}_{group.value}"
        settings = settings.of(group)
        self._settings = settings
        self._ssl = _ssl_of(settings)
        size = max_connections or settings.max_connections
        self.url = URL.create(
            "postgresql+asyncpg",
            username=settings.user,
            password=settings.password.get_secret_value(),
            host=settings.host,
            port=settings.port,
            database=self.name,
        )
        self.engine: AsyncEngine = create_async_engine(
            self.url,
            pool_size=size,
            max_overflow=0,
            pool_timeout=10,
            hide_parameters=True,  # errors are logged, and parameters are people's data
            connect_args={"ssl": self._ssl, "timeout": 10, "server_settings": _server_settings(settings)},
        )
        # asyncpg sees at once that the server has hung up: asking it costs nothing, where a ping costs a round trip.
        event.listen(self.engine.sync_engine, "checkout", _refuse_closed)
        self.sealer: Sealer | None = None
        """Seals what the database's outbox must not hold open; set once its keys are loaded."""
        self.shares = Shares(size)
        """How many sessions one caller may have at once."""
        self._pings = asyncio.Lock()
        self._pinged: asyncpg.Connection[Any] | None = None
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        reader = self.engine.execution_options(postgresql_readonly=True)
        self._read_sessions = async_sessionmaker(reader, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session whose transaction commits at the end of the block, and rolls back if the block raises."""
        async with self.shares.hold(current()), self._sessions() as session, session.begin():
            self.tag(session)
            yield session

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session that only reads: the server refuses a write. What it loaded stays readable after its end."""
        async with self.shares.hold(current()), self._read_sessions() as session:
            self.tag(session)
            yield session

    def tag(self, session: AsyncSession) -> None:
        """Give a session what its events and audit entries tell of the request in hand."""
        context = current()
        session.info["sealer"] = self.sealer
        session.info["correlation_id"] = context.request_id
        session.info["traceparent"] = context.traceparent

    @asynccontextmanager
    async def raw(self) -> AsyncIterator["asyncpg.Connection[Any]"]:
        """An asyncpg connection from the pool, outside of any transaction; it returns to the pool at the end."""
        async with self.engine.connect() as connection:
            pooled = await connection.get_raw_connection()
            driver = cast("asyncpg.Connection[Any]", pooled.driver_connection)
            try:
                yield driver
            except asyncpg.PostgresError:
                raise  # the server has said no, and both sides know where they stand
            except BaseException:
                # It may be in the middle of anything, such as a COPY that was cancelled. SQLAlchemy's rollback does not
                # know of that, and the next user would inherit it; a closed connection is replaced at its checkout.
                driver.terminate()
                raise

    async def listen_connection(self) -> "asyncpg.Connection[Any]":
        """A connection of its own, for LISTEN; the caller closes it."""
        return await connect(self._settings, self.name)

    async def ping(self) -> None:
        """Raises what the driver raises when the database does not answer.

        It has a connection of its own: that all of the pool are at work does not mean that the database is away.
        """
        async with self._pings:
            if self._pinged is not None:
                try:
                    await self._pinged.execute("SELECT 1")
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                    self._drop_pinged()  # it may be this connection's end, and not the server's
                except BaseException:
                    self._drop_pinged()
                    raise
                else:
                    return
            self._pinged = await connect(self._settings, self.name)

    def _drop_pinged(self) -> None:
        dropped, self._pinged = self._pinged, None
        if dropped is not None:
            dropped.terminate()

    async def close(self) -> None:
        self._drop_pinged()
        await self.engine.dispose()


def _server_settings(settings: DatabaseSettings) -> dict[str, str]:
    """Limits that the server keeps by itself, whatever becomes of us: of a statement, of a transaction that does nothing, and of a
    statement whose client has gone.
    """
    statement_ms = str(round(settings.statement_timeout_seconds * 1000))
    return {
        "application_name": "manpasik",
        "statement_timeout": statement_ms,
        "idle_in_transaction_session_timeout": str(2 * round(settings.statement_timeout_seconds * 1000)),
        "client_connection_check_interval": "5s",
    }


def _refuse_closed(connection: DBAPIConnection, *_: object) -> None:
    """Makes the pool replace a connection that the server has closed, instead of handing it out."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError("the server has closed this connection")


async def connect(settings: DatabaseSettings, database: str) -> "asyncpg.Connection[Any]":
    """A single asyncpg connection to a named database."""
    connection: asyncpg.Connection[Any] = await asyncpg.connect(
        host=settings.host,
        port=settings.port,
        user=settings.user,
        password=settings.password.get_secret_value(),
        database=database,
        ssl=_ssl_of(settings),
        timeout=10,
        server_settings={"application_name": "manpasik"},
    )
    return connection


async def ensure_database(settings: DatabaseSettings, name: str) -> None:
    """Create the database unless it is there; safe when several processes start at once."""
    connection = await connect(settings, "postgres")
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            await connection.execute(f'CREATE DATABASE "{name}"')
    except asyncpg.PostgresError as error:
        lost_the_race = error.sqlstate == _DUPLICATE_DATABASE or isinstance(error, asyncpg.UniqueViolationError)
        if not lost_the_race:
            raise
    finally:
        await connection.close()
