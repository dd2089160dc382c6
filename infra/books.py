"""`manpasik books`: adds all payments, orders, plans and stock up again, and says what does not balance."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import text

from domain.catalog import Group
from domain.commerce.books import Difference, Totals, check_books, totals
from infra.located import located
from subgraphs.runtime.database import Database
from subgraphs.runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class Books:
    """What was found."""

    totals: Totals
    differences: tuple[Difference, ...]


async def audit(environ: Mapping[str, str]) -> Books:
    """The books of the platform that the environment names (`DB_HOST`), or of the one that `up` runs here.

    Raises:
        LocalStackError: no database is named, and no platform runs in `MANPASIK_HOME`.
        SettingsError: the environment cannot be used.
    """
    database = Database(Settings.load(located(environ)).database, Group.COMMERCE, max_connections=2)
    try:
        async with database.read() as session:
            # One snapshot for all checks: money moves meanwhile.
            await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            return Books(await totals(session), tuple(await check_books(session)))
    finally:
        await database.close()
