"""The one line of an order for a period of a plan."""

from dataclasses import dataclass
from typing import Literal

from domain.commerce.shop.models import OrderItem
from domain.commerce.terms import Tier

PlanChargeKind = Literal["start", "upgrade", "renewal"]

_TIERS = {
    Tier.FREE: ("무료 요금제", "Free plan"),
    Tier.BASIC: ("베이직 요금제", "Basic plan"),
    Tier.PRO: ("프로 요금제", "Pro plan"),
    Tier.CLINICAL: ("클리니컬 요금제", "Clinical plan"),
}
_KINDS: dict[PlanChargeKind, tuple[str, str]] = {
    "start": ("시작", "start"),
    "upgrade": ("업그레이드", "upgrade"),
    "renewal": ("갱신", "renewal"),
}


@dataclass(frozen=True, slots=True)
class PlanLine:
    """What an order for a plan names. Without a tier: of a payment whose charge was not heard of (yet)."""

    tier: Tier | None = None
    kind: PlanChargeKind = "start"

    def name(self, *items: OrderItem) -> None:
        """Write the line's names into its row."""
        for item in items:
            item.product_id = "plan" if self.tier is None else f"plan-{self.tier.value}"
            item.name_ko, item.name_en = self._names()

    def _names(self) -> tuple[str, str]:
        if self.tier is None:
            return "구독 요금제", "Subscription plan"
        (plan_ko, plan_en), (kind_ko, kind_en) = _TIERS[self.tier], _KINDS[self.kind]
        return f"{plan_ko} ({kind_ko})", f"{plan_en} ({kind_en})"
