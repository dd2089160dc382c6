"""Tables and values of plans, subscriptions, charges, and of what a plan says about cartridges."""

import datetime as dt
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Date,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from domain.commerce.base import Base
from domain.commerce.terms import Tier

_TIME = DateTime(timezone=True)


class SubscriptionStatus(StrEnum):
    """State of a subscription; which moves there are stands in `lifecycle.MOVES`."""

    AWAITING = "awaiting"  # chosen; nothing was paid yet
    ACTIVE = "active"
    CANCELLED = "cancelled"  # usable until the period ends
    SUSPENDED = "suspended"  # the period is over, and the next one can still be paid
    EXPIRED = "expired"


class ChargeKind(StrEnum):
    START = "start"
    UPGRADE = "upgrade"
    RENEWAL = "renewal"


class ChargeStatus(StrEnum):
    OPEN = "open"
    PAID = "paid"
    FAILED = "failed"  # the provider refused the payment
    VOID = "void"  # given up by us: replaced, cancelled, or not paid in time
    REFUNDED = "refunded"


class AccessLevel(StrEnum):
    """What a tier says about cartridges."""

    INCLUDED = "included"
    LIMITED = "limited"
    ADD_ON = "add_on"
    RESTRICTED = "restricted"
    BETA = "beta"


class PaymentFate(StrEnum):
    """What became of a payment that was told to us."""

    APPLIED = "applied"
    RETURNED = "returned"  # nothing was owed: it is paid back
    FAILED = "failed"


class Plan(Base):
    """What a tier costs a month and includes; an administrator may change it."""

    __tablename__ = "plans"
    __table_args__ = (
        CheckConstraint("monthly_price_krw >= 0", name="monthly_price_krw"),
        CheckConstraint("max_devices > 0 AND max_family_members > 0", name="limits"),
    )

    tier: Mapped[Tier] = mapped_column(String(16), primary_key=True)
    name_en: Mapped[str] = mapped_column(String(80))
    name_ko: Mapped[str] = mapped_column(String(80))
    description_en: Mapped[str] = mapped_column(String(500))
    description_ko: Mapped[str] = mapped_column(String(500))
    monthly_price_krw: Mapped[int] = mapped_column(Integer)
    max_devices: Mapped[int] = mapped_column(Integer)
    max_family_members: Mapped[int] = mapped_column(Integer)
    ai_coaching_enabled: Mapped[bool] = mapped_column(Boolean)
    telemedicine_enabled: Mapped[bool] = mapped_column(Boolean)


class Subscription(Base):
    """A person's plan. Those that are over stay; a person has at most one that is not.

    `tier` is the plan that was chosen; what is in force now says `lifecycle.standing`. `price_krw` is what a month of it
    cost when it was bought, so that a later change of the price list makes no credit. `anchor_day` is the day of the month
    (Asia/Seoul) on which periods end, where the month has it. `act_at` is when the scheduler has to look again.
    """

    __tablename__ = "subscriptions"
    __table_args__ = (
        CheckConstraint("credit_krw >= 0", name="credit_krw"),
        CheckConstraint("price_krw >= 0", name="price_krw"),
        Index("uq_subscriptions_running", "user_id", unique=True, postgresql_where=text("status <> 'expired'")),
        Index("ix_subscriptions_user", "user_id", "revision"),
        Index("ix_subscriptions_act_at", "act_at", postgresql_where=text("act_at IS NOT NULL")),
    )

    subscription_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(64))
    tier: Mapped[Tier] = mapped_column(String(16))
    status: Mapped[SubscriptionStatus] = mapped_column(String(16))
    price_krw: Mapped[int] = mapped_column(Integer)
    credit_krw: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(_TIME)
    started_at: Mapped[datetime] = mapped_column(_TIME)
    expires_at: Mapped[datetime | None] = mapped_column(_TIME)
    anchor_day: Mapped[int] = mapped_column(SmallInteger)
    cancelled_at: Mapped[datetime | None] = mapped_column(_TIME)
    cancel_reason: Mapped[str] = mapped_column(String(500))
    ended_at: Mapped[datetime | None] = mapped_column(_TIME)
    revision: Mapped[int] = mapped_column(Integer)
    act_at: Mapped[datetime | None] = mapped_column(_TIME)


class Charge(Base):
    """What is owed for a period of a plan, or for the rest of one on a higher plan; settled by one payment.

    Args:
        tier, price_krw: the plan that it buys, and its price a month.
        from_tier, from_price_krw: the plan before.
        amount_krw: to pay, after `credit_used_krw` of the holder's credit.
        period_starts_at, period_ends_at, period_days: the period that it has bought; None while it is not paid, and
            of an upgrade within a period.
    """

    __tablename__ = "subscription_charges"
    __table_args__ = (
        CheckConstraint("amount_krw >= 0 AND credit_used_krw >= 0", name="amounts"),
        CheckConstraint("period_starts_at <= period_ends_at", name="period"),
        Index(
            "uq_subscription_charges_open",
            "subscription_id",
            unique=True,
            postgresql_where=text("status = 'open'"),
        ),
        Index("ix_subscription_charges_subscription_id", "subscription_id", "charge_id"),
        Index(
            "uq_subscription_charges_payment_id",
            "payment_id",
            unique=True,
            postgresql_where=text("payment_id IS NOT NULL"),
        ),
    )

    charge_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    subscription_id: Mapped[str] = mapped_column(ForeignKey("subscriptions.subscription_id", ondelete="CASCADE"))
    kind: Mapped[ChargeKind] = mapped_column(String(16))
    status: Mapped[ChargeStatus] = mapped_column(String(16))
    tier: Mapped[Tier] = mapped_column(String(16))
    price_krw: Mapped[int] = mapped_column(Integer)
    from_tier: Mapped[Tier] = mapped_column(String(16))
    from_price_krw: Mapped[int] = mapped_column(Integer)
    amount_krw: Mapped[int] = mapped_column(Integer)
    credit_used_krw: Mapped[int] = mapped_column(Integer)
    refunded_krw: Mapped[int] = mapped_column(Integer)
    payment_id: Mapped[str | None] = mapped_column(String(64))
    opened_at: Mapped[datetime] = mapped_column(_TIME)
    due_at: Mapped[datetime] = mapped_column(_TIME)
    settled_at: Mapped[datetime | None] = mapped_column(_TIME)
    period_starts_at: Mapped[datetime | None] = mapped_column(_TIME)
    period_ends_at: Mapped[datetime | None] = mapped_column(_TIME)
    period_days: Mapped[int | None] = mapped_column(SmallInteger)


class PaymentNote(Base):
    """That a payment was told to us, and what became of it: an event that comes again finds the row."""

    __tablename__ = "subscription_payments"

    payment_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    subscription_id: Mapped[str] = mapped_column(String(64))
    fate: Mapped[PaymentFate] = mapped_column(String(16))
    noted_at: Mapped[datetime] = mapped_column(_TIME)


class CartridgeAccessRule(Base):
    """What a tier says about a cartridge type (`type_index` 0: about the types of its categories that have no own row).

    The limits count uses of one type and are set for `limited` only; None is no limit.
    """

    __tablename__ = "cartridge_access_rules"
    __table_args__ = (
        CheckConstraint("first_category BETWEEN 1 AND last_category AND last_category <= 255", name="categories"),
        CheckConstraint("type_index BETWEEN 0 AND 255", name="type_index"),
        CheckConstraint("type_index = 0 OR first_category = last_category", name="type_of_one_category"),
        CheckConstraint("(level = 'limited') = (num_nonnulls(daily_limit, monthly_limit) > 0)", name="limits"),
        CheckConstraint("daily_limit > 0 AND monthly_limit > 0", name="positive_limits"),
    )

    first_category: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    last_category: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    type_index: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    tier: Mapped[Tier] = mapped_column(String(16), primary_key=True)
    level: Mapped[AccessLevel] = mapped_column(String(16))
    daily_limit: Mapped[int | None] = mapped_column(Integer)
    monthly_limit: Mapped[int | None] = mapped_column(Integer)


class CartridgeName(Base):
    """A cartridge type by name, to list what a plan says about each.

    The registry of types is the hardware group's and lies in another database; the published list of calls lets
    subscription-service ask neither cartridge-service nor device-service. So the names that a list of access needs are kept
    here; whatever else a client wants of a type it gets by the type's id from the registry.
    """

    __tablename__ = "cartridge_names"

    category_code: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    type_index: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    legacy_code: Mapped[int | None] = mapped_column(SmallInteger)
    name_en: Mapped[str] = mapped_column(String(80))
    name_ko: Mapped[str] = mapped_column(String(80))


class CartridgeUse(Base):
    """One measurement with a cartridge. Uses are counted from these rows, so that a repeated event adds none.

    `used_on` is the day in Asia/Seoul: limits are by that day and its month.
    """

    __tablename__ = "cartridge_uses"
    __table_args__ = (Index("ix_cartridge_uses_counted", "user_id", "used_on", "category_code", "type_index"),)

    session_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(64))
    category_code: Mapped[int] = mapped_column(SmallInteger)
    type_index: Mapped[int] = mapped_column(SmallInteger)
    used_on: Mapped[dt.date] = mapped_column(Date)
    used_at: Mapped[datetime] = mapped_column(_TIME)


class AddOn(Base):
    """A cartridge type (`type_index` 0: a whole category) that somebody bought apart from their plan."""

    __tablename__ = "add_ons"
    __table_args__ = (
        Index("ix_add_ons_user_id", "user_id", postgresql_where=text("revoked_at IS NULL")),
        CheckConstraint("category_code BETWEEN 1 AND 255 AND type_index BETWEEN 0 AND 255", name="codes"),
    )

    order_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    category_code: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    type_index: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    user_id: Mapped[str] = mapped_column(String(64))
    granted_at: Mapped[datetime] = mapped_column(_TIME)
    revoked_at: Mapped[datetime | None] = mapped_column(_TIME)


@dataclass(frozen=True, slots=True)
class Standing:
    """A subscription as it stands at a moment, whether the scheduler has noticed or not.

    Args:
        plan: the one in force.
        auto_renew: whether the next period will be charged.
    """

    subscription: Subscription
    status: SubscriptionStatus
    plan: Plan
    auto_renew: bool

    @property
    def tier(self) -> Tier:
        return Tier(self.plan.tier)

    @property
    def monthly_price_krw(self) -> int:
        """Of the plan in force, as it was bought."""
        in_force = self.subscription.tier == self.plan.tier
        return self.subscription.price_krw if in_force else self.plan.monthly_price_krw


@dataclass(frozen=True, slots=True)
class PlanChange:
    """What became of a wish to change a plan.

    Args:
        due: the charge that has to be paid before it takes effect; None when nothing is owed.
    """

    standing: Standing
    due: Charge | None

    @property
    def holder(self) -> str:
        return self.standing.subscription.user_id
