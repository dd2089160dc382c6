"""What plans say about features and cartridges, in GraphQL."""

# The overloads of strawberry.field for decorators with arguments answer Any.
# mypy: disable-error-code="untyped-decorator"

import strawberry
from strawberry.federation.schema_directives import Key
from strawberry.federation.types import FieldSet

from domain.commerce.subscription import models
from domain.commerce.subscription.access import NO_LIMIT, AccessDecision, CartridgeKind, access_message
from domain.commerce.subscription.cartridges import ListedCartridge, RuleDefinition
from domain.commerce.subscription.features import FeatureDecision
from domain.commerce.terms import Tier
from domain.principal import Scope
from subgraphs.commerce.context import Info
from subgraphs.runtime.graphql import AUTHENTICATED, requires_scopes

CartridgeAccessLevel = strawberry.enum(
    models.AccessLevel, name="CartridgeAccessLevel", description="How a plan may use a cartridge type."
)


@strawberry.type(description="What the caller's plan says about a cartridge type at this moment.")
class CartridgeAccess:
    decision: strawberry.Private[AccessDecision]
    allowed: bool = strawberry.field(description="Whether a measurement may begin now.")
    level: models.AccessLevel = strawberry.field(description="What the plan says.")
    remaining_daily: int | None = strawberry.field(
        description="Uses left today (Asia/Seoul); null where none is counted."
    )
    remaining_monthly: int | None = strawberry.field(description="Uses left this month; null where none is counted.")
    required_tier: Tier | None = strawberry.field(description="Lowest plan on which it can be used; null: on none.")
    current_tier: Tier = strawberry.field(description="The plan in force.")
    add_on_price_krw: int | None = strawberry.field(
        description="What the add-on costs in whole won, where the plan needs one and the shop sells it."
    )

    @strawberry.field(description="The decision as a sentence, in the language of the request.")
    async def message(self, info: Info) -> str:
        plans = dict(zip(Tier, await info.context.subscriptions.plan.load_many(list(Tier)), strict=True))
        return access_message(self.decision, plans, info.context.request.locale)

    @classmethod
    def of(cls, decision: AccessDecision) -> "CartridgeAccess":
        return cls(
            decision=decision,
            allowed=decision.allowed,
            level=decision.level,
            remaining_daily=_left(decision.remaining_daily),
            remaining_monthly=_left(decision.remaining_monthly),
            required_tier=decision.required_tier,
            current_tier=decision.current_tier,
            add_on_price_krw=decision.add_on_price_krw or None,
        )


def _left(uses: int) -> int | None:
    return None if uses == NO_LIMIT else uses


@strawberry.federation.type(
    keys=[Key(fields=FieldSet("id"), resolvable=False)], description="What cartridges of one kind measure, and how."
)
class CartridgeType:
    """A type of the hardware group's registry, which has all that is known of it."""

    id: strawberry.ID = strawberry.field(description="Category and index as four hexadecimal digits, such as 0101.")


@strawberry.type(description="A cartridge type under the caller's plan.")
class AccessibleCartridge:
    type: CartridgeType = strawberry.field(description="The type, as the registry knows it.")
    name_en: str = strawberry.field(description="Its name in English.")
    name_ko: str = strawberry.field(description="Its name in Korean.")
    access: CartridgeAccess = strawberry.field(description="What the plan says about it.")

    @classmethod
    def of(cls, listed: ListedCartridge) -> "AccessibleCartridge":
        name = listed.name
        return cls(
            type=CartridgeType(id=strawberry.ID(f"{name.category_code:02X}{name.type_index:02X}")),
            name_en=name.name_en,
            name_ko=name.name_ko,
            access=CartridgeAccess.of(listed.decision),
        )


@strawberry.federation.type(keys=["id"], description="A cartridge whose tag has been read.")
class Cartridge:
    id: strawberry.ID = strawberry.field(description="Id from the tag, 16 upper-case hexadecimal digits.")
    category_code: int = strawberry.federation.field(external=True, description="Category byte of the tag.")
    type_index: int = strawberry.federation.field(external=True, description="Type within the category.")

    @classmethod
    def resolve_reference(cls, id: strawberry.ID, categoryCode: int = 0, typeIndex: int = 0) -> "Cartridge":  # noqa: N803 - as the representation names them
        """The cartridge of a reference; the codes come along where `access` is asked for."""
        return cls(id=id, category_code=categoryCode, type_index=typeIndex)

    @strawberry.federation.field(
        description="What the caller's plan says about this cartridge.",
        requires=["categoryCode", "typeIndex"],
        directives=[AUTHENTICATED, requires_scopes(Scope.COMMERCE_READ)],
    )
    async def access(self, info: Info) -> CartridgeAccess | None:
        kind = CartridgeKind.of(self.category_code, self.type_index)
        return CartridgeAccess.of(await info.context.subscriptions.access.load(kind))


@strawberry.type(description="Whether the caller's plan includes a feature.")
class FeatureAccess:
    feature: str = strawberry.field(description="Name of the feature, as plans list it.")
    allowed: bool = strawberry.field(description="Whether the plan in force includes it.")
    required_tier: Tier | None = strawberry.field(description="Lowest plan that includes it; null: none does.")
    current_tier: Tier = strawberry.field(description="The plan in force.")
    message: str = strawberry.field(description="The decision as a sentence, in the language of the request.")

    @classmethod
    def of(cls, info: Info, decision: FeatureDecision) -> "FeatureAccess":
        return cls(
            feature=decision.feature,
            allowed=decision.allowed,
            required_tier=decision.required_tier,
            current_tier=Tier(decision.current.tier),
            message=decision.message(info.context.request.locale),
        )


@strawberry.type(description="What one plan says about cartridges of a type, or of categories.")
class CartridgeAccessRule:
    first_category: int = strawberry.field(description="First category byte that it is for.")
    last_category: int = strawberry.field(description="Last one; the same as the first for a single category.")
    type_index: int = strawberry.field(description="Type that it is for; 0: all that have no rule of their own.")
    tier: Tier = strawberry.field(description="The plan.")
    level: models.AccessLevel = strawberry.field(description="What it says.")
    daily_limit: int | None = strawberry.field(description="Uses of a type a day (Asia/Seoul); null: no limit.")
    monthly_limit: int | None = strawberry.field(description="Uses of a type a month; null: no limit.")

    @classmethod
    def of(cls, rule: models.CartridgeAccessRule | RuleDefinition) -> "CartridgeAccessRule":
        return cls(
            first_category=rule.first_category,
            last_category=rule.last_category,
            type_index=rule.type_index,
            tier=Tier(rule.tier),
            level=models.AccessLevel(rule.level),
            daily_limit=rule.daily_limit,
            monthly_limit=rule.monthly_limit,
        )


@strawberry.input(description="A rule to add, or to replace; without one a plan says: restricted.")
class SetCartridgeAccessInput:
    first_category: int = strawberry.field(description="First category byte, 1 to 255.")
    tier: Tier = strawberry.field(description="The plan.")
    level: models.AccessLevel = strawberry.field(description="What it says.")
    last_category: int | None = strawberry.field(default=None, description="Last byte, for a range of categories.")
    type_index: int = strawberry.field(default=0, description="One type, 1 to 255; 0: the whole category.")
    daily_limit: int | None = strawberry.field(default=None, description="Uses of a type a day; for LIMITED only.")
    monthly_limit: int | None = strawberry.field(default=None, description="Uses of a type a month; for LIMITED only.")

    def definition(self) -> RuleDefinition:
        """The rule as the service takes it."""
        return RuleDefinition(
            first_category=self.first_category,
            last_category=self.first_category if self.last_category is None else self.last_category,
            type_index=self.type_index,
            tier=self.tier,
            level=self.level,
            daily_limit=self.daily_limit,
            monthly_limit=self.monthly_limit,
        )
