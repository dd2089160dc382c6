"""Units in which a quantity is told: the one place that converts a value, and says which unit a LOINC code has.

Mass and amount of substance of one analyte are joined by its molar mass M in g/mol:

    c [mol/L] = c [g/L] / M

A value is converted where it is shown, with the digits of the unit that it is shown in, and never stored so. LOINC has a
code of its own for either kind ("Mass/volume" and "Moles/volume"), so code and unit change together.

Sources: LOINC 2.78, property and example UCUM units of the codes below. Molar masses: IUPAC standard atomic weights 2021,
for glucose C6H12O6, cholesterol C27H46O, urate (as uric acid) C5H4N4O3, creatinine C4H7N3O, 25-hydroxyvitamin D3 C27H44O2,
cyanocobalamin C63H88CoN14O14P, cortisol C21H30O5, testosterone C19H28O2, oestradiol C18H24O2. Triglycerides are a mixture:
885.4 is triolein, by convention (NCEP ATP III conversion 88.57 mg/dL per mmol/L within 0.1 %).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

_GRAMS_PER_LITRE = {"mg/dL": 1e-2, "ug/dL": 1e-5, "ng/dL": 1e-8, "ng/mL": 1e-6, "pg/mL": 1e-9}
_MOLES_PER_LITRE = {"mmol/L": 1e-3, "umol/L": 1e-6, "nmol/L": 1e-9, "pmol/L": 1e-12}


class ResultUnits(StrEnum):
    """In which kind of unit a person reads results; what has one kind only is read as it was measured."""

    AS_MEASURED = "as_measured"
    MASS = "mass"
    AMOUNT = "amount"


@dataclass(frozen=True, slots=True)
class Form:
    """An analyte in one unit.

    Args:
        unit: UCUM.
        loinc_code: empty when there is none that fits.
        decimal_places: digits after the point that a value in it has.
    """

    unit: str
    loinc_code: str
    decimal_places: int


@dataclass(frozen=True, slots=True)
class Analyte:
    """What can be told by its mass or by its amount; `molar_mass` in g/mol."""

    molar_mass: float
    mass: Form
    amount: Form

    @property
    def amount_per_mass(self) -> float:
        """How much of the unit of `amount` is one of the unit of `mass`."""
        return _GRAMS_PER_LITRE[self.mass.unit] / self.molar_mass / _MOLES_PER_LITRE[self.amount.unit]


ANALYTES: Mapping[str, Analyte] = {
    "glucose": Analyte(180.156, Form("mg/dL", "2339-0", 0), Form("mmol/L", "15074-8", 1)),
    "cholesterol": Analyte(386.65, Form("mg/dL", "2093-3", 0), Form("mmol/L", "14647-2", 2)),
    "triglycerides": Analyte(885.4, Form("mg/dL", "2571-8", 0), Form("mmol/L", "14927-8", 2)),
    "urate": Analyte(168.11, Form("mg/dL", "3084-1", 1), Form("umol/L", "14933-6", 0)),
    "creatinine": Analyte(113.12, Form("mg/dL", "2160-0", 2), Form("umol/L", "14682-9", 0)),
    "25-hydroxyvitamin D": Analyte(400.64, Form("ng/mL", "62292-8", 1), Form("nmol/L", "", 0)),
    "cobalamin": Analyte(1355.37, Form("pg/mL", "2132-9", 0), Form("pmol/L", "14685-2", 0)),
    "cortisol": Analyte(362.46, Form("ug/dL", "2143-6", 1), Form("nmol/L", "14675-3", 0)),
    "testosterone": Analyte(288.42, Form("ng/dL", "2986-8", 0), Form("nmol/L", "14913-8", 2)),
    "oestradiol": Analyte(272.38, Form("pg/mL", "2243-4", 0), Form("pmol/L", "14715-7", 0)),
}

_OTHER_UNITS: Mapping[str, frozenset[str]] = {
    "4548-4": frozenset({"%"}),
    "2276-4": frozenset({"ng/mL", "ug/L"}),
    "3016-3": frozenset({"m[IU]/L", "u[IU]/mL"}),
    "1988-5": frozenset({"mg/L"}),
    "20448-7": frozenset({"u[IU]/mL", "m[IU]/L"}),
}
LOINC_UNITS: Mapping[str, frozenset[str]] = {
    **_OTHER_UNITS,
    **{
        form.loinc_code: frozenset({form.unit})
        for analyte in ANALYTES.values()
        for form in (analyte.mass, analyte.amount)
        if form.loinc_code
    },
}
"""The units (UCUM) that a result with a LOINC code may have."""

_BY_LOINC = {
    form.loinc_code: analyte
    for analyte in ANALYTES.values()
    for form in (analyte.mass, analyte.amount)
    if form.loinc_code
}


@dataclass(frozen=True, slots=True)
class Conversion:
    """How a value is told in another unit: `value * factor`, with the digits of `form`."""

    factor: float
    form: Form


def fits(loinc_code: str, unit: str) -> bool:
    """Whether a result with this code may have this unit; of a code that is not known here, nothing is said against it."""
    return unit in LOINC_UNITS.get(loinc_code, frozenset({unit}))


def conversion(loinc_code: str, unit: str, to: str) -> Conversion | None:
    """From the unit of a result with a LOINC code to another one; None where no molar mass joins them."""
    analyte = _BY_LOINC.get(loinc_code)
    if analyte is None or not fits(loinc_code, unit):
        return None
    mass, amount = analyte.mass, analyte.amount
    if (unit, to) == (mass.unit, amount.unit):
        return Conversion(analyte.amount_per_mass, amount)
    if (unit, to) == (amount.unit, mass.unit):
        return Conversion(1.0 / analyte.amount_per_mass, mass)
    return None


def chosen_unit(loinc_code: str, unit: str, chosen: ResultUnits) -> str:
    """The unit that somebody reads a result in who has chosen a kind of unit; its own where it has no such form."""
    analyte = _BY_LOINC.get(loinc_code)
    if analyte is None or not fits(loinc_code, unit) or chosen is ResultUnits.AS_MEASURED:
        return unit
    return (analyte.mass if chosen is ResultUnits.MASS else analyte.amount).unit
