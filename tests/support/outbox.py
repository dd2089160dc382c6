"""Reads an outbox as its relay would."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from domain.messaging import OutboxRow, payload_context
from subgraphs.runtime.database import Database


async def payloads_of(database: Database, topic: str) -> list[dict[str, Any]]:
    """Whole payloads of the events that were committed on a topic, opened where they are sealed, in their order."""
    async with database.read() as session:
        rows = await session.scalars(select(OutboxRow).where(OutboxRow.topic == topic).order_by(OutboxRow.id))
        return [opened_row(row, database) for row in rows]


def opened_row(row: OutboxRow, database: Database) -> dict[str, Any]:
    """The whole payload of an event that was committed."""
    if row.payload is not None:
        return dict(row.payload)
    assert database.sealer is not None
    assert row.sealed_payload is not None
    opened: Any = database.sealer.open_json(row.sealed_payload, context=payload_context(row.event_id))
    return {**opened[0], **opened[1]} if isinstance(opened, list) else opened


async def rows_after(database: Database, row_id: int) -> Sequence[OutboxRow]:
    """The events that were committed after a row, in their order."""
    async with database.read() as session:
        rows = await session.scalars(select(OutboxRow).where(OutboxRow.id > row_id).order_by(OutboxRow.id))
        return rows.all()
