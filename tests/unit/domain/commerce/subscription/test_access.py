"""Which plan opens which cartridges: the published table cell by cell, and how rules and limits combine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.commerce.subscription.access import (
    NO_LIMIT,
    CartridgeKind,
    Entitlements,
    Rules,
    Uses,
    access_message,
    decide,
)
from domain.commerce.subscription.errors import SubscriptionFieldInvalid
from domain.commerce.subscription.models import AccessLevel, CartridgeAccessRule, Plan
from domain.commerce.subscription.plan_data import ACCESS_RULES, CARTRIDGE_NAMES, PLANS
from domain.commerce.terms import Tier

_FACTS = Path(__file__).parents[4] / "contract"


def rules(*rows: CartridgeAccessRule) -> Rules:
    return Rules(rows)


def row(
    first: int, last: int, type_index: int, tier: Tier, level: AccessLevel, daily: int | None = None
) -> CartridgeAccessRule:
    return CartridgeAccessRule(
        first_category=first, last_category=last, type_index=type_index, tier=tier, level=level, daily_limit=daily
    )


SEEDED = rules(
    *(
        row(entry.first_category, entry.last_category, entry.type_index, entry.tier, entry.level, entry.daily_limit)
        for entry in ACCESS_RULES
    )
)
PLAN_OF = {
    entry.tier: Plan(
        tier=entry.tier, name_en=entry.name_en, name_ko=entry.name_ko, monthly_price_krw=entry.monthly_price_krw
    )
    for entry in PLANS
}


def published_lines(name: str) -> Iterator[list[str]]:
    for line in (_FACTS / name).read_text().splitlines():
        if line and not line.startswith("#"):
            yield line.split("\t")


def published_table() -> dict[tuple[int, int, Tier], str]:
    """What the published table says of each code that a tag can have: every category and type, for every tier."""
    by_type: dict[tuple[int, int, Tier], str] = {}
    by_category: dict[tuple[int, Tier], str] = {}
    for categories, types, *levels in published_lines("cartridge_access.tsv"):
        first, _, last = categories.partition("-")
        for category in range(int(first, 16), int(last or first, 16) + 1):
            for tier, level in zip(Tier, levels, strict=True):
                if types == "*":
                    by_category[category, tier] = level
                else:
                    by_type.update({(category, int(code, 16), tier): level for code in types.split(",")})
    return {
        (category, type_index, tier): by_type.get(
            (category, type_index, tier), by_category.get((category, tier), "restricted")
        )
        for category in range(1, 256)
        for type_index in range(1, 256)
        for tier in Tier
    }


TABLE = published_table()


def test_every_cell_of_the_published_table_is_what_the_rules_say() -> None:
    assert len(TABLE) == 255 * 255 * 4
    wrong = []
    for (category, type_index, tier), text in TABLE.items():
        rule = SEEDED.of(tier, CartridgeKind(category, type_index))
        said = f"limited:{rule.daily_limit}" if rule.level is AccessLevel.LIMITED else rule.level.value
        if said != text:
            wrong.append((category, type_index, tier, text, said))
    assert wrong == []
    assert set(TABLE.values()) == {"limited:3", "included", "add_on", "restricted", "beta"}


def test_the_names_are_the_published_ones() -> None:
    published = [
        (int(category, 16), int(type_index, 16), int(legacy, 16), name, korean)
        for category, type_index, legacy, name, korean in published_lines("cartridges.tsv")
    ]
    ours = [(n.category_code, n.type_index, n.legacy_code, n.name_en, n.name_ko) for n in CARTRIDGE_NAMES]
    assert ours == published
    assert len(ours) == 30


@pytest.mark.parametrize("tier", list(Tier))
def test_what_is_allowed_follows_from_the_level_alone(tier: Tier) -> None:
    for (category, type_index, of_tier), text in TABLE.items():
        if of_tier is not tier or type_index > 4:
            continue
        decision = decide(CartridgeKind(category, type_index), SEEDED, Entitlements(tier))
        assert decision.allowed == (text in ("included", "beta", "limited:3")), (category, type_index)


def test_the_required_tier_is_the_lowest_that_is_not_restricted() -> None:
    for category in range(1, 256):
        kind = CartridgeKind(category, 1)
        expected = next((tier for tier in Tier if TABLE[category, 1, tier] != "restricted"), None)
        assert SEEDED.required_tier(kind) is expected


def test_of_two_categories_that_cover_a_code_the_narrower_holds() -> None:
    both = rules(row(0xF0, 0xFD, 0, Tier.PRO, AccessLevel.ADD_ON), row(0xF3, 0xF3, 0, Tier.PRO, AccessLevel.INCLUDED))
    levels = [both.of(Tier.PRO, CartridgeKind(code, 1)).level for code in (0xEF, 0xF0, 0xF3, 0xFD, 0xFE)]
    restricted, add_on, included = AccessLevel.RESTRICTED, AccessLevel.ADD_ON, AccessLevel.INCLUDED
    assert levels == [restricted, add_on, included, add_on, restricted]


@given(
    own=st.sampled_from(AccessLevel),
    category=st.sampled_from(AccessLevel),
    kind=st.tuples(st.integers(1, 255), st.integers(1, 255)),
)
def test_a_types_own_rule_comes_before_its_categorys(
    own: AccessLevel, category: AccessLevel, kind: tuple[int, int]
) -> None:
    both = rules(row(1, 255, 0, Tier.FREE, category, 1), row(kind[0], kind[0], kind[1], Tier.FREE, own, 2))
    assert both.of(Tier.FREE, CartridgeKind(*kind)).level is own
    other = CartridgeKind(kind[0], kind[1] % 255 + 1)
    assert both.of(Tier.FREE, other).level is category
    assert both.of(Tier.BASIC, CartridgeKind(*kind)).level is AccessLevel.RESTRICTED


@given(limit=st.integers(1, 50), used=st.integers(0, 100))
def test_a_limit_is_counted_down_to_nothing_and_no_further(limit: int, used: int) -> None:
    limited = rules(row(1, 1, 1, Tier.FREE, AccessLevel.LIMITED, limit))
    kind = CartridgeKind(1, 1)
    decision = decide(kind, limited, Entitlements(Tier.FREE, uses={kind: Uses(used, used)}))
    assert decision.remaining_daily == max(limit - used, 0)
    assert decision.remaining_monthly == NO_LIMIT
    assert decision.allowed == (used < limit)


def test_an_add_on_opens_what_it_was_bought_for() -> None:
    kind = CartridgeKind(2, 3)
    bought = {
        "nothing": (),
        "the type": (kind,),
        "the category": (CartridgeKind(2, 0),),
        "another type": (CartridgeKind(2, 4),),
        "another category": (CartridgeKind(3, 0),),
    }
    allowed = {name: decide(kind, SEEDED, Entitlements(Tier.BASIC, owned)).allowed for name, owned in bought.items()}
    assert [name for name, is_allowed in allowed.items() if is_allowed] == ["the type", "the category"]
    assert not decide(kind, SEEDED, Entitlements(Tier.FREE, bought["the type"])).allowed  # the free plan has no add-ons


def test_the_price_of_an_add_on_is_told_where_one_is_needed() -> None:
    prices = {CartridgeKind(2, 0): 19_900, CartridgeKind(2, 1): 4_900}
    told = {
        (tier, type_index): decide(
            CartridgeKind(2, type_index), SEEDED, Entitlements(tier, add_on_prices=prices)
        ).add_on_price_krw
        for tier in (Tier.FREE, Tier.BASIC, Tier.PRO)
        for type_index in (1, 2)
    }
    assert told == {
        (Tier.FREE, 1): 0,
        (Tier.FREE, 2): 0,
        (Tier.BASIC, 1): 4_900,
        (Tier.BASIC, 2): 19_900,
        (Tier.PRO, 1): 0,
        (Tier.PRO, 2): 0,
    }


@pytest.mark.parametrize(
    ("tier", "kind", "owned", "used", "english", "korean"),
    [
        (Tier.PRO, (1, 4), (), 0, "Included in your plan.", "현재 플랜에 포함되어 있습니다."),
        (Tier.FREE, (1, 1), (), 1, "You may use it 2 more times today.", "오늘 2회 더 사용할 수 있습니다."),
        (
            Tier.FREE,
            (1, 1),
            (),
            3,
            "You have used it as often as your plan allows today.",
            "오늘 사용 횟수를 모두 썼습니다.",
        ),
        (Tier.FREE, (1, 4), (), 0, "Available from the plan Basic.", "베이직 플랜부터 사용할 수 있습니다."),
        (
            Tier.BASIC,
            (2, 1),
            (),
            0,
            "Available as an add-on for 19,900 won.",
            "19,900원에 추가 구매하면 사용할 수 있습니다.",
        ),
        (Tier.BASIC, (2, 1), ((2, 0),), 0, "You have bought this as an add-on.", "추가 구매한 카트리지입니다."),
        (
            Tier.PRO,
            (7, 1),
            (),
            0,
            "An add-on that is not sold at present.",
            "추가 구매가 필요하지만 지금은 판매하지 않습니다.",
        ),
        (
            Tier.CLINICAL,
            (0xFE, 1),
            (),
            0,
            "You may use it in the beta programme.",
            "베타 프로그램으로 사용할 수 있습니다.",
        ),
        (Tier.PRO, (0x09, 1), (), 0, "No plan offers this cartridge at present.", "현재 제공하는 플랜이 없습니다."),
    ],
)
def test_the_decision_is_told_as_a_sentence(
    tier: Tier,
    kind: tuple[int, int],
    owned: tuple[tuple[int, int], ...],
    used: int,
    english: str,
    korean: str,
) -> None:
    person = Entitlements(
        tier,
        [CartridgeKind(*codes) for codes in owned],
        {CartridgeKind(*kind): Uses(used, used)},
        {CartridgeKind(2, 0): 19_900},
    )
    decision = decide(CartridgeKind(*kind), SEEDED, person)
    assert access_message(decision, PLAN_OF, "en") == english
    assert access_message(decision, PLAN_OF, "ko") == korean


@pytest.mark.parametrize("codes", [(0, 1), (1, 0), (256, 1), (1, 256), (-1, 1), (2**31 - 1, 1)])
def test_codes_that_no_tag_has_are_refused(codes: tuple[int, int]) -> None:
    with pytest.raises(SubscriptionFieldInvalid):
        CartridgeKind.of(*codes)
