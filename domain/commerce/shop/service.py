"""The shop as the rest of the group sees it: its parts, put together."""

from domain.clock import Clock
from domain.commerce.shop.carts import Carts
from domain.commerce.shop.catalogue import Catalogue
from domain.commerce.shop.lifecycle import OrderLifecycle
from domain.commerce.shop.orders import Orders
from domain.commerce.shop.ports import Payments, Plans
from domain.commerce.shop.saga import OrderSaga
from domain.sealing import Sealer


class ShopService:
    """Commands and queries of the shop, by what they are about. One for the process.

    Args:
        sealer: for the addresses of orders.
    """

    def __init__(self, clock: Clock, sealer: Sealer, *, payments: Payments, plans: Plans) -> None:
        lifecycle = OrderLifecycle(clock, plans=plans)
        self.plans = plans
        self.catalogue = Catalogue(clock)
        self.carts = Carts(clock)
        self.orders = Orders(clock, sealer, lifecycle, payments=payments, plans=plans)
        self.saga = OrderSaga(clock, lifecycle, payments=payments)
