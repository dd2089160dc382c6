"""The chain of reads of health data, on a real PostgreSQL: what was done to it behind its back shows."""

import asyncio
import time
from collections.abc import Mapping

import pytest
from sqlalchemy import event, text

from domain.audit import AccessLog
from domain.catalog import Group
from domain.principal import Principal, PrincipalKind, service_principal
from subgraphs.runtime.context import OUTSIDE, RequestContext, enter
from subgraphs.runtime.database import Database
from subgraphs.runtime.host import SEAL_EVERY_S, seal_access_log
from tests.support.patience import PATIENCE_S
from tests.support.postgres import DatabaseFor

_DOCTOR = Principal(PrincipalKind.USER, "doctor")


async def _read(database: Database, subject: str, *resource_ids: str, by: Principal = _DOCTOR) -> None:
    async with database.transaction() as session:
        await AccessLog(session).record(
            by, subject_user_id=subject, action="read", resource_type="profile", resource_ids=resource_ids
        )


async def _seal(database: Database) -> int:
    async with database.transaction() as session:
        return await AccessLog(session).seal()


async def _first_broken(database: Database, subject: str = "u1") -> int | None:
    async with database.read() as session:
        return await AccessLog(session).first_broken(subject)


async def _ids(database: Database, subject: str = "u1") -> list[int]:
    async with database.read() as session:
        found = await session.execute(
            text("SELECT id FROM health_data_access WHERE subject_user_id = :u ORDER BY id"), {"u": subject}
        )
        return list(found.scalars())


async def _tamper(database: Database, statement: str, **values: object) -> None:
    async with database.transaction() as session:
        await session.execute(text(statement), values)


@pytest.fixture
async def database(database_for: DatabaseFor) -> Database:
    """A database with a sealed chain of five reads of u1, between reads of others."""
    made = await database_for(Group.IDENTITY)
    for number in range(5):
        await _read(made, "u1", f"r{number}", f"s{number}")
        await _read(made, "u2", f"r{number}")
        if number == 2:
            assert await _seal(made) == 6  # a chain goes on where it was sealed before
    assert await _seal(made) == 4
    return made


async def test_an_untouched_chain_holds(database: Database) -> None:
    assert await _first_broken(database) is None
    assert await _first_broken(database, "u2") is None
    assert await _first_broken(database, "nobody") is None
    assert await _seal(database) == 0


_CHANGES = (
    "actor = 'somebody else'",
    "actor_kind = 'service'",
    "action = 'export'",
    "resource_type = 'measurement'",
    "resource_ids = '[\"r2\"]'",
    "request_id = 'x'",
    "at = at + interval '1 microsecond'",
    "previous_hash = sha256('x')",
    "entry_hash = sha256('x')",
    "entry_hash = NULL",
)
_REMOVALS = (
    "DELETE FROM health_data_access WHERE id = :id",
    "UPDATE health_data_access SET position = NULL WHERE id = :id",
)


async def _broken_after(database: Database, *statements: tuple[str, Mapping[str, object]]) -> int | None:
    """The first broken entry of u1 once the statements have run and the log is sealed again; all is undone at the end."""
    async with database.transaction() as session:
        undone = await session.begin_nested()
        for statement, values in statements:
            await session.execute(text(statement), values)
        before = await AccessLog(session).first_broken("u1")
        await AccessLog(session).seal()
        session.expire_all()
        assert await AccessLog(session).first_broken("u1") == before  # sealing does not heal what was torn
        await undone.rollback()
        return before


async def test_a_changed_entry_is_found(database: Database) -> None:
    third = (await _ids(database))[2]
    for change in _CHANGES:
        statement = f"UPDATE health_data_access SET {change} WHERE id = :id"
        assert await _broken_after(database, (statement, {"id": third})) == third, change
    assert await _first_broken(database) is None


async def test_a_removed_entry_is_found_at_the_next_one(database: Database) -> None:
    ids = await _ids(database)
    for position in (0, 1, 3):
        for removal in _REMOVALS:
            assert await _broken_after(database, (removal, {"id": ids[position]})) == ids[position + 1], removal


async def test_removing_the_start_and_counting_anew_is_found(database: Database) -> None:
    ids = await _ids(database)
    shift = "UPDATE health_data_access SET position = position - 1 WHERE id = :id"
    changes = [(_REMOVALS[0], {"id": ids[0]}), *((shift, {"id": one}) for one in ids[1:])]
    assert await _broken_after(database, *changes) == ids[1]


async def test_entries_that_changed_places_are_found(database: Database) -> None:
    ids = await _ids(database)
    move = "UPDATE health_data_access SET position = :at WHERE id = :id"
    moves = [(move, {"id": one, "at": at}) for one, at in ((ids[1], 100), (ids[2], 2), (ids[1], 3))]
    assert await _broken_after(database, *moves) == ids[2]


async def test_an_entry_that_was_appended_by_hand_is_found(database: Database) -> None:
    ids = await _ids(database)
    await _tamper(
        database,
        "INSERT INTO health_data_access (subject_user_id, actor_kind, actor, action, resource_type, resource_ids,"
        " request_id, at, position, previous_hash, entry_hash)"
        " SELECT subject_user_id, actor_kind, actor, action, resource_type, resource_ids, request_id, at, 6, entry_hash,"
        " entry_hash FROM health_data_access WHERE id = :id",
        id=ids[4],
    )
    assert await _first_broken(database) == (await _ids(database))[5]


async def test_an_entry_that_was_moved_to_another_person_is_found(database: Database) -> None:
    ids = await _ids(database)
    await _tamper(
        database, "UPDATE health_data_access SET subject_user_id = 'u2', position = 6 WHERE id = :id", id=ids[4]
    )
    await _read(database, "u1", "next")
    await _seal(database)
    assert await _first_broken(database, "u2") == ids[4]


async def test_readers_at_the_same_time_do_not_wait_and_end_in_one_chain(database: Database) -> None:
    async with database.transaction() as session:
        await AccessLog(session).record(
            _DOCTOR, subject_user_id="u1", action="read", resource_type="profile", resource_ids=["slow"]
        )
        await asyncio.wait_for(_read(database, "u1", "quick", by=service_principal("coaching")), PATIENCE_S)
        assert await _seal(database) == 1  # only what is committed
    await asyncio.gather(*(_read(database, "u1", f"c{number}") for number in range(10)))
    assert await _seal(database) == 11
    assert len(await _ids(database)) == 17
    assert await _first_broken(database) is None


async def test_several_processes_may_seal_at_once(database: Database) -> None:
    await asyncio.gather(*(_read(database, f"u{number % 3}", "x") for number in range(12)))
    async with database.transaction() as session:
        assert await AccessLog(session).seal() == 12
        assert await _seal(database) == 0  # another one is at it
    sealed = await asyncio.gather(*(_seal(database) for _ in range(4)))
    assert sum(sealed) == 0
    for subject in ("u0", "u1", "u2"):
        assert await _first_broken(database, subject) is None


async def test_a_read_that_was_rolled_back_leaves_no_gap(database: Database) -> None:
    with pytest.raises(RuntimeError, match="changed my mind"):
        async with database.transaction() as session:
            await AccessLog(session).record(
                _DOCTOR, subject_user_id="u1", action="read", resource_type="profile", resource_ids=["never"]
            )
            raise RuntimeError("changed my mind")
    await _read(database, "u1", "after")
    await _seal(database)
    assert len(await _ids(database)) == 6
    assert await _first_broken(database) is None


async def test_an_entry_names_the_request(database: Database) -> None:
    enter(RequestContext(_DOCTOR, "r-77"))
    await _read(database, "u3", "x")
    enter(OUTSIDE)
    async with database.read() as session:
        found = await session.scalar(text("SELECT request_id FROM health_data_access WHERE subject_user_id = 'u3'"))
    assert found == "r-77"


async def test_reads_that_keep_coming_are_sealed_many_at_a_time(database: Database) -> None:
    rounds: list[str] = []
    event.listen(
        database.engine.sync_engine,
        "before_cursor_execute",
        lambda _connection, _cursor, sql, *_rest: rounds.append(sql) if "pg_try_advisory_xact_lock" in sql else None,
    )
    started = time.monotonic()
    sealing = asyncio.create_task(seal_access_log(database))
    try:
        for number in range(30):
            await _read(database, "u3", f"r{number}")
            await asyncio.sleep(0.01)  # a round that did not wait would fit in
    finally:
        sealing.cancel()
        await asyncio.gather(sealing, return_exceptions=True)
    assert 1 <= len(rounds) <= (time.monotonic() - started) / SEAL_EVERY_S + 2
