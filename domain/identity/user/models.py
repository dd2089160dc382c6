"""The table of profiles, and the plan that a person holds."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Boolean, DateTime, Integer, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.identity.base import Base
from domain.identity.person import AccountSummary, HealthDetails
from domain.ids import UserId
from domain.units import ResultUnits

_TIME = DateTime(timezone=True)


class SubscriptionTier(StrEnum):
    FREE = "free"
    BASIC = "basic"
    PRO = "pro"
    CLINICAL = "clinical"


class Profile(Base):
    """What a person tells. `health` is one sealed JSON value (`HealthDetails`), context `profiles.health:<user id>`.

    There is no foreign key to accounts: people whom Keycloak signs in have a profile but no account here.

    `subscription_*` is a copy of the plan in force, as subscription-service told it last (`subscription_revision`; 0: nothing
    yet, which is the free plan).
    """

    __tablename__ = "profiles"

    user_id: Mapped[str] = mapped_column(String, primary_key=True)
    display_name: Mapped[str] = mapped_column(String)
    avatar_url: Mapped[str] = mapped_column(String)
    language: Mapped[str] = mapped_column(String)
    timezone: Mapped[str] = mapped_column(String)
    result_units: Mapped[str] = mapped_column(
        String(16), default=ResultUnits.AS_MEASURED.value, server_default=text("'as_measured'")
    )
    subscription_tier: Mapped[str] = mapped_column(String)
    subscription_started_at: Mapped[datetime] = mapped_column(_TIME)
    subscription_expires_at: Mapped[datetime | None] = mapped_column(_TIME)
    subscription_revision: Mapped[int] = mapped_column(Integer)
    subscription_max_devices: Mapped[int] = mapped_column(Integer)
    subscription_max_family_members: Mapped[int] = mapped_column(Integer)
    subscription_ai_coaching: Mapped[bool] = mapped_column(Boolean)
    subscription_telemedicine: Mapped[bool] = mapped_column(Boolean)
    health: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(_TIME)
    updated_at: Mapped[datetime] = mapped_column(_TIME)


@dataclass(frozen=True, slots=True)
class Person:
    """A profile without its health details, and the account behind it."""

    user_id: UserId
    display_name: str
    avatar_url: str
    language: str
    timezone: str
    result_units: ResultUnits
    subscription_tier: SubscriptionTier
    created_at: datetime
    account: AccountSummary


@dataclass(frozen=True, slots=True)
class Contact:
    """Where and how the platform's services reach a person."""

    user_id: UserId
    email: str
    language: str
    timezone: str
    result_units: ResultUnits
    agreed_to_marketing: bool


@dataclass(frozen=True, slots=True)
class WholeProfile:
    person: Person
    health: HealthDetails


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """What a plan allows.

    Args:
        max_family_members: the holder included.
    """

    max_devices: int
    max_family_members: int
    ai_coaching: bool
    telemedicine: bool


WITHOUT_A_PLAN = PlanLimits(1, 1, ai_coaching=False, telemedicine=False)
"""What holds until subscription-service has told of a plan."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """The plan that a profile holds; `expires_at` None: it does not end."""

    user_id: UserId
    tier: SubscriptionTier
    started_at: datetime
    expires_at: datetime | None
    limits: PlanLimits


@dataclass(frozen=True, slots=True)
class ToldPlan:
    """The plan in force, as subscription-service tells it.

    Args:
        revision: grows with each change of the person's plan.
    """

    user_id: UserId
    tier: SubscriptionTier
    started_at: datetime
    expires_at: datetime | None
    limits: PlanLimits
    revision: int
