"""The tables of notification, and the templates that it starts with."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from domain.operations.notification.template_data import TEMPLATES

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables and load the templates."""
    _create_notifications()
    _create_settings()
    _create_templates()


def _create_notifications() -> None:
    op.create_table(
        "notifications",
        sa.Column("notification_id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.String(length=8), nullable=False),
        sa.Column("channel", sa.String(length=8), nullable=True),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("source_event_id", sa.String(length=36), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("listed_at", _TIME, nullable=True),
        sa.Column("read_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("notification_id", name=op.f("pk_notifications")),
    )
    op.create_index(
        "ix_notifications_listed",
        "notifications",
        ["user_id", "listed_at", "notification_id"],
        postgresql_where=sa.text("listed_at IS NOT NULL"),
    )
    op.create_index(
        "ix_notifications_unread",
        "notifications",
        ["user_id"],
        postgresql_where=sa.text("listed_at IS NOT NULL AND read_at IS NULL"),
    )
    op.create_index(
        "uq_notifications_source_event",
        "notifications",
        ["user_id", "source_event_id"],
        unique=True,
        postgresql_where=sa.text("source_event_id IS NOT NULL"),
    )
    op.create_table(
        "notification_deliveries",
        sa.Column("notification_id", sa.String(length=36), nullable=False),
        sa.Column("channel", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=True),
        sa.Column("tries", sa.SmallInteger(), nullable=False),
        sa.Column("next_try_at", _TIME, nullable=False),
        sa.Column("leased_until", _TIME, nullable=True),
        sa.Column("reached", postgresql.JSONB(), nullable=False),
        sa.Column("provider_id", sa.String(length=200), nullable=True),
        sa.Column("sent_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["notification_id"],
            ["notifications.notification_id"],
            name=op.f("fk_notification_deliveries_notification_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("notification_id", "channel", name=op.f("pk_notification_deliveries")),
    )
    op.create_index(
        "ix_notification_deliveries_due",
        "notification_deliveries",
        ["next_try_at"],
        postgresql_where=sa.text("state = 'pending'"),
    )


def _create_settings() -> None:
    op.create_table(
        "notification_preferences",
        sa.Column("user_id", sa.String(length=64), nullable=False),
        *(
            sa.Column(name, sa.Boolean(), nullable=False)
            for name in (
                "push_enabled",
                "email_enabled",
                "sms_enabled",
                "measurement_alerts",
                "health_alerts",
                "appointment_reminders",
                "community_updates",
                "promotions",
            )
        ),
        sa.Column("quiet_start", sa.SmallInteger(), nullable=True),
        sa.Column("quiet_end", sa.SmallInteger(), nullable=True),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.CheckConstraint(
            "num_nulls(quiet_start, quiet_end) IN (0, 2)", name=op.f("ck_notification_preferences_quiet_hours")
        ),
        sa.CheckConstraint(
            "quiet_start BETWEEN 0 AND 1439 AND quiet_end BETWEEN 0 AND 1439",
            name=op.f("ck_notification_preferences_quiet_minutes"),
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_notification_preferences")),
    )
    op.create_table(
        "push_tokens",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("platform", sa.String(length=8), nullable=False),
        sa.Column("registered_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_push_tokens")),
    )
    op.create_index("ix_push_tokens_user", "push_tokens", ["user_id", "registered_at"])
    op.create_table(
        "contact_phones",
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("phone", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_contact_phones")),
    )


def _create_templates() -> None:
    templates = op.create_table(
        "notification_templates",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.String(length=8), nullable=False),
        sa.Column("channel", sa.String(length=8), nullable=True),
        sa.Column("action_url", sa.String(length=500), nullable=False),
        sa.Column("variables", postgresql.JSONB(), nullable=False),
        sa.Column("updated_by", sa.String(length=64), nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_notification_templates")),
    )
    texts = op.create_table(
        "notification_template_texts",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("locale", sa.String(length=8), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["key"],
            ["notification_templates.key"],
            name=op.f("fk_notification_template_texts_key"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("key", "locale", name=op.f("pk_notification_template_texts")),
    )
    now = datetime.now(UTC)
    op.bulk_insert(
        templates,
        [
            {
                "key": seed.key,
                "type": seed.type.value,
                "priority": seed.priority.value,
                "channel": None,
                "action_url": seed.action_url,
                "variables": sorted(seed.variables),
                "updated_by": "migration",
                "updated_at": now,
            }
            for seed in TEMPLATES
        ],
    )
    op.bulk_insert(
        texts,
        [
            {"key": seed.key, "locale": locale, "title": words[0], "body": words[1]}
            for seed in TEMPLATES
            for locale, words in (("ko", seed.ko), ("en", seed.en))
        ],
    )


def downgrade() -> None:
    """Drop them."""
    for table in (
        "notification_template_texts",
        "notification_templates",
        "contact_phones",
        "push_tokens",
        "notification_preferences",
        "notification_deliveries",
        "notifications",
    ):
        op.drop_table(table)
