"""Templates for results that came late, or not at all; a new database has them already."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from domain.operations.notification.template_data import TEMPLATES

revision = "2026_12_01_0430"
down_revision = "0002"
branch_labels = None
depends_on = None

_KEYS = ("health_alert_late", "health_alert_undated", "measurement_invalid")

_TEMPLATES = sa.table(
    "notification_templates",
    *(sa.column(name) for name in ("key", "type", "priority", "action_url")),
    sa.column("variables", postgresql.JSONB()),
    sa.column("updated_by"),
    sa.column("updated_at", sa.DateTime(timezone=True)),
)
_TEXTS = sa.table("notification_template_texts", *(sa.column(name) for name in ("key", "locale", "title", "body")))


def upgrade() -> None:
    now = datetime.now(UTC)
    for seed in TEMPLATES:
        if seed.key not in _KEYS:
            continue
        row = {
            "key": seed.key,
            "type": seed.type.value,
            "priority": seed.priority.value,
            "action_url": seed.action_url,
            "variables": sorted(seed.variables),
            "updated_by": "migration",
            "updated_at": now,
        }
        op.execute(postgresql.insert(_TEMPLATES).values(row).on_conflict_do_nothing())
        for locale, (title, body) in (("ko", seed.ko), ("en", seed.en)):
            text = {"key": seed.key, "locale": locale, "title": title, "body": body}
            op.execute(postgresql.insert(_TEXTS).values(text).on_conflict_do_nothing())


def downgrade() -> None:
    op.execute(_TEMPLATES.delete().where(_TEMPLATES.c.key.in_(_KEYS)))
