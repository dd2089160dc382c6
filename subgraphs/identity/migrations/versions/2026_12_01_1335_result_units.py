"""The kind of unit that a person reads results in."""

import sqlalchemy as sa
from alembic import op

revision = "2026_12_01_1335"
down_revision = "2026_12_01_0600"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; profiles that are there read results as they were measured."""
    op.add_column(
        "profiles",
        sa.Column("result_units", sa.String(length=16), server_default=sa.text("'as_measured'"), nullable=False),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_column("profiles", "result_units")
