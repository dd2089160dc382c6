"""Plans and subscriptions in GraphQL.

The type is called `PlanSubscription`: `Subscription` is the name of GraphQL's own root type.
"""

# The overloads of strawberry.field and strawberry.mutation for decorators with arguments answer Any.
# mypy: disable-error-code="untyped-decorator"

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from domain.commerce.subscription import models
from domain.commerce.subscription.access import CartridgeKind
from domain.commerce.subscription.features import features_of
from domain.commerce.subscription.plans import PlanDefinition
from domain.commerce.subscription.service import Cancelled
from domain.commerce.terms import Tier
from domain.principal import Scope
from subgraphs.commerce.context import Info
from subgraphs.commerce.subscription.access_schema import (
    AccessibleCartridge,
    CartridgeAccess,
    CartridgeAccessRule,
    FeatureAccess,
    SetCartridgeAccessInput,
)
from subgraphs.runtime.graphql import AUTHENTICATED, list_size, requires_scopes

if TYPE_CHECKING:
    from subgraphs.commerce.schema import User

SubscriptionStatus = strawberry.enum(
    models.SubscriptionStatus,
    name="SubscriptionStatus",
    description="State of a subscription. While it awaits its first payment, or is suspended for want of the next one, the "
    "free plan is in force.",
)
ChargeKind = strawberry.enum(
    models.ChargeKind,
    name="SubscriptionChargeKind",
    description="What is charged: a first period, an upgrade, a renewal.",
)

_READ = [AUTHENTICATED, requires_scopes(Scope.COMMERCE_READ)]
_WRITE = [AUTHENTICATED, requires_scopes(Scope.COMMERCE_WRITE)]
_ADMIN = [requires_scopes(Scope.CATALOG_WRITE)]


@strawberry.type(description="What a tier costs and includes.")
class Plan:
    tier: Tier = strawberry.field(description="The tier.")
    name: str = strawberry.field(description="Name, in the language of the request.")
    name_en: str = strawberry.field(description="Name in English.")
    name_ko: str = strawberry.field(description="Name in Korean.")
    description: str = strawberry.field(description="What it is for, in the language of the request.")
    monthly_price_krw: int = strawberry.field(description="Price a month in whole won; 0: free.")
    max_devices: int = strawberry.field(description="Readers that may be registered at a time.")
    max_family_members: int = strawberry.field(description="People in the family group, the holder included.")
    ai_coaching_enabled: bool = strawberry.field(description="Whether coaching beyond daily tips is included.")
    telemedicine_enabled: bool = strawberry.field(description="Whether video consultations are included.")
    features: list[str] = strawberry.field(description="Names of what is included, as featureAccess takes them.")

    @classmethod
    def of(cls, info: Info, row: models.Plan) -> "Plan":
        korean = info.context.request.locale == "ko"
        return cls(
            tier=Tier(row.tier),
            name=row.name_ko if korean else row.name_en,
            name_en=row.name_en,
            name_ko=row.name_ko,
            description=row.description_ko if korean else row.description_en,
            monthly_price_krw=row.monthly_price_krw,
            max_devices=row.max_devices,
            max_family_members=row.max_family_members,
            ai_coaching_enabled=row.ai_coaching_enabled,
            telemedicine_enabled=row.telemedicine_enabled,
            features=features_of(row),
        )


@strawberry.type(
    description="What of a subscription has to be paid: open a payment of this amount for the subscription."
)
class SubscriptionCharge:
    id: strawberry.ID = strawberry.field(description="Names the charge.")
    kind: models.ChargeKind = strawberry.field(description="What is charged.")
    tier: Tier = strawberry.field(description="The plan that it is for.")
    amount_krw: int = strawberry.field(description="To pay, in whole won, after credit.")
    credit_used_krw: int = strawberry.field(description="Credit that has lowered it, in whole won.")
    due_at: datetime = strawberry.field(description="Until when it can be paid.")

    @classmethod
    def of(cls, row: models.Charge) -> "SubscriptionCharge":
        return cls(
            id=strawberry.ID(row.charge_id),
            kind=models.ChargeKind(row.kind),
            tier=Tier(row.tier),
            amount_krw=row.amount_krw,
            credit_used_krw=row.credit_used_krw,
            due_at=row.due_at,
        )


@strawberry.federation.type(keys=["id"], description="A person's subscription of a plan.", directives=[AUTHENTICATED])
class PlanSubscription:
    shown: strawberry.Private[models.PlanChange]
    id: strawberry.ID = strawberry.field(description="Names the subscription.")
    status: models.SubscriptionStatus = strawberry.field(description="State it is in.")
    tier: Tier = strawberry.field(description="Tier in force now.")
    chosen_tier: Tier = strawberry.field(description="Tier that was chosen; in force once, and while, it is paid.")
    monthly_price_krw: int = strawberry.field(description="Price of a month of the plan in force, in whole won.")
    started_at: datetime = strawberry.field(description="When it began.")
    expires_at: datetime | None = strawberry.field(description="End of what is paid for; null: no end.")
    cancelled_at: datetime | None = strawberry.field(description="When it was cancelled; null: it was not.")
    auto_renew: bool = strawberry.field(
        description="Whether the next period is charged when this one ends. No card is kept: the charge waits to be paid."
    )
    credit_krw: int = strawberry.field(description="Won that lower the next charges, from a change to a lower plan.")
    due: SubscriptionCharge | None = strawberry.field(description="What has to be paid; null: nothing.")

    @strawberry.field(description="The plan in force.")
    def plan(self, info: Info) -> Plan:
        return Plan.of(info, self.shown.standing.plan)

    @strawberry.field(description="Whose it is.")
    def holder(self) -> Annotated["User", strawberry.lazy("subgraphs.commerce.schema")]:
        from subgraphs.commerce.schema import User  # noqa: PLC0415 - it is put together from this module

        return User(id=strawberry.ID(self.shown.holder))

    @classmethod
    def of(cls, shown: models.PlanChange) -> "PlanSubscription":
        standing, row = shown.standing, shown.standing.subscription
        return cls(
            shown=shown,
            id=strawberry.ID(row.subscription_id),
            status=standing.status,
            tier=standing.tier,
            chosen_tier=Tier(row.tier),
            monthly_price_krw=standing.monthly_price_krw,
            started_at=row.started_at,
            expires_at=row.expires_at,
            cancelled_at=row.cancelled_at,
            auto_renew=standing.auto_renew,
            credit_krw=row.credit_krw,
            due=SubscriptionCharge.of(shown.due) if shown.due else None,
        )

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID) -> "PlanSubscription | None":
        """The subscription of a reference; None when there is none that the caller may see."""
        found = await info.context.subscriptions.by_id.load(id)
        return cls.of(found) if found else None


@strawberry.type
class SubscriptionOfUser:
    """What the service knows of a person; `id` is that of `User`."""

    id: strawberry.ID

    @strawberry.field(description="The person's newest subscription; null when there never was one.", directives=_READ)
    async def subscription(self, info: Info) -> PlanSubscription | None:
        found = await info.context.subscriptions.of_user.load(self.id)
        return PlanSubscription.of(found) if found else None


@strawberry.type
class SubscriptionQuery:
    @strawberry.field(description="The plans on offer, lowest tier first.", directives=[list_size(assumed=4)])
    async def plans(self, info: Info) -> list[Plan]:
        async with info.context.database.read() as session:
            rows = await info.context.services.plans.all(session)
        return [Plan.of(info, row) for row in rows]

    @strawberry.field(description="Whether the caller's plan includes a feature.", directives=_READ)
    async def feature_access(
        self, info: Info, feature: Annotated[str, strawberry.argument(description="Name of a feature.")]
    ) -> FeatureAccess:
        async with info.context.database.read() as session:
            decision = await info.context.services.plans.check_feature(
                session, info.context.principal, user_id="", feature=feature
            )
        return FeatureAccess.of(info, decision)

    @strawberry.field(description="Whether the caller's plan lets them use a cartridge type now.", directives=_READ)
    async def cartridge_access(
        self,
        info: Info,
        category_code: Annotated[int, strawberry.argument(description="Category byte of the tag, 1 to 255.")],
        type_index: Annotated[int, strawberry.argument(description="Type within the category, 1 to 255.")],
    ) -> CartridgeAccess:
        kind = CartridgeKind.of(category_code, type_index)
        return CartridgeAccess.of(await info.context.subscriptions.access.load(kind))

    @strawberry.field(
        description="Every cartridge type with what the caller's plan says about it, by category and type.",
        directives=[*_READ, list_size(assumed=50)],
    )
    async def accessible_cartridges(self, info: Info) -> list[AccessibleCartridge]:
        async with info.context.database.read() as session:
            listed = await info.context.services.cartridges.list_all(session, info.context.principal, user_id="")
        return [AccessibleCartridge.of(cartridge) for cartridge in listed]

    @strawberry.field(
        description="The rules of which plan opens which cartridges, by category and type.",
        directives=[*_ADMIN, list_size(assumed=100)],
    )
    async def cartridge_access_rules(self, info: Info) -> list[CartridgeAccessRule]:
        async with info.context.database.read() as session:
            rules = await info.context.services.cartridges.rules(session, info.context.principal)
        return [CartridgeAccessRule.of(rule) for rule in rules]


@strawberry.input(description="A plan to start.")
class SubscribeInput:
    tier: Tier = strawberry.field(description="The tier.")
    user_id: strawberry.ID | None = strawberry.field(default=None, description="Future holder; null is the caller.")


@strawberry.input(description="A plan to move to.")
class ChangePlanInput:
    tier: Tier = strawberry.field(description="The tier.")
    payment: str | None = strawberry.field(
        default=None,
        description="Pays for it at once: the id of a completed payment for this subscription, or the key that the provider "
        "gave the payer on approval. Null: the payload says what has to be paid.",
    )
    user_id: strawberry.ID | None = strawberry.field(default=None, description="Holder; null is the caller.")


@strawberry.input(description="A subscription to end.")
class CancelSubscriptionInput:
    reason: str = strawberry.field(default="", description="Why, in the person's words.")
    user_id: strawberry.ID | None = strawberry.field(default=None, description="Holder; null is the caller.")


@strawberry.type(description="A subscription after a change that was asked for.")
class ChangePlanPayload:
    subscription: PlanSubscription = strawberry.field(description="The subscription as it stands.")
    due: SubscriptionCharge | None = strawberry.field(
        description="What has to be paid before the change takes effect; null: it has taken effect."
    )

    @classmethod
    def of(cls, changed: models.PlanChange) -> "ChangePlanPayload":
        subscription = PlanSubscription.of(changed)
        return cls(subscription=subscription, due=subscription.due)


@strawberry.type(description="How long a cancelled plan goes on.")
class CancelSubscriptionPayload:
    cancelled_at: datetime = strawberry.field(description="When it was cancelled.")
    effective_until: datetime = strawberry.field(description="Last moment the plan can be used.")

    @classmethod
    def of(cls, cancelled: Cancelled) -> "CancelSubscriptionPayload":
        return cls(cancelled_at=cancelled.cancelled_at, effective_until=cancelled.effective_until)


@strawberry.input(description="What a plan shall cost and include; replaces all that it says.")
class SetPlanInput:
    tier: Tier = strawberry.field(description="The tier.")
    name_en: str = strawberry.field(description="Name in English.")
    name_ko: str = strawberry.field(description="Name in Korean.")
    description_en: str = strawberry.field(description="What it is for, in English.")
    description_ko: str = strawberry.field(description="What it is for, in Korean.")
    monthly_price_krw: int = strawberry.field(
        description="Price a month in whole won; for periods that begin from now on."
    )
    max_devices: int = strawberry.field(description="Readers that may be registered at a time.")
    max_family_members: int = strawberry.field(description="People in the family group, the holder included.")
    ai_coaching_enabled: bool = strawberry.field(description="Whether coaching beyond daily tips is included.")
    telemedicine_enabled: bool = strawberry.field(description="Whether video consultations are included.")

    def definition(self) -> PlanDefinition:
        """The plan as the service takes it."""
        return PlanDefinition(
            tier=self.tier,
            name_en=self.name_en,
            name_ko=self.name_ko,
            description_en=self.description_en,
            description_ko=self.description_ko,
            monthly_price_krw=self.monthly_price_krw,
            max_devices=self.max_devices,
            max_family_members=self.max_family_members,
            ai_coaching_enabled=self.ai_coaching_enabled,
            telemedicine_enabled=self.telemedicine_enabled,
        )


@strawberry.type
class SubscriptionMutation:
    @strawberry.mutation(
        description="Start a plan. A paid one is in force once what the payload names is paid.", directives=_WRITE
    )
    async def subscribe(self, info: Info, input: SubscribeInput) -> ChangePlanPayload:
        async with info.context.database.transaction() as session:
            made = await info.context.services.subscriptions.create(
                session, info.context.principal, user_id=input.user_id or "", tier=input.tier
            )
        return ChangePlanPayload.of(made)

    @strawberry.mutation(
        description="Move to another plan: down at once, with credit for the days left; up once the difference is paid.",
        directives=_WRITE,
    )
    async def change_plan(self, info: Info, input: ChangePlanInput) -> ChangePlanPayload:
        changed = await info.context.services.subscriptions.update(
            info.context.principal,
            user_id=input.user_id or "",
            new_tier=input.tier,
            payment_id=input.payment or "",
        )
        return ChangePlanPayload.of(changed)

    @strawberry.mutation(
        description="End renewal; the plan stays usable until what was paid for is over.", directives=_WRITE
    )
    async def cancel_subscription(self, info: Info, input: CancelSubscriptionInput) -> CancelSubscriptionPayload:
        async with info.context.database.transaction() as session:
            cancelled = await info.context.services.subscriptions.cancel(
                session, info.context.principal, user_id=input.user_id or "", reason=input.reason
            )
        return CancelSubscriptionPayload.of(cancelled)

    @strawberry.mutation(description="Change what a plan costs and includes.", directives=_ADMIN)
    async def set_plan(self, info: Info, input: SetPlanInput) -> Plan:
        async with info.context.database.transaction() as session:
            row = await info.context.services.plans.set_plan(session, info.context.principal, input.definition())
        return Plan.of(info, row)

    @strawberry.mutation(description="Change what a plan says about cartridges.", directives=_ADMIN)
    async def set_cartridge_access(self, info: Info, input: SetCartridgeAccessInput) -> CartridgeAccessRule:
        rule = input.definition()
        async with info.context.database.transaction() as session:
            await info.context.services.cartridges.set_rule(session, info.context.principal, rule)
        return CartridgeAccessRule.of(rule)
