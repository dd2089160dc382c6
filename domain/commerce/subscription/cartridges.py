"""What people's plans say about cartridges, what they have bought apart, and how often they have used which."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.commerce.subscription import access
from domain.commerce.subscription.access import AccessDecision, CartridgeKind, Entitlements, Rules
from domain.commerce.subscription.errors import AccessRuleInvalid
from domain.commerce.subscription.models import AccessLevel, CartridgeAccessRule, CartridgeName, CartridgeUse
from domain.commerce.subscription.ports import AddOnPrices
from domain.commerce.subscription.proration import SEOUL
from domain.commerce.subscription.repository import AccessRepository
from domain.commerce.subscription.service import MAX_USER_ID, SubscriptionService, holder_of
from domain.commerce.terms import Tier
from domain.ids import UserId
from domain.principal import Principal, Scope

MAX_LIMIT = 10_000

_log = structlog.get_logger("cartridge access")


@dataclass(frozen=True, slots=True)
class ListedCartridge:
    """A cartridge type and what a person's plan says about it."""

    name: CartridgeName
    decision: AccessDecision


@dataclass(frozen=True, slots=True)
class RuleDefinition:
    """A rule as an administrator sets it: for one type, or (type 0) for the categories from first to last."""

    first_category: int
    last_category: int
    type_index: int
    tier: Tier
    level: AccessLevel
    daily_limit: int | None = None
    monthly_limit: int | None = None


class CartridgeAccessService:
    """Queries and commands about cartridge access. One for the process."""

    def __init__(self, clock: Clock, *, subscriptions: SubscriptionService, add_ons: AddOnPrices) -> None:
        self._clock = clock
        self._subscriptions = subscriptions
        self._add_ons = add_ons

    async def check(
        self, session: AsyncSession, principal: Principal, *, user_id: str, category: int, type_index: int
    ) -> AccessDecision:
        """Whether a person may begin a measurement with a cartridge type now.

        Raises:
            SubscriptionFieldInvalid: no tag can have these codes.
            Others: see `Principal.acting_for`; the token lacks commerce:read.
        """
        holder = holder_of(principal, user_id, scope=Scope.COMMERCE_READ)
        kind = CartridgeKind.of(category, type_index)
        return (await self.decide(session, holder, [kind]))[kind]

    async def check_own(
        self, session: AsyncSession, principal: Principal, kinds: Collection[CartridgeKind]
    ) -> dict[CartridgeKind, AccessDecision]:
        """As `check`, of the caller, for many types."""
        holder = holder_of(principal, "", scope=Scope.COMMERCE_READ)
        return await self.decide(session, holder, kinds)

    async def list_all(self, session: AsyncSession, principal: Principal, *, user_id: str) -> Sequence[ListedCartridge]:
        """Every cartridge type with what the person's plan says about it, by category and type."""
        holder = holder_of(principal, user_id, scope=Scope.COMMERCE_READ)
        names = await AccessRepository(session).names()
        kinds = [CartridgeKind(name.category_code, name.type_index) for name in names]
        decisions = await self.decide(session, holder, kinds)
        return [ListedCartridge(name, decisions[kind]) for name, kind in zip(names, kinds, strict=True)]

    async def decide(
        self, session: AsyncSession, user_id: UserId, kinds: Collection[CartridgeKind]
    ) -> dict[CartridgeKind, AccessDecision]:
        """The decisions for a person, who was authorised."""
        repository = AccessRepository(session)
        today = self._clock.now().astimezone(SEOUL).date()
        rules = Rules(await repository.rules())
        person = Entitlements(
            tier=await self._subscriptions.tier_of(session, user_id),
            add_ons=await repository.add_ons_of(user_id),
            uses=await repository.uses_of(user_id, kinds, today=today),
            add_on_prices={CartridgeKind(*codes): krw for codes, krw in (await self._add_ons.prices(session)).items()},
        )
        return {kind: access.decide(kind, rules, person) for kind in kinds}

    async def record_use(
        self,
        session: AsyncSession,
        *,
        session_id: str,
        user_id: str,
        category: int,
        type_index: int,
        measured_at: datetime,
    ) -> None:
        """Count a measurement, once however often it is told; of nobody, or without a type, there is nothing to count."""
        if not 0 < len(user_id) <= MAX_USER_ID or not (1 <= category <= 255 and 1 <= type_index <= 255):
            return
        await AccessRepository(session).record_use(
            CartridgeUse(
                session_id=session_id,
                user_id=user_id,
                category_code=category,
                type_index=type_index,
                used_on=measured_at.astimezone(SEOUL).date(),
                used_at=measured_at,
            )
        )

    async def grant_add_on(
        self, session: AsyncSession, *, user_id: UserId, category_code: int, type_index: int, order_id: str
    ) -> None:
        """Let a person use a cartridge type (0: the whole category) that was bought apart; once for an order."""
        await AccessRepository(session).grant_add_on(
            order_id=order_id,
            user_id=user_id,
            category_code=category_code,
            type_index=type_index,
            at=self._clock.now(),
        )

    async def revoke_add_ons(self, session: AsyncSession, *, order_id: str) -> None:
        """Take back what an order had granted, because it was paid back."""
        await AccessRepository(session).revoke_add_ons(order_id, at=self._clock.now())

    async def rules(self, session: AsyncSession, principal: Principal) -> Sequence[CartridgeAccessRule]:
        """All rules, by category and type. Raises: Forbidden: the token lacks catalog:write."""
        principal.require_scope(Scope.CATALOG_WRITE)
        return await AccessRepository(session).rules()

    async def set_rule(self, session: AsyncSession, principal: Principal, rule: RuleDefinition) -> None:
        """Add a rule, or replace what it says.

        Raises:
            AccessRuleInvalid: codes that no tag has, a range of categories with a type, or limits that its level does not have.
            Forbidden: the token lacks catalog:write.
        """
        principal.require_scope(Scope.CATALOG_WRITE)
        _require_valid(rule)
        await AccessRepository(session).set_rule(
            {
                "first_category": rule.first_category,
                "last_category": rule.last_category,
                "type_index": rule.type_index,
                "tier": rule.tier,
                "level": rule.level,
                "daily_limit": rule.daily_limit,
                "monthly_limit": rule.monthly_limit,
            }
        )
        _log.info(
            "cartridge access changed",
            categories=f"{rule.first_category:02X}-{rule.last_category:02X}",
            type_index=rule.type_index,
            tier=rule.tier.value,
            level=rule.level.value,
            by=principal.subject,
        )


def _require_valid(rule: RuleDefinition) -> None:
    if not 1 <= rule.first_category <= rule.last_category <= 255:
        raise AccessRuleInvalid("Categories must be a range within 1 to 255.", field="first_category")
    if not 0 <= rule.type_index <= 255:
        raise AccessRuleInvalid("type_index must be between 0 and 255.", field="type_index")
    if rule.type_index and rule.first_category != rule.last_category:
        raise AccessRuleInvalid("A rule for a type is for one category.", field="last_category")
    limits = [limit for limit in (rule.daily_limit, rule.monthly_limit) if limit is not None]
    if (rule.level is AccessLevel.LIMITED) != bool(limits):
        raise AccessRuleInvalid("Limits belong to the level limited, which has at least one.", field="daily_limit")
    if not all(1 <= limit <= MAX_LIMIT for limit in limits):
        raise AccessRuleInvalid(f"A limit must be between 1 and {MAX_LIMIT}.", field="daily_limit")
