"""Phone numbers count once they are proven; those from before are not."""

import sqlalchemy as sa
from alembic import op

revision = "2026_12_01_0605"
down_revision = "2026_12_01_0430"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("contact_phones", sa.Column("verified_at", _TIME, nullable=True))
    op.create_table(
        "pending_phones",
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("phone", sa.LargeBinary(), nullable=False),
        sa.Column("code_hash", sa.LargeBinary(), nullable=True),
        sa.Column("expires_at", _TIME, nullable=True),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("requested_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_pending_phones")),
    )


def downgrade() -> None:
    op.drop_table("pending_phones")
    op.drop_column("contact_phones", "verified_at")
