"""Frames in PostgreSQL, written by COPY: one transaction a batch, whatever the number of sessions.

The lease of every session is compared under a lock that conflicts with ending the session and with opening another
stream for it, so no frame can slip in behind either. Sessions whose row is locked are skipped, not waited for: one
session that is being ended must not hold up the frames of the others.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from domain.measurement.measurement.errors import FramesNotStored
from domain.measurement.measurement.models import SessionStatus
from domain.measurement.measurement.ports import BatchRejected, FrameRecord, Refusal, SealedFrame
from subgraphs.runtime.database import Database
from subgraphs.runtime.outages import is_outage

WRITE_TIMEOUT_S = 10.0

_COLUMNS = ("session_id", "measured_at", "received_at", "sequence", "sealed", "chain_hash")
_LOCK = """
    SELECT id, lease, status FROM measurement_sessions WHERE id = ANY($1::uuid[]) FOR KEY SHARE SKIP LOCKED
"""
_FIND = """
    SELECT f.session_id, f.measured_at, f.sequence, f.sealed
    FROM unnest($1::uuid[], $2::timestamptz[]) AS wanted (session_id, measured_at)
    JOIN measurement_frames f USING (session_id, measured_at)
"""


class PostgresFrameStore:
    """`domain.measurement.measurement.ports.FrameStore` on the group's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(
        self, leases: Mapping[str, int], records: Mapping[str, Sequence[FrameRecord]]
    ) -> Mapping[str, Refusal]:
        ids = {session_id: UUID(session_id) for session_id in leases}
        async with self._connection() as connection, connection.transaction():
            locked = await connection.fetch(_LOCK, list(ids.values()))
            held = {str(row["id"]): (row["lease"], row["status"]) for row in locked}
            refused = {
                session_id: refusal
                for session_id, lease in leases.items()
                if (refusal := _refusal(held.get(session_id), lease)) is not None
            }
            rows = [
                (ids[session_id], r.measured_at, r.received_at, r.sequence, r.sealed, r.chain_hash)
                for session_id, frames in records.items()
                if session_id not in refused
                for r in frames
            ]
            if rows:
                await connection.copy_records_to_table(
                    "measurement_frames", records=rows, columns=_COLUMNS, timeout=WRITE_TIMEOUT_S
                )
        return refused

    async def find(self, wanted: Sequence[tuple[str, datetime]]) -> Sequence[SealedFrame]:
        async with self._connection() as connection:
            rows = await connection.fetch(
                _FIND, [UUID(session_id) for session_id, _ in wanted], [measured_at for _, measured_at in wanted]
            )
        return [
            SealedFrame(str(row["session_id"]), row["measured_at"], row["sequence"], bytes(row["sealed"]))
            for row in rows
        ]

    @asynccontextmanager
    async def _connection(self) -> "AsyncIterator[asyncpg.Connection[Any]]":
        """A connection whose errors are those of the port."""
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S), self._database.raw() as connection:
                yield connection
        except asyncpg.PostgresError as error:
            if is_outage(error):
                raise FramesNotStored from error
            raise BatchRejected(f"{type(error).__name__}: {error}") from error
        except Exception as error:
            if is_outage(error):
                raise FramesNotStored from error
            raise


def _refusal(held: tuple[int, str] | None, lease: int) -> Refusal | None:
    match held:
        case None:
            return Refusal.BUSY
        case (_, status) if status != SessionStatus.ACTIVE:
            return Refusal.ENDED
        case (current, _) if current != lease:
            return Refusal.SUPERSEDED
        case _:
            return None
