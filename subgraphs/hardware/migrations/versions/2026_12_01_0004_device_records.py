"""Device records of the factory; ids and serial numbers of readers are compared without case."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


_FILL_KEYS = """
CREATE FUNCTION devices_fill_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.device_key := coalesce(NEW.device_key, lower(NEW.device_id));
    NEW.serial_key := coalesce(NEW.serial_key, lower(NEW.serial_number));
    RETURN NEW;
END $$
"""


def upgrade() -> None:
    """Create the table, and give every reader its keys; of rows that differ in case only, the oldest has the plain key."""
    op.create_table(
        "device_records",
        sa.Column("serial_key", sa.String(length=64), nullable=False),
        sa.Column("serial_number", sa.String(length=64), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=True),
        sa.Column("claim_hash", sa.LargeBinary(), nullable=False),
        sa.Column("imported_by", sa.String(length=64), nullable=False),
        sa.Column("imported_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("octet_length(claim_hash) = 32", name=op.f("ck_device_records_claim_hash")),
        sa.CheckConstraint("serial_key = lower(serial_number)", name=op.f("ck_device_records_serial_key")),
        sa.PrimaryKeyConstraint("serial_key", name=op.f("pk_device_records")),
    )
    op.create_index("uq_device_records_device_key", "device_records", [sa.text("lower(device_id)")], unique=True)
    for key, source in (("device_key", "device_id"), ("serial_key", "serial_number")):
        op.add_column("devices", sa.Column(key, sa.String(length=80), nullable=True))
        op.execute(
            f"""
            UPDATE devices d SET {key} = lower(d.{source}) || CASE WHEN n.number = 1 THEN '' ELSE '#' || n.number END
            FROM (
                SELECT device_id, row_number() OVER (PARTITION BY lower({source}) ORDER BY registered_at, device_id) AS number
                FROM devices
            ) n
            WHERE n.device_id = d.device_id
            """  # noqa: S608 - names of columns, written above
        )
        op.alter_column("devices", key, existing_type=sa.String(length=80), nullable=False)
        op.create_index(f"uq_devices_{key}", "devices", [key], unique=True)
    op.drop_index("uq_devices_serial_number", table_name="devices")
    op.execute(_FILL_KEYS)  # for processes of the release before, which know of no keys
    op.execute(
        "CREATE TRIGGER devices_fill_keys BEFORE INSERT ON devices FOR EACH ROW EXECUTE FUNCTION devices_fill_keys()"
    )
    op.add_column("devices", sa.Column("verified", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index(
        "ix_calibrations_of_device_key",
        "calibrations",
        [sa.text("lower(device_id)"), "category", "type_index", "calibrated_at"],
    )


def downgrade() -> None:
    """Remove the keys and the records; serial numbers are unique as they are written, as before."""
    op.drop_index("ix_calibrations_of_device_key", table_name="calibrations")
    op.execute("DROP TRIGGER devices_fill_keys ON devices")
    op.execute("DROP FUNCTION devices_fill_keys()")
    op.drop_column("devices", "verified")
    op.create_index("uq_devices_serial_number", "devices", ["serial_number"], unique=True)
    for key in ("serial_key", "device_key"):
        op.drop_index(f"uq_devices_{key}", table_name="devices")
        op.drop_column("devices", key)
    op.drop_table("device_records")
