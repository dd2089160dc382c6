"""The rules of notifications: who may send what to whom, what is kept, and that looks at health messages are logged."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncSession

from domain.audit import AccessLog
from domain.clock import Clock
from domain.errors import AppError, LimitExceeded, TimedOut, Unavailable
from domain.ids import UserId, new_id
from domain.messaging import Outbox
from domain.operations.notification import fields
from domain.operations.notification.announcements import Announcement
from domain.operations.notification.discretion import is_about_health
from domain.operations.notification.errors import MayNotSend, NotificationNotFound, TooManyNotifications
from domain.operations.notification.events import NotificationSent
from domain.operations.notification.models import (
    Channel,
    Content,
    Delivery,
    DeliveryState,
    Message,
    MessageFilter,
    Notification,
    NotificationType,
    Preferences,
    Priority,
)
from domain.operations.notification.ports import AttemptCounter, Contact, Contacts
from domain.operations.notification.preference_service import PreferenceService
from domain.operations.notification.repository import DeliveryRepository, NotificationRepository
from domain.operations.notification.routing import Never, Now, Recipient, channels_of, is_enabled, route, wants
from domain.operations.notification.template_service import TemplateService, WholeTemplate
from domain.operations.notification.voice import Voice
from domain.paging import Page, PageRequest, page_limit
from domain.principal import Principal, Scope
from domain.sealing import Sealer

SELF_SENT_PER_HOUR = 60
MAX_STREAMED = 200

_CONTENT = TypeAdapter(Content)


@dataclass(frozen=True, slots=True)
class Draft:
    """A notification to send. `channel` None: every one that the person has enabled."""

    user_id: str
    type: NotificationType
    title: str
    body: str = ""
    priority: Priority = Priority.NORMAL
    channel: Channel | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    action_url: str = ""


@dataclass(frozen=True, slots=True)
class _Addressed:
    """A composed message that is about to be stored."""

    user_id: str
    type: NotificationType
    priority: Priority
    channel: Channel | None
    content: Content
    source_event_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Stored:
    message: Message
    is_new: bool


class NotificationService:
    """Commands and queries about notifications.

    Args:
        configured: the channels besides the app's list that this installation can use.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        sealer: Sealer,
        contacts: Contacts,
        counter: AttemptCounter,
        preferences: PreferenceService,
        templates: TemplateService,
        configured: frozenset[Channel],
    ) -> None:
        self._clock = clock
        self._sealer = sealer
        self._contacts = contacts
        self._counter = counter
        self._preferences = preferences
        self._templates = templates
        self._configured = configured

    async def send(self, session: AsyncSession, principal: Principal, draft: Draft) -> Message:
        """Keep a notification for the person's app, and have it delivered on the channels that it is meant for.

        Services and holders of notification:send send to anybody; people send to themselves, into the app only. One of a
        type that the person has switched off is recorded, with the reason, and shown to nobody.

        Raises:
            InvalidNotification: a field breaks its rule.
            MayNotSend: to somebody else, or by another channel than the app.
            TooManyNotifications: the person has sent themselves too many within an hour.
            Unauthenticated, Forbidden: anonymous, or the token lacks notification:write.
        """
        user_id = await self._require_may_send(principal, draft.user_id, draft.channel)
        content = fields.content(title=draft.title, body=draft.body, data=draft.data, action_url=draft.action_url)
        contact = None
        if draft.type is NotificationType.PROMOTION:
            contact = (await self._look_up([user_id])).get(user_id)
        addressed = _Addressed(user_id, draft.type, draft.priority, draft.channel, content)
        preferences = await self._preferences.of(session, user_id)
        return (await self._store(session, addressed, preferences, _agreed(contact))).message

    async def send_from_template(
        self, session: AsyncSession, principal: Principal, *, key: str, user_id: str, values: Mapping[str, str]
    ) -> Message:
        """Send what a template says, in the person's language. For services and holders of notification:send.

        Raises:
            TemplateNotFound, TemplateVariableMissing: the template, or a value for it, is missing.
            InvalidNotification: a value breaks its rule.
            Forbidden: the token lacks notification:send.
        """
        principal.require_scope(Scope.NOTIFICATION_SEND)
        recipient = fields.user_id(user_id or principal.acting_for(""))
        contact = (await self._look_up([recipient])).get(recipient)
        whole = await self._templates.get(session, key)
        addressed = _addressed(recipient, whole, whole.compose(_voice(contact), values))
        preferences = await self._preferences.of(session, recipient)
        return (await self._store(session, addressed, preferences, _agreed(contact))).message

    async def announce(self, session: AsyncSession, announcement: Announcement, *, event_id: str) -> int:
        """Tell people of an event, each in their language and once, however often the event comes; answers how many
        were told now.

        The session may hold a connection while user-service is asked, which is bounded by that call's short deadline: the
        inbox row of the event is in the same transaction.

        Raises:
            InvalidNotification: nobody has such an id.
            TemplateNotFound, TemplateVariableMissing: the template was broken since.
        """
        people = sorted({fields.user_id(person) for person in announcement.people})  # one order of locks for all
        if not people:
            return 0
        contacts = await self._look_up(people)
        preferences = await self._preferences.of_many(session, people)
        whole = await self._templates.get(session, announcement.template)
        told = 0
        for person in people:
            contact = contacts.get(person)
            voice = _voice(contact)
            content = whole.compose(voice, voice.say_all(announcement.values))
            addressed = _addressed(person, whole, content, event_id)
            told += (await self._store(session, addressed, preferences[person], _agreed(contact))).is_new
        return told

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

    async def _require_may_send(self, principal: Principal, user_id: str, channel: Channel | None) -> str:
        """Whom it goes to. People who send to themselves are counted."""
        principal.require_authenticated()
        recipient = fields.user_id(user_id or principal.acting_for(""))
        if principal.has_scope(Scope.NOTIFICATION_SEND):
            return recipient
        principal.require_scope(Scope.NOTIFICATION_WRITE)
        if principal.user_id != recipient:
            raise MayNotSend("You can send notifications to yourself only.")
        if channel is not Channel.IN_APP:
            raise MayNotSend("You can send yourself notifications into the app only: set the channel to in-app.")
        try:
            await self._counter.hit(f"notification:self:{recipient}", limit=SELF_SENT_PER_HOUR, window_s=3600)
        except LimitExceeded as error:
            retry_after_s = error.details.get("retry_after_s")
            raise TooManyNotifications(
                f"You can send yourself {SELF_SENT_PER_HOUR} notifications an hour.", retry_after_s=retry_after_s
            ) from error
        return recipient

    async def _look_up(self, user_ids: Collection[str]) -> Mapping[str, Contact]:
        """The contacts that can be had now: the app's list does not wait for user-service."""
        try:
            return await self._contacts.find(user_ids)
        except (Unavailable, TimedOut):
            known = {user_id: self._contacts.last_known(user_id) for user_id in user_ids}
            return {user_id: contact for user_id, contact in known.items() if contact is not None}

    async def _store(
        self, session: AsyncSession, addressed: _Addressed, preferences: Preferences, agreed: bool | None
    ) -> _Stored:
        """The message, which is not kept again when the person was told of its event before."""
        now = self._clock.now()
        notification_id = new_id()
        in_app = _in_app(addressed, preferences, agreed, notification_id, now)
        row = Notification(
            notification_id=notification_id,
            user_id=addressed.user_id,
            type=addressed.type,
            priority=addressed.priority,
            channel=addressed.channel,
            content=self._sealer.seal_json(asdict(addressed.content), context=_context(notification_id)),
            source_event_id=addressed.source_event_id,
            created_at=now,
            listed_at=in_app.sent_at,
            read_at=None,
        )
        repository = NotificationRepository(session)
        if not await repository.add(row):
            return _Stored(Message(row, addressed.content), is_new=False)
        outside = [
            _delivery(notification_id, channel, self._known_end(addressed.type, channel, preferences), now)
            for channel in channels_of(addressed.channel, preferences)
        ]
        await DeliveryRepository(session).add([in_app, *outside])
        if in_app.state is DeliveryState.SENT:
            await repository.wake(addressed.user_id)
            await Outbox(session).add(sent_event(row, Channel.IN_APP, now))
        return _Stored(Message(row, addressed.content), is_new=True)

    def _known_end(self, kind: NotificationType, channel: Channel, preferences: Preferences) -> str | None:
        """Why a channel need not even be tried, where that is known now."""
        if not wants(kind, preferences):
            return "TYPE_OFF"
        if not is_enabled(channel, preferences):
            return "CHANNEL_OFF"
        return None if channel in self._configured else "NOT_CONFIGURED"

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


def _addressed(user_id: str, whole: WholeTemplate, content: Content, event_id: str | None = None) -> _Addressed:
    template = whole.template
    channel = Channel(template.channel) if template.channel else None
    return _Addressed(user_id, NotificationType(template.type), Priority(template.priority), channel, content, event_id)


def _agreed(contact: Contact | None) -> bool | None:
    """Whether the person takes offers; None when nobody can tell now."""
    return contact.agreed_to_marketing if contact else None


def open_message(sealer: Sealer, row: Notification) -> Message:
    """The message of a row, its content opened."""
    opened = sealer.open_json(row.content, context=_context(row.notification_id))
    return Message(row, _CONTENT.validate_python(opened))


def sent_event(row: Notification, channel: Channel, at: datetime) -> NotificationSent:
    return NotificationSent(
        notification_id=row.notification_id, user_id=row.user_id, type=row.type, channel=channel.value, sent_at=at
    )


def _in_app(
    addressed: _Addressed, preferences: Preferences, agreed: bool | None, notification_id: str, now: datetime
) -> Delivery:
    """What becomes of it in the app's list: an offer to somebody who cannot be asked about now is left to the worker."""
    if addressed.type is NotificationType.PROMOTION and agreed is None and wants(addressed.type, preferences):
        return _delivery(notification_id, Channel.IN_APP, None, now)
    to = Recipient(preferences, zone=UTC, agreed_to_marketing=agreed)
    decision = route(addressed.type, addressed.priority, Channel.IN_APP, to, at=now)
    delivery = _delivery(notification_id, Channel.IN_APP, decision.reason if isinstance(decision, Never) else None, now)
    if isinstance(decision, Now):
        delivery.state = DeliveryState.SENT
        delivery.sent_at = now
    return delivery


def _delivery(notification_id: str, channel: Channel, skipped_for: str | None, now: datetime) -> Delivery:
    return Delivery(
        notification_id=notification_id,
        channel=channel,
        state=DeliveryState.PENDING if skipped_for is None else DeliveryState.SKIPPED,
        reason=skipped_for,
        tries=0,
        next_try_at=now,
        leased_until=None,
        reached=[],
        provider_id=None,
        sent_at=None,
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


def _voice(contact: Contact | None) -> Voice:
    known = contact or Contact("")
    return Voice.of(known.language, known.timezone)


def _context(notification_id: str) -> str:
    return f"notifications.content:{notification_id}"
