"""Notifications, preferences and templates in GraphQL, and what this group knows of a person."""

# The overloads of strawberry.field and strawberry.mutation for decorators with arguments answer Any.
# mypy: disable-error-code="untyped-decorator"

from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Self

import strawberry
from strawberry.scalars import JSON

from domain.errors import InvalidInput
from domain.operations.notification import models
from domain.operations.notification.models import Message, MessageFilter
from domain.operations.notification.phones import Phones
from domain.operations.notification.quiet_hours import QuietHours
from domain.operations.notification.sending import Draft
from domain.operations.notification.template_service import TemplateDraft, WholeTemplate, Words
from domain.paging import DEFAULT_PAGE, Page, PageRequest, encode_cursor
from domain.principal import Scope
from subgraphs.operations.context import Info
from subgraphs.operations.notification.live import received
from subgraphs.operations.notification.loaders import PageKey
from subgraphs.runtime.graphql import AUTHENTICATED, list_size, requires_scopes
from subgraphs.runtime.relay import PageInfo, cursors_of, page_info, page_request

if TYPE_CHECKING:
    from subgraphs.operations.schema import User

NotificationType = strawberry.enum(
    models.NotificationType, name="NotificationType", description="What a notification is about."
)
NotificationPriority = strawberry.enum(
    models.Priority, name="NotificationPriority", description="How urgent it is; URGENT ignores quiet hours."
)
NotificationChannel = strawberry.enum(models.Channel, name="NotificationChannel", description="A way to a person.")
NotificationDeliveryState = strawberry.enum(
    models.DeliveryState, name="NotificationDeliveryState", description="What became of it on one channel."
)
PushPlatform = strawberry.enum(models.Platform, name="PushPlatform", description="Where an app runs.")

_READ = [AUTHENTICATED, requires_scopes(Scope.NOTIFICATION_READ)]
_WRITE = [AUTHENTICATED, requires_scopes(Scope.NOTIFICATION_WRITE)]
_SEND = [AUTHENTICATED, requires_scopes(Scope.NOTIFICATION_SEND)]
_PAGED = [*_READ, list_size("first", sized_fields=("edges",))]

First = Annotated[int, strawberry.argument(description="How many items, 1 to 100.")]
After = Annotated[str | None, strawberry.argument(description="Cursor of the item before the page.")]
Whose = Annotated[strawberry.ID | None, strawberry.argument(description="The person; null: the caller.")]


@strawberry.type(description="What became of a notification on one channel.")
class NotificationDelivery:
    channel: models.Channel = strawberry.field(description="The channel.")
    state: models.DeliveryState = strawberry.field(description="Where it stands.")
    reason: str | None = strawberry.field(description="Why it waits, was skipped or failed.")
    tries: int = strawberry.field(description="How often it was tried.")
    sent_at: datetime | None = strawberry.field(description="When it arrived there; null: not yet.")

    @classmethod
    def of(cls, row: models.Delivery) -> Self:
        return cls(
            channel=models.Channel(row.channel),
            state=models.DeliveryState(row.state),
            reason=row.reason,
            tries=row.tries,
            sent_at=row.sent_at,
        )


@strawberry.federation.type(
    keys=["id"],
    description="A message to one person. A look at one about health is logged.",
    directives=[AUTHENTICATED],
)
class Notification:
    id: strawberry.ID = strawberry.field(description="Names the notification.")
    owner_id: strawberry.Private[str]
    type: models.NotificationType = strawberry.field(description="What it is about.")
    title: str = strawberry.field(description="Headline, in the person's language.")
    body: str = strawberry.field(description="Message below the headline.")
    priority: models.Priority = strawberry.field(description="How urgent it is.")
    channel: models.Channel | None = strawberry.field(
        description="The channel that was asked for; null: every one that the person has enabled."
    )
    data: JSON = strawberry.field(description="Values for the app, texts by name.")
    action_url: str | None = strawberry.field(description="What to open on a tap; null: nothing.")
    is_read: bool = strawberry.field(description="Whether the person has read it.")
    read_at: datetime | None = strawberry.field(description="When it was read (UTC); null: not yet.")
    created_at: datetime = strawberry.field(description="When it was made (UTC).")

    @strawberry.field(description="Whom it is for.")
    def user(self) -> Annotated["User", strawberry.lazy("subgraphs.operations.schema")]:
        from subgraphs.operations.schema import User  # noqa: PLC0415 - the schema is put together from this module

        return User(id=strawberry.ID(self.owner_id))

    @strawberry.field(description="What became of it, by channel.", directives=[list_size(assumed=4)])
    async def deliveries(self, info: Info) -> list[NotificationDelivery]:
        return [NotificationDelivery.of(row) for row in await info.context.notifications.deliveries.load(self.id)]

    @classmethod
    def of(cls, message: Message) -> Self:
        row, content = message.row, message.content
        return cls(
            id=strawberry.ID(row.notification_id),
            owner_id=row.user_id,
            type=models.NotificationType(row.type),
            title=content.title,
            body=content.body,
            priority=models.Priority(row.priority),
            channel=models.Channel(row.channel) if row.channel else None,
            data=JSON(dict(content.data)),
            action_url=content.action_url or None,
            is_read=row.read_at is not None,
            read_at=row.read_at,
            created_at=row.created_at,
        )

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID) -> Self | None:
        """The notification of a reference; None when there is none that the caller may see."""
        message = await info.context.notifications.by_id.load(id)
        return cls.of(message) if message else None


@strawberry.type(description="A notification in a page, with its cursor.")
class NotificationEdge:
    cursor: str = strawberry.field(description="Where it stands in the list.")
    node: Notification = strawberry.field(description="The notification.")


@strawberry.type(description="A page of notifications, newest first.")
class NotificationConnection:
    edges: list[NotificationEdge] = strawberry.field(description="The notifications of this page.")
    page_info: PageInfo = strawberry.field(description="Where this page stands.")
    total_count: int = strawberry.field(description="How many there are in all.")

    @classmethod
    def of(cls, page: Page[Message], request: PageRequest) -> Self:
        cursors = cursors_of(page.items, lambda m: encode_cursor(m.listed_at, m.row.notification_id))
        return cls(
            edges=[
                NotificationEdge(cursor=cursor, node=Notification.of(message))
                for cursor, message in zip(cursors, page.items, strict=True)
            ],
            page_info=page_info(cursors, has_next=page.has_next, request=request),
            total_count=page.total,
        )


@strawberry.type(description="What a person wants to get, and how.")
class NotificationPreferences:
    user_id: strawberry.ID = strawberry.field(description="Whose preferences.")
    push_enabled: bool = strawberry.field(description="Send to the person's phones.")
    email_enabled: bool = strawberry.field(description="Send by mail.")
    sms_enabled: bool = strawberry.field(description="Send by text message.")
    measurement_alerts: bool = strawberry.field(description="Tell about measurement results.")
    health_alerts: bool = strawberry.field(
        description="Tell about critical values; they are kept in the app in any case."
    )
    appointment_reminders: bool = strawberry.field(description="Remind of appointments.")
    community_updates: bool = strawberry.field(description="Tell about posts and comments.")
    promotions: bool = strawberry.field(description="Send offers; needs the marketing consent too.")
    quiet_hours_start: str | None = strawberry.field(description='Begin of quiet hours, "HH:MM"; null: none.')
    quiet_hours_end: str | None = strawberry.field(description='End of quiet hours, "HH:MM".')
    updated_at: datetime | None = strawberry.field(description="Last change (UTC); null: these are the defaults.")
    phone: str | None = strawberry.field(
        description="The phone number, its middle hidden: the proven one, else the one to be proven; null: none."
    )
    phone_verified: bool = strawberry.field(
        description="Whether the number is proven by a code; text messages go to a proven one only."
    )
    pending_phone: str | None = strawberry.field(
        description="A number that has to be proven by a code, its middle hidden; null: none."
    )

    @classmethod
    def of(cls, user_id: str, preferences: models.Preferences, phones: Phones) -> Self:
        start, end = preferences.quiet_hours.texts if preferences.quiet_hours else (None, None)
        return cls(
            user_id=strawberry.ID(user_id),
            push_enabled=preferences.push_enabled,
            email_enabled=preferences.email_enabled,
            sms_enabled=preferences.sms_enabled,
            measurement_alerts=preferences.measurement_alerts,
            health_alerts=preferences.health_alerts,
            appointment_reminders=preferences.appointment_reminders,
            community_updates=preferences.community_updates,
            promotions=preferences.promotions,
            quiet_hours_start=start,
            quiet_hours_end=end,
            updated_at=preferences.updated_at,
            phone=phones.verified or phones.pending or None,
            phone_verified=bool(phones.verified),
            pending_phone=phones.pending or None,
        )


@strawberry.type(description="A code that was sent to a phone number.")
class PhoneCode:
    phone: str = strawberry.field(description="The number, its middle hidden.")
    expires_at: datetime = strawberry.field(description="Until when the code is good (UTC).")


@strawberry.type(description="A template in one language.")
class NotificationTemplateText:
    locale: str = strawberry.field(description='Language, "ko" or "en".')
    title: str = strawberry.field(description="Headline; {name} stands for a variable.")
    body: str = strawberry.field(description="Message; {name} stands for a variable.")


@strawberry.type(description="A text with variables that services send.")
class NotificationTemplate:
    key: strawberry.ID = strawberry.field(description="Names the template.")
    type: models.NotificationType = strawberry.field(description="What its notifications are about.")
    priority: models.Priority = strawberry.field(description="How urgent they are.")
    channel: models.Channel | None = strawberry.field(description="How they are sent; null: as each person prefers.")
    action_url: str = strawberry.field(description="What they open on a tap; empty: nothing.")
    variables: list[str] = strawberry.field(description="The names that its senders fill in.")
    texts: list[NotificationTemplateText] = strawberry.field(description="Its words, by language.")
    updated_at: datetime = strawberry.field(description="Last change (UTC).")

    @classmethod
    def of(cls, whole: WholeTemplate) -> Self:
        row = whole.template
        return cls(
            key=strawberry.ID(row.key),
            type=models.NotificationType(row.type),
            priority=models.Priority(row.priority),
            channel=models.Channel(row.channel) if row.channel else None,
            action_url=row.action_url,
            variables=list(row.variables),
            texts=[NotificationTemplateText(locale=w.locale, title=w.title, body=w.body) for w in whole.words],
            updated_at=row.updated_at,
        )


@strawberry.type
class NotificationOfUser:
    """What a person's entity shows of notifications."""

    id: strawberry.ID

    @strawberry.field(description="The person's notifications, newest first.", directives=_PAGED)
    async def notifications(
        self,
        info: Info,
        first: First = DEFAULT_PAGE,
        after: After = None,
        type: Annotated[
            models.NotificationType | None, strawberry.argument(description="Only this kind; null: all.")
        ] = None,
        unread_only: Annotated[bool, strawberry.argument(description="Leave out those read.")] = False,
    ) -> NotificationConnection | None:
        request = page_request(first, after)
        wanted = MessageFilter(type=type, unread_only=unread_only)
        page = await info.context.notifications.pages.load(PageKey(self.id, wanted, request))
        return NotificationConnection.of(page, request)

    @strawberry.field(description="How many notifications the person has not read.", directives=_READ)
    async def unread_notification_count(self, info: Info) -> int | None:
        return await info.context.notifications.unread.load(self.id)


@strawberry.type
class NotificationQuery:
    @strawberry.field(
        description="A notification by its id; null when there is none that the caller may see.", directives=_READ
    )
    async def notification(self, info: Info, id: strawberry.ID) -> Notification | None:
        info.context.principal.require_scope(Scope.NOTIFICATION_READ)
        return await Notification.resolve_reference(info, id)

    @strawberry.field(description="What a person wants to get, and how.", directives=_READ)
    async def notification_preferences(self, info: Info, user_id: Whose = None) -> NotificationPreferences | None:
        context = info.context
        async with context.database.read() as session:
            owner, preferences = await context.services.preferences.get(
                session, context.principal, user_id=user_id or ""
            )
            phones = await context.services.phones.of(session, owner)
        return NotificationPreferences.of(owner, preferences, phones)

    @strawberry.field(description="Every template, by its key.", directives=[*_SEND, list_size(assumed=50)])
    async def notification_templates(self, info: Info) -> list[NotificationTemplate] | None:
        async with info.context.database.read() as session:
            found = await info.context.services.templates.all(session, info.context.principal)
        return [NotificationTemplate.of(whole) for whole in found]


@strawberry.input(description="All preferences of a person; false switches off.")
class UpdateNotificationPreferencesInput:
    user_id: strawberry.ID | None = strawberry.field(default=None, description="Whose; null: the caller.")
    push_enabled: bool = strawberry.field(description="Send to the person's phones.")
    email_enabled: bool = strawberry.field(description="Send by mail.")
    sms_enabled: bool = strawberry.field(description="Send by text message.")
    measurement_alerts: bool = strawberry.field(description="Tell about measurement results.")
    health_alerts: bool = strawberry.field(description="Tell about critical values.")
    appointment_reminders: bool = strawberry.field(description="Remind of appointments.")
    community_updates: bool = strawberry.field(description="Tell about posts and comments.")
    promotions: bool = strawberry.field(description="Send offers; needs the marketing consent too.")
    quiet_hours_start: str | None = strawberry.field(default=None, description='"HH:MM"; null: no quiet hours.')
    quiet_hours_end: str | None = strawberry.field(
        default=None, description='"HH:MM"; earlier than the begin = the next day.'
    )


@strawberry.input(description="An app that push messages reach.")
class RegisterPushTokenInput:
    token: str = strawberry.field(description="As Firebase gives it to the app.")
    platform: models.Platform = strawberry.field(description="Where the app runs.")


@strawberry.input(description="A value by name.")
class NotificationValueInput:
    name: str = strawberry.field(description="Its name.")
    value: str = strawberry.field(description="The value.")


@strawberry.input(description="A notification to send.")
class SendNotificationInput:
    user_id: strawberry.ID | None = strawberry.field(default=None, description="Whom to tell; null: the caller.")
    type: models.NotificationType = strawberry.field(description="What it is about.")
    title: str = strawberry.field(description="Headline, in the language of the person.")
    body: str = strawberry.field(default="", description="Message below the headline.")
    priority: models.Priority = strawberry.field(default=models.Priority.NORMAL, description="How urgent it is.")
    channel: models.Channel | None = strawberry.field(
        default=None, description="How to send it; null: as the person prefers."
    )
    data: list[NotificationValueInput] = strawberry.field(default_factory=list, description="Values for the app.")
    action_url: str = strawberry.field(default="", description="What to open on a tap; empty: nothing.")


@strawberry.input(description="A template and its values.")
class SendNotificationFromTemplateInput:
    template_key: strawberry.ID = strawberry.field(description="Names the template.")
    user_id: strawberry.ID = strawberry.field(description="Whom to tell.")
    data: list[NotificationValueInput] = strawberry.field(
        default_factory=list, description="A value for each of the template's variables."
    )


@strawberry.input(description="A template in one language.")
class NotificationTemplateTextInput:
    locale: str = strawberry.field(description='Language, "ko" or "en".')
    title: str = strawberry.field(description="Headline; {name} stands for a variable, {{ for a brace.")
    body: str = strawberry.field(description="Message; {name} stands for a variable, {{ for a brace.")


@strawberry.input(description="A template to make or to change.")
class SaveNotificationTemplateInput:
    key: strawberry.ID = strawberry.field(description="Names the template.")
    type: models.NotificationType = strawberry.field(description="What its notifications are about.")
    priority: models.Priority = strawberry.field(description="How urgent they are.")
    channel: models.Channel | None = strawberry.field(default=None, description="Null: as each person prefers.")
    action_url: str = strawberry.field(default="", description="What they open on a tap; empty: nothing.")
    texts: list[NotificationTemplateTextInput] = strawberry.field(
        description="Both languages for a new template; those that change for one that is there."
    )


@strawberry.type
class NotificationMutation:
    @strawberry.mutation(description="Mark a notification as read; again changes nothing.", directives=_WRITE)
    async def mark_notification_read(self, info: Info, id: strawberry.ID) -> Notification:
        async with info.context.database.transaction() as session:
            message = await info.context.services.notifications.mark_read(session, info.context.principal, id)
        return Notification.of(message)

    @strawberry.mutation(
        description="Mark all of a person's notifications as read; answers how many were not.", directives=_WRITE
    )
    async def mark_all_notifications_read(self, info: Info, user_id: Whose = None) -> int:
        async with info.context.database.transaction() as session:
            return await info.context.services.notifications.mark_all_read(
                session, info.context.principal, user_id=user_id or ""
            )

    @strawberry.mutation(description="Set all preferences of a person.", directives=_WRITE)
    async def update_notification_preferences(
        self, info: Info, input: UpdateNotificationPreferencesInput
    ) -> NotificationPreferences:
        wanted = models.Preferences(
            push_enabled=input.push_enabled,
            email_enabled=input.email_enabled,
            sms_enabled=input.sms_enabled,
            measurement_alerts=input.measurement_alerts,
            health_alerts=input.health_alerts,
            appointment_reminders=input.appointment_reminders,
            community_updates=input.community_updates,
            promotions=input.promotions,
            quiet_hours=QuietHours.parse(input.quiet_hours_start or "", input.quiet_hours_end or ""),
        )
        context = info.context
        async with context.database.transaction() as session:
            owner, preferences = await context.services.preferences.replace(
                session, context.principal, wanted, user_id=input.user_id or ""
            )
            phones = await context.services.phones.of(session, owner)
        return NotificationPreferences.of(owner, preferences, phones)

    @strawberry.mutation(
        description="Send push messages to this app, for the caller; it stops getting those of others.",
        directives=_WRITE,
    )
    async def register_push_token(self, info: Info, input: RegisterPushTokenInput) -> bool:
        async with info.context.database.transaction() as session:
            await info.context.services.preferences.register_push_token(
                session, info.context.principal, token=input.token, platform=input.platform
            )
        return True

    @strawberry.mutation(
        description="Send no more push messages to this app; false when it was not registered.", directives=_WRITE
    )
    async def remove_push_token(self, info: Info, token: str) -> bool:
        async with info.context.database.transaction() as session:
            return await info.context.services.preferences.remove_push_token(
                session, info.context.principal, token=token
            )

    @strawberry.mutation(
        description="Store a phone number that has to be proven before text messages go to it (`requestPhoneCode`); null "
        "forgets all numbers. Answers it with its middle hidden.",
        directives=_WRITE,
    )
    async def set_notification_phone(self, info: Info, phone: str | None) -> str | None:
        request = info.context.request
        masked = await info.context.services.phones.set(
            info.context.principal, phone=phone or "", locale=request.locale
        )
        return masked or None

    @strawberry.mutation(
        description="Send a code of six digits to a phone number; it is good once, for ten minutes and five attempts.",
        directives=_WRITE,
    )
    async def request_phone_code(self, info: Info, phone: str) -> PhoneCode:
        request = info.context.request
        sent = await info.context.services.phones.request_code(
            info.context.principal, phone=phone, locale=request.locale, address=request.peer
        )
        return PhoneCode(phone=sent.phone, expires_at=sent.expires_at)

    @strawberry.mutation(
        description="Prove a phone number by the code that was sent to it. Text messages go there from now on; a number "
        "that was proven before gets a last message. Answers the number with its middle hidden.",
        directives=_WRITE,
    )
    async def confirm_phone(self, info: Info, code: str) -> str:
        return await info.context.services.phones.confirm(
            info.context.principal, code=code, locale=info.context.request.locale
        )

    @strawberry.mutation(
        description="Send a notification: to yourself into the app, or with notification:send to anybody.",
        directives=_WRITE,
    )
    async def send_notification(self, info: Info, input: SendNotificationInput) -> Notification:
        draft = Draft(
            user_id=input.user_id or "",
            type=input.type,
            title=input.title,
            body=input.body,
            priority=input.priority,
            channel=input.channel,
            data=_values(input.data),
            action_url=input.action_url,
        )
        async with info.context.database.transaction() as session:
            message = await info.context.services.sending.send(session, info.context.principal, draft)
        return Notification.of(message)

    @strawberry.mutation(description="Send what a template says, in the person's language.", directives=_SEND)
    async def send_notification_from_template(
        self, info: Info, input: SendNotificationFromTemplateInput
    ) -> Notification:
        async with info.context.database.transaction() as session:
            message = await info.context.services.sending.send_from_template(
                session,
                info.context.principal,
                key=input.template_key,
                user_id=input.user_id,
                values=_values(input.data),
            )
        return Notification.of(message)

    @strawberry.mutation(description="Make a template, or change its words.", directives=_SEND)
    async def save_notification_template(
        self, info: Info, input: SaveNotificationTemplateInput
    ) -> NotificationTemplate:
        draft = TemplateDraft(
            key=input.key,
            type=input.type,
            priority=input.priority,
            channel=input.channel,
            action_url=input.action_url,
            words=[Words(text.locale, text.title, text.body) for text in input.texts],
        )
        async with info.context.database.transaction() as session:
            whole = await info.context.services.templates.save(session, info.context.principal, draft)
        return NotificationTemplate.of(whole)


@strawberry.type
class NotificationSubscription:
    @strawberry.subscription(
        description="The notifications of a person as they come into the app's list, from now on.", directives=_READ
    )
    async def notification_received(self, info: Info, user_id: Whose = None) -> AsyncIterator[Notification]:
        async for message in received(info.context, user_id or ""):
            yield Notification.of(message)


def _values(given: list[NotificationValueInput]) -> dict[str, str]:
    values = {entry.name: entry.value for entry in given}
    if len(values) < len(given):
        raise InvalidInput("data names a value twice.", field="data")
    return values
