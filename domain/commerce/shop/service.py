"""The rules of the shop."""

from domain.clock import Clock
from domain.commerce.shop.ports import Payments, Plans


class ShopService:
    """Commands of the shop. One for the process."""

    def __init__(self, clock: Clock, *, payments: Payments, plans: Plans) -> None:
        self._clock = clock
        self._payments = payments
        self._plans = plans
