"""The tables of subscription, and the plans and rules of cartridge access that they start with."""

from dataclasses import asdict

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import insert

from domain.commerce.subscription.models import CartridgeAccessRule, CartridgeName, Plan
from domain.commerce.subscription.plan_data import ACCESS_RULES, CARTRIDGE_NAMES, PLANS

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables and load the data."""
    _create_offer()
    _create_subscriptions()
    _create_use()
    connection = op.get_bind()
    connection.execute(insert(Plan), [asdict(entry) for entry in PLANS])
    connection.execute(insert(CartridgeAccessRule), [asdict(entry) for entry in ACCESS_RULES])
    connection.execute(insert(CartridgeName), [asdict(entry) for entry in CARTRIDGE_NAMES])


def _create_offer() -> None:
    op.create_table(
        "plans",
        sa.Column("tier", sa.String(16), nullable=False),
        sa.Column("name_en", sa.String(80), nullable=False),
        sa.Column("name_ko", sa.String(80), nullable=False),
        sa.Column("description_en", sa.String(500), nullable=False),
        sa.Column("description_ko", sa.String(500), nullable=False),
        sa.Column("monthly_price_krw", sa.Integer, nullable=False),
        sa.Column("max_devices", sa.Integer, nullable=False),
        sa.Column("max_family_members", sa.Integer, nullable=False),
        sa.Column("ai_coaching_enabled", sa.Boolean, nullable=False),
        sa.Column("telemedicine_enabled", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("tier", name="pk_plans"),
        sa.CheckConstraint("monthly_price_krw >= 0", name=op.f("ck_plans_monthly_price_krw")),
        sa.CheckConstraint("max_devices > 0 AND max_family_members > 0", name=op.f("ck_plans_limits")),
    )
    op.create_table(
        "cartridge_access_rules",
        sa.Column("first_category", sa.SmallInteger, nullable=False),
        sa.Column("last_category", sa.SmallInteger, nullable=False),
        sa.Column("type_index", sa.SmallInteger, nullable=False),
        sa.Column("tier", sa.String(16), nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("daily_limit", sa.Integer),
        sa.Column("monthly_limit", sa.Integer),
        sa.PrimaryKeyConstraint(
            "first_category", "last_category", "type_index", "tier", name="pk_cartridge_access_rules"
        ),
        sa.CheckConstraint(
            "first_category BETWEEN 1 AND last_category AND last_category <= 255",
            name=op.f("ck_cartridge_access_rules_categories"),
        ),
        sa.CheckConstraint("type_index BETWEEN 0 AND 255", name=op.f("ck_cartridge_access_rules_type_index")),
        sa.CheckConstraint(
            "type_index = 0 OR first_category = last_category",
            name=op.f("ck_cartridge_access_rules_type_of_one_category"),
        ),
        sa.CheckConstraint(
            "(level = 'limited') = (num_nonnulls(daily_limit, monthly_limit) > 0)",
            name=op.f("ck_cartridge_access_rules_limits"),
        ),
        sa.CheckConstraint(
            "daily_limit > 0 AND monthly_limit > 0", name=op.f("ck_cartridge_access_rules_positive_limits")
        ),
    )
    op.create_table(
        "cartridge_names",
        sa.Column("category_code", sa.SmallInteger, nullable=False),
        sa.Column("type_index", sa.SmallInteger, nullable=False),
        sa.Column("legacy_code", sa.SmallInteger),
        sa.Column("name_en", sa.String(80), nullable=False),
        sa.Column("name_ko", sa.String(80), nullable=False),
        sa.PrimaryKeyConstraint("category_code", "type_index", name="pk_cartridge_names"),
    )


def _create_subscriptions() -> None:
    op.create_table(
        "subscriptions",
        sa.Column("subscription_id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("tier", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("price_krw", sa.Integer, nullable=False),
        sa.Column("credit_krw", sa.Integer, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME),
        sa.Column("anchor_day", sa.SmallInteger, nullable=False),
        sa.Column("cancelled_at", _TIME),
        sa.Column("cancel_reason", sa.String(500), nullable=False),
        sa.Column("ended_at", _TIME),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("act_at", _TIME),
        sa.PrimaryKeyConstraint("subscription_id", name="pk_subscriptions"),
        sa.CheckConstraint("credit_krw >= 0", name=op.f("ck_subscriptions_credit_krw")),
        sa.CheckConstraint("price_krw >= 0", name=op.f("ck_subscriptions_price_krw")),
    )
    op.create_index(
        "uq_subscriptions_running",
        "subscriptions",
        ["user_id"],
        unique=True,
        postgresql_where=sa.text("status <> 'expired'"),
    )
    op.create_index("ix_subscriptions_user", "subscriptions", ["user_id", "revision"])
    op.create_index(
        "ix_subscriptions_act_at", "subscriptions", ["act_at"], postgresql_where=sa.text("act_at IS NOT NULL")
    )
    op.create_table(
        "subscription_charges",
        sa.Column("charge_id", sa.String(36), nullable=False),
        sa.Column("subscription_id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("tier", sa.String(16), nullable=False),
        sa.Column("price_krw", sa.Integer, nullable=False),
        sa.Column("from_tier", sa.String(16), nullable=False),
        sa.Column("from_price_krw", sa.Integer, nullable=False),
        sa.Column("amount_krw", sa.Integer, nullable=False),
        sa.Column("credit_used_krw", sa.Integer, nullable=False),
        sa.Column("refunded_krw", sa.Integer, nullable=False),
        sa.Column("payment_id", sa.String(64)),
        sa.Column("opened_at", _TIME, nullable=False),
        sa.Column("due_at", _TIME, nullable=False),
        sa.Column("settled_at", _TIME),
        sa.Column("period_starts_at", _TIME),
        sa.Column("period_ends_at", _TIME),
        sa.Column("period_days", sa.SmallInteger),
        sa.PrimaryKeyConstraint("charge_id", name="pk_subscription_charges"),
        sa.ForeignKeyConstraint(
            ["subscription_id"],
            ["subscriptions.subscription_id"],
            name="fk_subscription_charges_subscription_id",
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("amount_krw >= 0 AND credit_used_krw >= 0", name=op.f("ck_subscription_charges_amounts")),
        sa.CheckConstraint("period_starts_at <= period_ends_at", name=op.f("ck_subscription_charges_period")),
    )
    op.create_index(
        "uq_subscription_charges_open",
        "subscription_charges",
        ["subscription_id"],
        unique=True,
        postgresql_where=sa.text("status = 'open'"),
    )
    op.create_index("ix_subscription_charges_subscription_id", "subscription_charges", ["subscription_id", "charge_id"])
    op.create_index(
        "uq_subscription_charges_payment_id",
        "subscription_charges",
        ["payment_id"],
        unique=True,
        postgresql_where=sa.text("payment_id IS NOT NULL"),
    )
    op.create_table(
        "subscription_payments",
        sa.Column("payment_id", sa.String(64), nullable=False),
        sa.Column("subscription_id", sa.String(64), nullable=False),
        sa.Column("fate", sa.String(16), nullable=False),
        sa.Column("noted_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("payment_id", name="pk_subscription_payments"),
    )


def _create_use() -> None:
    op.create_table(
        "cartridge_uses",
        sa.Column("session_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("category_code", sa.SmallInteger, nullable=False),
        sa.Column("type_index", sa.SmallInteger, nullable=False),
        sa.Column("used_on", sa.Date, nullable=False),
        sa.Column("used_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_cartridge_uses"),
    )
    op.create_index(
        "ix_cartridge_uses_counted", "cartridge_uses", ["user_id", "used_on", "category_code", "type_index"]
    )
    op.create_table(
        "add_ons",
        sa.Column("order_id", sa.String(64), nullable=False),
        sa.Column("category_code", sa.SmallInteger, nullable=False),
        sa.Column("type_index", sa.SmallInteger, nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("granted_at", _TIME, nullable=False),
        sa.Column("revoked_at", _TIME),
        sa.PrimaryKeyConstraint("order_id", "category_code", "type_index", name="pk_add_ons"),
        sa.CheckConstraint(
            "category_code BETWEEN 1 AND 255 AND type_index BETWEEN 0 AND 255", name=op.f("ck_add_ons_codes")
        ),
    )
    op.create_index("ix_add_ons_user_id", "add_ons", ["user_id"], postgresql_where=sa.text("revoked_at IS NULL"))


def downgrade() -> None:
    """Drop them."""
    for table in (
        "add_ons",
        "cartridge_uses",
        "subscription_payments",
        "subscription_charges",
        "subscriptions",
        "cartridge_names",
        "cartridge_access_rules",
        "plans",
    ):
        op.drop_table(table)
