"""What the driver really raises when its database goes away, at each moment at which it can; and what bugs look like."""

import asyncio
import random
import signal
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import psutil
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from domain.catalog import Group
from domain.errors import ErrorKind
from infra.local.postgres import EmbeddedPostgres
from infra.local.process import free_port
from subgraphs.runtime.database import Database
from subgraphs.runtime.errors import as_app_error
from subgraphs.runtime.outages import driver_error_of, is_outage
from subgraphs.runtime.settings import DatabaseSettings
from tests.support.patience import PATIENCE_S
from tests.support.postgres import DatabaseFor, PostgresServer
from tests.support.shared import run

# The server of this file has one port, and is stopped by its tests.
pytestmark = pytest.mark.xdist_group("own-postgres")

_ROWS = [("c", str(number)) for number in range(5000)]
_COLUMNS = ("consumer", "event_id")
_WRITE = text("INSERT INTO inbox (consumer, event_id) VALUES ('c', :id)")


def _kind(error: BaseException) -> ErrorKind | None:
    known = as_app_error(error)
    assert is_outage(error) == (known is not None and known.kind in (ErrorKind.UNAVAILABLE, ErrorKind.TIMEOUT))
    return None if known is None else known.kind


async def _terminate(database: Database) -> None:
    """End all sessions of this database, and wait until the server has."""
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    connection = await database.listen_connection()
    try:
        # Again, until there is none: a session may begin between the two.
        while await connection.fetchval(f"SELECT count(pg_terminate_backend(pid)) {others}"):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.005)
    finally:
        await connection.close()


# --- each moment, for itself


async def _between_statements(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(_WRITE, {"id": "1"})
        await _terminate(database)
        await session.execute(_WRITE, {"id": "2"})


async def _in_a_statement(database: Database) -> None:
    async with database.transaction() as session:
        await session.connection()  # or there would be no session to end yet
        asking = asyncio.create_task(_terminate(database))
        try:
            await session.execute(text("SELECT pg_sleep(20)"))  # longer than that takes
        finally:
            await asking


async def _before_the_commit(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(_WRITE, {"id": "1"})
        await _terminate(database)


async def _in_a_savepoint(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(_WRITE, {"id": "1"})
        async with session.begin_nested():
            await session.execute(_WRITE, {"id": "2"})
            await _terminate(database)


async def _after_a_savepoint_that_swallowed_it(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(_WRITE, {"id": "1"})
        with suppress(DBAPIError):
            async with session.begin_nested():
                await _terminate(database)
                await session.execute(_WRITE, {"id": "2"})
        await session.execute(_WRITE, {"id": "3"})


async def _in_a_read(database: Database) -> None:
    async with database.read() as session:
        await session.execute(text("SELECT 1"))
        await _terminate(database)
        await session.execute(text("SELECT 2"))


async def _between_statements_of_a_raw_connection(database: Database) -> None:
    async with database.raw() as connection:
        await connection.fetch("SELECT 1")
        await _terminate(database)
        await connection.fetch("SELECT 2")


async def _in_a_raw_transaction(database: Database) -> None:
    async with database.raw() as connection, connection.transaction():
        await connection.fetch("SELECT 1")
        await _terminate(database)
        await connection.copy_records_to_table("inbox", records=_ROWS, columns=_COLUMNS)


async def _in_the_middle_of_a_copy(database: Database) -> None:
    async def rows() -> AsyncIterator[tuple[str, str]]:
        for number, row in enumerate(_ROWS):
            if number == 2000:
                await _terminate(database)
            yield row

    async with database.raw() as connection, connection.transaction():
        await connection.copy_records_to_table("inbox", records=rows(), columns=_COLUMNS)


async def _before_the_commit_of_a_raw_transaction(database: Database) -> None:
    async with database.raw() as connection, connection.transaction():
        await connection.copy_records_to_table("inbox", records=_ROWS, columns=_COLUMNS)
        await _terminate(database)


@pytest.mark.parametrize(
    "work",
    [
        _between_statements,
        _in_a_statement,
        _before_the_commit,
        _in_a_savepoint,
        _after_a_savepoint_that_swallowed_it,
        _in_a_read,
        _between_statements_of_a_raw_connection,
        _in_a_raw_transaction,
        _in_the_middle_of_a_copy,
        _before_the_commit_of_a_raw_transaction,
    ],
)
async def test_a_connection_that_is_lost_at_any_moment_is_an_outage(
    database_for: DatabaseFor, work: Callable[[Database], Awaitable[None]]
) -> None:
    database = await database_for(Group.IDENTITY)
    with pytest.raises(Exception) as lost:  # noqa: PT011 - which class it is, is the driver's whim
        await work(database)
    assert _kind(lost.value) is ErrorKind.UNAVAILABLE, repr(lost.value)
    async with database.read() as session:  # nothing of it is left, and the pool has found new connections
        assert await session.scalar(text("SELECT count(*) FROM inbox")) == 0


async def test_connections_that_were_lost_while_nobody_used_them_trouble_nobody(database_for: DatabaseFor) -> None:
    database = await database_for(Group.IDENTITY)

    async def use() -> None:
        async with database.transaction() as session:
            await session.execute(text("SELECT pg_sleep(0.05)"))

    await asyncio.gather(*(use() for _ in range(5)))
    await _terminate(database)
    await asyncio.gather(*(use() for _ in range(5)))


# --- the server's last words are read, the end of the connection is not


class _SilentEnd:
    """Forwards TCP, but keeps the ends of connections to itself while it is `silent`."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self.ended = asyncio.Event()
        self.silent = True

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        try:
            yield self._server.sockets[0].getsockname()[1]
        finally:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers += [writer, up_writer]
        back = asyncio.create_task(self._pump(up_reader, writer))
        await self._pump(reader, up_writer)
        up_writer.transport.abort()
        await back

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while part := await reader.read(65536):
                writer.write(part)
                await writer.drain()
        self.ended.set()
        if not self.silent:
            writer.close()


async def _statement(database: Database, gone: Callable[[], Awaitable[None]]) -> None:
    async with database.read() as session:
        await session.execute(text("SELECT 1"))
        await gone()
        await session.execute(text("SELECT 2"))


async def _first_statement(database: Database, gone: Callable[[], Awaitable[None]]) -> None:
    await _use_pool(database)
    await gone()
    await _use_pool(database)


async def _use_pool(database: Database) -> None:
    async with database.engine.connect() as connection:
        await connection.execute(text("SELECT 1"))


async def _raw_statement(database: Database, gone: Callable[[], Awaitable[None]]) -> None:
    async with database.raw() as connection:
        await gone()
        await connection.fetch("SELECT 1")


async def _raw_transaction(database: Database, gone: Callable[[], Awaitable[None]]) -> None:
    async with database.raw() as connection:
        await gone()
        async with connection.transaction():
            pass


async def _raw_copy(database: Database, gone: Callable[[], Awaitable[None]]) -> None:
    async with database.raw() as connection, connection.transaction():
        await gone()
        await connection.copy_records_to_table("inbox", records=_ROWS, columns=_COLUMNS)


@pytest.mark.parametrize("work", [_statement, _first_statement, _raw_statement, _raw_transaction, _raw_copy])
async def test_last_words_without_an_end_are_an_outage(
    postgres: PostgresServer,
    database_for: DatabaseFor,
    work: Callable[[Database, Callable[[], Awaitable[None]]], Awaitable[None]],
) -> None:
    direct = await database_for(Group.IDENTITY)
    relay = _SilentEnd(postgres.settings.port)
    async with relay.listening() as port:
        settings = postgres.settings.model_copy(update={"port": port})
        database = Database(settings, Group.IDENTITY, name=direct.name)

        async def gone() -> None:
            await _terminate(direct)
            await relay.ended.wait()
            await asyncio.sleep(0.05)  # the last words are on their way through the loop

        with pytest.raises(Exception) as lost:  # noqa: PT011 - which class it is, is the driver's whim
            await work(database, gone)
        relay.silent = False
        assert "another operation (2) is in progress" in "".join(traceback.format_exception(lost.value))
        assert _kind(lost.value) is ErrorKind.UNAVAILABLE, repr(lost.value)
        async with asyncio.timeout(PATIENCE_S):
            await database.ping()
        await database.close()


# --- a server that stops, is away, and starts


class _Server:
    """An embedded server that these tests may stop in every way."""

    def __init__(self, embedded: EmbeddedPostgres) -> None:
        self.embedded = embedded

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        address = self.embedded.address
        settings = DatabaseSettings(
            host=address.host,
            port=address.port,
            user=address.user,
            password=SecretStr(address.password),
            max_connections=4,
        )
        database = Database(settings, Group.IDENTITY, name="postgres")
        try:
            yield database
        finally:
            await database.close()

    def signal(self, how: signal.Signals) -> None:
        """SIGTERM waits for sessions (smart), SIGQUIT ends all at once (immediate)."""
        port = self.embedded.address.port
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.name() == "postgres" and f"port={port}" in process.cmdline():
                    process.send_signal(how)
                    return
        raise AssertionError("the server does not run")

    async def start_again(self) -> None:
        await self.embedded.stop()
        await self.embedded.start()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Server]:
    embedded = EmbeddedPostgres(tmp_path_factory.mktemp("own") / "postgres", port=free_port(), durable=False)
    try:
        run(embedded.start)
        yield _Server(embedded)
    finally:
        run(embedded.stop)


async def test_a_server_that_is_shutting_down_is_an_outage(server: _Server) -> None:
    async with server.database() as database, database.transaction() as session:
        await session.execute(text("SELECT 1"))  # a smart shutdown waits for this session
        server.signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                async with server.database() as other:
                    [refused] = await asyncio.gather(_use_pool(other), return_exceptions=True)
                if refused is not None:
                    break
                await asyncio.sleep(0.01)
    assert isinstance(refused, DBAPIError)
    assert isinstance(driver_error_of(refused), asyncpg.CannotConnectNowError)
    assert _kind(refused) is ErrorKind.UNAVAILABLE
    await server.start_again()


async def test_an_immediate_shutdown_and_everything_until_the_next_start_is_an_outage(server: _Server) -> None:
    raised: list[Exception] = []
    done = asyncio.Event()

    async def use(database: Database) -> None:
        while not done.is_set():
            try:
                async with database.transaction() as session:
                    await session.execute(text("SELECT pg_sleep(0.002)"))
                    await session.execute(text("SELECT 1"))
                async with database.raw() as connection, connection.transaction():
                    await connection.fetch("SELECT 1")
            except Exception as error:  # noqa: BLE001 - the subject of the test
                raised.append(error)
            await asyncio.sleep(0.001)

    async with server.database() as database, asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(use(database))
        await asyncio.sleep(0.2)
        server.signal(signal.SIGQUIT)
        await asyncio.sleep(0.2)
        await server.start_again()
        await database.ping()
        done.set()
    assert raised
    assert [error for error in raised if _kind(error) is not ErrorKind.UNAVAILABLE] == []


async def test_a_server_that_has_no_connection_left_is_an_outage(
    postgres: PostgresServer, database_for: DatabaseFor
) -> None:
    database = await database_for(Group.IDENTITY)
    role = f"limited_{database.name}"
    async with database.raw() as connection:
        await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'limited' CONNECTION LIMIT 0")
    try:
        settings = postgres.settings.model_copy(update={"user": role, "password": SecretStr("limited")})
        limited = Database(settings, Group.IDENTITY, name=database.name)
        for work in (_in_a_read, _in_a_raw_transaction):
            with pytest.raises(DBAPIError, match="too many connections") as full:
                await work(limited)
            assert _kind(full.value) is ErrorKind.UNAVAILABLE
    finally:
        async with database.raw() as connection:
            await connection.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize("host", ["nowhere.invalid", "127.0.0.1"])
async def test_a_server_that_cannot_be_found_is_an_outage(host: str) -> None:
    settings = DatabaseSettings(host=host, port=1, user="nobody", password=SecretStr("x"))
    database = Database(settings, Group.IDENTITY)
    for work in (_in_a_read, _in_a_raw_transaction):
        with pytest.raises(OSError) as away:  # noqa: PT011 - its text is the system's
            await work(database)
        assert _kind(away.value) is ErrorKind.UNAVAILABLE
    await database.close()


async def test_a_statement_that_the_server_cuts_short_is_too_slow(database_for: DatabaseFor) -> None:
    database = await database_for(Group.IDENTITY)
    async with database.transaction() as session:
        await session.execute(text("SET LOCAL statement_timeout = '20ms'"))
        with pytest.raises(DBAPIError) as slow:
            await session.execute(text("SELECT pg_sleep(5)"))
    assert _kind(slow.value) is ErrorKind.TIMEOUT


# --- at random


@pytest.mark.timeout(60)
async def test_whenever_sessions_are_ended_callers_see_an_outage_and_nothing_else(database_for: DatabaseFor) -> None:
    database = await database_for(Group.IDENTITY)
    until = time.monotonic() + 4.0
    raised: list[Exception] = []

    async def session_work() -> None:
        async with database.transaction() as session:
            await session.execute(text("SELECT count(*), :n FROM inbox"), {"n": "1"})
            await asyncio.sleep(random.random() * 0.005)
            async with session.begin_nested():
                await session.execute(text(f"SELECT {random.randrange(400)}"))

    async def raw_work() -> None:
        limit_s = random.choice([0.002, 0.02, 5])
        async with asyncio.timeout(limit_s), database.raw() as connection, connection.transaction():
            await connection.fetch("SELECT 1")
            await asyncio.sleep(random.random() * 0.005)
            records = [(f"{random.random()}", str(number)) for number in range(300)]
            await connection.copy_records_to_table("inbox", records=records, columns=_COLUMNS)

    async def keep_doing(work: Callable[[], Awaitable[None]]) -> None:
        while time.monotonic() < until:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - the subject of the test
                raised.append(error)
            await asyncio.sleep(0)

    async def terminate_some() -> None:
        connection = await database.listen_connection()
        while time.monotonic() < until:
            await asyncio.sleep(random.random() * 0.02)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 2"
            )
        await connection.close()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(terminate_some())
        for work in [session_work] * 3 + [raw_work] * 3:
            tasks.create_task(keep_doing(work))
    assert len(raised) > 20
    assert [error for error in raised if not is_outage(error)] == []
    await asyncio.gather(*(session_work() for _ in range(10)))


# --- bugs


async def _concurrent_use(connection: "asyncpg.Connection[Any]") -> None:
    await asyncio.gather(connection.fetch("SELECT pg_sleep(0.05)"), connection.fetch("SELECT 2"))


async def _use_within_a_copy(connection: "asyncpg.Connection[Any]") -> None:
    async def rows() -> AsyncIterator[tuple[str, str]]:
        yield _ROWS[0]
        await connection.fetch("SELECT 1")

    await connection.copy_records_to_table("inbox", records=rows(), columns=_COLUMNS)


async def _wrong_arguments(connection: "asyncpg.Connection[Any]") -> None:
    await connection.fetch("SELECT $1::int", 1, 2)


async def _wrong_type(connection: "asyncpg.Connection[Any]") -> None:
    await connection.fetch("SELECT $1::int", "one")


async def _no_such_column(connection: "asyncpg.Connection[Any]") -> None:
    await connection.fetch("SELECT imagined")


async def _misused_transaction(connection: "asyncpg.Connection[Any]") -> None:
    await connection.execute("BEGIN")
    async with connection.transaction():
        pass


@pytest.mark.parametrize(
    "wrong",
    [_concurrent_use, _use_within_a_copy, _wrong_arguments, _wrong_type, _no_such_column, _misused_transaction],
)
async def test_wrong_use_of_a_connection_is_a_bug_and_leaves_no_trace(
    database_for: DatabaseFor, wrong: Callable[["asyncpg.Connection[Any]"], Awaitable[None]]
) -> None:
    database = await database_for(Group.IDENTITY)
    with pytest.raises(Exception) as bug:  # noqa: PT011 - each has its own class
        async with database.raw() as connection:
            await wrong(connection)
    assert _kind(bug.value) is None, repr(bug.value)
    for _ in range(6):
        async with database.raw() as connection, connection.transaction():
            assert await connection.fetchval("SELECT count(*) FROM inbox") == 0


async def test_a_session_that_goes_on_after_a_failed_write_is_a_bug(database_for: DatabaseFor) -> None:
    database = await database_for(Group.IDENTITY)
    with pytest.raises((PendingRollbackError, DBAPIError)) as bug:
        async with database.transaction() as session:
            with suppress(DBAPIError):
                await session.execute(text("SELECT imagined"))
            await session.execute(text("SELECT 1"))
    assert _kind(bug.value) is None


async def test_a_copy_that_is_cancelled_leaves_nothing_to_the_next_user(database_for: DatabaseFor) -> None:
    database = await database_for(Group.IDENTITY)

    async def rows() -> AsyncIterator[tuple[str, str]]:
        yield _ROWS[0]
        await asyncio.sleep(10)

    for _ in range(6):  # more often than there are connections
        with pytest.raises(TimeoutError) as slow:
            async with asyncio.timeout(0.05), database.raw() as connection, connection.transaction():
                await connection.copy_records_to_table("inbox", records=rows(), columns=_COLUMNS)
        assert _kind(slow.value) is ErrorKind.TIMEOUT
    async with database.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM inbox")) == 0
