"""The tables of payment."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "payments",
        sa.Column("payment_id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("order_id", sa.String(length=64), nullable=False),
        sa.Column("subscription_id", sa.String(length=64), nullable=False),
        sa.Column("payment_type", sa.String(length=16), nullable=False),
        sa.Column("amount_krw", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("payment_method", sa.String(length=40), nullable=False),
        sa.Column("pg_provider", sa.String(length=20), nullable=False),
        sa.Column("pg_transaction_id", sa.String(length=200), nullable=False),
        sa.Column("payment_key", sa.String(length=200), nullable=False),
        sa.Column("failure_code", sa.String(length=100), nullable=False),
        sa.Column("failure_message", sa.String(length=500), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("amount_krw > 0", name=op.f("ck_payments_amount_krw")),
        sa.CheckConstraint("payment_type IN ('one_time', 'subscription')", name=op.f("ck_payments_payment_type")),
        sa.CheckConstraint(
            "status IN ('pending', 'confirming', 'completed', 'failed', 'cancelled', 'partial_refund', 'refunded')",
            name=op.f("ck_payments_status"),
        ),
        sa.CheckConstraint(
            "(status IN ('completed', 'partial_refund', 'refunded')) = (completed_at IS NOT NULL)",
            name=op.f("ck_payments_completed_at"),
        ),
        sa.CheckConstraint("order_id <> '' OR subscription_id <> ''", name=op.f("ck_payments_pays_something")),
        sa.PrimaryKeyConstraint("payment_id", name=op.f("pk_payments")),
    )
    op.create_index("ix_payments_user", "payments", ["user_id", "created_at", "payment_id"], unique=False)
    op.create_index(
        "ix_payments_order", "payments", ["order_id"], unique=False, postgresql_where=sa.text("order_id <> ''")
    )
    op.create_index(
        "ix_payments_subscription",
        "payments",
        ["subscription_id"],
        unique=False,
        postgresql_where=sa.text("subscription_id <> ''"),
    )
    op.create_index(
        "uq_payments_live_order",
        "payments",
        ["user_id", "order_id"],
        unique=True,
        postgresql_where=sa.text(
            "order_id <> '' AND status IN ('pending', 'confirming', 'completed', 'partial_refund')"
        ),
    )
    op.create_index(
        "uq_payments_open_subscription",
        "payments",
        ["subscription_id"],
        unique=True,
        postgresql_where=sa.text("subscription_id <> '' AND status IN ('pending', 'confirming')"),
    )
    op.create_table(
        "payment_attempts",
        sa.Column("attempt_id", sa.String(length=36), nullable=False),
        sa.Column("payment_id", sa.String(length=36), nullable=False),
        sa.Column("payment_key", sa.String(length=200), nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=False),
        sa.Column("amount_krw", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("captured_krw", sa.Integer(), nullable=True),
        sa.Column("code", sa.String(length=100), nullable=False),
        sa.Column("message", sa.String(length=500), nullable=False),
        sa.Column("tries", sa.SmallInteger(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settle_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('started', 'captured', 'declined', 'mismatched', 'withdrawn')",
            name=op.f("ck_payment_attempts_status"),
        ),
        sa.CheckConstraint("(status = 'started') = (ended_at IS NULL)", name=op.f("ck_payment_attempts_ended_at")),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.payment_id"], name=op.f("fk_payment_attempts_payment_id")),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_payment_attempts")),
    )
    op.create_index("ix_payment_attempts_payment", "payment_attempts", ["payment_id"], unique=False)
    op.create_index("ix_payment_attempts_key", "payment_attempts", ["payment_key"], unique=False)
    op.create_index(
        "ix_payment_attempts_unclear",
        "payment_attempts",
        ["settle_after"],
        unique=False,
        postgresql_where=sa.text("status = 'started'"),
    )
    op.create_index(
        "uq_payment_attempts_effective",
        "payment_attempts",
        ["payment_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('started', 'captured', 'mismatched')"),
    )
    op.create_index("uq_payment_attempts_idempotency_key", "payment_attempts", ["idempotency_key"], unique=True)
    op.create_table(
        "refunds",
        sa.Column("refund_id", sa.String(length=36), nullable=False),
        sa.Column("payment_id", sa.String(length=36), nullable=False),
        sa.Column("amount_krw", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("requested_by", sa.String(length=64), nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=False),
        sa.Column("pg_transaction_id", sa.String(length=200), nullable=False),
        sa.Column("code", sa.String(length=100), nullable=False),
        sa.Column("message", sa.String(length=500), nullable=False),
        sa.Column("tries", sa.SmallInteger(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settle_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("amount_krw > 0", name=op.f("ck_refunds_amount_krw")),
        sa.CheckConstraint("status IN ('started', 'succeeded', 'failed')", name=op.f("ck_refunds_status")),
        sa.CheckConstraint("(status = 'started') = (ended_at IS NULL)", name=op.f("ck_refunds_ended_at")),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.payment_id"], name=op.f("fk_refunds_payment_id")),
        sa.PrimaryKeyConstraint("refund_id", name=op.f("pk_refunds")),
    )
    op.create_index("ix_refunds_payment", "refunds", ["payment_id", "requested_at", "refund_id"], unique=False)
    op.create_index(
        "ix_refunds_unclear",
        "refunds",
        ["settle_after"],
        unique=False,
        postgresql_where=sa.text("status = 'started'"),
    )
    op.create_index("uq_refunds_idempotency_key", "refunds", ["idempotency_key"], unique=True)


def downgrade() -> None:
    """Drop them."""
    op.drop_table("refunds")
    op.drop_table("payment_attempts")
    op.drop_table("payments")
