"""A database that was lent before is as good as new: the rows of its template, and nobody of an earlier test in it."""

import asyncpg
import pytest

from domain.catalog import Group
from tests.support.postgres import PostgresServer

_STATE = """
SELECT (SELECT array_agg(p ORDER BY p.tier) FROM plans p)::text, (SELECT count(*) FROM products),
    (SELECT count(*) FROM inbox), (SELECT string_agg(concat(sequencename, last_value), ',') FROM pg_sequences)
"""
_OID = "SELECT oid FROM pg_database WHERE datname = current_database()"
_CHANGES = (
    "UPDATE plans SET monthly_price_krw = monthly_price_krw + 1",
    "DELETE FROM plans WHERE tier = (SELECT min(tier) FROM plans)",
    "INSERT INTO inbox SELECT 'c', g::text, now() FROM generate_series(1, 100) g",
    "SELECT nextval(format('%I.%I', schemaname, sequencename)) FROM pg_sequences WHERE schemaname = 'public'",
)


async def _state(postgres: PostgresServer, name: str) -> str:
    connection = await asyncpg.connect(postgres.dsn(name))
    try:
        return str(await connection.fetchrow(_STATE))
    finally:
        await connection.close()


async def test_the_next_one_finds_what_the_template_has_and_nobody_of_before(postgres: PostgresServer) -> None:
    server = PostgresServer(postgres.dsn(), postgres.root)
    template = await server.template_of(Group.COMMERCE)
    async with server.lent(template) as first:
        fresh = await _state(server, first)
        left = await asyncpg.connect(server.dsn(first))
        oid = await left.fetchval(_OID)
        for statement in _CHANGES:
            await left.execute(statement)
        assert await _state(server, first) != fresh
    assert await _is_lost(left)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(server.dsn(first))
    async with server.lent(template) as second:
        assert await _state(server, second) == fresh
        connection = await asyncpg.connect(server.dsn(second))
        assert await connection.fetchval(_OID) == oid, "it was made anew"
        await connection.close()


async def _is_lost(connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
    try:
        await connection.execute("SELECT 1")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return True
    return False


@pytest.mark.parametrize(
    "statement",
    ["ALTER TABLE plans ADD COLUMN more text", "DROP TABLE inbox", "CREATE INDEX more ON plans (monthly_price_krw)"],
)
async def test_one_whose_tables_were_changed_is_not_lent_again(postgres: PostgresServer, statement: str) -> None:
    server = PostgresServer(postgres.dsn(), postgres.root)
    template = await server.template_of(Group.COMMERCE)
    async with server.lent(template) as first:
        connection = await asyncpg.connect(server.dsn(first))
        oid = await connection.fetchval(_OID)
        await connection.execute(statement)
        await connection.close()
    connection = await asyncpg.connect(server.dsn())
    assert not await connection.fetchval("SELECT 1 FROM pg_database WHERE oid = $1", oid)
    await connection.close()
