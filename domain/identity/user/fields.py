"""The rules of profile fields: each function answers the value as it is stored, or says which field is wrong and why."""

import math
import re
import zoneinfo
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import cache

from domain.identity.person import HealthDetails
from domain.identity.user.errors import InvalidProfile

BLOOD_TYPES = frozenset(group + factor for group in ("A", "B", "AB", "O") for factor in ("+", "-"))
HEIGHT_CM = (20.0, 300.0)
WEIGHT_KG = (0.3, 700.0)
EARLIEST_BIRTH = date(1900, 1, 1)
MAX_ENTRIES = 50
MAX_ENTRY = 200
MAX_NAME = 100
MAX_URL = 2048

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")  # RFC 5646, without extensions and private use
_PHONE = re.compile(r"\+?[0-9][0-9 ().-]{3,30}")


@cache
def _timezones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def name(value: str, *, field: str) -> str:
    """Up to 100 printable characters."""
    stripped = value.strip()
    if not stripped or len(stripped) > MAX_NAME or not stripped.isprintable():
        raise InvalidProfile(field, f"must be 1 to {MAX_NAME} printable characters")
    return stripped


def avatar_url(value: str) -> str:
    """An https address, or nothing."""
    if value and (not value.startswith("https://") or len(value) > MAX_URL or not value.isprintable() or " " in value):
        raise InvalidProfile("avatar_url", f"must be an https:// address of at most {MAX_URL} characters")
    return value


def language(value: str) -> str:
    """A BCP 47 tag."""
    if len(value) > 35 or not _LANGUAGE.fullmatch(value):
        raise InvalidProfile("language", 'must be a BCP 47 tag such as "ko" or "en-US"')
    return value


def timezone(value: str) -> str:
    """An IANA name."""
    if value not in _timezones():
        raise InvalidProfile("timezone", 'must be an IANA time zone such as "Asia/Seoul"')
    return value


def birth_date(value: str, *, today: date) -> str:
    """An ISO 8601 date; in the time zone furthest east it may be tomorrow already."""
    try:
        parsed = date.fromisoformat(value)
    except ValueError:
        parsed = None
    if parsed is None or parsed.isoformat() != value or not EARLIEST_BIRTH <= parsed <= today + timedelta(days=1):
        raise InvalidProfile("birth_date", f'must be a date such as "1990-05-17", from {EARLIEST_BIRTH} to today')
    return value


def blood_type(value: str) -> str:
    """ABO group with Rh factor."""
    folded = value.strip().upper()
    if folded not in BLOOD_TYPES:
        raise InvalidProfile("blood_type", f"must be one of {', '.join(sorted(BLOOD_TYPES))}")
    return folded


def within(value: float, bounds: tuple[float, float], *, field: str) -> float:
    low, high = bounds
    if not math.isfinite(value) or not low <= value <= high:
        raise InvalidProfile(field, f"must be between {low:g} and {high:g}")
    return value


def entries(values: Sequence[str], *, field: str) -> tuple[str, ...]:
    """Free texts, each once, in their order."""
    stripped = tuple(dict.fromkeys(value.strip() for value in values))
    if len(stripped) > MAX_ENTRIES or not all(0 < len(v) <= MAX_ENTRY and v.isprintable() for v in stripped):
        raise InvalidProfile(field, f"must be at most {MAX_ENTRIES} texts of 1 to {MAX_ENTRY} characters")
    return stripped


def phone(value: str) -> str:
    """As dialled; best in E.164 form."""
    stripped = value.strip()
    if not _PHONE.fullmatch(stripped):
        raise InvalidProfile("emergency_contact_phone", 'must be a phone number such as "+821012345678"')
    return stripped


def health(details: HealthDetails, *, today: date) -> HealthDetails:
    """The details as they are stored; what is not stated stays so.

    Raises:
        InvalidProfile: the first field that breaks its rule.
    """
    return replace(
        details,
        birth_date=details.birth_date and birth_date(details.birth_date, today=today),
        blood_type=details.blood_type and blood_type(details.blood_type),
        height_cm=details.height_cm and within(details.height_cm, HEIGHT_CM, field="height_cm"),
        weight_kg=details.weight_kg and within(details.weight_kg, WEIGHT_KG, field="weight_kg"),
        medical_conditions=entries(details.medical_conditions, field="medical_conditions"),
        allergies=entries(details.allergies, field="allergies"),
        emergency_contact_name=details.emergency_contact_name
        and name(details.emergency_contact_name, field="emergency_contact_name"),
        emergency_contact_phone=details.emergency_contact_phone and phone(details.emergency_contact_phone),
    )
