"""The rules of subscriptions."""

from domain.clock import Clock
from domain.commerce.subscription.ports import Payments


class SubscriptionService:
    """Commands of the subscription service. One for the process."""

    def __init__(self, clock: Clock, *, payments: Payments) -> None:
        self._clock = clock
        self._payments = payments
