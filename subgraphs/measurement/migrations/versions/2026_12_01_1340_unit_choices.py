"""In which kind of unit people read results."""

import sqlalchemy as sa
from alembic import op

revision = "2026_12_01_1340"
down_revision = "2026_12_01_0525"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "unit_choices",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("result_units", sa.String(length=16), nullable=False),
        sa.Column("chosen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_unit_choices"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("unit_choices")
