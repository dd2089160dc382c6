"""Every statement on sessions and their frames, but for the COPY of the hot path (`FrameStore`).

Locks: a session's row is locked FOR UPDATE by whoever ends it or opens a stream for it, and FOR KEY SHARE by the writer
of its frames for the length of one batch. Nobody locks two sessions in one transaction but that writer, and it never
waits (SKIP LOCKED).
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Self

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    String,
    Uuid,
    any_,
    bindparam,
    case,
    cast,
    delete,
    extract,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.measurement.measurement.models import (
    FingerprintRow,
    FrameRow,
    SessionFilter,
    SessionRow,
    SessionStatus,
    UnitChoiceRow,
)
from domain.paging import PageRequest
from domain.units import ResultUnits

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
        return await self._session.scalar(_VISIBLE_BY_ID, {"id": session_id})

    async def get_many(self, session_ids: Sequence[str]) -> Sequence[SessionRow]:
        return (await self._session.scalars(_VISIBLE_BY_IDS, {"ids": list(session_ids)})).all()

    async def get_for_update(self, session_id: str) -> SessionRow | None:
        return await self._session.scalar(_VISIBLE_FOR_UPDATE, {"id": session_id})

    async def get_starting(self, session_id: str) -> SessionRow | None:
        return await self._session.scalar(_STARTING_FOR_UPDATE, {"id": session_id})

    async def open(self, session_id: str, *, at: datetime, idle_deadline: datetime) -> SessionRow | None:
        """The session, active from now on; None when it is not a starting one."""
        return await self._session.scalar(_OPEN, {"session_id": session_id, "at": at, "deadline": idle_deadline})

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
        values = {"user_id": user_id, "device_id": device_id, "cartridge_uid": cartridge_uid, "now": now}
        return await self._session.scalar(_UNFINISHED_START, values)

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

    async def detach(self, user_id: str, *, until: datetime, heir: str) -> None:
        """Give the sessions that were started for a person until a moment, which is included, to the id of no person.

        Those that run stop without a result: their writers check the status, and wait for the lock. Their fingerprints are
        deleted, so that none is compared with the person's own.
        """
        theirs = (SessionRow.user_id == user_id, SessionRow.started_at <= until)
        locked = select(SessionRow.id).where(*theirs).order_by(SessionRow.id).with_for_update()
        ids = (await self._session.scalars(locked)).all()
        if not ids:
            return
        these = any_(bindparam("ids", list(ids), type_=ARRAY(Uuid(as_uuid=False))))
        runs = SessionRow.status.in_((SessionStatus.STARTING, SessionStatus.ACTIVE))
        for statement in (
            delete(FingerprintRow).where(FingerprintRow.session_id == these),
            update(SessionRow)
            .where(SessionRow.id == these)
            .values(
                user_id=heir,
                start_key=None,
                status=case((runs, SessionStatus.ABANDONED.value), else_=SessionRow.status),
            ),
        ):
            await self._session.execute(statement.execution_options(synchronize_session=False))

    async def results(
        self, user_id: str, wanted: SessionFilter, *, limit: int, offset: int = 0
    ) -> Sequence[SessionRow]:
        """Completed sessions of a person, the newest effective time first."""
        shape, values = _Shape.of("results", (user_id,), wanted)
        statement = (
            select(SessionRow)
            .where(*shape.where())
            .order_by(SessionRow.effective_at.desc(), SessionRow.id.desc())
            .limit(limit)
            .offset(offset)
        )
        return (await self._session.scalars(statement, values)).all()

    async def count_results(self, user_ids: Sequence[str], wanted: SessionFilter) -> dict[str, int]:
        """Completed sessions by person; persons without any are absent."""
        return await self._count(*_Shape.of("results", user_ids, wanted))

    async def results_page(
        self, user_ids: Sequence[str], wanted: SessionFilter, page: PageRequest
    ) -> dict[str, list[SessionRow]]:
        """For each person the first `page.first + 1` results after the cursor, the newest effective time first."""
        return await self._pages(*_Shape.of("results", user_ids, wanted, page=page))

    async def sessions_page(
        self, owner: str, owner_ids: Sequence[str], wanted: SessionFilter, page: PageRequest, *, only_user: str | None
    ) -> dict[str, list[SessionRow]]:
        """For each owner (`user`, `device` or `cartridge`) its first sessions after the cursor, the newest start first."""
        return await self._pages(*_Shape.of(owner, owner_ids, wanted, page=page, only_user=only_user))

    async def count_sessions(
        self, owner: str, owner_ids: Sequence[str], wanted: SessionFilter, *, only_user: str | None
    ) -> dict[str, int]:
        return await self._count(*_Shape.of(owner, owner_ids, wanted, only_user=only_user))

    async def _count(self, shape: "_Shape", values: "_Values") -> dict[str, int]:
        rows = await self._session.execute(_count_statement(shape), values)
        return {key: int(count) for key, count in rows}

    async def _pages(self, shape: "_Shape", values: "_Values") -> dict[str, list[SessionRow]]:
        pages: dict[str, list[SessionRow]] = {}
        for row, owner_id in await self._session.execute(_pages_statement(shape), values):
            pages.setdefault(owner_id, []).append(row)
        return pages


class UnitChoiceRepository:
    """In which kind of unit people read results."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def of(self, user_id: str) -> ResultUnits:
        """What the person has chosen; as measured when nothing is known."""
        found = await self._session.scalar(select(UnitChoiceRow.result_units).where(UnitChoiceRow.user_id == user_id))
        return ResultUnits(found) if found is not None else ResultUnits.AS_MEASURED

    async def note(self, user_id: str, chosen: ResultUnits, *, at: datetime) -> None:
        """Keep a choice, unless a later one is known."""
        values = {"user_id": user_id, "result_units": chosen.value, "chosen_at": at}
        statement = insert(UnitChoiceRow).values(values)
        await self._session.execute(
            statement.on_conflict_do_update(
                index_elements=[UnitChoiceRow.user_id],
                set_={"result_units": chosen.value, "chosen_at": at},
                where=UnitChoiceRow.chosen_at < at,
            )
        )


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


_VISIBLE_ONES = select(SessionRow).where(SessionRow.status.in_(_VISIBLE))
_VISIBLE_BY_ID = _VISIBLE_ONES.where(SessionRow.id == bindparam("id"))
_VISIBLE_BY_IDS = _VISIBLE_ONES.where(SessionRow.id == any_(bindparam("ids", type_=ARRAY(Uuid(as_uuid=False)))))
_VISIBLE_FOR_UPDATE = _VISIBLE_BY_ID.with_for_update()
_STARTING_FOR_UPDATE = (
    select(SessionRow)
    .where(SessionRow.id == bindparam("id"), SessionRow.status == SessionStatus.STARTING)
    .with_for_update()
)
_UNFINISHED_START = (
    select(SessionRow)
    .where(
        SessionRow.user_id == bindparam("user_id"),
        SessionRow.device_id == bindparam("device_id"),
        SessionRow.cartridge_uid == bindparam("cartridge_uid"),
        SessionRow.status == SessionStatus.STARTING,
        SessionRow.idle_deadline <= bindparam("now"),
    )
    .order_by(SessionRow.started_at.desc())
    .limit(1)
    .with_for_update(skip_locked=True)
)
_OPEN = (
    update(SessionRow)
    .where(SessionRow.id == bindparam("session_id"), SessionRow.status == SessionStatus.STARTING)
    .values(status=SessionStatus.ACTIVE, started_at=bindparam("at"), idle_deadline=bindparam("deadline"))
    .returning(SessionRow)
    .execution_options(synchronize_session=False, populate_existing=True)
)

_Values = dict[str, object]


@dataclass(frozen=True, slots=True)
class _Shape:
    """What makes the statement of one list another than that of the next; the rest of a list are values of parameters.

    Args:
        of_list: `results` (completed sessions of a person, by their effective time), or the owner of sessions (by their start).
    """

    of_list: str
    has_cursor: bool
    has_since: bool
    has_until: bool
    has_category: bool
    has_type: bool
    has_user: bool

    @classmethod
    def of(
        cls,
        of_list: str,
        owner_ids: Sequence[str],
        wanted: SessionFilter,
        *,
        page: PageRequest | None = None,
        only_user: str | None = None,
    ) -> tuple[Self, _Values]:
        """The shape of a list, and the values of its parameters."""
        after = page.after if page is not None else None
        shape = cls(
            of_list=of_list,
            has_cursor=after is not None,
            has_since=wanted.since is not None,
            has_until=wanted.until is not None,
            has_category=wanted.category_code is not None,
            has_type=wanted.type_index is not None,
            has_user=only_user is not None,
        )
        values: _Values = {
            "owner_ids": list(owner_ids),
            "since": wanted.since,
            "until": wanted.until,
            "category_code": wanted.category_code,
            "type_index": wanted.type_index,
            "only_user": only_user,
        }
        if page is not None:
            values["last"] = page.first + 1
        if after is not None:
            values["after_at"], values["after_id"] = after
        return shape, values

    @property
    def owner(self) -> ColumnElement[str]:
        """The column of the list's owners."""
        return _OWNER[self.of_list]

    @property
    def sorted_by(self) -> ColumnElement[datetime] | ColumnElement[datetime | None]:
        """The column that the list is sorted by, the newest first."""
        return SessionRow.effective_at.expression if self.of_list == "results" else SessionRow.started_at.expression

    def where(self) -> list[ColumnElement[bool]]:
        """The conditions of the list."""
        moment = self.sorted_by
        where: list[ColumnElement[bool]] = [self.owner == any_(bindparam("owner_ids", type_=ARRAY(String)))]
        if self.of_list == "results":
            where.append(SessionRow.status == SessionStatus.COMPLETED)
        else:
            where.append(SessionRow.status.in_(_VISIBLE))
        if self.has_user:
            where.append(SessionRow.user_id == bindparam("only_user"))
        if self.has_since:
            where.append(moment >= bindparam("since"))
        if self.has_until:
            where.append(moment < bindparam("until"))
        if self.has_category:
            where.append(SessionRow.category_code == bindparam("category_code"))
        if self.has_type:
            where.append(SessionRow.type_index == bindparam("type_index"))
        if self.has_cursor:
            after_at = bindparam("after_at", type_=SessionRow.started_at.type)
            after_id = bindparam("after_id", type_=SessionRow.id.type)
            where.append(tuple_(moment, SessionRow.id) < tuple_(after_at, after_id))
        return where


_OWNER: dict[str, ColumnElement[str]] = {
    "results": SessionRow.user_id.expression,
    "user": SessionRow.user_id.expression,
    "device": SessionRow.device_id.expression,
    "cartridge": SessionRow.cartridge_uid.expression,
}


# Statements are built once for each of their shapes, which are few: building one costs more than running it.
@cache
def _pages_statement(shape: _Shape) -> Select[SessionRow, str]:
    newest_first = (shape.sorted_by.desc(), SessionRow.id.desc())
    position = func.row_number().over(partition_by=shape.owner, order_by=newest_first)
    ranked = select(SessionRow.id, position.label("position")).where(*shape.where()).subquery()
    return (
        select(SessionRow, shape.owner)
        .join(ranked, ranked.c.id == SessionRow.id)
        .where(ranked.c.position <= bindparam("last"))
        .order_by(shape.owner, *newest_first)
    )


@cache
def _count_statement(shape: _Shape) -> Select[str, int]:
    return select(shape.owner, func.count()).where(*shape.where()).group_by(shape.owner)
