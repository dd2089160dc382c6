"""`manpasik books`: adds all payments, orders, plans and stock up again, and says what does not balance."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import text

from domain.catalog import Group
from domain.commerce.books import Difference, Totals, check_books, totals
from infra.local.errors import LocalStackError
from infra.local.postgres import running_port
from infra.local.process import LOOPBACK
from infra.up.plan import plan
from infra.up.secrets import load_or_create
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
    database = Database(Settings.load(_located(environ)).database, Group.COMMERCE, max_connections=2)
    try:
        async with database.read() as session:
            # One snapshot for all checks: money moves meanwhile.
            await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            return Books(await totals(session), tuple(await check_books(session)))
    finally:
        await database.close()


def _located(environ: Mapping[str, str]) -> dict[str, str]:
    planned = plan(environ)
    if not planned.embeds_database:
        return dict(environ)
    port = running_port(planned.home / "postgres")
    if port is None:
        raise LocalStackError(f"no platform runs in {planned.home}; start one with: manpasik up, or set DB_HOST")
    password = load_or_create(planned.home / "secrets.json")["DB_PASSWORD"]
    return {**environ, "DB_HOST": LOOPBACK, "DB_PORT": str(port), "DB_PASSWORD": password}
