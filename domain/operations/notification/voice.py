"""How values are said to a person: in their language, and times in their time zone."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Literal, assert_never
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from domain.operations.notification import fields

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


Value = str | float | datetime | Won | Bilingual


@dataclass(frozen=True, slots=True)
class Voice:
    language: Literal["ko", "en"]
    zone: tzinfo

    @classmethod
    def of(cls, language: str, timezone: str) -> "Voice":
        """Korean for Korean and for nothing; English for every other language. An unknown time zone is Seoul's."""
        subtag = language.lower().partition("-")[0]
        return cls(language="ko" if subtag in ("ko", "") else "en", zone=zone_of(timezone))

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
            case int() | float():
                return f"{value:,.6g}"
            case _:
                assert_never(value)

    def say_all(self, values: Mapping[str, Value]) -> dict[str, str]:
        return {name: self.say(value) for name, value in values.items()}

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
