"""Rules of values from outside that all services share: texts with their length, ids, phones, mail addresses, zones, dates, numbers.

The length comes first. What looks at every character (`strip`, `lower`, Unicode normalization, regular expressions, mail address
rules, password hashes) runs only over a text that is short enough. Transports have wider bounds of their own (`subgraphs/runtime/bounds.py`),
but a command may not rely on them: events, files and commands of operators do not pass through them.

Each function answers the value as it is stored, or raises. A service that has an error of its own for its fields passes it as
`error`: something that makes an error from the field's name and from the rule that it breaks, such as "must be a date".
"""

import math
import re
import unicodedata
import zoneinfo
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from functools import cache
from typing import TypeVar

from domain.errors import AppError, InvalidInput

FieldError = Callable[[str, str], AppError]
Number = TypeVar("Number", int, float)

MAX_ID = 128
MAX_MAIL = 254
"""Characters of a mail address. Source: RFC 5321, section 4.5.3.1.3, without the angle brackets."""

_MAX_LABEL = 63
_MAX_LANGUAGE = 35
_MAX_PHONE = 40
_MAX_ZONE = 64
_DATE_LENGTH = 10
_EARLIEST = date(1900, 1, 1)
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")  # RFC 5646, without extensions and private use
_PHONE = re.compile(r"\+?[0-9]{8,15}", re.ASCII)
_PHONE_FILLERS = re.compile(r"[ ().-]")
_UNWANTED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Controls, what turns the direction of text, halves of surrogate pairs, and characters that are not assigned."""
_JOINERS = "\u200c\u200d"  # of many scripts, and within emoji


class FieldInvalid(InvalidInput):
    """A field breaks its rule. The value is not repeated: it may be health data, or megabytes."""

    reason = "FIELD_INVALID"

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field} {rule}.", field=field)


class TextTooLong(FieldInvalid):
    """A text is longer than its field takes."""

    reason = "TEXT_TOO_LONG"


class TooManyItems(FieldInvalid):
    """A list or a map has more entries than its field takes."""

    reason = "TOO_MANY_ITEMS"


class NumberOutOfRange(FieldInvalid):
    """A number is outside of the range of its field, not a number, or infinite."""

    reason = "NUMBER_OUT_OF_RANGE"


# --- texts


def short_enough(value: str, longest: int, *, field: str, error: FieldError = TextTooLong) -> str:
    """The text, when it has at most `longest` characters: the check that comes before every other."""
    if len(value) > longest:
        raise error(field, f"must have at most {longest} characters")
    return value


def line(value: str, *, field: str, longest: int, shortest: int = 1, error: FieldError = FieldInvalid) -> str:
    """One line of text, in composed form (NFC) and without space around it."""
    rule = f"must have {shortest} to {longest} printable characters, on one line"
    text = _composed(value, longest, field, rule, error)
    if not shortest <= len(text) <= longest or not is_text(text):
        raise error(field, rule)
    return text


def paragraphs(value: str, *, field: str, longest: int, shortest: int = 0, error: FieldError = FieldInvalid) -> str:
    """Text of several lines, in composed form (NFC), with line feeds between them."""
    rule = f"must have {shortest} to {longest} printable characters"
    text = _composed(value, longest, field, rule, error).replace("\r\n", "\n")
    if not shortest <= len(text) <= longest or not is_text(text, breaks="\n\t"):
        raise error(field, rule)
    return text


def _composed(value: str, longest: int, field: str, rule: str, error: FieldError) -> str:
    # Decomposed Hangul has up to three characters for one.
    if len(value) > 4 * longest:
        raise error(field, rule)
    return unicodedata.normalize("NFC", value).strip()


def is_text(value: str, *, breaks: str = "") -> bool:
    """Whether all of it can be shown; `breaks` are control characters that are taken as well."""
    return all(is_shown(character) or character in breaks for character in value)


def is_shown(character: str) -> bool:
    """Whether a character can be shown in a message to people."""
    return unicodedata.category(character) not in _UNWANTED or character in _JOINERS


def identifier(value: str, *, field: str, longest: int = MAX_ID, error: FieldError = FieldInvalid) -> str:
    """An opaque id: 1 to `longest` printable characters, as they are."""
    if not 0 < len(value) <= longest or not value.isprintable():
        raise error(field, f"must have 1 to {longest} printable characters")
    return value


def matching(
    value: str, pattern: re.Pattern[str], *, field: str, longest: int, rule: str, error: FieldError = FieldInvalid
) -> str:
    """A text of a form of its own; `rule` says which, such as "must be a clock time like 22:00"."""
    if len(value) > longest or not pattern.fullmatch(value):
        raise error(field, rule)
    return value


def https_url(value: str, *, field: str, longest: int = 2048, error: FieldError = FieldInvalid) -> str:
    """An https address, or an empty text."""
    rule = f"must be an https:// address of at most {longest} characters"
    if len(value) > longest:
        raise error(field, rule)
    if value and (not value.startswith("https://") or not value.isprintable() or " " in value):
        raise error(field, rule)
    return value


# --- people


def phone(value: str, *, field: str, error: FieldError = FieldInvalid) -> str:
    """A phone number without its spaces and dashes; best in E.164 form."""
    bare = _PHONE_FILLERS.sub("", value) if len(value) <= _MAX_PHONE else ""
    if not _PHONE.fullmatch(bare):
        raise error(field, 'must be a phone number such as "+821012345678"')
    return bare


def mail_shape(value: str, *, field: str = "email", error: FieldError = FieldInvalid) -> str:
    """The text without space around it, when its length lets it be a mail address: mapping of names (IDNA) takes time that
    grows with the square of a label's length.
    """
    if len(value) > MAX_MAIL + 16:
        raise error(field, f"must have at most {MAX_MAIL} characters")
    text = value.strip()
    labels = text.rpartition("@")[2].split(".")
    if len(text) > MAX_MAIL or any(len(label) > _MAX_LABEL for label in labels):
        raise error(field, f"must have at most {MAX_MAIL} characters, and {_MAX_LABEL} between the dots of its domain")
    return text


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def timezone(value: str, *, field: str = "timezone", error: FieldError = FieldInvalid) -> str:
    """An IANA time zone."""
    if len(value) > _MAX_ZONE or value not in _zones():
        raise error(field, 'must be an IANA time zone such as "Asia/Seoul"')
    return value


def language(value: str, *, field: str = "language", error: FieldError = FieldInvalid) -> str:
    """A BCP 47 tag."""
    if len(value) > _MAX_LANGUAGE or not _LANGUAGE.fullmatch(value):
        raise error(field, 'must be a BCP 47 tag such as "ko" or "en-US"')
    return value


# --- dates, numbers, lists


def iso_date(
    value: str, *, field: str, earliest: date = date.min, latest: date = date.max, error: FieldError = FieldInvalid
) -> date:
    """An ISO 8601 date with four digits of the year, within the range (both ends included)."""
    try:
        parsed = date.fromisoformat(value) if len(value) == _DATE_LENGTH else None
    except ValueError:
        parsed = None
    if parsed is None or parsed.isoformat() != value or not earliest <= parsed <= latest:
        span = f", from {earliest} to {latest}" if earliest > date.min or latest < date.max else ""
        raise error(field, f'must be a date such as "1990-05-17"{span}')
    return parsed


def birth_date(value: str, *, today: date, field: str = "birth_date", error: FieldError = FieldInvalid) -> str:
    """A date of birth; in the time zone furthest east it may be tomorrow already."""
    return iso_date(value, field=field, earliest=_EARLIEST, latest=today + timedelta(days=1), error=error).isoformat()


def within(value: Number, low: Number, high: Number, *, field: str, error: FieldError = NumberOutOfRange) -> Number:
    """A finite number of the range, both ends included."""
    if not math.isfinite(value) or not low <= value <= high:
        raise error(field, f"must be between {_shown(low)} and {_shown(high)}")
    return value


def _shown(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def few_enough(values: Sequence[object], most: int, *, field: str, error: FieldError = TooManyItems) -> None:
    """Raises: `error`: the list has more than `most` entries."""
    if len(values) > most:
        raise error(field, f"must have at most {most} entries")
