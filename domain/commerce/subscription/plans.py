"""The plans on offer: what each includes, who may change them, and whether a person's plan has a feature."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from domain.commerce.subscription import features
from domain.commerce.subscription.errors import PlanFieldInvalid
from domain.commerce.subscription.features import FeatureDecision
from domain.commerce.subscription.models import Plan
from domain.commerce.subscription.repository import PlanRepository
from domain.commerce.subscription.service import SubscriptionService, holder_of
from domain.commerce.terms import MAX_AMOUNT_KRW, Tier
from domain.principal import Principal, Scope

MAX_DEVICES = 10_000
MAX_FAMILY_MEMBERS = 1_000
MAX_NAME = 80
MAX_DESCRIPTION = 500

_log = structlog.get_logger("plans")


@dataclass(frozen=True, slots=True)
class PlanDefinition:
    """A plan as an administrator sets it."""

    tier: Tier
    name_en: str
    name_ko: str
    description_en: str
    description_ko: str
    monthly_price_krw: int
    max_devices: int
    max_family_members: int
    ai_coaching_enabled: bool
    telemedicine_enabled: bool


class PlanService:
    """Queries and commands about plans. One for the process."""

    def __init__(self, subscriptions: SubscriptionService) -> None:
        self._subscriptions = subscriptions

    async def all(self, session: AsyncSession) -> Sequence[Plan]:
        """All plans, lowest tier first."""
        return list((await PlanRepository(session).all()).values())

    async def set_plan(self, session: AsyncSession, principal: Principal, definition: PlanDefinition) -> Plan:
        """Replace what a plan says.

        Who is on the plan keeps the price until the period that is paid for ends; limits hold at once.

        Raises:
            PlanFieldInvalid: a text, a price or a limit that no plan can have; a price of the free plan.
            Forbidden: the token lacks catalog:write.
        """
        principal.require_scope(Scope.CATALOG_WRITE)
        _require_valid(definition)
        plan = await PlanRepository(session).get_for_update(definition.tier)
        plan.name_en, plan.name_ko = definition.name_en, definition.name_ko
        plan.description_en, plan.description_ko = definition.description_en, definition.description_ko
        plan.monthly_price_krw = definition.monthly_price_krw
        plan.max_devices = definition.max_devices
        plan.max_family_members = definition.max_family_members
        plan.ai_coaching_enabled = definition.ai_coaching_enabled
        plan.telemedicine_enabled = definition.telemedicine_enabled
        await session.flush()
        _log.info("plan changed", tier=definition.tier.value, by=principal.subject, price_krw=plan.monthly_price_krw)
        return plan

    async def check_feature(
        self, session: AsyncSession, principal: Principal, *, user_id: str, feature: str
    ) -> FeatureDecision:
        """Whether a person's plan includes a feature.

        Raises:
            FeatureUnknown: there is no such feature.
            Others: see `Principal.acting_for`; the token lacks commerce:read.
        """
        holder = holder_of(principal, user_id, scope=Scope.COMMERCE_READ)
        plans = await PlanRepository(session).all()
        tier = await self._subscriptions.tier_of(session, holder)
        return features.decide(feature, plans=list(plans.values()), current=plans[tier])


def _require_valid(definition: PlanDefinition) -> None:
    for field, text, at_most in (
        ("name_en", definition.name_en, MAX_NAME),
        ("name_ko", definition.name_ko, MAX_NAME),
        ("description_en", definition.description_en, MAX_DESCRIPTION),
        ("description_ko", definition.description_ko, MAX_DESCRIPTION),
    ):
        if not 0 < len(text) <= at_most or not text.isprintable():
            raise PlanFieldInvalid(f"{field} must have 1 to {at_most} printable characters.", field=field)
    for field, number, least, most in (
        ("monthly_price_krw", definition.monthly_price_krw, 0, MAX_AMOUNT_KRW // 10),
        ("max_devices", definition.max_devices, 1, MAX_DEVICES),
        ("max_family_members", definition.max_family_members, 1, MAX_FAMILY_MEMBERS),
    ):
        if not least <= number <= most:
            raise PlanFieldInvalid(f"{field} is {number}; it must be between {least} and {most}.", field=field)
    if definition.tier is Tier.FREE and definition.monthly_price_krw:
        raise PlanFieldInvalid("The free plan has no price.", field="monthly_price_krw")
