"""The tables of device, cartridge and calibration."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from subgraphs.runtime.migrations import create_common_tables, drop_common_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    create_common_tables()
    op.create_table(
        "calibration_lots",
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("category", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("type_index", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("lot_id", sa.String(length=16), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("check_needed_since", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("device_id", "category", "type_index", name=op.f("pk_calibration_lots")),
    )
    op.create_table(
        "calibration_models",
        sa.Column("model_id", sa.String(length=36), nullable=False),
        sa.Column("category", sa.SmallInteger(), nullable=False),
        sa.Column("type_index", sa.SmallInteger(), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("version", sa.String(length=16), nullable=False),
        sa.Column("default_alpha", sa.Double(), nullable=False),
        sa.Column("validity_days", sa.SmallInteger(), nullable=False),
        sa.Column("description", sa.String(length=500), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("validity_days > 0", name=op.f("ck_calibration_models_validity_days")),
        sa.PrimaryKeyConstraint("model_id", name=op.f("pk_calibration_models")),
        sa.UniqueConstraint(
            "category", "type_index", "version", name=op.f("uq_calibration_models_category_type_index_version")
        ),
    )
    op.create_table(
        "calibrations",
        sa.Column("calibration_id", sa.String(length=36), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("category", sa.SmallInteger(), nullable=False),
        sa.Column("type_index", sa.SmallInteger(), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("alpha", sa.Double(), nullable=False),
        sa.Column("channel_offsets", postgresql.ARRAY(sa.Double()), nullable=False),
        sa.Column("channel_gains", postgresql.ARRAY(sa.Double()), nullable=False),
        sa.Column("temp_coefficient", sa.Double(), nullable=False),
        sa.Column("humidity_coefficient", sa.Double(), nullable=False),
        sa.Column("accuracy_score", sa.Double(), nullable=False),
        sa.Column("max_residual", sa.Double(), nullable=True),
        sa.Column("reference_values", postgresql.ARRAY(sa.Double()), nullable=True),
        sa.Column("measured_values", postgresql.ARRAY(sa.Double()), nullable=True),
        sa.Column("ambient_temp_c", sa.Double(), nullable=True),
        sa.Column("ambient_humidity_pct", sa.Double(), nullable=True),
        sa.Column("based_on", sa.String(length=36), nullable=True),
        sa.Column("reference_standard", sa.String(length=200), nullable=False),
        sa.Column("calibrated_by", sa.String(length=200), nullable=False),
        sa.Column("calibrated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("superseded_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("accuracy_score BETWEEN 0 AND 1", name=op.f("ck_calibrations_accuracy_score")),
        sa.CheckConstraint("expires_at > calibrated_at", name=op.f("ck_calibrations_expires_at")),
        sa.PrimaryKeyConstraint("calibration_id", name=op.f("pk_calibrations")),
    )
    op.create_index(
        "ix_calibrations_history", "calibrations", ["device_id", "calibrated_at", "calibration_id"], unique=False
    )
    op.create_index(
        "ix_calibrations_in_force",
        "calibrations",
        ["device_id", "category", "type_index", "calibrated_at"],
        unique=False,
        postgresql_where=sa.text("superseded_at IS NULL"),
    )
    op.create_table(
        "cartridge_categories",
        sa.Column("code", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("last_code", sa.SmallInteger(), nullable=False),
        sa.Column("name_en", sa.String(length=80), nullable=False),
        sa.Column("name_ko", sa.String(length=80), nullable=False),
        sa.Column("description", sa.String(length=500), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "code BETWEEN 1 AND last_code AND last_code <= 255", name=op.f("ck_cartridge_categories_codes")
        ),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_cartridge_categories")),
    )
    op.create_table(
        "cartridge_types",
        sa.Column("category", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("type_index", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("legacy_code", sa.SmallInteger(), nullable=True),
        sa.Column("name_en", sa.String(length=80), nullable=False),
        sa.Column("name_ko", sa.String(length=80), nullable=False),
        sa.Column("description", sa.String(length=500), nullable=False),
        sa.Column("required_channels", sa.SmallInteger(), nullable=False),
        sa.Column("measurement_s", sa.SmallInteger(), nullable=False),
        sa.Column("unit", sa.String(length=24), nullable=False),
        sa.Column("loinc_code", sa.String(length=12), nullable=True),
        sa.Column("reference_low", sa.Double(), nullable=True),
        sa.Column("reference_high", sa.Double(), nullable=True),
        sa.Column("reference_note", sa.String(length=120), nullable=False),
        sa.Column("critical_low", sa.Double(), nullable=True),
        sa.Column("critical_high", sa.Double(), nullable=True),
        sa.Column("source", sa.String(length=500), nullable=False),
        sa.Column("default_uses", sa.Integer(), nullable=False),
        sa.Column("manufacturer", sa.String(length=80), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("is_beta", sa.Boolean(), nullable=False),
        sa.CheckConstraint("category BETWEEN 1 AND 255", name=op.f("ck_cartridge_types_category")),
        sa.CheckConstraint("critical_low < critical_high", name=op.f("ck_cartridge_types_critical")),
        sa.CheckConstraint("default_uses > 0", name=op.f("ck_cartridge_types_default_uses")),
        sa.CheckConstraint("reference_low <= reference_high", name=op.f("ck_cartridge_types_reference")),
        sa.CheckConstraint(
            "required_channels IN (88, 448, 896, 1792)", name=op.f("ck_cartridge_types_required_channels")
        ),
        sa.CheckConstraint("type_index BETWEEN 1 AND 255", name=op.f("ck_cartridge_types_type_index")),
        sa.PrimaryKeyConstraint("category", "type_index", name=op.f("pk_cartridge_types")),
    )
    op.create_index(
        "uq_cartridge_types_legacy_code",
        "cartridge_types",
        ["legacy_code"],
        unique=True,
        postgresql_where=sa.text("legacy_code IS NOT NULL"),
    )
    op.create_table(
        "cartridges",
        sa.Column("uid", sa.String(length=64), nullable=False),
        sa.Column("tag_version", sa.SmallInteger(), nullable=False),
        sa.Column("category", sa.SmallInteger(), nullable=False),
        sa.Column("type_index", sa.SmallInteger(), nullable=False),
        sa.Column("legacy_code", sa.SmallInteger(), nullable=True),
        sa.Column("lot_id", sa.String(length=8), nullable=False),
        sa.Column("expires_on", sa.Date(), nullable=True),
        sa.Column("remaining_uses", sa.Integer(), nullable=False),
        sa.Column("max_uses", sa.Integer(), nullable=False),
        sa.Column("required_channels", sa.Integer(), nullable=True),
        sa.Column("measurement_s", sa.SmallInteger(), nullable=True),
        sa.Column("flags", sa.SmallInteger(), nullable=False),
        sa.Column("alpha", sa.Double(), nullable=True),
        sa.Column("temp_coefficient", sa.Double(), nullable=True),
        sa.Column("humidity_coefficient", sa.Double(), nullable=True),
        sa.Column("extended_calibration", sa.LargeBinary(), nullable=False),
        sa.Column("first_read_by", sa.String(length=64), nullable=True),
        sa.Column("first_read_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_read_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("remaining_uses BETWEEN 0 AND max_uses", name=op.f("ck_cartridges_remaining_uses")),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_cartridges")),
    )
    op.create_table(
        "devices",
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("owner_user_id", sa.String(length=64), nullable=False),
        sa.Column("serial_number", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("firmware_version", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("battery_percent", sa.SmallInteger(), nullable=True),
        sa.Column("signal_strength", sa.SmallInteger(), nullable=True),
        sa.Column("last_heard_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_calibrated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cartridge_uid", sa.String(length=64), nullable=True),
        sa.Column("cartridge_category", sa.SmallInteger(), nullable=True),
        sa.Column("cartridge_type_index", sa.SmallInteger(), nullable=True),
        sa.Column("cartridge_lot_id", sa.String(length=16), nullable=True),
        sa.CheckConstraint("battery_percent BETWEEN 0 AND 100", name=op.f("ck_devices_battery_percent")),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_devices")),
    )
    op.create_index(
        "ix_devices_last_heard",
        "devices",
        ["last_heard_at"],
        unique=False,
        postgresql_where=sa.text("status NOT IN ('offline', 'unknown')"),
    )
    op.create_index("ix_devices_owner", "devices", ["owner_user_id", "registered_at", "device_id"], unique=False)
    op.create_index("uq_devices_serial_number", "devices", ["serial_number"], unique=True)
    op.create_table(
        "firmware",
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("object_key", sa.String(length=200), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("min_version", sa.String(length=32), nullable=True),
        sa.Column("notes", sa.String(length=2000), nullable=False),
        sa.Column("published_by", sa.String(length=64), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("size_bytes > 0", name=op.f("ck_firmware_size_bytes")),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_firmware")),
    )
    op.create_table(
        "cartridge_usages",
        sa.Column("record_id", sa.String(length=36), nullable=False),
        sa.Column("cartridge_uid", sa.String(length=64), nullable=False),
        sa.Column("session_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("category", sa.SmallInteger(), nullable=False),
        sa.Column("type_index", sa.SmallInteger(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["cartridge_uid"], ["cartridges.uid"], name=op.f("fk_cartridge_usages_cartridge_uid")),
        sa.PrimaryKeyConstraint("record_id", name=op.f("pk_cartridge_usages")),
        sa.UniqueConstraint("cartridge_uid", "session_id", name=op.f("uq_cartridge_usages_cartridge_uid_session_id")),
    )
    op.create_index("ix_cartridge_usages_user", "cartridge_usages", ["user_id", "used_at", "record_id"], unique=False)
    op.create_table(
        "device_commands",
        sa.Column("command_id", sa.String(length=36), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("command_type", sa.String(length=24), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("requested_by", sa.String(length=64), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.device_id"], name=op.f("fk_device_commands_device_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("command_id", name=op.f("pk_device_commands")),
    )
    op.create_index(
        "ix_device_commands_pending",
        "device_commands",
        ["device_id", "command_id"],
        unique=False,
        postgresql_where=sa.text("acknowledged_at IS NULL"),
    )
    op.create_table(
        "device_credentials",
        sa.Column("credential_id", sa.String(length=36), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.device_id"], name=op.f("fk_device_credentials_device_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("credential_id", name=op.f("pk_device_credentials")),
    )
    op.create_index(
        "uq_device_credentials_active",
        "device_credentials",
        ["device_id"],
        unique=True,
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_table(
        "ota_updates",
        sa.Column("update_id", sa.String(length=36), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("from_version", sa.String(length=32), nullable=False),
        sa.Column("target_version", sa.String(length=32), nullable=False),
        sa.Column("requested_by", sa.String(length=64), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("url_expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.device_id"], name=op.f("fk_ota_updates_device_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["target_version"], ["firmware.version"], name=op.f("fk_ota_updates_target_version")),
        sa.PrimaryKeyConstraint("update_id", name=op.f("pk_ota_updates")),
    )
    op.create_index("ix_ota_updates_device", "ota_updates", ["device_id", "requested_at"], unique=False)


def downgrade() -> None:
    """Drop them."""
    op.drop_table("ota_updates")
    op.drop_table("device_credentials")
    op.drop_table("device_commands")
    op.drop_table("cartridge_usages")
    op.drop_table("firmware")
    op.drop_table("devices")
    op.drop_table("cartridges")
    op.drop_table("cartridge_types")
    op.drop_table("cartridge_categories")
    op.drop_table("calibrations")
    op.drop_table("calibration_models")
    op.drop_table("calibration_lots")
    drop_common_tables()
