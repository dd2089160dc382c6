"""The measuring range, minimum confidence and digits of cartridge types."""

import sqlalchemy as sa
from alembic import op

from domain.hardware.cartridge.registry_data import TYPES

revision = "2026_12_01_0420"
down_revision = "0006"
branch_labels = None
depends_on = None

_FILLED = ("measuring_low", "measuring_high", "min_confidence", "decimal_places", "measuring_source")


def upgrade() -> None:
    """Add the columns; the types that ship with the product get theirs where an administrator has not changed the unit."""
    op.add_column("cartridge_types", sa.Column("measuring_low", sa.Double(), nullable=True))
    op.add_column("cartridge_types", sa.Column("measuring_high", sa.Double(), nullable=True))
    op.add_column(
        "cartridge_types", sa.Column("min_confidence", sa.Double(), nullable=False, server_default=sa.text("0.5"))
    )
    op.add_column(
        "cartridge_types", sa.Column("decimal_places", sa.SmallInteger(), nullable=False, server_default=sa.text("2"))
    )
    op.add_column(
        "cartridge_types",
        sa.Column("measuring_source", sa.String(length=500), nullable=False, server_default=sa.text("''")),
    )
    op.create_check_constraint(
        op.f("ck_cartridge_types_measuring"), "cartridge_types", "measuring_low < measuring_high"
    )
    op.create_check_constraint(
        op.f("ck_cartridge_types_min_confidence"), "cartridge_types", "min_confidence > 0 AND min_confidence <= 1"
    )
    op.create_check_constraint(
        op.f("ck_cartridge_types_decimal_places"), "cartridge_types", "decimal_places BETWEEN 0 AND 6"
    )
    columns = ("category", "type_index", "unit", *_FILLED)
    types = sa.table("cartridge_types", *(sa.column(name) for name in columns))
    for entry in TYPES:
        op.execute(
            types.update()
            .where(
                types.c.category == entry.category,
                types.c.type_index == entry.type_index,
                types.c.unit == entry.unit,
            )
            .values({name: getattr(entry, name) for name in _FILLED})
        )


def downgrade() -> None:
    for name in ("measuring", "min_confidence", "decimal_places"):
        op.drop_constraint(op.f(f"ck_cartridge_types_{name}"), "cartridge_types")
    for name in reversed(_FILLED):
        op.drop_column("cartridge_types", name)
