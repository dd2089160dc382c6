"""Codes that prove a mail address to the person who is signed in."""

import sqlalchemy as sa
from alembic import op

revision = "2026_12_01_0600"
down_revision = "2026_12_01_0555"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "email_proofs",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("locale", sa.String(), nullable=False),
        sa.Column("mail_due_at", sa.DateTime(timezone=True)),
        sa.Column("code_hash", sa.LargeBinary()),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("user_id", name="pk_email_proofs"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["accounts.id"], name="fk_email_proofs_user_id_accounts", ondelete="CASCADE"
        ),
    )
    op.create_index(
        "ix_email_proofs_due", "email_proofs", ["mail_due_at"], postgresql_where=sa.text("mail_due_at IS NOT NULL")
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("email_proofs")
