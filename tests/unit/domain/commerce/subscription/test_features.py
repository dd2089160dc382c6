"""The features of plans by name."""

from itertools import pairwise

import pytest

from domain.commerce.subscription.errors import FeatureUnknown
from domain.commerce.subscription.features import FEATURES, decide, features_of
from domain.commerce.subscription.models import Plan
from domain.commerce.subscription.plan_data import PLANS
from domain.commerce.terms import Tier

ALL = [
    Plan(
        tier=entry.tier,
        name_en=entry.name_en,
        name_ko=entry.name_ko,
        max_devices=entry.max_devices,
        max_family_members=entry.max_family_members,
        ai_coaching_enabled=entry.ai_coaching_enabled,
        telemedicine_enabled=entry.telemedicine_enabled,
    )
    for entry in PLANS
]


def test_a_higher_plan_includes_all_that_a_lower_one_does() -> None:
    for lower, higher in pairwise(ALL):
        assert set(features_of(lower)) <= set(features_of(higher))
    assert features_of(ALL[-1]) == list(FEATURES)


@pytest.mark.parametrize(
    ("feature", "required"),
    [
        ("measurement", Tier.FREE),
        ("daily_tips", Tier.FREE),
        ("multiple_devices", Tier.BASIC),
        ("family_group", Tier.BASIC),
        ("ai_coaching", Tier.PRO),
        ("telemedicine", Tier.CLINICAL),
    ],
)
def test_a_feature_is_allowed_from_its_lowest_plan_on(feature: str, required: Tier) -> None:
    for plan in ALL:
        decision = decide(feature, plans=ALL, current=plan)
        assert decision.required_tier is required
        assert decision.allowed == (Tier(plan.tier).rank >= required.rank)


def test_a_feature_that_no_plan_has_is_allowed_to_nobody() -> None:
    none = [Plan(tier=Tier.FREE, name_en="Free", name_ko="무료", telemedicine_enabled=False)]
    decision = decide("telemedicine", plans=none, current=none[0])
    assert (decision.allowed, decision.required_tier) == (False, None)
    assert decision.message("en") == "Video consultations: no plan includes this at present."
    assert decision.message("ko") == "화상 진료: 현재 제공하는 플랜이 없습니다."


def test_the_decision_is_told_as_a_sentence() -> None:
    free = decide("ai_coaching", plans=ALL, current=ALL[0])
    assert free.message("en") == "AI coaching: available from the plan Pro."
    assert free.message("ko") == "AI 코칭: 프로 플랜부터 이용할 수 있습니다."
    pro = decide("ai_coaching", plans=ALL, current=ALL[2])
    assert pro.message("en") == "AI coaching: included in your plan Pro."
    assert pro.message("ko") == "AI 코칭: 현재 프로 플랜에 포함되어 있습니다."


@pytest.mark.parametrize("name", ["", "AI_COACHING", "flying", "x" * 100_000, "nul\0"])
def test_a_feature_that_nobody_knows_is_not_found(name: str) -> None:
    with pytest.raises(FeatureUnknown) as refused:
        decide(name, plans=ALL, current=ALL[0])
    assert len(refused.value.message) < 300
