"""The rules of sessions: who may stream, how a session ends and what it amounts to, who may read it."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from domain.audit import AccessLog
from domain.clock import Clock
from domain.errors import Forbidden, InvalidInput
from domain.ids import UserId, new_id
from domain.measurement.measurement import chain, fhir
from domain.measurement.measurement.access import parse_session_id, require_owner, user_of
from domain.measurement.measurement.effective_time import MAX_BEHIND
from domain.measurement.measurement.ending import SessionEnding
from domain.measurement.measurement.errors import SessionEmpty, SessionEnded, SessionNotEnded, SessionNotFound
from domain.measurement.measurement.frames import StoredFrame, open_frame, seal_context, to_us
from domain.measurement.measurement.ingest import StreamState
from domain.measurement.measurement.models import (
    EndReason,
    FrameRow,
    Session,
    SessionFilter,
    SessionRow,
    SessionStatus,
    Similar,
    coefficients_of,
    range_of,
)
from domain.measurement.measurement.ports import FingerprintIndex
from domain.measurement.measurement.repository import FrameRepository, SessionRepository, UnitChoiceRepository
from domain.measurement.measurement.sealed_result import session_of
from domain.measurement.measurement.start import GIVE_UP_AFTER
from domain.paging import Page, PageRequest, page_limit
from domain.principal import Principal, PrincipalKind, Scope
from domain.sealing import SealBroken, Sealer
from domain.units import ResultUnits

_log = logging.getLogger(__name__)

MAX_EXPORT = 5_000
MAX_SIMILAR = 50
_RESOURCE = "MeasurementSession"


class MeasurementService:
    """Commands and queries about sessions.

    Args:
        idle_timeout: a session without a signal for this long ends by itself.
        takes_stored_frames: whether a session may get frames that a reader has measured and stored before it could open
            the session. What was measured in a session that has lost its connection is taken in any case.
    """

    def __init__(
        self,
        clock: Clock,
        sealer: Sealer,
        index: FingerprintIndex,
        *,
        idle_timeout: timedelta,
        takes_stored_frames: bool = True,
    ) -> None:
        self._takes_stored_frames = takes_stored_frames
        self._clock = clock
        self._sealer = sealer
        self._index = index
        self._ending = SessionEnding(clock, sealer, index)
        self._idle_timeout = idle_timeout

    async def open_stream(self, session: AsyncSession, principal: Principal, session_id: str) -> StreamState:
        """Take the session's lease for a new stream; the stream that held it before can write no more.

        Waits for the batch that an older stream is writing, so what this answers is complete.

        Raises:
            SessionNotFound, SessionForeign, SessionEnded.
        """
        row = await SessionRepository(session).get_for_update(parse_session_id(session_id))
        if row is None:
            raise SessionNotFound(session_id)
        require_owner(principal, row, Scope.MEASUREMENT_WRITE)
        if row.status != SessionStatus.ACTIVE:
            raise SessionEnded(row.id)
        row.lease += 1
        row.idle_deadline = self._clock.now() + self._idle_timeout
        frames = FrameRepository(session)
        last = await frames.last(row.id)
        channels = row.required_channels
        if channels is None and last is not None:
            channels = self._opened(last).raw.size
        return StreamState(
            session_id=row.id,
            lease=row.lease,
            unit=row.unit,
            coefficients=coefficients_of(row),
            channels=channels,
            sequence=last.sequence if last else 0,
            head=last.chain_hash if last else chain.genesis(row.id),
            known=await frames.timestamps_us(row.id) if last else set(),
            within=range_of(row),
            live_from_us=None if self._takes_stored_frames else to_us(row.started_at - MAX_BEHIND),
        )

    async def end(self, session: AsyncSession, principal: Principal, session_id: str) -> Session:
        """End a session and fix its result. Repeating it changes nothing and answers the same.

        Raises:
            SessionNotFound, SessionForeign.
        """
        row = await SessionRepository(session).get_for_update(parse_session_id(session_id))
        if row is None:
            raise SessionNotFound(session_id)
        require_owner(principal, row, Scope.MEASUREMENT_WRITE)
        if row.status == SessionStatus.ACTIVE:
            await self._ending.finish(session, row, EndReason.REQUESTED)
        return self._session(row)

    async def end_one_idle(self, session: AsyncSession) -> bool:
        """End, or postpone, one session whose deadline has passed; whether there was one.

        Safe on several instances at once: each takes another session.
        """
        now = self._clock.now()
        row = await SessionRepository(session).lock_one_idle(now)
        if row is None:
            return False
        last = await FrameRepository(session).last_received_at(row.id)
        deadline = last + self._idle_timeout if last is not None else row.idle_deadline
        if deadline > now:
            row.idle_deadline = deadline
            return True
        try:
            await self._ending.finish(session, row, EndReason.IDLE)
        except SealBroken:
            # Changed or foreign frames: a person has to look at them. Until then it must not keep others from ending.
            _log.exception("session %s cannot be ended: a stored frame does not open", row.id)
            row.idle_deadline = now + self._idle_timeout
        return True

    async def note_calibration(
        self, session: AsyncSession, *, device_id: str, category_code: int, type_index: int
    ) -> None:
        """Mark the running sessions of a reader that has been calibrated anew.

        They keep the calibration that they started with: one session must not mix two. Repeating this changes nothing.
        """
        await SessionRepository(session).mark_recalibrated(
            device_id=device_id, category_code=category_code, type_index=type_index, at=self._clock.now()
        )

    async def drop(self, session: AsyncSession, user_id: UserId, until: datetime) -> None:
        """Detach the sessions that were started for a person until a moment: an unproven holder of the account measured.

        What was measured is kept under an id of no person; nobody but services and administrators can read it.
        """
        await SessionRepository(session).detach(user_id, until=until, heir=f"unproven:{new_id()}")
        await UnitChoiceRepository(session).note(user_id, ResultUnits.AS_MEASURED, at=until)

    async def note_units(self, session: AsyncSession, user_id: UserId, chosen: ResultUnits, *, at: datetime) -> None:
        """Note in which kind of unit a person reads results; what is older than what is known changes nothing."""
        await UnitChoiceRepository(session).note(user_id, chosen, at=at)

    async def units_of(self, session: AsyncSession, principal: Principal) -> ResultUnits:
        """In which kind of unit the caller reads results, whoever they are of; readers and services as measured."""
        if principal.kind is not PrincipalKind.USER:
            return ResultUnits.AS_MEASURED
        return await UnitChoiceRepository(session).of(principal.subject)

    async def abandon_starts(self, session: AsyncSession) -> None:
        """Give up the starts that broke off long ago."""
        await SessionRepository(session).abandon_starts(before=self._clock.now() - GIVE_UP_AFTER)

    async def get(self, session: AsyncSession, principal: Principal, session_id: str) -> Session:
        """One session with its result.

        Raises:
            SessionNotFound, SessionForeign.
        """
        row = await self._row(session, principal, session_id)
        found = (await self._with_counts(session, [row]))[0]
        await self._log(session, principal, "read", [found])
        return found

    async def watch(self, session: AsyncSession, principal: Principal, session_id: str) -> Session:
        """As `get`, for somebody who is about to follow the frames: a look at them is logged before there is a result.

        Raises:
            SessionNotFound, SessionForeign.
        """
        row = await self._row(session, principal, session_id)
        found = (await self._with_counts(session, [row]))[0]
        await AccessLog(session).record(
            principal, subject_user_id=row.user_id, action="watch", resource_type=_RESOURCE, resource_ids=[row.id]
        )
        return found

    async def get_many(self, session: AsyncSession, principal: Principal, ids: Sequence[str]) -> list[Session | None]:
        """Answer i is the session of id i; None where there is none that the caller may see."""
        canonical = [_canonical(text) for text in ids]
        rows = await SessionRepository(session).get_many([key for key in canonical if key is not None])
        visible = [row for row in rows if _may_read(principal, row)]
        sessions = {found.id: found for found in await self._with_counts(session, visible)}
        await self._log(session, principal, "read", list(sessions.values()))
        return [sessions.get(key) if key is not None else None for key in canonical]

    async def history(
        self,
        session: AsyncSession,
        principal: Principal,
        *,
        user_id: str,
        wanted: SessionFilter,
        limit: int,
        offset: int,
    ) -> tuple[list[Session], int]:
        """A page of a person's results, the newest effective time first, and how many there are.

        Raises:
            Forbidden: another person's. InvalidInput: a negative limit or offset, or a range that ends before it starts.
        """
        user = user_of(principal, user_id, Scope.MEASUREMENT_READ)
        limit, offset = page_limit(limit, offset)
        _check_range(wanted)
        sessions = SessionRepository(session)
        rows = await sessions.results(user, wanted, limit=limit, offset=offset)
        total = (await sessions.count_results([user], wanted)).get(user, 0)
        found = [self._session(row) for row in rows]
        await self._log(session, principal, "list", found)
        return found, total

    async def results_of_users(
        self,
        session: AsyncSession,
        principal: Principal,
        user_ids: Sequence[str],
        wanted: SessionFilter,
        page: PageRequest,
    ) -> list[Page[Session]]:
        """Answer i is a page of the results of person i, the newest effective time first.

        Raises:
            Forbidden: one of them is another person.
        """
        for user_id in user_ids:
            user_of(principal, user_id, Scope.MEASUREMENT_READ)
        _check_range(wanted)
        _check_page(page)
        sessions = SessionRepository(session)
        pages = await sessions.results_page(user_ids, wanted, page)
        totals = await sessions.count_results(user_ids, wanted)
        found = [self._page(pages.get(user_id, []), totals.get(user_id, 0), page) for user_id in user_ids]
        await self._log(session, principal, "list", [item for one in found for item in one.items])
        return found

    async def sessions_of(
        self,
        session: AsyncSession,
        principal: Principal,
        owner: str,
        owner_ids: Sequence[str],
        wanted: SessionFilter,
        page: PageRequest,
    ) -> list[Page[Session]]:
        """Answer i is a page of the sessions of owner i, the newest start first.

        Args:
            owner: `user`, `device` or `cartridge`. Of a reader or a cartridge, callers see their own sessions only.

        Raises:
            Forbidden: one of the owners is another person.
        """
        only_user: str | None = None
        if owner == "user":
            for user_id in owner_ids:
                user_of(principal, user_id, Scope.MEASUREMENT_READ)
        else:
            only_user = None if principal.is_trusted else user_of(principal, "", Scope.MEASUREMENT_READ)
        _check_range(wanted)
        _check_page(page)
        sessions = SessionRepository(session)
        rows = await sessions.sessions_page(owner, owner_ids, wanted, page, only_user=only_user)
        totals = await sessions.count_sessions(owner, owner_ids, wanted, only_user=only_user)
        counted = {s.id: s for s in await self._with_counts(session, [row for part in rows.values() for row in part])}
        found = [
            Page(
                [counted[row.id] for row in rows.get(owner_id, [])[: page.first]],
                has_next=len(rows.get(owner_id, [])) > page.first,
                total=totals.get(owner_id, 0),
            )
            for owner_id in owner_ids
        ]
        await self._log(session, principal, "list", [item for one in found for item in one.items])
        return found

    async def frames_after(
        self, session: AsyncSession, principal: Principal, session_id: str, sequence: int, *, limit: int = 100
    ) -> tuple[Session, list[StoredFrame]]:
        """The session and its frames that follow a sequence number, in the order of their commits.

        Raises:
            SessionNotFound, SessionForeign.
        """
        row = await self._row(session, principal, session_id)
        frames = await FrameRepository(session).after(row.id, sequence, limit=limit)
        return self._session(row), [self._opened(frame) for frame in frames]

    async def verify_chain(self, session: AsyncSession, principal: Principal, session_id: str) -> chain.ChainReport:
        """Whether the stored frames are those that were committed, in their order.

        Raises:
            SessionNotFound, SessionForeign.
        """
        row = await self._row(session, principal, session_id)
        report = chain.verify(row.id, ())
        async for rows in FrameRepository(session).stream(row.id):
            for frame in rows:
                report = chain.extend(
                    report, chain.ChainedFrame(frame.sequence, self._content(frame), frame.chain_hash)
                )
            if not report.holds:
                return report
        cut_off = row.frame_count is not None and (
            report.frames != row.frame_count or (row.chain_head or report.head) != report.head
        )
        return replace(report, first_broken=report.frames + 1) if cut_off else report

    async def similar(
        self, session: AsyncSession, principal: Principal, session_id: str, *, limit: int
    ) -> list[tuple[Session, float]]:
        """The person's sessions with the nearest fingerprints, nearest first, with the cosine of the angle.

        Raises:
            SessionNotFound, SessionForeign. InvalidInput: the limit is not within [1, MAX_SIMILAR].
        """
        if not 1 <= limit <= MAX_SIMILAR:
            raise InvalidInput(f"first is {limit}; it must be between 1 and {MAX_SIMILAR}.", field="first")
        row = await self._row(session, principal, session_id)
        near: Sequence[Similar] = (
            await self._index.nearest(session, session_id=row.id, user_id=row.user_id, limit=limit) or ()
        )
        rows = {found.id: found for found in await SessionRepository(session).get_many([s.session_id for s in near])}
        found = [(self._session(rows[s.session_id]), s.similarity) for s in near if s.session_id in rows]
        await self._log(session, principal, "similar", [item for item, _ in found])
        return found

    async def export_one(self, session: AsyncSession, principal: Principal, session_id: str) -> fhir.Json:
        """A FHIR Bundle with the result of one session.

        Raises:
            SessionNotFound, SessionForeign, SessionNotEnded, SessionEmpty.
        """
        row = await self._row(session, principal, session_id)
        if row.status == SessionStatus.ACTIVE:
            raise SessionNotEnded(row.id)
        if row.status == SessionStatus.EMPTY:
            raise SessionEmpty(row.id)
        found = [self._session(row)]
        await self._log(session, principal, "export", found)
        return fhir.bundle(found, at=self._clock.now())

    async def export_range(
        self, session: AsyncSession, principal: Principal, *, user_id: str, from_date: str, to_date: str
    ) -> fhir.Json:
        """A FHIR Bundle with a person's results, the newest effective time first.

        Args:
            from_date, to_date: ISO 8601 dates (UTC), both included; empty = no limit on that side.

        Raises:
            Forbidden: another person's. InvalidInput: not a date, or more than MAX_EXPORT results.
        """
        user = user_of(principal, user_id, Scope.MEASUREMENT_READ)
        wanted = SessionFilter(
            since=_day_start(from_date, "from_date") if from_date else None,
            until=_day_start(to_date, "to_date") + timedelta(days=1) if to_date else None,
        )
        _check_range(wanted)
        rows = await SessionRepository(session).results(user, wanted, limit=MAX_EXPORT + 1)
        if len(rows) > MAX_EXPORT:
            raise InvalidInput(f"There are more than {MAX_EXPORT} results; ask for a shorter time.", field="from_date")
        found = [self._session(row) for row in rows]
        await self._log(session, principal, "export", found)
        return fhir.bundle(found, at=self._clock.now())

    async def _row(self, session: AsyncSession, principal: Principal, session_id: str) -> SessionRow:
        row = await SessionRepository(session).get(parse_session_id(session_id))
        if row is None:
            raise SessionNotFound(session_id)
        require_owner(principal, row, Scope.MEASUREMENT_READ)
        return row

    async def _with_counts(self, session: AsyncSession, rows: Sequence[SessionRow]) -> list[Session]:
        active = [row.id for row in rows if row.status == SessionStatus.ACTIVE]
        counts = await FrameRepository(session).counts(active)
        return [self._session(row, counted=counts.get(row.id, 0)) for row in rows]

    async def _log(self, session: AsyncSession, principal: Principal, action: str, read: Sequence[Session]) -> None:
        """Log a read of health data, once for each person concerned, in a fixed order of locks."""
        by_user: dict[str, list[str]] = {}
        for item in read:
            if item.result is not None:
                by_user.setdefault(item.user_id, []).append(item.id)
        for user_id in sorted(by_user):
            await AccessLog(session).record(
                principal,
                subject_user_id=user_id,
                action=action,
                resource_type=_RESOURCE,
                resource_ids=by_user[user_id],
            )

    def _page(self, rows: Sequence[SessionRow], total: int, page: PageRequest) -> Page[Session]:
        items = [self._session(row) for row in rows[: page.first]]
        return Page(items, has_next=len(rows) > page.first, total=total)

    def _content(self, frame: FrameRow) -> bytes | None:
        try:
            return self._sealer.open(frame.sealed, context=seal_context(frame.session_id, frame.sequence))
        except SealBroken:
            return None

    def _opened(self, frame: FrameRow) -> StoredFrame:
        return open_frame(self._sealer, frame.session_id, frame.sequence, frame.sealed)

    def _session(self, row: SessionRow, *, counted: int = 0) -> Session:
        return session_of(self._sealer, row, counted=counted)


def _may_read(principal: Principal, row: SessionRow) -> bool:
    try:
        require_owner(principal, row, Scope.MEASUREMENT_READ)
    except Forbidden:
        return False
    return True


def _canonical(text: str) -> str | None:
    try:
        return parse_session_id(text)
    except SessionNotFound:
        return None


def _check_range(wanted: SessionFilter) -> None:
    if wanted.since is not None and wanted.until is not None and wanted.until < wanted.since:
        raise InvalidInput("The time range ends before it starts.", field="end_time")


def _check_page(page: PageRequest) -> None:
    if page.after is not None and _canonical(page.after[1]) is None:
        raise InvalidInput("after is not a cursor of this list.", field="after")


def _day_start(text: str, field: str) -> datetime:
    try:
        day = date.fromisoformat(text)
        if day == date.max:  # the calendar has no day after it
            raise ValueError(text)
        return datetime.combine(day, time(), tzinfo=UTC)
    except ValueError as error:
        raise InvalidInput(f"{field} is not an ISO 8601 date such as 2026-01-31.", field=field) from error
