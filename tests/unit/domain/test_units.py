"""Units: conversions by molar mass, and codes that agree with them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.hardware.cartridge.registry import is_loinc
from domain.quantities import digits
from domain.units import ANALYTES, LOINC_UNITS, ResultUnits, chosen_unit, conversion, fits


@pytest.mark.parametrize(
    ("loinc_code", "unit", "value", "to", "told"),
    [
        ("2339-0", "mg/dL", 168, "mmol/L", "9.3"),
        ("2339-0", "mg/dL", 20, "mmol/L", "1.1"),
        ("2339-0", "mg/dL", 54, "mmol/L", "3.0"),
        ("2339-0", "mg/dL", 600, "mmol/L", "33.3"),
        ("15074-8", "mmol/L", 5.6, "mg/dL", "101"),
        ("2093-3", "mg/dL", 200, "mmol/L", "5.17"),
        ("2571-8", "mg/dL", 150, "mmol/L", "1.69"),
        ("3084-1", "mg/dL", 7.0, "umol/L", "416"),
        ("2160-0", "mg/dL", 1.0, "umol/L", "88"),
        ("62292-8", "ng/mL", 20, "nmol/L", "50"),
        ("2132-9", "pg/mL", 200, "pmol/L", "148"),
        ("2143-6", "ug/dL", 10, "nmol/L", "276"),
        ("2986-8", "ng/dL", 300, "nmol/L", "10.40"),
        ("2243-4", "pg/mL", 100, "pmol/L", "367"),
    ],
)
def test_values_are_converted_by_the_molar_mass_with_the_digits_of_the_unit(
    loinc_code: str, unit: str, value: float, to: str, told: str
) -> None:
    found = conversion(loinc_code, unit, to)
    assert found is not None
    assert digits(value * found.factor, found.form.decimal_places) == told


@given(name=st.sampled_from(sorted(ANALYTES)), value=st.floats(0.001, 1e5))
def test_there_and_back_gives_the_same_value(name: str, value: float) -> None:
    analyte = ANALYTES[name]
    there = conversion(analyte.mass.loinc_code, analyte.mass.unit, analyte.amount.unit)
    assert there is not None
    if analyte.amount.loinc_code:
        back = conversion(analyte.amount.loinc_code, analyte.amount.unit, analyte.mass.unit)
        assert back is not None
        assert value * there.factor * back.factor == pytest.approx(value)


@pytest.mark.parametrize(
    ("loinc_code", "unit", "to"),
    [
        ("2339-0", "mmol/L", "mg/dL"),  # the code is for mg/dL: which of the two is right is not known
        ("2339-0", "mg/dL", "umol/L"),
        ("2339-0", "mg/dL", "MMOL/L"),
        ("2339-0", "[arb'U]", "mmol/L"),
        ("", "mg/dL", "mmol/L"),
        ("4548-4", "%", "mmol/mol"),
    ],
)
def test_what_no_molar_mass_joins_is_not_converted(loinc_code: str, unit: str, to: str) -> None:
    assert conversion(loinc_code, unit, to) is None


def test_a_code_of_mass_is_not_one_of_amount() -> None:
    assert all(is_loinc(code) for code in LOINC_UNITS)
    assert fits("2339-0", "mg/dL")
    assert not fits("2339-0", "mmol/L")
    assert fits("15074-8", "mmol/L")
    assert not fits("15074-8", "mg/dL")


@pytest.mark.parametrize(
    ("loinc_code", "unit", "chosen", "to"),
    [
        ("2339-0", "mg/dL", ResultUnits.AMOUNT, "mmol/L"),
        ("2339-0", "mg/dL", ResultUnits.MASS, "mg/dL"),
        ("15074-8", "mmol/L", ResultUnits.MASS, "mg/dL"),
        ("15074-8", "mmol/L", ResultUnits.AS_MEASURED, "mmol/L"),
        ("3084-1", "mg/dL", ResultUnits.AMOUNT, "umol/L"),
        ("4548-4", "%", ResultUnits.AMOUNT, "%"),
        ("", "mg/dL", ResultUnits.AMOUNT, "mg/dL"),
        ("2339-0", "[arb'U]", ResultUnits.AMOUNT, "[arb'U]"),
        (
            "2339-0",
            "mmol/L",
            ResultUnits.MASS,
            "mmol/L",
        ),  # the code is for mg/dL: which of the two is right is not known
    ],
)
def test_a_result_is_read_in_the_chosen_kind_of_unit_where_it_has_one(
    loinc_code: str, unit: str, chosen: ResultUnits, to: str
) -> None:
    assert chosen_unit(loinc_code, unit, chosen) == to
