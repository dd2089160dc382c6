"""The number of an account's proof of its mail address; 0: unproven.

Accounts whose address is verified already have their first proof. With a default, because the release before writes
accounts without it.
"""

import sqlalchemy as sa
from alembic import op

revision = "2026_12_01_0555"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("accounts", sa.Column("proof", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.execute("UPDATE accounts SET proof = 1 WHERE email_verified_at IS NOT NULL")


def downgrade() -> None:
    op.drop_column("accounts", "proof")
