"""The measuring range, minimum confidence and digits that a session was started with."""

import sqlalchemy as sa
from alembic import op

revision = "2026_12_01_0425"
down_revision = "0002"
branch_labels = None
depends_on = None

_LEGACY = """
    UPDATE measurement_sessions AS s
    SET measuring_low = t.low, measuring_high = t.high, decimal_places = t.places
    FROM (VALUES
        (1, 1, 'mg/dL', 20.0, 600.0, 0), (1, 2, 'mg/dL', 100, 500, 0), (1, 3, '%', 2.5, 14, 1),
        (1, 4, 'mg/dL', 2, 20, 1), (1, 5, 'mg/dL', 0.2, 20, 2), (1, 6, 'ng/mL', 6, 120, 1),
        (1, 7, 'pg/mL', 100, 2000, 0), (1, 8, 'ng/mL', 5, 2000, 0), (1, 9, 'm[IU]/L', 0.1, 100, 2),
        (1, 10, 'ug/dL', 1, 60, 1), (1, 11, 'ng/dL', 5, 1500, 0), (1, 12, 'pg/mL', 5, 3000, 0),
        (1, 13, 'mg/L', 0.3, 350, 1), (1, 14, 'u[IU]/mL', 0.4, 1000, 1)
    ) AS t (category, type, unit, low, high, places)
    WHERE s.verified AND s.calibrated AND (s.category_code, s.type_index, s.unit) = (t.category, t.type, t.unit)
"""
"""Results that were kept before there was a range are judged by that of their type in the unit that they have. A copy of
what the registry shipped with: migrations do not change when the registry does."""


def upgrade() -> None:
    op.add_column("measurement_sessions", sa.Column("measuring_low", sa.Float(53)))
    op.add_column("measurement_sessions", sa.Column("measuring_high", sa.Float(53)))
    op.add_column(
        "measurement_sessions", sa.Column("min_confidence", sa.Float(53), nullable=False, server_default=sa.text("0.5"))
    )
    op.add_column(
        "measurement_sessions",
        sa.Column("decimal_places", sa.SmallInteger, nullable=False, server_default=sa.text("4")),
    )
    op.execute(_LEGACY)


def downgrade() -> None:
    for name in ("decimal_places", "min_confidence", "measuring_high", "measuring_low"):
        op.drop_column("measurement_sessions", name)
