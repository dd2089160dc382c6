"""What the plan of a person allows, as subscription-service tells it.

With defaults, because the release before writes profiles without these columns.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_COLUMNS: dict[str, tuple[type[sa.Integer] | type[sa.Boolean], str]] = {
    "subscription_revision": (sa.Integer, "0"),
    "subscription_max_devices": (sa.Integer, "1"),
    "subscription_max_family_members": (sa.Integer, "1"),
    "subscription_ai_coaching": (sa.Boolean, "false"),
    "subscription_telemedicine": (sa.Boolean, "false"),
}


def upgrade() -> None:
    """Add the columns."""
    for name, (kind, default) in _COLUMNS.items():
        op.add_column("profiles", sa.Column(name, kind, nullable=False, server_default=sa.text(default)))


def downgrade() -> None:
    """Drop them."""
    for name in _COLUMNS:
        op.drop_column("profiles", name)
