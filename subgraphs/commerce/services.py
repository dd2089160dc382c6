"""The group's services, constructed once a process and joined in-process."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.commerce.payment.ports import PaymentGateway
from domain.commerce.payment.service import PaymentService
from domain.commerce.shop.service import ShopService
from domain.commerce.subscription.service import SubscriptionService
from domain.commerce.terms import Debt
from domain.sealing import Sealer
from subgraphs.runtime.database import Database


@dataclass(frozen=True, slots=True)
class CommerceServices:
    payments: PaymentService
    subscriptions: SubscriptionService
    shop: ShopService


class GroupDebts:
    """Who knows what is owed: the shop for orders, subscription for plans. The port `Debts`."""

    async def of_order(self, session: AsyncSession, order_id: str) -> Debt | None:  # noqa: ARG002
        """What the shop says."""
        return None

    async def of_subscription(self, session: AsyncSession, subscription_id: str) -> Debt | None:  # noqa: ARG002
        """What subscription says."""
        return None


def commerce_services(database: Database, clock: Clock, gateway: PaymentGateway, sealer: Sealer) -> CommerceServices:
    """The services, each with what it needs of the others; the sealer is for personal data, such as addresses."""
    payments = PaymentService(clock, sessions=database, gateway=gateway, debts=GroupDebts())
    subscriptions = SubscriptionService(clock, payments=payments)
    return CommerceServices(
        payments=payments,
        subscriptions=subscriptions,
        shop=ShopService(clock, sealer, payments=payments, plans=subscriptions),
    )
