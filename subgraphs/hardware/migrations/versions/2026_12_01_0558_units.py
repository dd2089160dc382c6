"""Units of calibrations, and versions of cartridge types."""

import sqlalchemy as sa
from alembic import op

revision = "2026_12_01_0558"
down_revision = "2026_12_01_0420"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; calibrations are in the unit that their type has now, the only one that it has had."""
    op.add_column("calibrations", sa.Column("unit", sa.String(length=24), nullable=True))
    op.execute(
        "UPDATE calibrations c SET unit = t.unit FROM cartridge_types t "
        "WHERE (t.category, t.type_index) = (c.category, c.type_index)"
    )
    op.add_column(
        "cartridge_types", sa.Column("version", sa.SmallInteger(), nullable=False, server_default=sa.text("1"))
    )
    op.create_check_constraint(op.f("ck_cartridge_types_version"), "cartridge_types", "version > 0")
    op.create_table(
        "cartridge_type_versions",
        sa.Column("category", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("type_index", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("unit", sa.String(length=24), nullable=False),
        sa.Column("loinc_code", sa.String(length=12), nullable=True),
        sa.Column("reference_low", sa.Double(), nullable=True),
        sa.Column("reference_high", sa.Double(), nullable=True),
        sa.Column("reference_note", sa.String(length=120), nullable=False),
        sa.Column("critical_low", sa.Double(), nullable=True),
        sa.Column("critical_high", sa.Double(), nullable=True),
        sa.Column("source", sa.String(length=500), nullable=False),
        sa.Column("measuring_low", sa.Double(), nullable=True),
        sa.Column("measuring_high", sa.Double(), nullable=True),
        sa.Column("min_confidence", sa.Double(), nullable=False),
        sa.Column("decimal_places", sa.SmallInteger(), nullable=False),
        sa.Column("measuring_source", sa.String(length=500), nullable=False),
        sa.Column("replaced_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("category", "type_index", "version", name=op.f("pk_cartridge_type_versions")),
    )


def downgrade() -> None:
    op.drop_table("cartridge_type_versions")
    op.drop_constraint(op.f("ck_cartridge_types_version"), "cartridge_types")
    op.drop_column("cartridge_types", "version")
    op.drop_column("calibrations", "unit")
