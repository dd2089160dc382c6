"""Every statement on sessions and their frames, but for the COPY of the hot path (`FrameStore`).

Locks: a session's row is locked FOR UPDATE by whoever ends it or opens a stream for it, and FOR KEY SHARE by the writer
of its frames for the length of one batch. Nobody locks two sessions in one transaction but that writer, and it never
waits (SKIP LOCKED).
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from sqlalchemy import BigInteger, ColumnElement, Select, cast, extract, func, literal, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from domain.measurement.measurement.models import FrameRow, SessionFilter, SessionRow, SessionStatus
from domain.paging import PageRequest

_CHUNK = 200
_VISIBLE = (SessionStatus.ACTIVE, SessionStatus.COMPLETED, SessionStatus.EMPTY)


class SessionRepository:
    """Sessions of the database that the transaction is on."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def add(self, row: SessionRow) -> None:
        self._session.add(row)

    async def get(self, session_id: str) -> SessionRow | None:
        """A session that somebody has been told of."""
        return await self._session.scalar(_visible().where(SessionRow.id == session_id))

    async def get_many(self, session_ids: Sequence[str]) -> Sequence[SessionRow]:
        return (await self._session.scalars(_visible().where(SessionRow.id.in_(session_ids)))).all()

    async def get_for_update(self, session_id: str) -> SessionRow | None:
        return await self._session.scalar(_visible().where(SessionRow.id == session_id).with_for_update())

    async def get_starting(self, session_id: str) -> SessionRow | None:
        return await self._session.scalar(
            select(SessionRow)
            .where(SessionRow.id == session_id, SessionRow.status == SessionStatus.STARTING)
            .with_for_update()
        )

    async def find_start(self, *, user_id: str, device_id: str, key: str) -> SessionRow | None:
        """The session that was started under this key, however far it has come; locked.

        Until the transaction ends, nobody else gets an answer for the key: two starts at the same time make one session.
        """
        name = f"{user_id} {device_id} {key}"
        await self._session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))
        return await self._session.scalar(
            select(SessionRow)
            .where(SessionRow.device_id == device_id, SessionRow.user_id == user_id, SessionRow.start_key == key)
            .with_for_update()
        )

    async def find_unfinished_start(
        self, *, user_id: str, device_id: str, cartridge_uid: str, now: datetime
    ) -> SessionRow | None:
        """A start that broke off after its cartridge may have been charged, locked; nobody else is working on it."""
        return await self._session.scalar(
            select(SessionRow)
            .where(
                SessionRow.user_id == user_id,
                SessionRow.device_id == device_id,
                SessionRow.cartridge_uid == cartridge_uid,
                SessionRow.status == SessionStatus.STARTING,
                SessionRow.idle_deadline <= now,
            )
            .order_by(SessionRow.started_at.desc())
            .limit(1)
            .with_for_update(skip_locked=True)
        )

    async def abandon_starts(self, *, before: datetime) -> None:
        """Give up starts that nobody has taken up again since."""
        await self._session.execute(
            update(SessionRow)
            .where(SessionRow.status == SessionStatus.STARTING, SessionRow.idle_deadline <= before)
            .values(status=SessionStatus.ABANDONED, start_key=None)
        )

    async def mark_recalibrated(self, *, device_id: str, category_code: int, type_index: int, at: datetime) -> None:
        await self._session.execute(
            update(SessionRow)
            .where(
                SessionRow.device_id == device_id,
                SessionRow.category_code == category_code,
                SessionRow.type_index == type_index,
                SessionRow.status == SessionStatus.ACTIVE,
                SessionRow.verified,
                SessionRow.recalibrated_at.is_(None),
            )
            .values(recalibrated_at=at)
        )

    async def lock_one_idle(self, now: datetime) -> SessionRow | None:
        """An active session whose deadline has passed, locked; sessions that others have locked are left to them."""
        return await self._session.scalar(
            select(SessionRow)
            .where(SessionRow.status == SessionStatus.ACTIVE, SessionRow.idle_deadline <= now)
            .order_by(SessionRow.idle_deadline)
            .limit(1)
            .with_for_update(skip_locked=True)
        )

    async def results(
        self, user_id: str, wanted: SessionFilter, *, limit: int, offset: int = 0
    ) -> Sequence[SessionRow]:
        """Completed sessions of a person, the newest end first."""
        statement = (
            select(SessionRow)
            .where(*_results_where((user_id,), wanted))
            .order_by(SessionRow.ended_at.desc(), SessionRow.id.desc())
            .limit(limit)
            .offset(offset)
        )
        return (await self._session.scalars(statement)).all()

    async def count_results(self, user_ids: Sequence[str], wanted: SessionFilter) -> dict[str, int]:
        """Completed sessions by person; persons without any are absent."""
        rows = await self._session.execute(
            select(SessionRow.user_id, func.count())
            .where(*_results_where(user_ids, wanted))
            .group_by(SessionRow.user_id)
        )
        return {key: int(count) for key, count in rows}

    async def results_page(
        self, user_ids: Sequence[str], wanted: SessionFilter, page: PageRequest
    ) -> dict[str, list[SessionRow]]:
        """For each person the first `page.first + 1` results after the cursor, the newest end first."""
        return await self._pages(
            SessionRow.user_id.expression, SessionRow.ended_at.expression, _results_where(user_ids, wanted), page
        )

    async def sessions_page(
        self, owner: str, owner_ids: Sequence[str], wanted: SessionFilter, page: PageRequest, *, only_user: str | None
    ) -> dict[str, list[SessionRow]]:
        """For each owner (`user`, `device` or `cartridge`) its first sessions after the cursor, the newest start first."""
        column = _OWNER[owner]
        return await self._pages(
            column, SessionRow.started_at.expression, _sessions_where(column, owner_ids, wanted, only_user), page
        )

    async def count_sessions(
        self, owner: str, owner_ids: Sequence[str], wanted: SessionFilter, *, only_user: str | None
    ) -> dict[str, int]:
        column = _OWNER[owner]
        rows = await self._session.execute(
            select(column, func.count()).where(*_sessions_where(column, owner_ids, wanted, only_user)).group_by(column)
        )
        return {key: int(count) for key, count in rows}

    async def _pages(
        self,
        owner: ColumnElement[str],
        sorted_by: ColumnElement[datetime] | ColumnElement[datetime | None],
        where: list[ColumnElement[bool]],
        page: PageRequest,
    ) -> dict[str, list[SessionRow]]:
        if page.after is not None:
            moment, session_id = page.after
            cursor = tuple_(literal(moment, SessionRow.started_at.type), literal(session_id, SessionRow.id.type))
            where = [*where, tuple_(sorted_by, SessionRow.id) < cursor]
        position = func.row_number().over(partition_by=owner, order_by=(sorted_by.desc(), SessionRow.id.desc()))
        ranked = select(SessionRow.id, position.label("position")).where(*where).subquery()
        statement = (
            select(SessionRow, owner)
            .join(ranked, ranked.c.id == SessionRow.id)
            .where(ranked.c.position <= page.first + 1)
            .order_by(owner, sorted_by.desc(), SessionRow.id.desc())
        )
        pages: dict[str, list[SessionRow]] = {}
        for row, owner_id in await self._session.execute(statement):
            pages.setdefault(owner_id, []).append(row)
        return pages


class FrameRepository:
    """Stored frames."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def counts(self, session_ids: Sequence[str]) -> dict[str, int]:
        """Stored frames by session; sessions without any are absent."""
        if not session_ids:
            return {}
        rows = await self._session.execute(
            select(FrameRow.session_id, func.count())
            .where(FrameRow.session_id.in_(session_ids))
            .group_by(FrameRow.session_id)
        )
        return {key: int(count) for key, count in rows}

    async def timestamps_us(self, session_id: str) -> set[int]:
        """`measured_at` of all frames in microseconds since 1970 (exact: PostgreSQL extracts a numeric)."""
        microseconds = cast(extract("epoch", FrameRow.measured_at) * 1_000_000, BigInteger)
        rows = await self._session.scalars(select(microseconds).where(FrameRow.session_id == session_id))
        return set(rows)

    async def last(self, session_id: str) -> FrameRow | None:
        """The frame that was committed last."""
        return await self._session.scalar(
            select(FrameRow).where(FrameRow.session_id == session_id).order_by(FrameRow.sequence.desc()).limit(1)
        )

    async def last_received_at(self, session_id: str) -> datetime | None:
        return await self._session.scalar(
            select(func.max(FrameRow.received_at)).where(FrameRow.session_id == session_id)
        )

    async def after(self, session_id: str, sequence: int, *, limit: int) -> Sequence[FrameRow]:
        """The frames that follow a sequence number, in their order."""
        statement = (
            select(FrameRow)
            .where(FrameRow.session_id == session_id, FrameRow.sequence > sequence)
            .order_by(FrameRow.sequence)
            .limit(limit)
        )
        return (await self._session.scalars(statement)).all()

    async def stream(self, session_id: str) -> AsyncIterator[Sequence[FrameRow]]:
        """All frames in the order of their commits, some hundred at a time, so that memory stays bounded."""
        statement = select(FrameRow).where(FrameRow.session_id == session_id).order_by(FrameRow.sequence)
        result = await self._session.stream_scalars(statement.execution_options(yield_per=_CHUNK))
        async for chunk in result.partitions():
            yield chunk
            for row in chunk:
                self._session.expunge(row)  # or the session would hold every frame to its end


_OWNER: dict[str, ColumnElement[str]] = {
    "user": SessionRow.user_id.expression,
    "device": SessionRow.device_id.expression,
    "cartridge": SessionRow.cartridge_uid.expression,
}


def _visible() -> Select[SessionRow]:
    return select(SessionRow).where(SessionRow.status.in_(_VISIBLE))


def _results_where(user_ids: Sequence[str], wanted: SessionFilter) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = [
        SessionRow.user_id.in_(user_ids),
        SessionRow.status == SessionStatus.COMPLETED,
    ]
    return [*where, *_within(SessionRow.ended_at.expression, wanted)]


def _sessions_where(
    column: ColumnElement[str], owner_ids: Sequence[str], wanted: SessionFilter, only_user: str | None
) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = [column.in_(owner_ids), SessionRow.status.in_(_VISIBLE)]
    if only_user is not None:
        where.append(SessionRow.user_id == only_user)
    return [*where, *_within(SessionRow.started_at.expression, wanted)]


def _within(
    moment: ColumnElement[datetime] | ColumnElement[datetime | None], wanted: SessionFilter
) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if wanted.since is not None:
        where.append(moment >= wanted.since)
    if wanted.until is not None:
        where.append(moment < wanted.until)
    if wanted.category_code is not None:
        where.append(SessionRow.category_code == wanted.category_code)
    if wanted.type_index is not None:
        where.append(SessionRow.type_index == wanted.type_index)
    return where
