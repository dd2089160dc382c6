"""A result as a person reads it in the unit that they choose: value, limits and digits are converted together."""

from dataclasses import dataclass

from domain.measurement.measurement.models import Result, Session
from domain.quantities import MAX_DECIMAL_PLACES, digits, rounded
from domain.units import Conversion, Form, conversion


@dataclass(frozen=True, slots=True)
class Quantity:
    """A result in one unit. `comparator` stands before the value; limits are None where there are none.

    Args:
        loinc_code: of the result in this unit; empty when it has none.
    """

    value: float | None
    comparator: str
    unit: str
    decimal_places: int
    spread: float | None
    reference_low: float | None
    reference_high: float | None
    loinc_code: str

    @property
    def text(self) -> str | None:
        """Comparator and value with all their digits; None without a value."""
        return None if self.value is None else self.comparator + digits(self.value, self.decimal_places)


def quantity(session: Session, result: Result, unit: str) -> Quantity | None:
    """A result in a unit (UCUM); None when it cannot be told in it: no molar mass joins the units, or it is not judged."""
    judged = session.is_judged
    loinc_code = session.loinc_code if judged else ""
    if unit == result.unit:
        found: Conversion | None = Conversion(1.0, Form(unit, loinc_code, result.decimal_places))
    else:
        found = conversion(loinc_code, result.unit, unit)
    if found is None:
        return None
    places = found.form.decimal_places

    def told(value: float | None, digits_more: int = 0) -> float | None:
        return None if value is None else rounded(value * found.factor, min(places + digits_more, MAX_DECIMAL_PLACES))

    return Quantity(
        value=told(result.value),
        comparator=result.comparator,
        unit=unit,
        decimal_places=places,
        spread=told(result.spread, 1),
        reference_low=told(session.reference_low) if judged else None,
        reference_high=told(session.reference_high) if judged else None,
        loinc_code=found.form.loinc_code,
    )
