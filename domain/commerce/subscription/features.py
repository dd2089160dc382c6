"""The features that a plan is asked for by name, and which plan includes each.

All are read off the plan's own columns, so that a feature and the limit behind it cannot disagree.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from domain.commerce.subscription.errors import FeatureUnknown
from domain.commerce.subscription.models import Plan
from domain.commerce.terms import Tier

FEATURES: Mapping[str, Callable[[Plan], bool]] = {
    "measurement": lambda _: True,
    "daily_tips": lambda _: True,
    "multiple_devices": lambda plan: plan.max_devices > 1,
    "family_group": lambda plan: plan.max_family_members > 1,
    "ai_coaching": lambda plan: plan.ai_coaching_enabled,
    "telemedicine": lambda plan: plan.telemedicine_enabled,
}

_TEXTS: Mapping[str, tuple[str, str]] = {
    "measurement": ("Measuring", "측정"),
    "daily_tips": ("Daily tips", "오늘의 건강 팁"),
    "multiple_devices": ("Several readers", "여러 대의 리더기"),
    "family_group": ("A family group", "가족 그룹"),
    "ai_coaching": ("AI coaching", "AI 코칭"),
    "telemedicine": ("Video consultations", "화상 진료"),
}


@dataclass(frozen=True, slots=True)
class FeatureDecision:
    """Whether a plan includes a feature.

    Args:
        required: the lowest plan that does; None when no plan does.
        current: the plan in force.
    """

    feature: str
    allowed: bool
    required: Plan | None
    current: Plan

    @property
    def required_tier(self) -> Tier | None:
        return Tier(self.required.tier) if self.required else None

    def message(self, locale: Literal["ko", "en"]) -> str:
        """The decision as a sentence."""
        english, korean = _TEXTS[self.feature]
        if self.allowed:
            if locale == "ko":
                return f"{korean}: 현재 {self.current.name_ko} 플랜에 포함되어 있습니다."
            return f"{english}: included in your plan {self.current.name_en}."
        if self.required is None:
            if locale == "ko":
                return f"{korean}: 현재 제공하는 플랜이 없습니다."
            return f"{english}: no plan includes this at present."
        if locale == "ko":
            return f"{korean}: {self.required.name_ko} 플랜부터 이용할 수 있습니다."
        return f"{english}: available from the plan {self.required.name_en}."


def features_of(plan: Plan) -> list[str]:
    """The names of what a plan includes."""
    return [name for name, includes in FEATURES.items() if includes(plan)]


def decide(feature: str, *, plans: Sequence[Plan], current: Plan) -> FeatureDecision:
    """Whether the plan in force includes a feature.

    Args:
        plans: all of them, lowest tier first.
    Raises:
        FeatureUnknown: there is no such feature.
    """
    includes = FEATURES.get(feature)
    if includes is None:
        raise FeatureUnknown(f"There is no feature {feature[:40]!r}; there are {', '.join(FEATURES)}.")
    required = next((plan for plan in plans if includes(plan)), None)
    return FeatureDecision(feature, allowed=includes(current), required=required, current=current)
