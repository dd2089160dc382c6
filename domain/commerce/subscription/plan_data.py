"""The plans and rules of cartridge access that the tables start with; administrators may change them after.

Sources:
    Who may use which cartridges: the platform's published table of cartridge access by tier. A row of it that names
        several types stands here once for each, because limits are counted by type.
    Names of cartridge types: the platform's published list of cartridge types.
    Prices and limits of plans: the product's own choice. What an add-on costs, the shop's catalogue says.
"""

from dataclasses import dataclass

from domain.commerce.subscription.models import AccessLevel
from domain.commerce.terms import Tier

_INCLUDED, _ADD_ON, _RESTRICTED, _BETA = (
    AccessLevel.INCLUDED,
    AccessLevel.ADD_ON,
    AccessLevel.RESTRICTED,
    AccessLevel.BETA,
)


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """A row of `plans`."""

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


@dataclass(frozen=True, slots=True)
class AccessEntry:
    """A row of `cartridge_access_rules`."""

    first_category: int
    last_category: int
    type_index: int
    tier: Tier
    level: AccessLevel
    daily_limit: int | None
    monthly_limit: int | None


@dataclass(frozen=True, slots=True)
class NameEntry:
    """A row of `cartridge_names`."""

    category_code: int
    type_index: int
    legacy_code: int
    name_en: str
    name_ko: str


PLANS: tuple[PlanEntry, ...] = (
    PlanEntry(
        tier=Tier.FREE,
        name_en="Free",
        name_ko="무료",
        description_en="One reader and the three most common health cartridges, up to three times a day each.",
        description_ko="리더기 1대와 기본 건강 카트리지 3종을 종류별로 하루 3회까지 사용합니다.",
        monthly_price_krw=0,
        max_devices=1,
        max_family_members=1,
        ai_coaching_enabled=False,
        telemedicine_enabled=False,
    ),
    PlanEntry(
        tier=Tier.BASIC,
        name_en="Basic",
        name_ko="베이직",
        description_en="All health cartridges for two people; environment and food cartridges as add-ons.",
        description_ko="두 사람이 모든 건강 카트리지를 사용하고, 환경과 식품 카트리지는 추가로 구매합니다.",
        monthly_price_krw=9900,
        max_devices=2,
        max_family_members=2,
        ai_coaching_enabled=False,
        telemedicine_enabled=False,
    ),
    PlanEntry(
        tier=Tier.PRO,
        name_en="Pro",
        name_ko="프로",
        description_en="AI coaching for the whole family, with environment, food and sensor cartridges.",
        description_ko="온 가족을 위한 AI 코칭과 환경, 식품, 전자 센서 카트리지를 제공합니다.",
        monthly_price_krw=29900,
        max_devices=5,
        max_family_members=6,
        ai_coaching_enabled=True,
        telemedicine_enabled=False,
    ),
    PlanEntry(
        tier=Tier.CLINICAL,
        name_en="Clinical",
        name_ko="클리니컬",
        description_en="For clinics and professionals: every cartridge, and video consultations.",
        description_ko="의료기관과 전문가를 위한 플랜으로, 모든 카트리지와 화상 진료를 제공합니다.",
        monthly_price_krw=59900,
        max_devices=100,
        max_family_members=20,
        ai_coaching_enabled=True,
        telemedicine_enabled=True,
    ),
)

_CATEGORIES: tuple[tuple[int, int, tuple[AccessLevel, AccessLevel, AccessLevel, AccessLevel]], ...] = (
    (0x01, 0x01, (_RESTRICTED, _INCLUDED, _INCLUDED, _INCLUDED)),
    (0x02, 0x02, (_RESTRICTED, _ADD_ON, _INCLUDED, _INCLUDED)),
    (0x03, 0x03, (_RESTRICTED, _ADD_ON, _INCLUDED, _INCLUDED)),
    (0x04, 0x04, (_RESTRICTED, _RESTRICTED, _INCLUDED, _INCLUDED)),
    (0x05, 0x05, (_RESTRICTED, _RESTRICTED, _ADD_ON, _INCLUDED)),
    (0x06, 0x06, (_RESTRICTED, _RESTRICTED, _RESTRICTED, _INCLUDED)),
    (0x07, 0x07, (_RESTRICTED, _RESTRICTED, _ADD_ON, _INCLUDED)),
    (0x08, 0x08, (_RESTRICTED, _RESTRICTED, _RESTRICTED, _INCLUDED)),
    (0xF0, 0xFD, (_RESTRICTED, _RESTRICTED, _ADD_ON, _ADD_ON)),
    (0xFE, 0xFE, (_RESTRICTED, _RESTRICTED, _RESTRICTED, _BETA)),
    (0xFF, 0xFF, (_RESTRICTED, _RESTRICTED, _RESTRICTED, _INCLUDED)),
)
_FREE_TYPES, _FREE_DAILY_LIMIT = (0x01, 0x02, 0x03), 3


def _entry(
    first: int, last: int, type_index: int, tier: Tier, level: AccessLevel, *, daily_limit: int | None = None
) -> AccessEntry:
    return AccessEntry(first, last, type_index, tier, level, daily_limit, None)


ACCESS_RULES: tuple[AccessEntry, ...] = (
    *(
        _entry(0x01, 0x01, type_index, tier, AccessLevel.INCLUDED)
        if tier is not Tier.FREE
        else _entry(0x01, 0x01, type_index, tier, AccessLevel.LIMITED, daily_limit=_FREE_DAILY_LIMIT)
        for type_index in _FREE_TYPES
        for tier in Tier
    ),
    *(
        _entry(first, last, 0, tier, level)
        for first, last, levels in _CATEGORIES
        for tier, level in zip(Tier, levels, strict=True)
    ),
)

CARTRIDGE_NAMES: tuple[NameEntry, ...] = tuple(
    NameEntry(*row)
    for row in (
        (0x01, 0x01, 0x01, "Glucose", "혈당"),
        (0x01, 0x02, 0x02, "LipidPanel", "지질 패널"),
        (0x01, 0x03, 0x03, "HbA1c", "당화혈색소"),
        (0x01, 0x04, 0x04, "UricAcid", "요산"),
        (0x01, 0x05, 0x05, "Creatinine", "크레아티닌"),
        (0x01, 0x06, 0x06, "VitaminD", "비타민 D"),
        (0x01, 0x07, 0x07, "VitaminB12", "비타민 B12"),
        (0x01, 0x08, 0x08, "Ferritin", "페리틴"),
        (0x01, 0x09, 0x09, "Tsh", "갑상선자극호르몬"),
        (0x01, 0x0A, 0x0A, "Cortisol", "코르티솔"),
        (0x01, 0x0B, 0x0B, "Testosterone", "테스토스테론"),
        (0x01, 0x0C, 0x0C, "Estrogen", "에스트로겐"),
        (0x01, 0x0D, 0x0D, "Crp", "C-반응성 단백"),
        (0x01, 0x0E, 0x0E, "Insulin", "인슐린"),
        (0x02, 0x01, 0x20, "WaterQuality", "수질"),
        (0x02, 0x02, 0x21, "IndoorAirQuality", "실내 공기질"),
        (0x02, 0x03, 0x22, "Radon", "라돈"),
        (0x02, 0x04, 0x23, "Radiation", "방사능"),
        (0x03, 0x01, 0x30, "PesticideResidue", "잔류 농약"),
        (0x03, 0x02, 0x31, "FoodFreshness", "식품 신선도"),
        (0x03, 0x03, 0x32, "Allergen", "알레르겐"),
        (0x03, 0x04, 0x33, "DateDrug", "데이트 약물"),
        (0x04, 0x01, 0x40, "ENose", "전자코"),
        (0x04, 0x02, 0x41, "ETongue", "전자혀"),
        (0x04, 0x03, 0x42, "EhdGas", "EHD 가스"),
        (0x05, 0x01, 0x50, "NonTarget448", "비표적 448"),
        (0x05, 0x02, 0x51, "NonTarget896", "비표적 896"),
        (0x05, 0x03, 0x52, "NonTarget1792", "비표적 1792"),
        (0x05, 0x04, 0x53, "MultiBiomarker", "다중 바이오마커"),
        (0xFF, 0x01, 0xFF, "CustomResearch", "맞춤형 연구"),
    )
)
