"""Tables and values of payments. Money is whole won."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, Integer, SmallInteger, String, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.commerce.base import Base
from domain.commerce.payment.states import PaymentStatus


class PaymentType(StrEnum):
    """What a payment is for."""

    ONE_TIME = "one_time"
    SUBSCRIPTION = "subscription"


class AttemptStatus(StrEnum):
    """What became of one request to capture."""

    STARTED = "started"  # the provider is being asked, or its answer is not known
    CAPTURED = "captured"
    DECLINED = "declined"
    MISMATCHED = "mismatched"  # captured, and not what was asked for: to be looked into by hand
    WITHDRAWN = "withdrawn"  # never reached the provider's books


class RefundStatus(StrEnum):
    """What became of one refund."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Payment(Base):
    """What is to be paid by whom for what, and how far that has come."""

    __tablename__ = "payments"
    __table_args__ = (
        CheckConstraint("amount_krw > 0", name="amount_krw"),
        CheckConstraint("payment_type IN ('one_time', 'subscription')", name="payment_type"),
        CheckConstraint(
            "status IN ('pending', 'confirming', 'completed', 'failed', 'cancelled', 'partial_refund', 'refunded')",
            name="status",
        ),
        CheckConstraint(
            "(status IN ('completed', 'partial_refund', 'refunded')) = (completed_at IS NOT NULL)", name="completed_at"
        ),
        CheckConstraint("payment_type = 'one_time' OR subscription_id <> ''", name="pays_something"),
        Index("ix_payments_user", "user_id", "created_at", "payment_id"),
        Index("ix_payments_order", "order_id", postgresql_where=text("order_id <> ''")),
        Index("ix_payments_key", "payment_key", postgresql_where=text("payment_key <> ''")),
        Index("ix_payments_subscription", "subscription_id", postgresql_where=text("subscription_id <> ''")),
        Index(
            "uq_payments_live_order",
            "user_id",
            "order_id",
            unique=True,
            postgresql_where=text(
                "order_id <> '' AND status IN ('pending', 'confirming', 'completed', 'partial_refund')"
            ),
        ),
        Index(
            "uq_payments_open_subscription",
            "subscription_id",
            unique=True,
            postgresql_where=text("subscription_id <> '' AND status IN ('pending', 'confirming')"),
        ),
    )

    payment_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(64))
    order_id: Mapped[str] = mapped_column(String(64))
    subscription_id: Mapped[str] = mapped_column(String(64))
    payment_type: Mapped[PaymentType] = mapped_column(String(16))
    amount_krw: Mapped[int] = mapped_column(Integer)
    status: Mapped[PaymentStatus] = mapped_column(String(16))
    payment_method: Mapped[str] = mapped_column(String(40))
    pg_provider: Mapped[str] = mapped_column(String(20))
    pg_transaction_id: Mapped[str] = mapped_column(String(200), default="")
    payment_key: Mapped[str] = mapped_column(String(200), default="")
    failure_code: Mapped[str] = mapped_column(String(100), default="")
    failure_message: Mapped[str] = mapped_column(String(500), default="")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    completed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    closed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class PaymentAttempt(Base):
    """One request to capture a payment; repeated as often as needed, always with the same idempotency key.

    `settle_after`: from then on anybody may find out what became of it; the lease of who does, and the pause between.
    """

    __tablename__ = "payment_attempts"
    __table_args__ = (
        CheckConstraint(
            "status IN ('started', 'captured', 'declined', 'mismatched', 'withdrawn')",
            name="status",
        ),
        CheckConstraint("(status = 'started') = (ended_at IS NULL)", name="ended_at"),
        Index("ix_payment_attempts_payment", "payment_id"),
        # A key of the provider captures one payment, whatever the provider says.
        Index(
            "uq_payment_attempts_key",
            "payment_key",
            unique=True,
            postgresql_where=text("status IN ('started', 'captured', 'mismatched')"),
        ),
        Index("ix_payment_attempts_unclear", "settle_after", postgresql_where=text("status = 'started'")),
        # At most one that may have captured: the database's own word for "charged once".
        Index(
            "uq_payment_attempts_effective",
            "payment_id",
            unique=True,
            postgresql_where=text("status IN ('started', 'captured', 'mismatched')"),
        ),
        Index("uq_payment_attempts_idempotency_key", "idempotency_key", unique=True),
    )

    attempt_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    payment_id: Mapped[str] = mapped_column(ForeignKey("payments.payment_id"))
    payment_key: Mapped[str] = mapped_column(String(200))
    idempotency_key: Mapped[str] = mapped_column(String(64))
    amount_krw: Mapped[int] = mapped_column(Integer)
    status: Mapped[AttemptStatus] = mapped_column(String(16))
    captured_krw: Mapped[int | None] = mapped_column(Integer)
    code: Mapped[str] = mapped_column(String(100), default="")
    message: Mapped[str] = mapped_column(String(500), default="")
    tries: Mapped[int] = mapped_column(SmallInteger, default=1)
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    settle_after: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Refund(Base):
    """An amount to pay back, or that was paid back. `settle_after` as for attempts."""

    __tablename__ = "refunds"
    __table_args__ = (
        CheckConstraint("amount_krw > 0", name="amount_krw"),
        CheckConstraint("status IN ('started', 'succeeded', 'failed')", name="status"),
        CheckConstraint("(status = 'started') = (ended_at IS NULL)", name="ended_at"),
        Index("ix_refunds_payment", "payment_id", "requested_at", "refund_id"),
        Index("ix_refunds_unclear", "settle_after", postgresql_where=text("status = 'started'")),
        Index("uq_refunds_idempotency_key", "idempotency_key", unique=True),
    )

    refund_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    payment_id: Mapped[str] = mapped_column(ForeignKey("payments.payment_id"))
    amount_krw: Mapped[int] = mapped_column(Integer)
    reason: Mapped[str] = mapped_column(String(200))
    status: Mapped[RefundStatus] = mapped_column(String(16))
    requested_by: Mapped[str] = mapped_column(String(64))
    idempotency_key: Mapped[str] = mapped_column(String(64))
    pg_transaction_id: Mapped[str] = mapped_column(String(200), default="")
    code: Mapped[str] = mapped_column(String(100), default="")
    message: Mapped[str] = mapped_column(String(500), default="")
    tries: Mapped[int] = mapped_column(SmallInteger, default=1)
    requested_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    settle_after: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


@dataclass(frozen=True, slots=True)
class Opening:
    """What is to be paid, by whom and for what; fields are checked before."""

    user_id: str
    order_id: str
    subscription_id: str
    payment_type: PaymentType
    amount_krw: int
    payment_method: str


@dataclass(frozen=True, slots=True)
class CarriedOutRefund:
    """A refund that the provider has carried out, and the state of its payment after it."""

    refund: Refund
    payment_status: PaymentStatus
    refunded_at: datetime
