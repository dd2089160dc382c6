"""The outbox and the inbox: how an event leaves exactly with its rows, and takes effect once.

A command appends to `outbox` in its own transaction; a relay publishes what was committed, at least once. A consumer
writes `(consumer, event id)` into `inbox` in the transaction of its work, so a second delivery finds the row and does
nothing. Every group's database has these tables.
"""

from datetime import UTC, datetime
from zlib import crc32

from sqlalchemy import BigInteger, DateTime, Identity, Index, Integer, SmallInteger, String, text
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from domain.events import DomainEvent
from domain.ids import new_id
from domain.tables import CommonBase

OUTBOX_SHARDS = 16
"""Rows of one key share a shard, and a relay owns a whole shard while it publishes: that keeps keys in order."""

OUTBOX_CHANNEL = "outbox"
"""NOTIFY channel that wakes the relays of a group's database."""


class OutboxRow(CommonBase):
    """An event that was committed; `published_at` is empty until the broker has acknowledged it."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_pending", "shard", "id", postgresql_where=text("published_at IS NULL")),
        Index("ix_outbox_published", "published_at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    event_id: Mapped[str] = mapped_column(String(36))
    shard: Mapped[int] = mapped_column(SmallInteger)
    topic: Mapped[str] = mapped_column(String)
    key: Mapped[str] = mapped_column(String)
    source: Mapped[str] = mapped_column(String)
    occurred_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    payload: Mapped[dict[str, object]] = mapped_column(JSONB)
    correlation_id: Mapped[str] = mapped_column(String, default="")
    traceparent: Mapped[str] = mapped_column(String, default="")
    published_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    partition: Mapped[int | None] = mapped_column(Integer)
    broker_offset: Mapped[int | None] = mapped_column(BigInteger)


class OutboxShard(CommonBase):
    """One row a shard: locking it (SKIP LOCKED) makes a relay the only publisher of the shard's keys."""

    __tablename__ = "outbox_shards"

    shard: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)


class InboxRow(CommonBase):
    """An event that a consumer has handled."""

    __tablename__ = "inbox"
    __table_args__ = (Index("ix_inbox_handled_at", "handled_at"),)  # old rows are pruned by it

    consumer: Mapped[str] = mapped_column(String, primary_key=True)
    event_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    handled_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("now()"))


def shard_of(key: str) -> int:
    """The outbox shard of a partition key, in [0, OUTBOX_SHARDS)."""
    return crc32(key.encode()) % OUTBOX_SHARDS


# Into the table, not the entity: nobody needs the rows that were made.
_APPEND = insert(CommonBase.metadata.tables[OutboxRow.__tablename__]).inline()
_NOTIFY = text(f"NOTIFY {OUTBOX_CHANNEL}")


class Outbox:
    """Appends events to the transaction of a session."""

    def __init__(self, session: AsyncSession, *, correlation_id: str = "", traceparent: str = "") -> None:
        self._session = session
        self._correlation_id = correlation_id or session.info.get("correlation_id", "")
        self._traceparent = traceparent or session.info.get("traceparent", "")

    async def add(self, *events: DomainEvent) -> None:
        """Append events; they are published, in this order for one key, once the transaction has committed."""
        if not events:
            return
        now = datetime.now(UTC)
        await self._session.execute(
            _APPEND,
            [
                {
                    "event_id": new_id(),
                    "shard": shard_of(event.key),
                    "topic": event.topic,
                    "key": event.key,
                    "source": event.source,
                    "occurred_at": now,
                    "payload": event.model_dump(mode="json"),
                    "correlation_id": self._correlation_id,
                    "traceparent": self._traceparent,
                }
                for event in events
            ],
        )
        # Delivered at commit, and once however often it is called in one transaction.
        await self._session.execute(_NOTIFY)
