"""A key that names the start of a session, so that a start whose answer was lost can be repeated."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("measurement_sessions", sa.Column("start_key", sa.String))
    # Not concurrently: the column is new, so the index is empty and made at once.
    op.create_index(
        "uq_measurement_sessions_start_key",
        "measurement_sessions",
        ["device_id", "user_id", "start_key"],
        unique=True,
        postgresql_where=sa.text("start_key IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("uq_measurement_sessions_start_key", "measurement_sessions")
    op.drop_column("measurement_sessions", "start_key")
