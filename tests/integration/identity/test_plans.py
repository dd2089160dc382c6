"""A profile shows the plan that subscription-service has told of last, whatever came late or twice."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.commerce.subscription import events
from domain.commerce.terms import Tier
from domain.identity.user.models import PlanLimits, Subscription, SubscriptionTier
from subgraphs.identity.user.consumers import user_consumers
from subgraphs.runtime.faces import EventMetadata
from tests.integration.identity.conftest import Identity, user_principal

LIMITS = {
    Tier.FREE: (1, 1, False, False),
    Tier.BASIC: (2, 2, False, False),
    Tier.PRO: (5, 6, True, False),
    Tier.CLINICAL: (100, 20, True, True),
}
STARTED, EXPIRES = datetime(2026, 11, 22, tzinfo=UTC), datetime(2026, 12, 22, tzinfo=UTC)


def changed(user_id: str, tier: Tier, revision: int) -> dict[str, Any]:
    """The event as subscription-service tells it."""
    devices, family, coaching, telemedicine = LIMITS[tier]
    return events.SubscriptionChanged(
        subscription_id="s",
        user_id=user_id,
        reason="activated",
        tier=tier,
        previous_tier=Tier.FREE,
        status="active",
        started_at=STARTED,
        expires_at=None if tier is Tier.FREE else EXPIRES,
        max_devices=devices,
        max_family_members=family,
        ai_coaching_enabled=coaching,
        telemedicine_enabled=telemedicine,
        revision=revision,
        changed_at=STARTED,
    ).model_dump(mode="json")


async def deliver(identity: Identity, *payloads: dict[str, Any]) -> None:
    (consumer,) = user_consumers(identity.users)
    metadata = EventMetadata("", consumer.topic, "", "", STARTED, "", "")
    for payload in payloads:
        async with identity.database.transaction() as session:
            await consumer.handle(session, consumer.event.model_validate(payload), metadata)


async def plan_of(identity: Identity, user_id: str) -> Subscription:
    async with identity.database.transaction() as session:
        return await identity.users.subscription(session, user_principal(user_id))


async def test_the_profile_takes_the_plan_and_its_limits(identity: Identity) -> None:
    user_id = (await identity.register()).user_id
    await deliver(identity, changed(user_id, Tier.CLINICAL, 3))
    held = await plan_of(identity, user_id)
    assert (held.tier, held.started_at, held.expires_at) == (SubscriptionTier.CLINICAL, STARTED, EXPIRES)
    assert held.limits == PlanLimits(100, 20, ai_coaching=True, telemedicine=True)
    async with identity.database.transaction() as session:
        assert (
            await identity.users.me(session, user_principal(user_id))
        ).subscription_tier is SubscriptionTier.CLINICAL
    await deliver(identity, changed(user_id, Tier.FREE, 4))
    held = await plan_of(identity, user_id)
    assert (held.tier, held.expires_at, held.limits.max_devices) == (SubscriptionTier.FREE, None, 1)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations([1, 1, 2, 2, 3, 3, 4, 4]))
async def test_the_newest_revision_holds_in_whatever_order_they_come(identity: Identity, order: list[int]) -> None:
    user_id = f"person-{'-'.join(map(str, order))}"
    tiers = dict(enumerate((Tier.FREE, Tier.BASIC, Tier.CLINICAL, Tier.PRO), start=1))
    await deliver(identity, *(changed(user_id, tiers[revision], revision) for revision in order))
    assert (await plan_of(identity, user_id)).tier is SubscriptionTier.PRO


async def test_a_plan_that_was_bought_before_the_first_look_at_the_profile_is_not_lost(identity: Identity) -> None:
    await deliver(identity, changed("keycloak-person", Tier.PRO, 2))
    held = await plan_of(identity, "keycloak-person")
    assert (held.tier, held.limits.max_devices) == (SubscriptionTier.PRO, 5)
