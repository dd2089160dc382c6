"""The products that the catalogue starts with; the migration loads them, and administrators may change them after.

A cartridge is sold from the lowest plan on whose holders may use it: included, limited by the day, or with a pass that is
bought apart. So a pass and the cartridges that it opens are for the same people. Prices are the product's own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from domain.commerce.shop.models import ProductCategory
from domain.commerce.terms import Tier

_PASS_STOCK = 100_000  # nothing is kept in a warehouse for it


@dataclass(frozen=True, slots=True)
class SeedProduct:
    """A product of the opening catalogue. `cartridge`, `add_on`: category code and type index (0: the whole category)."""

    product_id: str
    category: ProductCategory
    name_ko: str
    name_en: str
    description_ko: str
    description_en: str
    price_krw: int
    opening_stock: int
    required_tier: Tier = Tier.FREE
    cartridge: tuple[int, int] | None = None
    add_on: tuple[int, int] | None = None


_CARTRIDGES = (
    # category, type, English, Korean, price of a box, boxes in stock
    (0x01, 0x01, "Glucose", "혈당", 15_900, 500),
    (0x01, 0x02, "Lipid panel", "지질 패널", 32_000, 300),
    (0x01, 0x03, "HbA1c", "당화혈색소", 29_000, 300),
    (0x01, 0x04, "Uric acid", "요산", 19_900, 250),
    (0x01, 0x05, "Creatinine", "크레아티닌", 22_000, 250),
    (0x01, 0x06, "Vitamin D", "비타민 D", 35_000, 200),
    (0x01, 0x07, "Vitamin B12", "비타민 B12", 35_000, 200),
    (0x01, 0x08, "Ferritin", "페리틴", 33_000, 200),
    (0x01, 0x09, "TSH", "갑상선자극호르몬", 38_000, 150),
    (0x01, 0x0A, "Cortisol", "코르티솔", 36_000, 150),
    (0x01, 0x0B, "Testosterone", "테스토스테론", 39_000, 150),
    (0x01, 0x0C, "Estrogen", "에스트로겐", 39_000, 150),
    (0x01, 0x0D, "C-reactive protein (CRP)", "C-반응성 단백", 27_000, 200),
    (0x01, 0x0E, "Insulin", "인슐린", 37_000, 150),
    (0x02, 0x01, "Water quality", "수질", 24_000, 200),
    (0x02, 0x02, "Indoor air quality", "실내 공기질", 26_000, 200),
    (0x02, 0x03, "Radon", "라돈", 42_000, 120),
    (0x02, 0x04, "Radiation", "방사능", 55_000, 100),
    (0x03, 0x01, "Pesticide residue", "잔류 농약", 34_000, 150),
    (0x03, 0x02, "Food freshness", "식품 신선도", 18_900, 200),
    (0x03, 0x03, "Allergen", "알레르겐", 36_000, 150),
    (0x03, 0x04, "Date drug", "데이트 약물", 29_900, 150),
    (0x04, 0x01, "E-nose", "전자코", 68_000, 80),
    (0x04, 0x02, "E-tongue", "전자혀", 68_000, 80),
    (0x04, 0x03, "EHD gas", "EHD 가스", 74_000, 60),
    (0x05, 0x01, "Non-target 448", "비표적 448", 98_000, 60),
    (0x05, 0x02, "Non-target 896", "비표적 896", 148_000, 50),
    (0x05, 0x03, "Non-target 1792", "비표적 1792", 228_000, 40),
    (0x05, 0x04, "Multi-biomarker", "다중 바이오마커", 129_000, 60),
    (0xFF, 0x01, "Custom research", "맞춤형 연구", 290_000, 20),
)

_FREE_TYPES = frozenset({(0x01, 0x01), (0x01, 0x02), (0x01, 0x03)})
_TIER_OF_CATEGORY = {
    0x01: Tier.BASIC,
    0x02: Tier.BASIC,
    0x03: Tier.BASIC,
    0x04: Tier.PRO,
    0x05: Tier.PRO,
    0xFF: Tier.CLINICAL,
}

_PASSES = (
    # category, English, Korean, price, plan from which on it is sold
    (0x02, "Environmental cartridges", "환경 카트리지", 19_900, Tier.BASIC),
    (0x03, "Food safety cartridges", "식품 안전 카트리지", 19_900, Tier.BASIC),
    (0x05, "Advanced analysis cartridges", "고급 분석 카트리지", 49_900, Tier.PRO),
    (0x07, "Veterinary cartridges", "수의 카트리지", 39_900, Tier.PRO),
    *(
        (code, f"Third-party cartridges {code:02X}", f"서드파티 카트리지 {code:02X}", 29_900, Tier.PRO)
        for code in range(0xF0, 0xFE)
    ),
)

_OTHERS = (
    SeedProduct(
        product_id="reader-r1",
        category=ProductCategory.READER,
        name_ko="만파식 리더 R1",
        name_en="ManPaSik Reader R1",
        description_ko="88채널 가정용 판독기. 모든 건강 바이오마커, 환경, 식품 안전 카트리지에 맞습니다.",
        description_en="A reader with 88 channels for the home; fits health, environmental and food cartridges.",
        price_krw=249_000,
        opening_stock=150,
    ),
    SeedProduct(
        product_id="reader-r1-pro",
        category=ProductCategory.READER,
        name_ko="만파식 리더 R1 프로",
        name_en="ManPaSik Reader R1 Pro",
        description_ko="1792채널 전문가용 판독기. 전자 센서와 고급 분석을 포함한 모든 카트리지에 맞습니다.",
        description_en="A reader with 1792 channels for professionals; fits every cartridge.",
        price_krw=690_000,
        opening_stock=60,
    ),
    SeedProduct(
        product_id="accessory-case",
        category=ProductCategory.ACCESSORY,
        name_ko="휴대용 케이스",
        name_en="Carrying case",
        description_ko="판독기와 카트리지 열 개가 들어가는 단단한 케이스.",
        description_en="A hard case for a reader and ten cartridges.",
        price_krw=29_000,
        opening_stock=200,
    ),
    SeedProduct(
        product_id="accessory-charger",
        category=ProductCategory.ACCESSORY,
        name_ko="USB-C 충전 거치대",
        name_en="USB-C charging dock",
        description_ko="판독기를 세워 두고 충전합니다.",
        description_en="Holds and charges a reader.",
        price_krw=39_000,
        opening_stock=200,
    ),
    SeedProduct(
        product_id="accessory-lancets",
        category=ProductCategory.ACCESSORY,
        name_ko="채혈침 100개",
        name_en="Lancets, 100 pieces",
        description_ko="일회용 멸균 30G 채혈침.",
        description_en="Sterile 30G lancets for single use.",
        price_krw=9_900,
        opening_stock=1_000,
    ),
    SeedProduct(
        product_id="accessory-reference-solution",
        category=ProductCategory.ACCESSORY,
        name_ko="기준 용액 세트",
        name_en="Reference solution set",
        description_ko="판독기를 점검하고 보정하는 세 농도의 기준 용액.",
        description_en="Three concentrations to check and calibrate a reader with.",
        price_krw=24_000,
        opening_stock=300,
    ),
    SeedProduct(
        product_id="bundle-starter",
        category=ProductCategory.BUNDLE,
        name_ko="스타터 세트",
        name_en="Starter bundle",
        description_ko="리더 R1, 혈당 카트리지 두 상자, 채혈침 100개.",
        description_en="A Reader R1, two boxes of glucose cartridges and 100 lancets.",
        price_krw=279_000,
        opening_stock=80,
    ),
    SeedProduct(
        product_id="bundle-metabolic",
        category=ProductCategory.BUNDLE,
        name_ko="대사 건강 세트",
        name_en="Metabolic health bundle",
        description_ko="혈당, 지질 패널, 당화혈색소 카트리지를 한 상자씩.",
        description_en="A box each of glucose, lipid panel and HbA1c cartridges.",
        price_krw=69_000,
        opening_stock=120,
    ),
    SeedProduct(
        product_id="bundle-clean-home",
        category=ProductCategory.BUNDLE,
        name_ko="깨끗한 집 세트",
        name_en="Clean home bundle",
        description_ko="수질, 실내 공기질, 라돈 카트리지를 한 상자씩.",
        description_en="A box each of water, indoor air and radon cartridges.",
        price_krw=83_000,
        opening_stock=60,
        required_tier=Tier.BASIC,
    ),
)


def products() -> Iterator[SeedProduct]:
    """The opening catalogue, in the order in which it is listed."""
    for category, type_index, english, korean, price, stock in _CARTRIDGES:
        code = (category, type_index)
        yield SeedProduct(
            product_id=f"cartridge-{category:02x}-{type_index:02x}",
            category=ProductCategory.CARTRIDGE,
            name_ko=f"{korean} 카트리지",
            name_en=f"{english} cartridge",
            description_ko=f"{korean} 측정용 카트리지 10개 한 상자.",
            description_en=f"A box of 10 cartridges: {english}.",
            price_krw=price,
            opening_stock=stock,
            required_tier=Tier.FREE if code in _FREE_TYPES else _TIER_OF_CATEGORY[category],
            cartridge=code,
        )
    yield from _OTHERS
    for category, english, korean, price, tier in _PASSES:
        yield SeedProduct(
            product_id=f"pass-{category:02x}",
            category=ProductCategory.ACCESSORY,
            name_ko=f"{korean} 이용권",
            name_en=f"{english} pass",
            description_ko=f"구독 요금제에 {korean} 사용을 더합니다. 배송되지 않습니다.",
            description_en=f"Adds the use of {english[0].lower()}{english[1:]} to a plan. Nothing is shipped.",
            price_krw=price,
            opening_stock=_PASS_STOCK,
            required_tier=tier,
            add_on=(category, 0),
        )
