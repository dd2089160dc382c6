"""Whole sessions kept in SQLite while the platform is out of reach.

A session is ``recording`` until it is sealed, then ``ready``; delivery opens it on the platform, stores the id it got
there, sends the frames and deletes them as they are answered, ends the session and forgets it. Each step is one
transaction that is on disk before the next begins (write-ahead log, synchronous FULL), so a killed process goes on
where it was:

- killed while recording: the session is sealed at the next opening with the frames it has;
- killed between the platform's start and the stored id: the start is repeated under the same idempotency key;
- killed after sending: the frames whose deletion was not stored are sent again, and the platform counts them once
  (all deletions are stored before the session is ended, because an ended session takes no frame);
- killed around the end: ending twice gives the same answer.

What the platform refuses for good (an expired cartridge, a session that it has ended meanwhile) is kept as
``rejected`` with the reason until someone discards it: losing measurements silently is worse than a full store.
"""

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

import aiosqlite

from devices.client.errors import FrameOutOfOrder, OutboxFull, OutboxUnusable, SessionClosed
from devices.client.reader import SessionPlan
from devices.errors import DeviceError
from devices.frame import RawFrame
from devices.packet import Packet, decode_packet, encode_packet

_FORMAT = 1
_SCHEMA = """
CREATE TABLE session (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    cartridge_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    cartridge_category INTEGER NOT NULL,
    cartridge_type_index INTEGER NOT NULL,
    state TEXT NOT NULL,
    platform_id TEXT NOT NULL DEFAULT '',
    answered_us INTEGER NOT NULL DEFAULT -1,
    rejection TEXT NOT NULL DEFAULT ''
);
CREATE TABLE frame (
    session INTEGER NOT NULL REFERENCES session (number) ON DELETE CASCADE,
    timestamp_us INTEGER NOT NULL,
    packet BLOB NOT NULL,
    PRIMARY KEY (session, timestamp_us)
);
"""


class OutboxState(Enum):
    """Where a stored session stands."""

    RECORDING = "recording"
    READY = "ready"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session in the store. ``platform_id`` is empty until the platform has opened it."""

    number: int
    key: str
    plan: SessionPlan
    state: OutboxState
    platform_id: str
    answered_us: int
    rejection: str


class Recording:
    """A session being recorded; made by `OutboxStore.record`."""

    def __init__(self, store: "OutboxStore", number: int, key: str) -> None:
        self._store = store
        self._number = number
        self._key = key
        self._sequence = 0
        self._last_us = -1
        self._open = True

    async def add(self, frame: RawFrame) -> None:
        """Store a frame; it is on disk when this returns.

        Raises:
            OutboxFull: no room; the frames stored before stay.
            FrameOutOfOrder: the frame is not later than the one before it.
            SessionClosed: the recording is over.
        """
        if not self._open:
            raise SessionClosed(self._key)
        if frame.timestamp_us <= self._last_us:
            raise FrameOutOfOrder(timestamp_us=frame.timestamp_us, after_us=self._last_us)
        packet = encode_packet(Packet(self._key, self._sequence, frame))
        await self._store._append(self._number, [(frame.timestamp_us, packet)])  # noqa: SLF001 - its own store
        self._sequence += 1
        self._last_us = frame.timestamp_us

    def close(self) -> None:
        """Take no more frames."""
        self._open = False


class OutboxStore:
    """The store of one reader. One process at a time can have it open.

    Use `OutboxStore.open`, as an async context manager or with `close`.
    """

    def __init__(self, connection: aiosqlite.Connection, max_bytes: int) -> None:
        self._connection = connection
        self._max_bytes = max_bytes
        self._used_bytes = 0
        # Transactions of concurrent tasks would mix on the one connection.
        self._lock = asyncio.Lock()
        self._arrived = asyncio.Event()

    @classmethod
    async def open(cls, path: Path, *, max_bytes: int) -> Self:
        """Open or create the store; recordings that a killed process left behind are sealed.

        Args:
            max_bytes: most bytes of frames; SQLite needs some more on disk.
        Raises:
            OutboxUnusable: another process has it open, or the file is not a store of this format.
        """
        connection = await aiosqlite.connect(path, isolation_level=None, timeout=0.5)
        store = cls(connection, max_bytes)
        try:
            await store._prepare()
        except sqlite3.Error as error:
            await connection.close()
            raise OutboxUnusable(f"outbox {path}: {error}") from error
        except BaseException:
            await connection.close()
            raise
        return store

    async def close(self) -> None:
        """Release the file."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def used_bytes(self) -> int:
        """Bytes of frames in the store."""
        return self._used_bytes

    @asynccontextmanager
    async def record(self, plan: SessionPlan, *, key: str | None = None) -> AsyncIterator[Recording]:
        """Record a session around a block; it becomes ready for delivery after it, also when the block raises.

        A recording without frames is forgotten: it would only use up the cartridge.

        Args:
            key: idempotency key of a start that was tried already and may have reached the platform.
        """
        key = key or str(uuid.uuid4())
        async with self._transaction():
            number = await self._insert(key, plan, OutboxState.RECORDING, platform_id="", answered_us=-1)
        recording = Recording(self, number, key)
        try:
            yield recording
        finally:
            recording.close()
            await self._seal()

    async def adopt(
        self, plan: SessionPlan, platform_id: str, frames: Sequence[RawFrame], *, answered_us: int = -1
    ) -> None:
        """Take over a session that is open on the platform, with the frames that it has not answered.

        Raises:
            OutboxFull: no room; nothing is stored.
        """
        key = str(uuid.uuid4())
        packets = [
            (frame.timestamp_us, encode_packet(Packet(key, number, frame))) for number, frame in enumerate(frames)
        ]
        async with self._transaction():
            self._require_room(packets)
            number = await self._insert(key, plan, OutboxState.READY, platform_id=platform_id, answered_us=answered_us)
            await self._write(number, packets)
        self._used_bytes += _size(packets)
        self._arrived.set()

    async def sessions(self, state: OutboxState) -> list[StoredSession]:
        """Sessions in a state, oldest first."""
        return [_session(row) for row in await self._select("SELECT * FROM session WHERE state = ?", state.value)]

    async def frames(self, session: StoredSession) -> list[RawFrame]:
        """Frames of a session that were not answered yet, in order.

        Raises:
            OutboxUnusable: a stored frame is damaged.
        """
        rows = await self._select("SELECT packet FROM frame WHERE session = ? ORDER BY timestamp_us", session.number)
        try:
            return [decode_packet(packet).frame for (packet,) in rows if isinstance(packet, bytes)]
        except DeviceError as error:
            raise OutboxUnusable(f"session {session.key} in the outbox: {error}") from error

    async def opened(self, session: StoredSession, platform_id: str) -> None:
        """Remember the id that the platform gave the session."""
        await self._execute("UPDATE session SET platform_id = ? WHERE number = ?", platform_id, session.number)

    async def answered(self, session: StoredSession, until_us: int) -> None:
        """Forget the frames up to this time: the platform has them."""
        async with self._transaction():
            freed = await self._stored_bytes("WHERE session = ? AND timestamp_us <= ?", session.number, until_us)
            await self._run("DELETE FROM frame WHERE session = ? AND timestamp_us <= ?", session.number, until_us)
            await self._run("UPDATE session SET answered_us = ? WHERE number = ?", until_us, session.number)
        self._used_bytes -= freed

    async def delivered(self, session: StoredSession) -> None:
        """Forget a session: the platform has all of it."""
        await self.discard(session)

    async def rejected(self, session: StoredSession, reason: str) -> None:
        """Keep a session that the platform refuses for good, out of the way of the others."""
        await self._execute(
            "UPDATE session SET state = ?, rejection = ? WHERE number = ?",
            OutboxState.REJECTED.value,
            reason,
            session.number,
        )

    async def discard(self, session: StoredSession) -> None:
        """Delete a session with its frames."""
        async with self._transaction():
            freed = await self._stored_bytes("WHERE session = ?", session.number)
            await self._run("DELETE FROM session WHERE number = ?", session.number)
        self._used_bytes -= freed

    async def wait(self, timeout_s: float) -> None:
        """Return when a session has become ready since the last call, or after the time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        except TimeoutError:
            return
        self._arrived.clear()

    async def _prepare(self) -> None:
        # Exclusive: two processes delivering the same session would send it twice at the same time.
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            await self._run(f"PRAGMA {pragma}")
        ((stored_format,),) = await self._select("PRAGMA user_version")
        if stored_format == 0:
            await self._connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version = {_FORMAT};COMMIT;")
        elif stored_format != _FORMAT:
            raise OutboxUnusable(f"outbox has format {stored_format}, this version reads {_FORMAT}")
        await self._seal()
        self._used_bytes = await self._stored_bytes("")

    async def _seal(self) -> None:
        async with self._transaction():
            await self._run(
                "DELETE FROM session WHERE state = ? AND number NOT IN (SELECT session FROM frame)",
                OutboxState.RECORDING.value,
            )
            await self._run(
                "UPDATE session SET state = ? WHERE state = ?", OutboxState.READY.value, OutboxState.RECORDING.value
            )
        self._arrived.set()

    async def _append(self, number: int, packets: list[tuple[int, bytes]]) -> None:
        async with self._transaction():
            self._require_room(packets)
            await self._write(number, packets)
        self._used_bytes += _size(packets)

    async def _insert(
        self, key: str, plan: SessionPlan, state: OutboxState, *, platform_id: str, answered_us: int
    ) -> int:
        cursor = await self._connection.execute(
            "INSERT INTO session (key, cartridge_id, user_id, cartridge_category, cartridge_type_index, state,"
            " platform_id, answered_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key,
                plan.cartridge_id,
                plan.user_id,
                plan.cartridge_category,
                plan.cartridge_type_index,
                state.value,
                platform_id,
                answered_us,
            ),
        )
        number = cursor.lastrowid
        await cursor.close()
        assert number is not None  # noqa: S101 - SQLite sets it for every insert
        return number

    async def _write(self, number: int, packets: list[tuple[int, bytes]]) -> None:
        await self._connection.executemany(
            "INSERT INTO frame (session, timestamp_us, packet) VALUES (?, ?, ?)",
            [(number, at_us, packet) for at_us, packet in packets],
        )

    def _require_room(self, packets: list[tuple[int, bytes]]) -> None:
        needed = _size(packets)
        if self._used_bytes + needed > self._max_bytes:
            raise OutboxFull(limit_bytes=self._max_bytes, used_bytes=self._used_bytes, needed_bytes=needed)

    async def _stored_bytes(self, where: str, *values: int) -> int:
        # `where` is one of the fixed texts above, never a value.
        ((total,),) = await self._select(f"SELECT coalesce(sum(length(packet)), 0) FROM frame {where}", *values)  # noqa: S608
        return int(str(total))

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        async with self._lock:
            await self._run("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                # Shielded: a cancelled task must not leave the transaction open for the next one.
                await asyncio.shield(self._run("ROLLBACK"))
                raise
            await self._run("COMMIT")

    async def _execute(self, sql: str, *values: str | int) -> None:
        async with self._transaction():
            await self._run(sql, *values)

    async def _run(self, sql: str, *values: str | int) -> None:
        async with self._connection.execute(sql, values):
            pass

    async def _select(self, sql: str, *values: str | int) -> list[tuple[object, ...]]:
        async with self._connection.execute(sql, values) as cursor:
            return [tuple(row) for row in await cursor.fetchall()]


def _size(packets: list[tuple[int, bytes]]) -> int:
    return sum(len(packet) for _, packet in packets)


def _session(row: tuple[object, ...]) -> StoredSession:
    match row:
        case (
            int(number),
            str(key),
            str(cartridge_id),
            str(user_id),
            int(category),
            int(type_index),
            str(state),
            str(platform_id),
            int(answered_us),
            str(rejection),
        ):
            plan = SessionPlan(
                cartridge_id=cartridge_id,
                user_id=user_id,
                cartridge_category=category,
                cartridge_type_index=type_index,
            )
            return StoredSession(number, key, plan, OutboxState(state), platform_id, answered_us, rejection)
        case _:
            raise OutboxUnusable(f"outbox row {row!r} is not a session")
