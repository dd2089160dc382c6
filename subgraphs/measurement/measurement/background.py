"""What goes on without being asked: sessions end by themselves, starts are given up."""

import asyncio

from domain.measurement.measurement.service import MeasurementService
from subgraphs.runtime.database import Database

SWEEP_EVERY_S = 5.0


async def sweep(service: MeasurementService, database: Database) -> int:
    """End what has had no signal for too long, one session a transaction; answers how many were looked at."""
    seen = 0
    while True:
        async with database.transaction() as session:
            if not await service.end_one_idle(session):
                break
        seen += 1
    async with database.transaction() as session:
        await service.abandon_starts(session)
    return seen


async def keep_sweeping(service: MeasurementService, database: Database, *, every_s: float = SWEEP_EVERY_S) -> None:
    """`sweep` for as long as the process lives; any number of instances may do it at once."""
    while True:
        await sweep(service, database)
        await asyncio.sleep(every_s)
