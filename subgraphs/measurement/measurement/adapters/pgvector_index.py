"""Fingerprints in pgvector: an HNSW index by cosine distance."""

from collections.abc import Sequence

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.measurement.measurement.fingerprint import Fingerprints
from domain.measurement.measurement.models import FingerprintRow, Similar


class PgVectorIndex:
    """`domain.measurement.measurement.ports.FingerprintIndex` in the group's own database."""

    async def add(
        self, session: AsyncSession, *, session_id: str, user_id: str, channels: int, fingerprint: Fingerprints
    ) -> None:
        await session.execute(
            insert(FingerprintRow)
            .values(session_id=session_id, user_id=user_id, channels=channels, embedding=fingerprint)
            .on_conflict_do_nothing()
        )

    async def nearest(
        self, session: AsyncSession, *, session_id: str, user_id: str, limit: int
    ) -> Sequence[Similar] | None:
        own = await session.scalar(select(FingerprintRow).where(FingerprintRow.session_id == session_id))
        if own is None:
            return None
        # The index knows nothing of persons: let it go on until enough of this one's have been found.
        await session.execute(text("SET LOCAL hnsw.iterative_scan = strict_order"))
        distance = FingerprintRow.embedding.cosine_distance(own.embedding)
        rows = await session.execute(
            select(FingerprintRow.session_id, distance)
            .where(
                FingerprintRow.user_id == user_id,
                FingerprintRow.channels == own.channels,  # arrays of another width have another geometry
                FingerprintRow.session_id != session_id,
            )
            .order_by(distance)
            .limit(limit)
        )
        return [Similar(near, similarity=1.0 - away) for near, away in rows]
