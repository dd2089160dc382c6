"""How values are said to a person: in their language, times in their time zone, and results in the unit that they chose."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Literal, assert_never
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from domain.operations.notification import fields
from domain.quantities import MAX_DECIMAL_PLACES, digits
from domain.units import ResultUnits, chosen_unit, conversion

DEFAULT_ZONE = "Asia/Seoul"
MAX_SAID = 200


@dataclass(frozen=True, slots=True)
class Won:
    """An amount of money, in whole won."""

    amount: int


@dataclass(frozen=True, slots=True)
class Bilingual:
    """The same in both languages; an empty one is told in the other."""

    ko: str
    en: str


@dataclass(frozen=True, slots=True)
class Measured:
    """A result, or a limit of one, said without its unit (`UnitOf`).

    Args:
        decimal_places: None where a service does not tell them: up to six digits are said then.
        comparator: stands before the value.
    """

    value: float
    unit: str
    loinc_code: str
    decimal_places: int | None
    comparator: str = ""


@dataclass(frozen=True, slots=True)
class UnitOf:
    """The unit of results with a LOINC code that were measured in `unit`."""

    unit: str
    loinc_code: str


Value = str | float | datetime | Won | Bilingual | Measured | UnitOf


@dataclass(frozen=True, slots=True)
class Voice:
    language: Literal["ko", "en"]
    zone: tzinfo
    units: ResultUnits = ResultUnits.AS_MEASURED

    @classmethod
    def of(cls, language: str, timezone: str, *, units: ResultUnits = ResultUnits.AS_MEASURED) -> "Voice":
        """Korean for Korean and for nothing; English for every other language. An unknown time zone is Seoul's."""
        subtag = language.lower().partition("-")[0]
        return cls(language="ko" if subtag in ("ko", "") else "en", zone=zone_of(timezone), units=units)

    def say(self, value: Value) -> str:
        """The value in words, on one line."""
        match value:
            case str():
                return fields.tidy(value, at_most=MAX_SAID)
            case Won(amount):
                return f"{amount:,}원" if self.language == "ko" else f"KRW {amount:,}"
            case Bilingual(ko, en):
                first, second = (ko, en) if self.language == "ko" else (en, ko)
                return fields.tidy(first or second, at_most=MAX_SAID)
            case datetime():
                return self._moment(value)
            case Measured():
                return self._measured(value)
            case UnitOf(unit, loinc_code):
                return fields.tidy(chosen_unit(loinc_code, unit, self.units), at_most=MAX_SAID)
            case int() | float():
                return f"{value:,.6g}"
            case _:
                assert_never(value)

    def say_all(self, values: Mapping[str, Value]) -> dict[str, str]:
        return {name: self.say(value) for name, value in values.items()}

    def _measured(self, result: Measured) -> str:
        to = chosen_unit(result.loinc_code, result.unit, self.units)
        known = conversion(result.loinc_code, result.unit, to)
        if known is not None:
            return result.comparator + digits(result.value * known.factor, known.form.decimal_places)
        places = result.decimal_places
        if places is None or not 0 <= places <= MAX_DECIMAL_PLACES:
            return f"{result.comparator}{result.value:,.6g}"
        return result.comparator + digits(result.value, places)

    def _moment(self, at: datetime) -> str:
        local = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(self.zone)
        if self.language == "ko":
            return f"{local.year}년 {local.month}월 {local.day}일 {local:%H:%M}"
        return f"{local.day} {_MONTHS[local.month - 1]} {local.year}, {local:%H:%M}"


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def zone_of(timezone: str) -> tzinfo:
    """The zone of an IANA name; that of Seoul for a name that is none."""
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo(DEFAULT_ZONE)
