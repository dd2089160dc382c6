"""The tables that every group has."""

from subgraphs.runtime.migrations import create_common_tables, drop_common_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    create_common_tables()


def downgrade() -> None:
    """Drop them."""
    drop_common_tables()
