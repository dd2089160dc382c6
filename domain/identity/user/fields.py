"""The rules of profile fields: each function answers the value as it is stored, or says which field is wrong and why."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from domain import validation
from domain.identity.person import HealthDetails
from domain.identity.user.errors import InvalidProfile

BLOOD_TYPES = frozenset(group + factor for group in ("A", "B", "AB", "O") for factor in ("+", "-"))
HEIGHT_CM = (20.0, 300.0)
WEIGHT_KG = (0.3, 700.0)
MAX_ENTRIES = 50
MAX_ENTRY = 200
MAX_NAME = 100
MAX_URL = 2048

_MAX_BLOOD_TYPE = 8
_MAX_PHONE = 64
_PHONE = re.compile(r"\+?[0-9][0-9 ().-]{3,30}")


def name(value: str, *, field: str) -> str:
    """Up to 100 printable characters."""
    return validation.line(value, field=field, longest=MAX_NAME, error=InvalidProfile)


def avatar_url(value: str) -> str:
    """An https address, or nothing."""
    return validation.https_url(value, field="avatar_url", longest=MAX_URL, error=InvalidProfile)


def language(value: str) -> str:
    """A BCP 47 tag."""
    return validation.language(value, error=InvalidProfile)


def timezone(value: str) -> str:
    """An IANA name."""
    return validation.timezone(value, error=InvalidProfile)


def birth_date(value: str, *, today: date) -> str:
    """An ISO 8601 date; in the time zone furthest east it may be tomorrow already."""
    return validation.birth_date(value, today=today, error=InvalidProfile)


def blood_type(value: str) -> str:
    """ABO group with Rh factor."""
    folded = value.strip().upper() if len(value) <= _MAX_BLOOD_TYPE else ""
    if folded not in BLOOD_TYPES:
        raise InvalidProfile("blood_type", f"must be one of {', '.join(sorted(BLOOD_TYPES))}")
    return folded


def within(value: float | None, bounds: tuple[float, float], *, field: str) -> float | None:
    """A finite number within the bounds, both included; None stays None."""
    low, high = bounds
    return None if value is None else validation.within(value, low, high, field=field, error=InvalidProfile)


def entries(values: Sequence[str], *, field: str) -> tuple[str, ...]:
    """Free texts, each once, in their order."""
    validation.few_enough(values, MAX_ENTRIES, field=field, error=InvalidProfile)
    lines = (validation.line(value, field=field, longest=MAX_ENTRY, error=InvalidProfile) for value in values)
    return tuple(dict.fromkeys(lines))


def phone(value: str) -> str:
    """As dialled; best in E.164 form."""
    stripped = value.strip() if len(value) <= _MAX_PHONE else ""
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
        height_cm=within(details.height_cm, HEIGHT_CM, field="height_cm"),
        weight_kg=within(details.weight_kg, WEIGHT_KG, field="weight_kg"),
        medical_conditions=entries(details.medical_conditions, field="medical_conditions"),
        allergies=entries(details.allergies, field="allergies"),
        emergency_contact_name=details.emergency_contact_name
        and name(details.emergency_contact_name, field="emergency_contact_name"),
        emergency_contact_phone=details.emergency_contact_phone and phone(details.emergency_contact_phone),
    )
