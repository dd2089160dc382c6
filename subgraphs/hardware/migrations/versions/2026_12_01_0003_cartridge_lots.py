"""Lots and cartridges of the factory; what a tag says belongs to the person who has read it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the factory's tables, and key what was read by uid and person."""
    op.create_table(
        "cartridge_lots",
        sa.Column("lot_id", sa.String(length=8), nullable=False),
        sa.Column("category", sa.SmallInteger(), nullable=False),
        sa.Column("type_index", sa.SmallInteger(), nullable=False),
        sa.Column("key_kind", sa.String(length=8), nullable=True),
        sa.Column("public_key", sa.LargeBinary(), nullable=True),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=True),
        sa.Column("expires_on", sa.Date(), nullable=True),
        sa.Column("imported_by", sa.String(length=64), nullable=False),
        sa.Column("imported_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "category BETWEEN 1 AND 255 AND type_index BETWEEN 1 AND 255", name=op.f("ck_cartridge_lots_type")
        ),
        sa.CheckConstraint(
            "key_kind IS NULL AND num_nonnulls(public_key, sealed_key) = 0 OR "
            "key_kind = 'ed25519' AND public_key IS NOT NULL AND sealed_key IS NULL OR "
            "key_kind = 'aes-cmac' AND sealed_key IS NOT NULL AND public_key IS NULL",
            name=op.f("ck_cartridge_lots_key"),
        ),
        sa.PrimaryKeyConstraint("lot_id", name=op.f("pk_cartridge_lots")),
    )
    op.create_table(
        "registered_cartridges",
        sa.Column("uid", sa.String(length=16), nullable=False),
        sa.Column("lot_id", sa.String(length=8), nullable=False),
        sa.Column("alpha", sa.Double(), nullable=False),
        sa.Column("temp_coefficient", sa.Double(), nullable=False),
        sa.Column("humidity_coefficient", sa.Double(), nullable=False),
        sa.Column("max_uses", sa.Integer(), nullable=False),
        sa.Column("expires_on", sa.Date(), nullable=False),
        sa.Column("imported_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("max_uses BETWEEN 1 AND 65535", name=op.f("ck_registered_cartridges_max_uses")),
        sa.CheckConstraint("alpha BETWEEN 0 AND 2", name=op.f("ck_registered_cartridges_alpha")),
        sa.CheckConstraint(
            "temp_coefficient BETWEEN -1 AND 1 AND humidity_coefficient BETWEEN -1 AND 1",
            name=op.f("ck_registered_cartridges_coefficients"),
        ),
        sa.CheckConstraint("uid = upper(uid)", name=op.f("ck_registered_cartridges_uid")),
        sa.ForeignKeyConstraint(["lot_id"], ["cartridge_lots.lot_id"], name=op.f("fk_registered_cartridges_lot_id")),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_registered_cartridges")),
    )
    op.create_index("ix_registered_cartridges_lot", "registered_cartridges", ["lot_id"])
    op.drop_constraint("fk_cartridge_usages_cartridge_uid", "cartridge_usages", type_="foreignkey")
    # Defaults, and the column that the new one replaces, stay: processes of the release before run on beside this one.
    op.add_column(
        "cartridges", sa.Column("owner_user_id", sa.String(length=64), nullable=False, server_default=sa.text("''"))
    )
    op.execute("UPDATE cartridges SET owner_user_id = first_read_by WHERE first_read_by IS NOT NULL")
    op.drop_constraint("pk_cartridges", "cartridges", type_="primary")
    op.create_primary_key("pk_cartridges", "cartridges", ["uid", "owner_user_id"])
    # Whatever was read before carried no signature that was checked.
    op.add_column("cartridges", sa.Column("signed", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index("uq_cartridges_signed_uid", "cartridges", ["uid"], unique=True, postgresql_where=sa.text("signed"))


def downgrade() -> None:
    """Keep of each uid the reading that came first: before, there was one."""
    op.drop_index("uq_cartridges_signed_uid", table_name="cartridges")
    op.drop_column("cartridges", "signed")
    op.drop_constraint("pk_cartridges", "cartridges", type_="primary")
    op.execute(
        "DELETE FROM cartridges c USING cartridges o "
        "WHERE o.uid = c.uid AND (o.first_read_at, o.owner_user_id) < (c.first_read_at, c.owner_user_id)"
    )
    op.create_primary_key("pk_cartridges", "cartridges", ["uid"])
    op.execute("UPDATE cartridges SET first_read_by = nullif(owner_user_id, '')")
    op.drop_column("cartridges", "owner_user_id")
    op.execute(
        "DELETE FROM cartridge_usages u WHERE NOT EXISTS (SELECT FROM cartridges c WHERE c.uid = u.cartridge_uid)"
    )
    op.create_foreign_key(
        "fk_cartridge_usages_cartridge_uid", "cartridge_usages", "cartridges", ["cartridge_uid"], ["uid"]
    )
    op.drop_table("registered_cartridges")
    op.drop_table("cartridge_lots")
