"""What became of notifications."""

from datetime import datetime
from typing import ClassVar, Literal

from domain.events import DomainEvent


class NotificationSent(DomainEvent):
    """A notification has reached a channel: the app's list, or the provider that passes it on. Carries no content."""

    topic: ClassVar[str] = "notification.sent"
    source: ClassVar[str] = "notification"

    notification_id: str
    user_id: str
    type: str
    channel: Literal["push", "email", "sms", "in_app"]
    sent_at: datetime

    @property
    def key(self) -> str:
        return self.user_id
