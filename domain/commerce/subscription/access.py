"""Whether a plan lets somebody use a cartridge type now: the rules, the counted uses, and the sentence to show.

A type's own row comes before its category's row, and that before the default: restricted. Of two category rows that
cover a category the narrower one holds, so that a single code can be taken out of a range such as 0xF0 to 0xFD.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, assert_never

from domain.commerce.subscription.errors import SubscriptionFieldInvalid
from domain.commerce.subscription.models import AccessLevel, CartridgeAccessRule, Plan
from domain.commerce.terms import Tier

NO_LIMIT = -1


class CartridgeKind(NamedTuple):
    """A cartridge type by its codes: category and type byte of the tag, both 1 to 255."""

    category: int
    type_index: int

    @classmethod
    def of(cls, category: int, type_index: int) -> "CartridgeKind":
        """Raises: SubscriptionFieldInvalid: no tag can have these codes."""
        for name, code in (("category_code", category), ("type_index", type_index)):
            if not 1 <= code <= 255:
                raise SubscriptionFieldInvalid(f"{name} is {code}; it must be between 1 and 255.", field=name)
        return cls(category, type_index)


class Uses(NamedTuple):
    """How often a cartridge type was used on the day and in the month, in Asia/Seoul."""

    today: int = 0
    this_month: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """What one tier says about one type."""

    level: AccessLevel = AccessLevel.RESTRICTED
    daily_limit: int | None = None
    monthly_limit: int | None = None


class Rules:
    """The rules of all tiers, to look many types up in."""

    def __init__(self, rows: Iterable[CartridgeAccessRule]) -> None:
        self._by_type: dict[tuple[Tier, int, int], Rule] = {}
        self._by_range: dict[Tier, list[tuple[int, int, Rule]]] = {tier: [] for tier in Tier}
        for row in rows:
            tier = Tier(row.tier)
            rule = Rule(AccessLevel(row.level), row.daily_limit, row.monthly_limit)
            if row.type_index:
                self._by_type[tier, row.first_category, row.type_index] = rule
            else:
                self._by_range[tier].append((row.first_category, row.last_category, rule))
        for ranges in self._by_range.values():
            ranges.sort(key=lambda entry: (entry[1] - entry[0], entry[0]))

    def of(self, tier: Tier, kind: CartridgeKind) -> Rule:
        """What a tier says about a type."""
        own = self._by_type.get((tier, kind.category, kind.type_index))
        if own is not None:
            return own
        covering = (rule for first, last, rule in self._by_range[tier] if first <= kind.category <= last)
        return next(covering, Rule())

    def required_tier(self, kind: CartridgeKind) -> Tier | None:
        """The lowest tier on which the type can be used, an add-on being bought where it says so; None: on no tier."""
        return next((tier for tier in Tier if self.of(tier, kind).level is not AccessLevel.RESTRICTED), None)


@dataclass(frozen=True, slots=True)
class Entitlements:
    """What decides about a person: the tier in force, add-ons that were bought, and uses so far.

    Args:
        add_ons: type 0 stands for a whole category.
        add_on_prices: what those cost that are sold, in whole won; type 0 likewise.
    """

    tier: Tier
    add_ons: Collection[CartridgeKind] = ()
    uses: Mapping[CartridgeKind, Uses] = field(default_factory=dict)
    add_on_prices: Mapping[CartridgeKind, int] = field(default_factory=dict)

    def add_on_price(self, kind: CartridgeKind) -> int:
        """Whole won; 0 where it is not sold."""
        return self.add_on_prices.get(kind) or self.add_on_prices.get(CartridgeKind(kind.category, 0), 0)

    def has_add_on(self, kind: CartridgeKind) -> bool:
        return kind in self.add_ons or CartridgeKind(kind.category, 0) in self.add_ons


@dataclass(frozen=True, slots=True)
class AccessDecision:
    """What a plan says about a cartridge type now.

    Args:
        remaining_daily, remaining_monthly: uses left; `NO_LIMIT` where none is counted, 0 where it may not be used.
        required_tier: the lowest tier on which it can be used; None when no tier lets anybody.
        add_on_price_krw: what the add-on costs in whole won; 0 where it is not sold, or not needed.
    """

    kind: CartridgeKind
    allowed: bool
    level: AccessLevel
    remaining_daily: int
    remaining_monthly: int
    required_tier: Tier | None
    current_tier: Tier
    add_on_price_krw: int


def decide(kind: CartridgeKind, rules: Rules, person: Entitlements) -> AccessDecision:
    """Whether the person may begin a measurement with this type now."""
    rule = rules.of(person.tier, kind)
    daily, monthly = _remaining(rule, kind, person)
    return AccessDecision(
        kind=kind,
        allowed=daily != 0 and monthly != 0,
        level=rule.level,
        remaining_daily=daily,
        remaining_monthly=monthly,
        required_tier=rules.required_tier(kind),
        current_tier=person.tier,
        add_on_price_krw=person.add_on_price(kind) if rule.level is AccessLevel.ADD_ON else 0,
    )


def _remaining(rule: Rule, kind: CartridgeKind, person: Entitlements) -> tuple[int, int]:
    match rule.level:
        case AccessLevel.INCLUDED | AccessLevel.BETA:
            return NO_LIMIT, NO_LIMIT
        case AccessLevel.RESTRICTED:
            return 0, 0
        case AccessLevel.ADD_ON:
            return (NO_LIMIT, NO_LIMIT) if person.has_add_on(kind) else (0, 0)
        case AccessLevel.LIMITED:
            uses = person.uses.get(kind, Uses())
            return _left(rule.daily_limit, uses.today), _left(rule.monthly_limit, uses.this_month)
        case _ as never:
            assert_never(never)


def _left(limit: int | None, used: int) -> int:
    return NO_LIMIT if limit is None else max(limit - used, 0)


def access_message(decision: AccessDecision, plans: Mapping[Tier, Plan], locale: Literal["ko", "en"]) -> str:
    """The decision as a sentence."""
    korean = locale == "ko"
    match decision.level:
        case AccessLevel.INCLUDED:
            return "현재 플랜에 포함되어 있습니다." if korean else "Included in your plan."
        case AccessLevel.BETA:
            return "베타 프로그램으로 사용할 수 있습니다." if korean else "You may use it in the beta programme."
        case AccessLevel.LIMITED:
            return _limited(decision, korean=korean)
        case AccessLevel.ADD_ON if decision.allowed:
            return "추가 구매한 카트리지입니다." if korean else "You have bought this as an add-on."
        case AccessLevel.ADD_ON if not decision.add_on_price_krw:
            return (
                "추가 구매가 필요하지만 지금은 판매하지 않습니다."
                if korean
                else "An add-on that is not sold at present."
            )
        case AccessLevel.ADD_ON:
            price = f"{decision.add_on_price_krw:,}"
            return (
                f"{price}원에 추가 구매하면 사용할 수 있습니다."
                if korean
                else f"Available as an add-on for {price} won."
            )
        case AccessLevel.RESTRICTED if decision.required_tier is None:
            return "현재 제공하는 플랜이 없습니다." if korean else "No plan offers this cartridge at present."
        case AccessLevel.RESTRICTED:
            plan = plans[decision.required_tier]
            return (
                f"{plan.name_ko} 플랜부터 사용할 수 있습니다." if korean else f"Available from the plan {plan.name_en}."
            )
        case _ as never:
            assert_never(never)


def _limited(decision: AccessDecision, *, korean: bool) -> str:
    daily, monthly = decision.remaining_daily, decision.remaining_monthly
    if daily == 0:
        return "오늘 사용 횟수를 모두 썼습니다." if korean else "You have used it as often as your plan allows today."
    if monthly == 0:
        return (
            "이번 달 사용 횟수를 모두 썼습니다."
            if korean
            else "You have used it as often as your plan allows this month."
        )
    if daily != NO_LIMIT:
        return f"오늘 {daily}회 더 사용할 수 있습니다." if korean else f"You may use it {daily} more times today."
    return (
        f"이번 달 {monthly}회 더 사용할 수 있습니다." if korean else f"You may use it {monthly} more times this month."
    )
