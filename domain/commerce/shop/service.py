"""The rules of the shop."""

from domain.clock import Clock
from domain.commerce.shop.ports import Payments, Plans
from domain.sealing import Sealer


class ShopService:
    """Commands of the shop. One for the process."""

    def __init__(self, clock: Clock, sealer: Sealer, *, payments: Payments, plans: Plans) -> None:
        self._clock = clock
        self._sealer = sealer
        self._payments = payments
        self._plans = plans
