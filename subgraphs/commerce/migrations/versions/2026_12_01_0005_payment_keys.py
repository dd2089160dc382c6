"""A key of the provider captures one payment; a one-time payment needs no order."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_EFFECTIVE = "status IN ('started', 'captured', 'mismatched')"


def upgrade() -> None:
    """Keep the first use of a key as it is, and mark the later ones: they would break the new index."""
    op.execute(
        f"""
        UPDATE payment_attempts SET payment_key = left(payment_key, 150) || '#' || attempt_id
        WHERE attempt_id IN (
            SELECT attempt_id FROM (
                SELECT attempt_id, row_number() OVER (PARTITION BY payment_key ORDER BY started_at, attempt_id) AS use
                FROM payment_attempts WHERE {_EFFECTIVE}
            ) uses WHERE use > 1
        )
        """  # noqa: S608 - constants only
    )
    op.drop_index("ix_payment_attempts_key", table_name="payment_attempts")
    op.create_index(
        "uq_payment_attempts_key",
        "payment_attempts",
        ["payment_key"],
        unique=True,
        postgresql_where=sa.text(_EFFECTIVE),
    )
    op.create_index(
        "ix_payments_key", "payments", ["payment_key"], unique=False, postgresql_where=sa.text("payment_key <> ''")
    )
    op.drop_constraint(op.f("ck_payments_pays_something"), "payments", type_="check")
    op.create_check_constraint(
        op.f("ck_payments_pays_something"), "payments", "payment_type = 'one_time' OR subscription_id <> ''"
    )


def downgrade() -> None:
    """Restore the indexes and the rule of before; marked keys stay marked."""
    op.execute(
        "DELETE FROM payments WHERE order_id = '' AND subscription_id = '' AND status IN ('pending', 'cancelled')"
    )
    op.drop_constraint(op.f("ck_payments_pays_something"), "payments", type_="check")
    op.create_check_constraint(
        op.f("ck_payments_pays_something"), "payments", "order_id <> '' OR subscription_id <> ''"
    )
    op.drop_index("ix_payments_key", table_name="payments")
    op.drop_index("uq_payment_attempts_key", table_name="payment_attempts")
    op.create_index("ix_payment_attempts_key", "payment_attempts", ["payment_key"], unique=False)
