"""Finds the sign-ins that ended lately, which every process asks for every second."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index(
        "ix_sign_ins_revoked_at", "sign_ins", ["revoked_at", "id"], postgresql_where="revoked_at IS NOT NULL"
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_sign_ins_revoked_at", table_name="sign_ins")
