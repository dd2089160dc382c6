"""The data keys of a group's database, unwrapped into a sealer when a process starts."""

from sqlalchemy import func, select

from domain.sealing import Sealer, master_key, new_data_key
from domain.tables import DataKeyRow
from subgraphs.runtime.database import Database


async def load_sealer(database: Database, master_secret: str) -> Sealer:
    """The sealer of a database; its first data key is made here, once, however many processes start together.

    Raises:
        SealBroken: the master key is not the one that wrapped the database's keys.
    """
    master = master_key(master_secret)
    async with database.transaction() as session:
        await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("data_keys", 0))))
        rows = (await session.scalars(select(DataKeyRow))).all()
        if not rows:
            session.add(DataKeyRow(wrapped=new_data_key(master)))
            await session.flush()
            rows = (await session.scalars(select(DataKeyRow))).all()
        return Sealer.unwrap({row.key_id: row.wrapped for row in rows}, master)
