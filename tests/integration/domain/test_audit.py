"""The log of reads of health data, on a real database."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text

from domain.audit import AccessLog
from domain.catalog import Group
from domain.principal import Principal, PrincipalKind
from subgraphs.runtime.database import Database
from tests.support.postgres import DatabaseFor

DOCTOR = Principal(kind=PrincipalKind.USER, subject="doctor-1")


async def read(database: Database, subject: str, resource: str) -> None:
    async with database.transaction() as session:
        await AccessLog(session).record(
            DOCTOR, subject_user_id=subject, action="read", resource_type="Measurement", resource_ids=[resource]
        )


async def seal(database: Database) -> int:
    async with database.transaction() as session:
        return await AccessLog(session).seal()


async def first_broken(database: Database, subject: str) -> int | None:
    async with database.read() as session:
        return await AccessLog(session).first_broken(subject)


@pytest.fixture
async def database(database_for: DatabaseFor) -> Database:
    return await database_for(Group.IDENTITY)


async def test_every_read_is_sealed_once_into_the_chain_of_its_person(database: Database) -> None:
    await asyncio.gather(*(read(database, f"person-{n % 2}", str(n)) for n in range(20)))
    sealed = await asyncio.gather(*(seal(database) for _ in range(3)))
    assert sum(sealed) == 20
    assert await seal(database) == 0
    await read(database, "person-0", "later")
    assert await seal(database) == 1
    async with database.read() as session:
        rows = await session.execute(
            text("SELECT subject_user_id, array_agg(position ORDER BY position) FROM health_data_access GROUP BY 1")
        )
        chains = {row[0]: row[1] for row in rows}
        assert chains == {
            "person-0": list(range(1, 12)),
            "person-1": list(range(1, 11)),
        }
    assert await first_broken(database, "person-0") is None
    assert await first_broken(database, "person-1") is None


async def test_a_reader_does_not_wait_for_another_reader_of_the_same_person(database: Database) -> None:
    async with database.transaction() as first:
        await AccessLog(first).record(
            DOCTOR, subject_user_id="person", action="read", resource_type="Measurement", resource_ids=["1"]
        )
        async with asyncio.timeout(20):
            await read(database, "person", "2")
    assert await seal(database) == 2


def _changing(statement: str) -> Callable[[Database], Awaitable[None]]:
    async def change(database: Database) -> None:
        async with database.transaction() as session:
            await session.execute(text(statement))

    return change


@pytest.mark.parametrize(
    "tamper",
    [
        _changing("UPDATE health_data_access SET actor = 'someone else' WHERE position = 2"),
        _changing("""UPDATE health_data_access SET resource_ids = '["9"]' WHERE position = 2"""),
        _changing("DELETE FROM health_data_access WHERE position = 1"),
        _changing("DELETE FROM health_data_access WHERE position = 2"),
        _changing("UPDATE health_data_access SET position = 30 WHERE position = 2"),
    ],
    ids=["changed actor", "changed resource", "removed first", "removed middle", "moved"],
)
async def test_what_was_changed_afterwards_is_found(
    database: Database, tamper: Callable[[Database], Awaitable[None]]
) -> None:
    for number in range(4):
        await read(database, "person", str(number))
    await seal(database)
    assert await first_broken(database, "person") is None
    await tamper(database)
    assert await first_broken(database, "person") is not None
