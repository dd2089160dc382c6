"""The outbox and the inbox: how an event leaves exactly with its rows, and takes effect once.

A command appends to `outbox` in its own transaction; a relay publishes what was committed, at least once. A consumer
writes `(consumer, event id)` into `inbox` in the transaction of its work, so a second delivery finds the row and does
nothing. Every group's database has these tables.
"""

from datetime import UTC, datetime
from zlib import crc32

import orjson
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    bindparam,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from domain.events import DomainEvent
from domain.ids import new_id
from domain.sealing import Sealer
from domain.tables import CommonBase

OUTBOX_SHARDS = 16
"""Rows of one key share a shard, and a relay owns a whole shard while it publishes: that keeps keys in order."""

MAX_PAYLOAD_BYTES = 128 * 1024
"""Of an event's JSON: what wraps it, and sealing, leave it below what consumers take and brokers allow."""

MAX_KEY_CHARACTERS = 256

OUTBOX_CHANNEL = "outbox"
"""NOTIFY channel that wakes the relays of a group's database."""


class OutboxRow(CommonBase):
    """An event that was committed; `published_at` is empty until the broker has acknowledged it.

    It has either a plain payload or, with health data in it, a sealed one: the JSON object of what travels sealed, or an
    array of what travels plain and what travels sealed.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        CheckConstraint("num_nonnulls(payload, sealed_payload) = 1", name="payload"),
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
    payload: Mapped[dict[str, object] | None] = mapped_column(JSONB(none_as_null=True))
    sealed_payload: Mapped[bytes | None] = mapped_column(LargeBinary)
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


_OUTBOX = CommonBase.metadata.tables[OutboxRow.__tablename__]
_APPENDED = (
    "event_id",
    "shard",
    "topic",
    "key",
    "source",
    "occurred_at",
    "payload",
    "sealed_payload",
    "correlation_id",
    "traceparent",
)
# One statement for the row and for the notification, which is delivered at commit, and once however often it is given in
# one transaction. Into the table, not the entity: nobody needs the rows that were made.
_APPEND = select(func.pg_notify(OUTBOX_CHANNEL, "")).add_cte(
    insert(_OUTBOX).values({name: bindparam(name, type_=_OUTBOX.c[name].type) for name in _APPENDED}).cte("appended")
)


def payload_context(event_id: str) -> str:
    """The context under which an event's payload is sealed in the outbox."""
    return f"outbox.sealed_payload:{event_id}"


class Outbox:
    """Appends events to the transaction of a session.

    Args:
        sealer: needed for events that carry health data; by default that of the session's database.
    """

    def __init__(
        self, session: AsyncSession, *, sealer: Sealer | None = None, correlation_id: str = "", traceparent: str = ""
    ) -> None:
        self._session = session
        self._sealer: Sealer | None = sealer or session.info.get("sealer")
        self._correlation_id = correlation_id or session.info.get("correlation_id", "")
        self._traceparent = traceparent or session.info.get("traceparent", "")

    async def add(self, *events: DomainEvent) -> None:
        """Append events; they are published, in this order for one key, once the transaction has committed.

        Raises:
            ValueError: an event carries health data, and there is no sealer; or it is larger than a consumer takes.
        """
        if not events:
            return
        now = datetime.now(UTC)
        await self._session.execute(
            _APPEND,
            [self._row(event, now) for event in events],
        )

    def _row(self, event: DomainEvent, now: datetime) -> dict[str, object]:
        event_id = new_id()
        payload: dict[str, object] | None = event.model_dump(mode="json")
        # Here, where the command fails with it: in the relay it would keep every later event of its key from leaving.
        if len(event.key) > MAX_KEY_CHARACTERS or len(orjson.dumps(payload)) > MAX_PAYLOAD_BYTES:
            raise ValueError(
                f"{event.topic} has a payload of more than {MAX_PAYLOAD_BYTES} bytes, or a key of more than "
                f"{MAX_KEY_CHARACTERS} characters"
            )
        sealed: bytes | None = None
        if event.carries_health_data and payload is not None:
            if self._sealer is None:
                raise ValueError(f"{event.topic} carries health data; give the outbox a sealer")
            plain = {name: value for name, value in payload.items() if name not in event.health_fields}
            health = {name: value for name, value in payload.items() if name in event.health_fields}
            content: object = [plain, health] if plain else health
            payload, sealed = None, self._sealer.seal_json(content, context=payload_context(event_id))
        return {
            "event_id": event_id,
            "shard": shard_of(event.key),
            "topic": event.topic,
            "key": event.key,
            "source": event.source,
            "occurred_at": now,
            "payload": payload,
            "sealed_payload": sealed,
            "correlation_id": self._correlation_id,
            "traceparent": self._traceparent,
        }
