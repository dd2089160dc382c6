"""Tables and values of notifications."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    SmallInteger,
    String,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from domain.operations.base import Base
from domain.operations.notification.quiet_hours import QuietHours

_TIME = DateTime(timezone=True)


class NotificationType(StrEnum):
    """What a notification is about."""

    MEASUREMENT = "measurement"
    HEALTH_ALERT = "health_alert"
    APPOINTMENT = "appointment"
    PRESCRIPTION = "prescription"
    COMMUNITY = "community"
    SYSTEM = "system"
    PROMOTION = "promotion"


HEALTH_TYPES = frozenset(
    {
        NotificationType.MEASUREMENT,
        NotificationType.HEALTH_ALERT,
        NotificationType.APPOINTMENT,
        NotificationType.PRESCRIPTION,
    }
)
"""What says something of a person's health: reads are logged, and its text stays within the app."""


class Priority(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"  # quiet hours do not hold it back


class Channel(StrEnum):
    """A way to a person."""

    IN_APP = "in_app"
    PUSH = "push"
    EMAIL = "email"
    SMS = "sms"


class DeliveryState(StrEnum):
    PENDING = "pending"
    SENT = "sent"
    SKIPPED = "skipped"  # it was not meant to go this way; `reason` says why
    FAILED = "failed"  # it was, and cannot; `reason` says why


class Platform(StrEnum):
    """Where an app with a push token runs."""

    ANDROID = "android"
    IOS = "ios"
    WEB = "web"


class Notification(Base):
    """A message to one person. `content` is one sealed JSON value, context `notifications.content:<id>`.

    `channel` is the one asked for, None for every one that the person has enabled. `listed_at` is when it came into the
    app's list; None: it is not in it, because the person does not want messages of this type.
    """

    __tablename__ = "notifications"
    __table_args__ = (
        Index(
            "ix_notifications_listed",
            "user_id",
            "listed_at",
            "notification_id",
            postgresql_where=text("listed_at IS NOT NULL"),
        ),
        Index("ix_notifications_unread", "user_id", postgresql_where=text("listed_at IS NOT NULL AND read_at IS NULL")),
        Index(
            "uq_notifications_source_event",
            "user_id",
            "source_event_id",
            unique=True,
            postgresql_where=text("source_event_id IS NOT NULL"),
        ),
    )

    notification_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(64))
    type: Mapped[NotificationType] = mapped_column(String(16))
    priority: Mapped[Priority] = mapped_column(String(8))
    channel: Mapped[Channel | None] = mapped_column(String(8))
    content: Mapped[bytes] = mapped_column(LargeBinary)
    source_event_id: Mapped[str | None] = mapped_column(String(36))
    created_at: Mapped[datetime] = mapped_column(_TIME)
    listed_at: Mapped[datetime | None] = mapped_column(_TIME)
    read_at: Mapped[datetime | None] = mapped_column(_TIME)


class Delivery(Base):
    """What became of a notification on one channel.

    While it is pending, `next_try_at` says when it is due; who works on it holds it until `leased_until`. `reached` are the
    push tokens that it has arrived at already, so that a retry for another phone does not repeat it.
    """

    __tablename__ = "notification_deliveries"
    __table_args__ = (
        Index("ix_notification_deliveries_due", "next_try_at", postgresql_where=text("state = 'pending'")),
    )

    notification_id: Mapped[str] = mapped_column(
        ForeignKey("notifications.notification_id", ondelete="CASCADE"), primary_key=True
    )
    channel: Mapped[Channel] = mapped_column(String(8), primary_key=True)
    state: Mapped[DeliveryState] = mapped_column(String(8))
    reason: Mapped[str | None] = mapped_column(String(200))
    tries: Mapped[int] = mapped_column(SmallInteger)
    next_try_at: Mapped[datetime] = mapped_column(_TIME)
    leased_until: Mapped[datetime | None] = mapped_column(_TIME)
    reached: Mapped[list[str]] = mapped_column(JSONB)
    provider_id: Mapped[str | None] = mapped_column(String(200))
    sent_at: Mapped[datetime | None] = mapped_column(_TIME)


class PreferencesRow(Base):
    """What a person wants to get, and how; quiet hours in minutes from midnight, both or neither."""

    __tablename__ = "notification_preferences"
    __table_args__ = (
        CheckConstraint("num_nulls(quiet_start, quiet_end) IN (0, 2)", name="quiet_hours"),
        CheckConstraint("quiet_start BETWEEN 0 AND 1439 AND quiet_end BETWEEN 0 AND 1439", name="quiet_minutes"),
    )

    user_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    push_enabled: Mapped[bool] = mapped_column(Boolean)
    email_enabled: Mapped[bool] = mapped_column(Boolean)
    sms_enabled: Mapped[bool] = mapped_column(Boolean)
    measurement_alerts: Mapped[bool] = mapped_column(Boolean)
    health_alerts: Mapped[bool] = mapped_column(Boolean)
    appointment_reminders: Mapped[bool] = mapped_column(Boolean)
    community_updates: Mapped[bool] = mapped_column(Boolean)
    promotions: Mapped[bool] = mapped_column(Boolean)
    quiet_start: Mapped[int | None] = mapped_column(SmallInteger)
    quiet_end: Mapped[int | None] = mapped_column(SmallInteger)
    updated_at: Mapped[datetime] = mapped_column(_TIME)


class Template(Base):
    """A text with variables, by key; its words stand in `TemplateText`.

    `variables` are the names that its senders fill in; texts may use no other ones.
    """

    __tablename__ = "notification_templates"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    type: Mapped[NotificationType] = mapped_column(String(16))
    priority: Mapped[Priority] = mapped_column(String(8))
    channel: Mapped[Channel | None] = mapped_column(String(8))
    action_url: Mapped[str] = mapped_column(String(500))
    variables: Mapped[list[str]] = mapped_column(JSONB)
    updated_by: Mapped[str] = mapped_column(String(64))
    updated_at: Mapped[datetime] = mapped_column(_TIME)


class TemplateText(Base):
    """The words of a template in one language."""

    __tablename__ = "notification_template_texts"

    key: Mapped[str] = mapped_column(ForeignKey("notification_templates.key", ondelete="CASCADE"), primary_key=True)
    locale: Mapped[str] = mapped_column(String(8), primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    body: Mapped[str] = mapped_column(Text)


class PushToken(Base):
    """An app that push messages reach; `token_hash` is the SHA-256 of its token in hexadecimal."""

    __tablename__ = "push_tokens"
    __table_args__ = (Index("ix_push_tokens_user", "user_id", "registered_at"),)

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(64))
    token: Mapped[str] = mapped_column(Text)
    platform: Mapped[Platform] = mapped_column(String(8))
    registered_at: Mapped[datetime] = mapped_column(_TIME)


class ContactPhone(Base):
    """Where text messages go; the number is sealed, context `contact_phones.phone:<user id>`.

    Without `verified_at` it was stored by an earlier release, which did not have numbers proven: nothing is sent to it.
    """

    __tablename__ = "contact_phones"

    user_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    phone: Mapped[bytes] = mapped_column(LargeBinary)
    updated_at: Mapped[datetime] = mapped_column(_TIME)
    verified_at: Mapped[datetime | None] = mapped_column(_TIME)


class PendingPhone(Base):
    """A number that has to be proven; sealed, context `pending_phones.phone:<user id>`.

    `code_hash` is the SHA-256 of the code that was sent to it, sealed (`pending_phones.code_hash:<user id>`): six digits are
    found from a bare hash. None: no code was sent yet.
    """

    __tablename__ = "pending_phones"

    user_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    phone: Mapped[bytes] = mapped_column(LargeBinary)
    code_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime | None] = mapped_column(_TIME)
    attempts: Mapped[int] = mapped_column(SmallInteger)
    requested_at: Mapped[datetime] = mapped_column(_TIME)


@dataclass(frozen=True, slots=True)
class Content:
    """What a notification says.

    Args:
        data: values for the app.
        action_url: what to open on a tap; empty: nothing.
    """

    title: str
    body: str
    data: Mapping[str, str] = field(default_factory=dict)
    action_url: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """A notification with its content opened."""

    row: Notification
    content: Content

    @property
    def listed_at(self) -> datetime:
        """Where it stands in the list of its person."""
        return self.row.listed_at or self.row.created_at


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a person wants to get, and how. `updated_at` None: the defaults."""

    push_enabled: bool = True
    email_enabled: bool = True
    sms_enabled: bool = False
    measurement_alerts: bool = True
    health_alerts: bool = True
    appointment_reminders: bool = True
    community_updates: bool = True
    promotions: bool = False
    quiet_hours: QuietHours | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which notifications of a list are wanted; `type` None: all."""

    type: NotificationType | None = None
    unread_only: bool = False
