"""Sending: who may send what to whom, in which language, and what is kept of it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.errors import LimitExceeded, TimedOut, Unavailable
from domain.ids import new_id
from domain.messaging import Outbox
from domain.operations.notification import fields
from domain.operations.notification.announcements import Announcement
from domain.operations.notification.errors import MayNotSend, TooManyNotifications
from domain.operations.notification.events import NotificationSent
from domain.operations.notification.models import (
    Channel,
    Content,
    Delivery,
    DeliveryState,
    Message,
    Notification,
    NotificationType,
    Preferences,
    Priority,
)
from domain.operations.notification.ports import AttemptCounter, Contact, Contacts
from domain.operations.notification.preference_service import PreferenceService
from domain.operations.notification.repository import DeliveryRepository, NotificationRepository
from domain.operations.notification.routing import Never, Now, Recipient, channels_of, is_enabled, route, wants
from domain.operations.notification.sealed_content import seal_content
from domain.operations.notification.template_service import TemplateService, WholeTemplate
from domain.operations.notification.voice import Voice
from domain.principal import Principal, Scope
from domain.sealing import Sealer

SELF_SENT_PER_HOUR = 60


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


class SendingService:
    """Commands that send.

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

    def now(self) -> datetime:
        """The time by which messages are worded."""
        return self._clock.now()

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
            content=seal_content(self._sealer, notification_id, addressed.content),
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


def _addressed(user_id: str, whole: WholeTemplate, content: Content, event_id: str | None = None) -> _Addressed:
    template = whole.template
    channel = Channel(template.channel) if template.channel else None
    return _Addressed(user_id, NotificationType(template.type), Priority(template.priority), channel, content, event_id)


def _agreed(contact: Contact | None) -> bool | None:
    """Whether the person takes offers; None when nobody can tell now."""
    return contact.agreed_to_marketing if contact else None


def _voice(contact: Contact | None) -> Voice:
    known = contact or Contact("")
    return Voice.of(known.language, known.timezone, units=known.result_units)
