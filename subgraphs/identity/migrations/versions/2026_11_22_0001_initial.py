"""Accounts, sign-ins, signing keys, password resets and profiles."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from subgraphs.runtime.migrations import create_common_tables, drop_common_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    create_common_tables()
    op.create_table(
        "accounts",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("email", sa.String),
        sa.Column("email_verified_at", _TIME),
        sa.Column("password_hash", sa.String),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("disabled_at", _TIME),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
        sa.UniqueConstraint("email", name="uq_accounts_email"),
        sa.CheckConstraint("email = lower(email)", name=op.f("ck_accounts_email_lower")),
    )
    op.create_table(
        "social_identities",
        sa.Column("provider", sa.String, nullable=False),
        sa.Column("social_id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("linked_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("provider", "social_id", name="pk_social_identities"),
        sa.ForeignKeyConstraint(["user_id"], ["accounts.id"], name="fk_social_identities_user_id", ondelete="CASCADE"),
    )
    op.create_index("ix_social_identities_user_id", "social_identities", ["user_id"])
    op.create_table(
        "consents",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("granted_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_consents"),
        sa.ForeignKeyConstraint(["user_id"], ["accounts.id"], name="fk_consents_user_id", ondelete="CASCADE"),
    )
    op.create_index("ix_consents_user_id", "consents", ["user_id"])
    op.create_table(
        "sign_ins",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("method", sa.String, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("revoked_at", _TIME),
        sa.Column("revoked_for", sa.String),
        sa.PrimaryKeyConstraint("id", name="pk_sign_ins"),
        sa.ForeignKeyConstraint(["user_id"], ["accounts.id"], name="fk_sign_ins_user_id", ondelete="CASCADE"),
    )
    op.create_index("ix_sign_ins_user_id", "sign_ins", ["user_id"])
    op.create_index("ix_sign_ins_expires_at", "sign_ins", ["expires_at"])
    op.create_table(
        "refresh_tokens",
        sa.Column("token_hash", sa.LargeBinary, nullable=False),
        sa.Column("sign_in_id", sa.String, nullable=False),
        sa.Column("issued_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("used_at", _TIME),
        sa.PrimaryKeyConstraint("token_hash", name="pk_refresh_tokens"),
        sa.ForeignKeyConstraint(
            ["sign_in_id"], ["sign_ins.id"], name="fk_refresh_tokens_sign_in_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_refresh_tokens_sign_in_id", "refresh_tokens", ["sign_in_id"])
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("public_jwk", postgresql.JSONB, nullable=False),
        sa.Column("private_sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("activated_at", _TIME),
        sa.Column("published_until", _TIME),
        sa.PrimaryKeyConstraint("kid", name="pk_signing_keys"),
    )
    op.create_index(
        "uq_signing_keys_current",
        "signing_keys",
        ["state"],
        unique=True,
        postgresql_where=sa.text("state <> 'retired'"),
    )
    op.create_table(
        "password_resets",
        sa.Column("token_hash", sa.LargeBinary, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("used_at", _TIME),
        sa.PrimaryKeyConstraint("token_hash", name="pk_password_resets"),
        sa.ForeignKeyConstraint(["user_id"], ["accounts.id"], name="fk_password_resets_user_id", ondelete="CASCADE"),
    )
    op.create_index("ix_password_resets_user_id", "password_resets", ["user_id"])
    op.create_table(
        "reset_requests",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("email", sa.String, nullable=False),
        sa.Column("locale", sa.String, nullable=False),
        sa.Column("requested_at", _TIME, nullable=False),
        sa.Column("next_attempt_at", _TIME, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_reset_requests"),
    )
    op.create_index("ix_reset_requests_next_attempt_at", "reset_requests", ["next_attempt_at"])
    op.create_table(
        "profiles",
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("display_name", sa.String, nullable=False),
        sa.Column("avatar_url", sa.String, nullable=False),
        sa.Column("language", sa.String, nullable=False),
        sa.Column("timezone", sa.String, nullable=False),
        sa.Column("subscription_tier", sa.String, nullable=False),
        sa.Column("subscription_started_at", _TIME, nullable=False),
        sa.Column("subscription_expires_at", _TIME),
        sa.Column("health", sa.LargeBinary),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_profiles"),
    )


def downgrade() -> None:
    for table in (
        "profiles",
        "reset_requests",
        "password_resets",
        "signing_keys",
        "refresh_tokens",
        "sign_ins",
        "consents",
        "social_identities",
        "accounts",
    ):
        op.drop_table(table)
    drop_common_tables()
