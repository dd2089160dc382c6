"""The rules of reading notifications: who may see and mark which, and that looks at those about health are logged."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from domain.audit import AccessLog
from domain.clock import Clock
from domain.errors import AppError
from domain.ids import UserId
from domain.operations.notification import fields
from domain.operations.notification.discretion import is_about_health
from domain.operations.notification.errors import NotificationNotFound
from domain.operations.notification.models import Delivery, Message, MessageFilter, Notification
from domain.operations.notification.repository import DeliveryRepository, NotificationRepository
from domain.operations.notification.sealed_content import open_message
from domain.paging import Page, PageRequest, page_limit
from domain.principal import Principal, Scope
from domain.sealing import Sealer

MAX_STREAMED = 200


class NotificationService:
    """Commands and queries about the notifications that people have got. Looks at those about health are logged."""

    def __init__(self, clock: Clock, *, sealer: Sealer) -> None:
        self._clock = clock
        self._sealer = sealer

    async def get(self, session: AsyncSession, principal: Principal, notification_id: str) -> Message:
        """Raises: NotificationNotFound: there is none in a list that the caller may see."""
        principal.require_scope(Scope.NOTIFICATION_READ)
        found = await self.visible(session, principal, [notification_id])
        if notification_id not in found:
            raise NotificationNotFound(notification_id)
        return found[notification_id]

    async def visible(
        self, session: AsyncSession, principal: Principal, notification_ids: Collection[str]
    ) -> dict[str, Message]:
        """Those of the named notifications that the caller may see; logged. The session must be able to write."""
        rows = await NotificationRepository(session).get_many(notification_ids)
        seen = [self._opened(row) for row in rows if row.listed_at is not None and _may_see(principal, row.user_id)]
        await self._log(session, principal, seen)
        return {message.row.notification_id: message for message in seen}

    async def window(
        self,
        session: AsyncSession,
        principal: Principal,
        wanted: MessageFilter,
        *,
        user_id: str,
        limit: int,
        offset: int,
    ) -> tuple[Sequence[Message], int]:
        """Items of a person's list, newest first, and how many there are; logged. The session must be able to write.

        Raises:
            Unauthenticated, Forbidden, InvalidInput: as `Principal.acting_for`; the token lacks notification:read.
        """
        owner = _reader(principal, user_id)
        limit, offset = page_limit(limit, offset)
        rows, total = await NotificationRepository(session).window(owner, wanted, limit=limit, offset=offset)
        messages = [self._opened(row) for row in rows]
        await self._log(session, principal, messages)
        return messages, total

    async def pages(
        self,
        session: AsyncSession,
        principal: Principal,
        wanted: MessageFilter,
        *,
        user_ids: Collection[str],
        page: PageRequest,
    ) -> dict[str, Page[Message]]:
        """A page of each person's list, newest first; logged. The session must be able to write. Raises: as `window`."""
        owners = [_reader(principal, user_id) for user_id in user_ids]
        pages = await NotificationRepository(session).pages_of(owners, wanted, page)
        opened = {
            user: Page([self._opened(row) for row in found.items], has_next=found.has_next, total=found.total)
            for user, found in pages.items()
        }
        await self._log(session, principal, [message for found in opened.values() for message in found.items])
        return opened

    async def ids_listed_since(
        self, session: AsyncSession, principal: Principal, *, user_id: str, since: datetime
    ) -> dict[str, datetime]:
        """What came into a person's list at a moment or later, and when; no content. Raises: as `window`."""
        return await NotificationRepository(session).ids_listed_since(_reader(principal, user_id), since=since)

    async def listed_since(
        self, session: AsyncSession, principal: Principal, *, user_id: str, since: datetime, known: Collection[str]
    ) -> list[Message]:
        """What came into a person's list at a moment or later, oldest first, without the `known`; logged.

        Raises: as `window`.
        """
        owner = _reader(principal, user_id)
        repository = NotificationRepository(session)
        rows = await repository.listed_since(owner, since=since, known=known, limit=MAX_STREAMED)
        messages = [self._opened(row) for row in rows]
        await self._log(session, principal, messages)
        return messages

    async def unread_counts(
        self, session: AsyncSession, principal: Principal, user_ids: Collection[str]
    ) -> dict[str, int]:
        """How many unread notifications each person has. Counted, not kept: so it cannot drift. Raises: as `window`."""
        owners = [_reader(principal, user_id) for user_id in user_ids]
        return await NotificationRepository(session).unread_counts(owners)

    async def unread_count(self, session: AsyncSession, principal: Principal, *, user_id: str = "") -> int:
        """Raises: as `window`."""
        owner = _reader(principal, user_id)
        return (await NotificationRepository(session).unread_counts([owner]))[owner]

    async def mark_read(self, session: AsyncSession, principal: Principal, notification_id: str) -> Message:
        """Mark one as read; again changes nothing.

        Raises:
            NotificationNotFound: there is none in a list that the caller may see.
            Unauthenticated, Forbidden: anonymous, or the token lacks notification:write.
        """
        principal.require_scope(Scope.NOTIFICATION_WRITE)
        repository = NotificationRepository(session)
        row = await repository.get(notification_id)
        if row is None or row.listed_at is None or not _may_act(principal, row.user_id):
            raise NotificationNotFound(notification_id)
        await repository.mark_read(notification_id, at=self._clock.now())
        await session.refresh(row)
        message = self._opened(row)
        await self._log(session, principal, [message], action="update")
        return message

    async def mark_all_read(self, session: AsyncSession, principal: Principal, *, user_id: str = "") -> int:
        """Mark all of a person's as read; answers how many were not.

        Raises:
            Unauthenticated, Forbidden, InvalidInput: as `Principal.acting_for`; the token lacks notification:write.
        """
        principal.require_scope(Scope.NOTIFICATION_WRITE)
        owner = fields.user_id(principal.acting_for(user_id))
        return await NotificationRepository(session).mark_all_read(owner, at=self._clock.now())

    async def deliveries(
        self, session: AsyncSession, notification_ids: Collection[str]
    ) -> Mapping[str, Sequence[Delivery]]:
        """What became of notifications, channel by channel; for callers who were given the notifications."""
        return await DeliveryRepository(session).of(notification_ids)

    def _opened(self, row: Notification) -> Message:
        return open_message(self._sealer, row)

    async def _log(
        self, session: AsyncSession, principal: Principal, messages: Sequence[Message], *, action: str = "read"
    ) -> None:
        """Who read what about whose health."""
        by_person: dict[str, list[str]] = {}
        for message in messages:
            if is_about_health(message):
                by_person.setdefault(message.row.user_id, []).append(message.row.notification_id)
        for person, ids in by_person.items():
            await AccessLog(session).record(
                principal, subject_user_id=person, action=action, resource_type="notification", resource_ids=ids
            )


def _reader(principal: Principal, user_id: str) -> UserId:
    principal.require_scope(Scope.NOTIFICATION_READ)
    return UserId(fields.user_id(principal.acting_for(user_id)))


def _may_see(principal: Principal, user_id: str) -> bool:
    return principal.has_scope(Scope.NOTIFICATION_READ) and _may_act(principal, user_id)


def _may_act(principal: Principal, user_id: str) -> bool:
    try:
        principal.acting_for(user_id)
    except AppError:
        return False
    return True
