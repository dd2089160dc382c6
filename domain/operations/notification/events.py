"""What became of notifications."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from domain.events import HEALTH_DATA, DomainEvent


class NotificationSent(DomainEvent):
    """A notification has reached a channel: the app's list, or the provider that passes it on. Carries no content."""

    topic: ClassVar[str] = "notification.sent"
    source: ClassVar[str] = "notification"

    notification_id: str
    user_id: Annotated[str, HEALTH_DATA]
    type: Annotated[str, HEALTH_DATA]
    channel: Literal["push", "email", "sms", "in_app"]
    sent_at: datetime

    @property
    def key(self) -> str:
        return self.user_id
