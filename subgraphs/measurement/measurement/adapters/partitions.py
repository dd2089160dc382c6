"""Monthly partitions of the frames, made ahead of time; TimescaleDB does this by itself where it is installed.

A frame whose month has no partition goes to the default partition, so nothing is ever refused for want of one. Frames
cannot be more than a day ahead of the clock, so partitions of this month and the next two are enough; should the default
partition hold frames of a month that gets its own after all (the process was away for months), they move there.
"""

import asyncio
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.clock import Clock
from subgraphs.runtime.database import Database

MONTHS_AHEAD = 2
INTERVAL_S = 6 * 3600.0
SCHEMA = "frame_partitions"
_LOCK = 0x6672616D  # "fram"


async def ensure_partitions(database: Database, now: datetime) -> list[str]:
    """Make the partitions of this month and the next ones; answers the names of those that were made.

    Safe when several processes do it at once: one works, the others wait and find nothing left to do.
    """
    async with database.engine.begin() as connection:
        if not await _is_partitioned(connection):
            return []
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        there = set(await _existing(connection))
        made = []
        for month in months(now, MONTHS_AHEAD):
            name = f"y{month:%Y}m{month:%m}"
            if name not in there:
                await _make(connection, name, month, months(month, 1)[1])
                made.append(name)
        return made


def months(now: datetime, ahead: int) -> list[datetime]:
    """The first instants (UTC) of the month of `now` and of so many after it."""
    start = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    counts = [start.year * 12 + start.month - 1 + number for number in range(ahead + 1)]
    return [start.replace(year=count // 12, month=count % 12 + 1) for count in counts]


async def keep_partitions(database: Database, clock: Clock) -> None:
    """Look after the partitions for as long as the process lives."""
    while True:
        await ensure_partitions(database, clock.now())
        await asyncio.sleep(INTERVAL_S)


async def _is_partitioned(connection: AsyncConnection) -> bool:
    kind = await connection.scalar(
        text("SELECT relkind::text FROM pg_class WHERE oid = 'measurement_frames'::regclass")
    )
    return bool(kind == "p")


async def _existing(connection: AsyncConnection) -> list[str]:
    rows = await connection.scalars(
        text(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = :schema"
        ),
        {"schema": SCHEMA},
    )
    return list(rows)


async def _make(connection: AsyncConnection, name: str, start: datetime, end: datetime) -> None:
    """One partition, filled with what the default partition held of it. All names and dates are our own."""
    table = f"{SCHEMA}.{name}"
    first, last = start.isoformat(), end.isoformat()
    moved = f"DELETE FROM {SCHEMA}.other WHERE measured_at >= '{first}' AND measured_at < '{last}' RETURNING *"  # noqa: S608
    statements = (
        f"CREATE TABLE {table} (LIKE measurement_frames INCLUDING DEFAULTS INCLUDING STORAGE)",
        f"WITH moved AS ({moved}) INSERT INTO {table} SELECT * FROM moved",  # noqa: S608
        f"ALTER TABLE measurement_frames ATTACH PARTITION {table} FOR VALUES FROM ('{first}') TO ('{last}')",
    )
    for statement in statements:
        await connection.execute(text(statement))
