"""Sessions, their frames and fingerprints.

Frames are a TimescaleDB hypertable where the server has loaded that extension, and natively partitioned by month
otherwise. Partitions live in a schema of their own, because they are no tables that a model describes.
"""

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import Vector

from subgraphs.runtime.migrations import create_common_tables, drop_common_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_NUMBER = sa.Float(53)

_TIMESCALE = """
    SELECT EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb')
       AND 'timescaledb' = ANY (string_to_array(replace(current_setting('shared_preload_libraries'), ' ', ''), ','))
"""


def upgrade() -> None:
    create_common_tables()
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    _create_sessions()
    _create_frames(timescale=bool(op.get_bind().scalar(sa.text(_TIMESCALE))))
    op.create_table(
        "measurement_fingerprints",
        sa.Column("session_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("channels", sa.SmallInteger, nullable=False),
        sa.Column("embedding", Vector(896), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_measurement_fingerprints"),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["measurement_sessions.id"],
            name="fk_measurement_fingerprints_session_id",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_measurement_fingerprints_user", "measurement_fingerprints", ["user_id"])
    op.create_index(
        "ix_measurement_fingerprints_embedding",
        "measurement_fingerprints",
        ["embedding"],
        postgresql_using="hnsw",
        postgresql_ops={"embedding": "vector_cosine_ops"},
    )


def _create_sessions() -> None:
    op.create_table(
        "measurement_sessions",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.String, nullable=False),
        sa.Column("device_id", sa.String, nullable=False),
        sa.Column("cartridge_uid", sa.String, nullable=False),
        sa.Column("category_code", sa.SmallInteger, nullable=False),
        sa.Column("type_index", sa.SmallInteger, nullable=False),
        sa.Column("verified", sa.Boolean, nullable=False),
        sa.Column("calibrated", sa.Boolean, nullable=False),
        sa.Column("cartridge_known", sa.Boolean, nullable=False),
        sa.Column("type_name_en", sa.String, nullable=False),
        sa.Column("type_name_ko", sa.String, nullable=False),
        sa.Column("unit", sa.String, nullable=False),
        sa.Column("loinc_code", sa.String, nullable=False),
        sa.Column("required_channels", sa.SmallInteger),
        sa.Column("reference_low", _NUMBER),
        sa.Column("reference_high", _NUMBER),
        sa.Column("critical_low", _NUMBER),
        sa.Column("critical_high", _NUMBER),
        sa.Column("alpha", _NUMBER, nullable=False),
        sa.Column("temp_coefficient", _NUMBER, nullable=False),
        sa.Column("humidity_coefficient", _NUMBER, nullable=False),
        sa.Column("channel_gains", sa.LargeBinary, nullable=False),
        sa.Column("channel_offsets", sa.LargeBinary, nullable=False),
        sa.Column("status", sa.String(12), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("idle_deadline", _TIME, nullable=False),
        sa.Column("recalibrated_at", _TIME),
        sa.Column("lease", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("ended_at", _TIME),
        sa.Column("end_reason", sa.String(12)),
        sa.Column("frame_count", sa.Integer),
        sa.Column("chain_head", sa.LargeBinary),
        sa.Column("sealed_result", sa.LargeBinary),
        sa.PrimaryKeyConstraint("id", name="pk_measurement_sessions"),
    )
    for owner, column in (("user", "user_id"), ("device", "device_id"), ("cartridge", "cartridge_uid")):
        op.create_index(
            f"ix_measurement_sessions_{owner}_started", "measurement_sessions", [column, "started_at", "id"]
        )
    op.create_index(
        "ix_measurement_sessions_user_ended",
        "measurement_sessions",
        ["user_id", "ended_at", "id"],
        postgresql_where=sa.text("status = 'completed'"),
    )
    op.create_index(
        "ix_measurement_sessions_idle",
        "measurement_sessions",
        ["idle_deadline"],
        postgresql_where=sa.text("status IN ('starting', 'active')"),
    )


def _create_frames(*, timescale: bool) -> None:
    op.create_table(
        "measurement_frames",
        sa.Column("session_id", sa.Uuid, nullable=False),
        sa.Column("measured_at", _TIME, nullable=False),
        sa.Column("received_at", _TIME, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("chain_hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("session_id", "measured_at", name="pk_measurement_frames"),
        postgresql_partition_by=None if timescale else "RANGE (measured_at)",
    )
    # Sealed bytes do not compress: trying to would cost more than writing them.
    op.execute("ALTER TABLE measurement_frames ALTER COLUMN sealed SET STORAGE EXTERNAL")
    if timescale:
        op.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        op.execute(
            "SELECT create_hypertable('measurement_frames', 'measured_at',"
            " chunk_time_interval => INTERVAL '7 days', create_default_indexes => FALSE)"
        )
        return
    op.execute("CREATE SCHEMA frame_partitions")
    op.execute("CREATE TABLE frame_partitions.other PARTITION OF measurement_frames DEFAULT")


def downgrade() -> None:
    op.drop_table("measurement_fingerprints")
    op.drop_table("measurement_frames")
    op.execute("DROP SCHEMA IF EXISTS frame_partitions CASCADE")
    op.drop_table("measurement_sessions")
    op.execute("DROP EXTENSION IF EXISTS vector")
    drop_common_tables()
