"""Subscriptions, plans and cartridge access by key, for one request."""

from collections.abc import Sequence

from strawberry.dataloader import DataLoader

from domain.commerce.subscription.access import AccessDecision, CartridgeKind
from domain.commerce.subscription.models import Plan, PlanChange
from domain.commerce.subscription.service import holder_of
from domain.commerce.terms import Tier
from domain.errors import AppError
from domain.ids import UserId
from domain.principal import Principal, Scope
from subgraphs.commerce.services import CommerceServices
from subgraphs.runtime.database import Database


class SubscriptionLoaders:
    """`of_user`: a person's newest subscription, or None. `by_id`: one that the caller may see, or None.

    `plan`: by tier. `access`: what the caller's plan says about a cartridge type.
    """

    def __init__(self, services: CommerceServices, database: Database, principal: Principal) -> None:
        self._services = services
        self._database = database
        self._principal = principal
        self.of_user: DataLoader[str, PlanChange | None] = DataLoader(load_fn=self._of_user)
        self.by_id: DataLoader[str, PlanChange | None] = DataLoader(load_fn=self._by_id)
        self.plan: DataLoader[Tier, Plan] = DataLoader(load_fn=self._plan)
        self.access: DataLoader[CartridgeKind, AccessDecision] = DataLoader(load_fn=self._access)

    async def _of_user(self, user_ids: Sequence[str]) -> list[PlanChange | BaseException | None]:
        answers: dict[str, PlanChange | BaseException | None] = {}
        allowed: list[UserId] = []
        for user_id in user_ids:
            try:
                allowed.append(holder_of(self._principal, user_id, scope=Scope.COMMERCE_READ))
            except AppError as refusal:  # belongs to this key alone: the others still get their answer
                answers[user_id] = refusal
        async with self._database.read() as session:
            found = await self._services.subscriptions.of_people(session, self._principal, allowed)
        answers.update({user_id: found.get(user_id) for user_id in allowed})
        return [answers[user_id] for user_id in user_ids]

    async def _by_id(self, subscription_ids: Sequence[str]) -> list[PlanChange | None]:
        async with self._database.read() as session:
            found = await self._services.subscriptions.visible(session, self._principal, subscription_ids)
        return [found.get(subscription_id) for subscription_id in subscription_ids]

    async def _plan(self, tiers: Sequence[Tier]) -> list[Plan]:
        async with self._database.read() as session:
            plans = {Tier(plan.tier): plan for plan in await self._services.plans.all(session)}
        return [plans[tier] for tier in tiers]

    async def _access(self, kinds: Sequence[CartridgeKind]) -> list[AccessDecision]:
        async with self._database.read() as session:
            found = await self._services.cartridges.check_own(session, self._principal, kinds)
        return [found[kind] for kind in kinds]
