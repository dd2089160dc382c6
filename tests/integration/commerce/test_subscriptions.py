"""Plans are started, changed and ended; what has to be paid is paid to the won before a plan is in force."""

from datetime import timedelta

import pytest

from domain.commerce.subscription.models import PlanChange, SubscriptionStatus
from domain.commerce.terms import Tier
from domain.principal import Principal
from tests.integration.commerce.conftest import ALICE, Commerce

pytestmark = pytest.mark.usefixtures("toss")


async def create(commerce: Commerce, tier: Tier, who: Principal = ALICE) -> PlanChange:
    async with commerce.database.transaction() as session:
        return await commerce.services.subscriptions.create(session, who, user_id="", tier=tier)


async def update(commerce: Commerce, tier: Tier, payment_id: str = "", who: Principal = ALICE) -> PlanChange:
    return await commerce.services.subscriptions.update(who, user_id="", new_tier=tier, payment_id=payment_id)


async def get(commerce: Commerce, who: Principal = ALICE) -> PlanChange:
    async with commerce.database.read() as session:
        return await commerce.services.subscriptions.get(session, who, user_id="")


async def test_the_free_plan_is_in_force_at_once_and_a_key_of_the_provider_pays_for_a_higher_one(
    commerce: Commerce,
) -> None:
    free = await create(commerce, Tier.FREE)
    assert (free.standing.status, free.standing.tier, free.due) == (SubscriptionStatus.ACTIVE, Tier.FREE, None)
    pro = await update(commerce, Tier.PRO, "test-pay-001")
    assert pro.standing.plan.ai_coaching_enabled
    assert pro.due is None
    found = (await get(commerce)).standing
    assert (found.tier, found.status, found.auto_renew) == (Tier.PRO, SubscriptionStatus.ACTIVE, True)
    async with commerce.database.read() as session:
        decision = await commerce.services.plans.check_feature(session, ALICE, user_id="", feature="ai_coaching")
    assert (decision.allowed, decision.required_tier) == (True, Tier.PRO)
    async with commerce.database.transaction() as session:
        cancelled = await commerce.services.subscriptions.cancel(session, ALICE, user_id="", reason="too dear")
    assert cancelled.effective_until == found.subscription.expires_at
    assert cancelled.effective_until > commerce.clock.now() + timedelta(days=27)
