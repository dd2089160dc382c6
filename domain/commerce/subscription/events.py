"""What happened to subscriptions."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from domain.commerce.terms import Tier
from domain.events import HEALTH_DATA, DomainEvent


class SubscriptionEvent(DomainEvent):
    source: ClassVar[str] = "subscription"

    subscription_id: str
    user_id: str

    @property
    def key(self) -> str:
        # The person, not the subscription: a later one of the same person must not overtake the earlier one.
        return self.user_id


class SubscriptionCreated(SubscriptionEvent):
    """Somebody has chosen a plan. A paid one comes in force with its payment, which `subscription.changed` tells.

    Args:
        amount_due_krw: for the first period, in whole won; 0 for the free plan.
        status: `active`, or `suspended` until the payment is there.
    """

    topic: ClassVar[str] = "subscription.created"

    tier: Tier
    status: str
    amount_due_krw: int
    created_at: datetime
    expires_at: datetime | None


class SubscriptionPaymentDue(SubscriptionEvent):
    """An upgrade, or the next period, waits for its payment.

    Args:
        charge_id: names what is charged; it is charged once.
        due_at: until when it can be paid.
    """

    topic: ClassVar[str] = "subscription.payment_due"

    charge_id: str
    kind: Literal["upgrade", "renewal"]
    tier: Tier
    amount_krw: int
    due_at: datetime


class SubscriptionChanged(SubscriptionEvent):
    """The plan in force is another one, or its period or state changed; carries the whole of what holds now.

    Args:
        tier: the one in force, `free` when nothing else is.
        expires_at: end of the period that is paid for; None: no end.
        revision: grows with each change of the subscription, so that a late event is known to be old.
    """

    topic: ClassVar[str] = "subscription.changed"

    reason: Literal["activated", "upgraded", "downgraded", "renewed", "suspended", "expired", "refunded"]
    tier: Tier
    previous_tier: Tier
    status: str
    started_at: datetime
    expires_at: datetime | None
    max_devices: int
    max_family_members: int
    ai_coaching_enabled: bool
    telemedicine_enabled: bool
    revision: int
    changed_at: datetime


class SubscriptionCancelled(SubscriptionEvent):
    """It will not renew; the plan stays usable until `effective_until`. The reason is as the person wrote it."""

    topic: ClassVar[str] = "subscription.cancelled"

    tier: Tier
    reason: Annotated[str, HEALTH_DATA]
    cancelled_at: datetime
    effective_until: datetime
