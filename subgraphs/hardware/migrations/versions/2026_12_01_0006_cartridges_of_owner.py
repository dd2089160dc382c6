"""A person's readings of cartridges by age: those that were never used are kept in a limited number."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the index."""
    op.create_index("ix_cartridges_owner", "cartridges", ["owner_user_id", "last_read_at"])


def downgrade() -> None:
    """Drop the index."""
    op.drop_index("ix_cartridges_owner", table_name="cartridges")
