"""What the group's services say to each other about a person: values only, no tables."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Self

from domain.ids import UserId


class Gender(StrEnum):
    """As the person states it."""

    MALE = "male"
    FEMALE = "female"
    OTHER = "other"
    PREFER_NOT_TO_SAY = "prefer_not_to_say"


class SocialProvider(StrEnum):
    """An identity provider that vouches for people."""

    GOOGLE = "google"
    APPLE = "apple"
    KAKAO = "kakao"
    NAVER = "naver"


@dataclass(frozen=True, slots=True)
class HealthDetails:
    """What a person states about body and emergencies. An empty text or list and None mean: not stated.

    Args:
        birth_date: ISO 8601 date.
        blood_type: ABO group with Rh factor, such as "A+".
        height_cm, weight_kg: centimetres and kilograms.
    """

    birth_date: str = ""
    gender: Gender | None = None
    blood_type: str = ""
    height_cm: float | None = None
    weight_kg: float | None = None
    medical_conditions: tuple[str, ...] = ()
    allergies: tuple[str, ...] = ()
    emergency_contact_name: str = ""
    emergency_contact_phone: str = ""

    @property
    def is_empty(self) -> bool:
        return self == NOTHING_STATED

    @property
    def needs_health_consent(self) -> bool:
        """Whether it tells of the body's state, and not only of age, gender and whom to call."""
        measures = self.height_cm is not None or self.weight_kg is not None
        return measures or bool(self.blood_type or self.medical_conditions or self.allergies)

    def merged(self, change: Self, *, cleared: AbstractSet[str] = frozenset()) -> Self:
        """These details with the stated ones of `change` over them, and without the `cleared` fields (by name)."""
        stated = {field.name: getattr(change, field.name) for field in fields(change)}
        values = {name: value for name, value in stated.items() if value != getattr(NOTHING_STATED, name)}
        values |= {name: getattr(NOTHING_STATED, name) for name in cleared}
        return replace(self, **values)


NOTHING_STATED = HealthDetails()


@dataclass(frozen=True, slots=True)
class NewProfile:
    """A profile to open. Empty texts mean: use the default."""

    display_name: str
    language: str = ""
    timezone: str = ""
    avatar_url: str = ""
    health: HealthDetails = NOTHING_STATED


@dataclass(frozen=True, slots=True)
class Reachable:
    """How the account says that a person may be written to; `email` is empty without one, and of a disabled account."""

    user_id: UserId
    email: str
    agreed_to_marketing: bool


@dataclass(frozen=True, slots=True)
class AccountSummary:
    """What the profile tells of the account behind it."""

    user_id: UserId
    email: str
    role: str
    social_provider: SocialProvider | None = None
    social_id: str = ""
