"""The group's services, constructed once a process and joined in-process."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.commerce.payment.ports import PaymentGateway
from domain.commerce.payment.service import PaymentService
from domain.commerce.shop.add_on_prices import add_on_prices
from domain.commerce.shop.debts import debt_of_order, is_shipped, payment_opened
from domain.commerce.shop.service import ShopService
from domain.commerce.subscription.cartridges import CartridgeAccessService
from domain.commerce.subscription.debts import debt_of_subscription, is_exchanged
from domain.commerce.subscription.plans import PlanService
from domain.commerce.subscription.renewal import RenewalService
from domain.commerce.subscription.service import SubscriptionService
from domain.commerce.subscription.settlement import SettlementService
from domain.commerce.terms import Debt, Tier
from domain.ids import UserId
from domain.sealing import Sealer
from subgraphs.runtime.database import Database


@dataclass(frozen=True, slots=True)
class CommerceServices:
    payments: PaymentService
    subscriptions: SubscriptionService
    plans: PlanService
    cartridges: CartridgeAccessService
    settlements: SettlementService
    renewals: RenewalService
    shop: ShopService


class GroupDebts:
    """Who knows what is owed: the shop for orders, subscription for plans. The port `Debts`."""

    async def of_order(self, session: AsyncSession, order_id: str) -> Debt | None:
        """What the shop says; for a plan's order, as long as subscription still asks for that amount."""
        debt = await debt_of_order(session, order_id)
        if debt is None or not debt.subscription_id:
            return debt
        charge = await debt_of_subscription(session, debt.subscription_id)
        still_owed = charge is not None and charge.is_open and charge.amount_krw == debt.amount_krw
        return replace(debt, is_open=debt.is_open and still_owed)

    async def of_subscription(self, session: AsyncSession, subscription_id: str) -> Debt | None:
        """What subscription says."""
        return await debt_of_subscription(session, subscription_id)

    async def payment_opened(
        self, session: AsyncSession, *, order_id: str, payment_id: str, amount_krw: int, at: datetime
    ) -> None:
        """The shop writes it into the order's timeline."""
        await payment_opened(session, order_id, payment_id=payment_id, amount_krw=amount_krw, at=at)

    async def is_shipped(self, session: AsyncSession, order_id: str) -> bool:
        """What the shop says."""
        return await is_shipped(session, order_id)

    async def is_exchanged(self, session: AsyncSession, subscription_id: str, *, payment_id: str) -> bool:
        """What subscription says."""
        return await is_exchanged(session, subscription_id, payment_id=payment_id)


class GroupAddOns:
    """Who knows what add-ons cost: the shop. The port `AddOnPrices` of subscription."""

    async def prices(self, session: AsyncSession) -> Mapping[tuple[int, int], int]:
        """What the shop says."""
        return await add_on_prices(session)


class GroupPlans:
    """What plans mean for the shop. Its port `Plans`."""

    def __init__(self, subscriptions: SubscriptionService, cartridges: CartridgeAccessService) -> None:
        self._subscriptions = subscriptions
        self._cartridges = cartridges

    async def tier_of(self, session: AsyncSession, user_id: UserId) -> Tier:
        """What subscription says."""
        return await self._subscriptions.tier_of(session, user_id)

    async def grant_add_on(
        self, session: AsyncSession, *, user_id: UserId, category_code: int, type_index: int, order_id: str
    ) -> None:
        """Open what an order has bought."""
        await self._cartridges.grant_add_on(
            session, user_id=user_id, category_code=category_code, type_index=type_index, order_id=order_id
        )

    async def revoke_add_ons(self, session: AsyncSession, *, order_id: str) -> None:
        """Close it again."""
        await self._cartridges.revoke_add_ons(session, order_id=order_id)


def commerce_services(database: Database, clock: Clock, gateway: PaymentGateway, sealer: Sealer) -> CommerceServices:
    """The services, each with what it needs of the others; the sealer is for personal data, such as addresses."""
    payments = PaymentService(clock, sessions=database, gateway=gateway, debts=GroupDebts())
    subscriptions = SubscriptionService(clock, sessions=database, payments=payments)
    cartridges = CartridgeAccessService(clock, subscriptions=subscriptions, add_ons=GroupAddOns())
    return CommerceServices(
        payments=payments,
        subscriptions=subscriptions,
        plans=PlanService(subscriptions),
        cartridges=cartridges,
        settlements=SettlementService(clock, payments=payments),
        renewals=RenewalService(clock, payments=payments),
        shop=ShopService(clock, sealer, payments=payments, plans=GroupPlans(subscriptions, cartridges)),
    )
