import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from domain.catalog import Group
from domain.sealing import SealBroken
from subgraphs.runtime.context import OUTSIDE, RequestContext, enter
from subgraphs.runtime.database import Database, ensure_database
from subgraphs.runtime.errors import as_app_error
from subgraphs.runtime.keys import load_sealer
from subgraphs.runtime.outages import is_outage
from tests.support.postgres import DatabaseFor, PostgresServer

_WRITE = text("INSERT INTO inbox (consumer, event_id) VALUES ('c', :id)")


async def _count(database: Database) -> int:
    async with database.read() as session:
        return await session.scalar(text("SELECT count(*) FROM inbox")) or 0


async def test_a_transaction_commits_at_its_end_and_rolls_back_on_errors(database_for: DatabaseFor) -> None:
    database = await database_for(Group.IDENTITY)
    async with database.transaction() as session:
        await session.execute(_WRITE, {"id": "1"})
        assert await _count(database) == 0
    assert await _count(database) == 1
    with pytest.raises(ValueError, match="no"):
        async with database.transaction() as session:
            await session.execute(_WRITE, {"id": "2"})
            raise ValueError("no")
    assert await _count(database) == 1


async def test_an_error_does_not_repeat_the_values_of_its_statement(database_for: DatabaseFor) -> None:
    database = await database_for(Group.IDENTITY)
    with pytest.raises(DBAPIError) as failed:
        async with database.read() as session:
            await session.execute(_WRITE, {"id": "penicillin"})
    assert "penicillin" not in str(failed.value)


async def test_a_session_for_reading_refuses_a_write(database_for: DatabaseFor) -> None:
    database = await database_for(Group.IDENTITY)
    with pytest.raises(DBAPIError, match="read-only transaction"):
        async with database.read() as session:
            await session.execute(_WRITE, {"id": "1"})
    async with database.transaction() as session:  # the connection is as good as new
        await session.execute(_WRITE, {"id": "1"})


async def test_a_cancelled_transaction_is_rolled_back_and_its_connection_returned(database_for: DatabaseFor) -> None:
    database = await database_for(Group.IDENTITY)

    async def work() -> None:
        async with database.transaction() as session:
            await session.execute(_WRITE, {"id": "1"})
            await session.execute(text("SELECT pg_sleep(10)"))

    for _ in range(8):  # more often than there are connections
        task = asyncio.create_task(work())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await _count(database) == 0


async def test_sessions_know_the_request_in_hand(database_for: DatabaseFor) -> None:
    database = await database_for(Group.IDENTITY)
    enter(RequestContext(request_id="r-1", traceparent="00-x"))
    async with database.transaction() as session:
        assert session.info.items() >= {"correlation_id": "r-1", "traceparent": "00-x"}.items()
    enter(OUTSIDE)


async def test_a_raw_connection_copies(database_for: DatabaseFor) -> None:
    database = await database_for(Group.IDENTITY)
    async with database.raw() as connection:
        await connection.copy_records_to_table(
            "inbox", records=[("c", str(i)) for i in range(100)], columns=["consumer", "event_id"]
        )
    assert await _count(database) == 100


async def test_a_database_is_created_once_however_many_ask(postgres: PostgresServer) -> None:
    name = await postgres.create_database()
    await postgres.drop_database(name)
    await asyncio.gather(*(ensure_database(postgres.settings, name) for _ in range(4)))
    await ensure_database(postgres.settings, name)
    await postgres.drop_database(name)


async def test_a_database_that_is_away_is_an_outage_and_a_wrong_statement_is_not(
    database_for: DatabaseFor, postgres: PostgresServer
) -> None:
    database = await database_for(Group.IDENTITY)
    with pytest.raises(DBAPIError) as wrong:
        async with database.read() as session:
            await session.execute(text("SELECT imagined"))
    assert not is_outage(wrong.value)
    assert as_app_error(wrong.value) is None

    with pytest.raises(DBAPIError) as ended:
        async with database.read() as session:
            await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert is_outage(ended.value)
    told = as_app_error(ended.value)
    assert told is not None
    assert told.reason == "UNAVAILABLE"
    await database.ping()  # the pool finds a new connection

    nowhere = Database(postgres.settings.model_copy(update={"port": 1}), Group.IDENTITY)
    with pytest.raises(OSError) as refused:  # noqa: PT011 - its text is the system's
        await nowhere.ping()
    assert is_outage(refused.value)
    assert as_app_error(refused.value) is not None
    await nowhere.close()


async def test_a_deadlock_is_a_lost_race(database_for: DatabaseFor) -> None:
    database = await database_for(Group.IDENTITY)
    both_hold = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with database.transaction() as session:
            await session.execute(text("SET LOCAL deadlock_timeout = '50ms'"))
            await session.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": first})
            await both_hold.wait()
            await session.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": second})

    ends = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
    [loser] = [end for end in ends if end is not None]
    told = as_app_error(loser)
    assert told is not None
    assert told.reason == "CONFLICT"


# --- data keys


async def test_the_first_data_key_is_made_once_however_many_start(database_for: DatabaseFor) -> None:
    database = await database_for(Group.IDENTITY)
    sealers = await asyncio.gather(*(load_sealer(database, "master") for _ in range(5)))
    async with database.read() as session:
        assert await session.scalar(text("SELECT count(*) FROM data_keys")) == 1
    sealed = sealers[0].seal(b"A+", context="t.c:1")
    assert all(sealer.open(sealed, context="t.c:1") == b"A+" for sealer in sealers)


async def test_another_master_key_is_refused_by_its_name(database_for: DatabaseFor) -> None:
    database = await database_for(Group.IDENTITY)
    await load_sealer(database, "master")
    with pytest.raises(SealBroken, match="ENCRYPTION_MASTER_KEY does not open this database's data keys"):
        await load_sealer(database, "mistyped")
