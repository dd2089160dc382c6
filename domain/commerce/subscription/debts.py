"""What a subscription owes, and what its payments are still worth, for those who take the money."""

from sqlalchemy.ext.asyncio import AsyncSession

from domain.commerce.subscription.repository import ChargeRepository, SubscriptionRepository
from domain.commerce.terms import Debt, Tier
from domain.ids import UserId


async def debt_of_subscription(session: AsyncSession, subscription_id: str) -> Debt | None:
    """Its open charge; None: there is no such subscription, or nothing to pay."""
    subscription = await SubscriptionRepository(session).get(subscription_id)
    if subscription is None:
        return None
    charge = (await ChargeRepository(session).open_of([subscription_id])).get(subscription_id)
    if charge is None:
        return None
    return Debt(
        user_id=UserId(subscription.user_id),
        amount_krw=charge.amount_krw,
        is_open=True,
        subscription_id=subscription_id,
    )


async def is_exchanged(session: AsyncSession, subscription_id: str, *, payment_id: str) -> bool:
    """Whether the holder has moved to a lower plan after a payment had paid for a higher one.

    The unused worth is credit since, which may have paid for something else by now. False for a payment that pays for
    nothing.
    """
    subscription = await SubscriptionRepository(session).get(subscription_id)
    charges = list(await ChargeRepository(session).of(subscription_id)) if subscription else []
    paid = next((charge for charge in charges if charge.payment_id == payment_id), None)
    if subscription is None or paid is None:
        return False
    since = [*(charge.from_tier for charge in charges[charges.index(paid) + 1 :]), subscription.tier]
    return any(Tier(tier).rank < Tier(paid.tier).rank for tier in since)
