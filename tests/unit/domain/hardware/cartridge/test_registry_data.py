"""What the registry starts with: the built-in categories and types, each with limits that have a source."""

from dataclasses import asdict

import pytest

from domain.hardware.cartridge.models import CartridgeCategory, CartridgeType
from domain.hardware.cartridge.registry import category_of, is_loinc
from domain.hardware.cartridge.registry_data import CATEGORIES, TYPES
from domain.units import LOINC_UNITS

BUILT_IN = """
0101 01 Glucose 혈당,0102 02 LipidPanel 지질 패널,0103 03 HbA1c 당화혈색소,0104 04 UricAcid 요산
0105 05 Creatinine 크레아티닌,0106 06 VitaminD 비타민 D,0107 07 VitaminB12 비타민 B12,0108 08 Ferritin 페리틴
0109 09 Tsh 갑상선자극호르몬,010A 0A Cortisol 코르티솔,010B 0B Testosterone 테스토스테론
010C 0C Estrogen 에스트로겐,010D 0D Crp C-반응성 단백,010E 0E Insulin 인슐린,0201 20 WaterQuality 수질
0202 21 IndoorAirQuality 실내 공기질,0203 22 Radon 라돈,0204 23 Radiation 방사능,0301 30 PesticideResidue 잔류 농약
0302 31 FoodFreshness 식품 신선도,0303 32 Allergen 알레르겐,0304 33 DateDrug 데이트 약물,0401 40 ENose 전자코
0402 41 ETongue 전자혀,0403 42 EhdGas EHD 가스,0501 50 NonTarget448 비표적 448,0502 51 NonTarget896 비표적 896
0503 52 NonTarget1792 비표적 1792,0504 53 MultiBiomarker 다중 바이오마커,FF01 FF CustomResearch 맞춤형 연구
"""
CATEGORY_NAMES = """
01 HealthBiomarker 건강 바이오마커,02 Environmental 환경,03 FoodSafety 식품 안전,04 ElectronicSensor 전자 센서
05 AdvancedAnalysis 고급 분석,06 Industrial 산업,07 Veterinary 수의,08 Pharmaceutical 제약,09 Agricultural 농업
0A Cosmetic 화장품,0B Forensic 법의학,0C Marine 해양,F0-FD ThirdParty 서드파티,FE Beta 베타
FF CustomResearch 맞춤형 연구
"""


def entries(text: str) -> list[str]:
    return text.strip().replace("\n", ",").split(",")


def test_the_types_are_those_that_tags_in_the_field_name() -> None:
    shown = [f"{t.category:02X}{t.type_index:02X} {t.legacy_code:02X} {t.name_en} {t.name_ko}" for t in TYPES]
    assert shown == entries(BUILT_IN)


def test_the_categories_are_those_that_tags_in_the_field_name() -> None:
    shown = [
        f"{c.code:02X}{'' if c.code == c.last_code else f'-{c.last_code:02X}'} {c.name_en} {c.name_ko}"
        for c in CATEGORIES
    ]
    assert shown == entries(CATEGORY_NAMES)


@pytest.mark.parametrize("code", ["2339-0", "2093-3", "62292-8", "20448-7", "8480-6"])
def test_real_loinc_codes_pass_their_check_digit_and_neighbours_do_not(code: str) -> None:
    assert is_loinc(code)
    assert not is_loinc(code[:-1] + str((int(code[-1]) + 1) % 10))


def test_every_loinc_code_of_the_registry_has_a_check_digit_that_fits() -> None:
    assert [t.name_en for t in TYPES if t.loinc_code is not None and not is_loinc(t.loinc_code)] == []


def test_every_loinc_code_of_the_registry_is_for_the_unit_of_its_type() -> None:
    coded = [t for t in TYPES if t.loinc_code is not None]
    assert [t.name_en for t in coded if t.unit not in LOINC_UNITS[t.loinc_code or ""]] == []
    assert len(coded) == 14


def test_limits_have_a_source_and_critical_limits_lie_outside_of_the_normal_range() -> None:
    for type_ in TYPES:
        limits = (type_.reference_low, type_.reference_high, type_.critical_low, type_.critical_high)
        assert (any(limit is not None for limit in limits)) is bool(type_.source), type_.name_en
        if type_.critical_low is not None and type_.reference_low is not None:
            assert type_.critical_low < type_.reference_low, type_.name_en
        if type_.critical_high is not None and type_.reference_high is not None:
            assert type_.critical_high > type_.reference_high, type_.name_en


def test_a_reference_range_reads_as_people_write_it() -> None:
    ranges = {t.name_en: CartridgeType(**asdict(t)).reference_range for t in TYPES}
    assert ranges["Glucose"] == "70-99 mg/dL (fasting)"
    assert ranges["Crp"] == "<=5 mg/L"
    assert ranges["ENose"] == ""


def test_a_code_of_its_own_goes_before_the_range_that_it_lies_in() -> None:
    categories = [CartridgeCategory(**asdict(c)) for c in CATEGORIES]
    own = CartridgeCategory(code=0xF3, last_code=0xF3, name_en="Acme", name_ko="아크메")
    found = category_of(0xF3, categories)
    assert found is not None
    assert found.name_en == "ThirdParty"
    assert category_of(0xF3, [*categories, own]) is own
    assert category_of(0x20, categories) is None
