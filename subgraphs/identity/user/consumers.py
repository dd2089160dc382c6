"""What user-service listens to."""

from datetime import datetime
from typing import ClassVar

from sqlalchemy.ext.asyncio import AsyncSession

from domain.events import DomainEvent
from domain.identity.user.models import PlanLimits, SubscriptionTier, ToldPlan
from domain.identity.user.service import UserService
from domain.ids import UserId
from subgraphs.runtime.faces import Consumer, EventMetadata


class SubscriptionChanged(DomainEvent):
    """What user-service reads of `subscription.changed`."""

    topic: ClassVar[str] = "subscription.changed"
    source: ClassVar[str] = "subscription"

    user_id: str
    tier: SubscriptionTier
    started_at: datetime
    expires_at: datetime | None
    max_devices: int
    max_family_members: int
    ai_coaching_enabled: bool
    telemedicine_enabled: bool
    revision: int

    @property
    def key(self) -> str:
        return self.user_id


def user_consumers(users: UserService) -> tuple[Consumer[SubscriptionChanged]]:
    """The topics that user-service takes part in."""

    async def subscription_changed(session: AsyncSession, event: SubscriptionChanged, _metadata: EventMetadata) -> None:
        limits = PlanLimits(
            max_devices=event.max_devices,
            max_family_members=event.max_family_members,
            ai_coaching=event.ai_coaching_enabled,
            telemedicine=event.telemedicine_enabled,
        )
        told = ToldPlan(
            user_id=UserId(event.user_id),
            tier=event.tier,
            started_at=event.started_at,
            expires_at=event.expires_at,
            limits=limits,
            revision=event.revision,
        )
        await users.take_plan(session, told)

    return (
        Consumer(
            service="user", topic=SubscriptionChanged.topic, event=SubscriptionChanged, handle=subscription_changed
        ),
    )
