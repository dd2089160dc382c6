"""What a subscription owes, for those who take the money."""

from sqlalchemy.ext.asyncio import AsyncSession

from domain.commerce.subscription.repository import ChargeRepository, SubscriptionRepository
from domain.commerce.terms import Debt
from domain.ids import UserId


async def debt_of_subscription(session: AsyncSession, subscription_id: str) -> Debt | None:
    """Its open charge; None: there is no such subscription, or nothing to pay."""
    subscription = await SubscriptionRepository(session).get(subscription_id)
    if subscription is None:
        return None
    charge = (await ChargeRepository(session).open_of([subscription_id])).get(subscription_id)
    if charge is None:
        return None
    return Debt(user_id=UserId(subscription.user_id), amount_krw=charge.amount_krw, is_open=True)
