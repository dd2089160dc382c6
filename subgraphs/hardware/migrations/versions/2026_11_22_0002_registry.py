"""The cartridge categories and types that the registry starts with, and a calibration model for each type."""

from dataclasses import asdict
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import insert

from domain.hardware.calibration.models import CalibrationModel
from domain.hardware.cartridge.models import CartridgeCategory
from domain.hardware.cartridge.registry_data import CATEGORIES, TYPES
from domain.hardware.codes import DEFAULT_VALIDITY_DAYS
from domain.ids import new_id

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_DEFAULT_ALPHA = 0.95

# The columns that the table has at this revision: later ones are filled in by the revisions that add them.
_TYPES = sa.table(
    "cartridge_types",
    *(
        sa.column(name)
        for name in (
            "category",
            "type_index",
            "legacy_code",
            "name_en",
            "name_ko",
            "description",
            "required_channels",
            "measurement_s",
            "unit",
            "loinc_code",
            "reference_low",
            "reference_high",
            "reference_note",
            "critical_low",
            "critical_high",
            "source",
            "default_uses",
            "manufacturer",
            "is_active",
            "is_beta",
        )
    ),
)


def upgrade() -> None:
    """Load them; entries that are there already stay as they are."""
    connection = op.get_bind()
    connection.execute(insert(CartridgeCategory).on_conflict_do_nothing(), [asdict(entry) for entry in CATEGORIES])
    connection.execute(
        insert(_TYPES).on_conflict_do_nothing(),
        [{name: value for name, value in asdict(entry).items() if name in _TYPES.c} for entry in TYPES],
    )
    now = datetime.now(UTC)
    connection.execute(
        insert(CalibrationModel).on_conflict_do_nothing(),
        [
            {
                "model_id": new_id(),
                "category": entry.category,
                "type_index": entry.type_index,
                "name": f"{entry.name_en} linear",
                "version": "1.0",
                "default_alpha": _DEFAULT_ALPHA,
                "validity_days": DEFAULT_VALIDITY_DAYS,
                "description": f"Gain and offset per channel over {entry.required_channels} channels, in {entry.unit}.",
                "created_at": now,
            }
            for entry in TYPES
        ],
    )


def downgrade() -> None:
    """Leave the entries: a registry may have been changed since, and 0001 drops the tables."""
