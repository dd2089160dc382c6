"""The cartridge categories and types that the registry starts with, and a calibration model for each type."""

from dataclasses import asdict
from datetime import UTC, datetime

from alembic import op
from sqlalchemy.dialects.postgresql import insert

from domain.hardware.calibration.models import CalibrationModel
from domain.hardware.cartridge.models import CartridgeCategory, CartridgeType
from domain.hardware.cartridge.registry_data import CATEGORIES, TYPES
from domain.hardware.codes import DEFAULT_VALIDITY_DAYS
from domain.ids import new_id

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_DEFAULT_ALPHA = 0.95


def upgrade() -> None:
    """Load them; entries that are there already stay as they are."""
    connection = op.get_bind()
    connection.execute(insert(CartridgeCategory).on_conflict_do_nothing(), [asdict(entry) for entry in CATEGORIES])
    connection.execute(insert(CartridgeType).on_conflict_do_nothing(), [asdict(entry) for entry in TYPES])
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
