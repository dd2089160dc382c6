"""The log of reads of health data: a hash chain for every person, in every group's database.

Each entry holds the hash of the one before it for the same person, so removing, changing or reordering entries shows.
Hash: SHA-256 over the previous hash and the entry's canonical JSON (keys sorted, no spaces).
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import orjson
from sqlalchemy import BigInteger, DateTime, Identity, Index, LargeBinary, String, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from domain.principal import Principal
from domain.tables import CommonBase

_GENESIS = bytes(32)


class HealthDataAccess(CommonBase):
    """One read of one person's health data."""

    __tablename__ = "health_data_access"
    __table_args__ = (Index("ix_health_data_access_subject", "subject_user_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    subject_user_id: Mapped[str] = mapped_column(String)
    actor_kind: Mapped[str] = mapped_column(String)
    actor: Mapped[str] = mapped_column(String)
    action: Mapped[str] = mapped_column(String)
    resource_type: Mapped[str] = mapped_column(String)
    resource_ids: Mapped[list[str]] = mapped_column(JSONB)
    request_id: Mapped[str] = mapped_column(String)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    previous_hash: Mapped[bytes] = mapped_column(LargeBinary)
    entry_hash: Mapped[bytes] = mapped_column(LargeBinary)


def entry_hash(entry: HealthDataAccess) -> bytes:
    """The hash that an entry should carry (32 bytes)."""
    content = {
        "subject_user_id": entry.subject_user_id,
        "actor_kind": entry.actor_kind,
        "actor": entry.actor,
        "action": entry.action,
        "resource_type": entry.resource_type,
        "resource_ids": entry.resource_ids,
        "request_id": entry.request_id,
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
    }
    return hashlib.sha256(entry.previous_hash + orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).digest()


class AccessLog:
    """Appends to, and verifies, the chains of one group's database."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def record(
        self,
        principal: Principal,
        *,
        subject_user_id: str,
        action: str,
        resource_type: str,
        resource_ids: Sequence[str],
    ) -> None:
        """Append one read; it stands or falls with the session's transaction.

        Two readers of one person's data wait for each other here, from this call to their commit; so call it last.
        """
        await self._session.execute(
            select(func.pg_advisory_xact_lock(func.hashtextextended(f"health_data_access:{subject_user_id}", 0)))
        )
        previous = await self._session.scalar(
            select(HealthDataAccess.entry_hash)
            .where(HealthDataAccess.subject_user_id == subject_user_id)
            .order_by(HealthDataAccess.id.desc())
            .limit(1)
        )
        entry = HealthDataAccess(
            subject_user_id=subject_user_id,
            actor_kind=principal.kind.value,
            actor=principal.subject,
            action=action,
            resource_type=resource_type,
            resource_ids=list(resource_ids),
            request_id=str(self._session.info.get("correlation_id", "")),
            at=datetime.now(UTC),
            previous_hash=previous or _GENESIS,
        )
        entry.entry_hash = entry_hash(entry)
        self._session.add(entry)
        await self._session.flush()

    async def first_broken(self, subject_user_id: str) -> int | None:
        """The id of the first entry that does not continue the person's chain; None when the whole chain holds."""
        expected = _GENESIS
        entries = await self._session.stream_scalars(
            select(HealthDataAccess)
            .where(HealthDataAccess.subject_user_id == subject_user_id)
            .order_by(HealthDataAccess.id)
        )
        async for entry in entries:
            if entry.previous_hash != expected or entry.entry_hash != entry_hash(entry):
                return entry.id
            expected = entry.entry_hash
        return None
