"""The log of reads of health data: a hash chain for every person, in every group's database.

A read inserts its entry in the transaction of the read, without waiting for anybody. Within a second `seal` puts the new
entries of a person in order and links each to the one before it, so that changing, removing or reordering them shows.
(Linking in the read's own transaction would make all readers of one person wait for each other, each of them holding a
connection.)

Hash: SHA-256 over the previous hash and the entry's canonical JSON (keys sorted, no spaces); the first one follows 32
zero bytes.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import orjson
from sqlalchemy import (
    BigInteger,
    DateTime,
    Identity,
    Index,
    LargeBinary,
    String,
    UniqueConstraint,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, distinct_on
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from domain.principal import Principal
from domain.tables import CommonBase

_GENESIS = bytes(32)
SEAL_BATCH = 1000


class HealthDataAccess(CommonBase):
    """One read of one person's health data. `position` counts within the person's chain; empty until it is sealed."""

    __tablename__ = "health_data_access"
    __table_args__ = (
        UniqueConstraint("subject_user_id", "position"),
        Index("ix_health_data_access_unsealed", "id", postgresql_where=text("position IS NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    subject_user_id: Mapped[str] = mapped_column(String)
    actor_kind: Mapped[str] = mapped_column(String)
    actor: Mapped[str] = mapped_column(String)
    action: Mapped[str] = mapped_column(String)
    resource_type: Mapped[str] = mapped_column(String)
    resource_ids: Mapped[list[str]] = mapped_column(JSONB)
    request_id: Mapped[str] = mapped_column(String)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    position: Mapped[int | None] = mapped_column(BigInteger)
    previous_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    entry_hash: Mapped[bytes | None] = mapped_column(LargeBinary)


# Into the table, not the entity: nobody needs the entry that was made, and a flush costs three times as much.
_APPEND = insert(CommonBase.metadata.tables[HealthDataAccess.__tablename__]).inline()


def entry_hash(entry: HealthDataAccess, previous_hash: bytes) -> bytes:
    """The hash that an entry should carry after another one (32 bytes)."""
    content = {
        "subject_user_id": entry.subject_user_id,
        "actor_kind": entry.actor_kind,
        "actor": entry.actor,
        "action": entry.action,
        "resource_type": entry.resource_type,
        "resource_ids": entry.resource_ids,
        "request_id": entry.request_id,
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "position": entry.position,
    }
    return hashlib.sha256(previous_hash + orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).digest()


class AccessLog:
    """Appends to, seals and verifies the chains of one group's database, in the transaction of a session."""

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
        """Append one read; it stands or falls with the session's transaction."""
        await self._session.execute(
            _APPEND,
            {
                "subject_user_id": subject_user_id,
                "actor_kind": principal.kind.value,
                "actor": principal.subject,
                "action": action,
                "resource_type": resource_type,
                "resource_ids": list(resource_ids),
                "request_id": str(self._session.info.get("correlation_id", "")),
                "at": datetime.now(UTC),
            },
        )

    async def seal(self) -> int:
        """Link the entries that were committed since; answers how many (at most SEAL_BATCH at once).

        One process seals at a time; another one answers 0 meanwhile.
        """
        if not await self._session.scalar(select(func.pg_try_advisory_xact_lock(_lock_key()))):
            return 0
        unsealed = HealthDataAccess.position.is_(None)
        statement = select(HealthDataAccess).where(unsealed).order_by(HealthDataAccess.id).limit(SEAL_BATCH)
        entries = (await self._session.scalars(statement)).all()
        if not entries:
            return 0
        heads = await self._heads({entry.subject_user_id for entry in entries})
        for entry in entries:
            position, previous = heads.get(entry.subject_user_id, (0, _GENESIS))
            entry.position = position + 1
            entry.previous_hash = previous
            entry.entry_hash = entry_hash(entry, previous)
            heads[entry.subject_user_id] = (entry.position, entry.entry_hash)
        await self._session.flush()
        return len(entries)

    async def _heads(self, subjects: set[str]) -> dict[str, tuple[int, bytes]]:
        """Position and hash of the last sealed entry of each person."""
        statement = (
            select(HealthDataAccess.subject_user_id, HealthDataAccess.position, HealthDataAccess.entry_hash)
            .where(HealthDataAccess.subject_user_id.in_(subjects), HealthDataAccess.position.is_not(None))
            .ext(distinct_on(HealthDataAccess.subject_user_id))
            .order_by(HealthDataAccess.subject_user_id, HealthDataAccess.position.desc())
        )
        rows = (await self._session.execute(statement)).all()
        return {subject: (position or 0, digest or _GENESIS) for subject, position, digest in rows}

    async def first_broken(self, subject_user_id: str) -> int | None:
        """The id of the first sealed entry that does not continue the person's chain; None when the whole chain holds."""
        position, previous = 0, _GENESIS
        entries = await self._session.stream_scalars(
            select(HealthDataAccess)
            .where(HealthDataAccess.subject_user_id == subject_user_id, HealthDataAccess.position.is_not(None))
            .order_by(HealthDataAccess.position)
        )
        async for entry in entries:
            position += 1
            continues = entry.position == position and entry.previous_hash == previous
            if not continues or entry.entry_hash != entry_hash(entry, previous):
                return entry.id
            previous = entry.entry_hash or _GENESIS
        return None


def _lock_key() -> int:
    """The advisory lock of whoever seals, as a signed 64-bit number."""
    return int.from_bytes(hashlib.sha256(b"health_data_access").digest()[:8], "big", signed=True)
