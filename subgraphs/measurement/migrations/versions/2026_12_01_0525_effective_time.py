"""When a result was true, apart from when its session ended and when it became known."""

import sqlalchemy as sa
from alembic import op

revision = "2026_12_01_0525"
down_revision = "2026_12_01_0425"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
# As `effective_time` has it: the last frame by the reader's clock, where most frames can be believed.
_FROM_FRAMES = """
    UPDATE measurement_sessions AS s
    SET effective_at = f.at, time_basis = 'reader'
    FROM (
        SELECT session_id, max(least(measured_at, received_at)) FILTER (
                   WHERE measured_at BETWEEN received_at - INTERVAL '366 days' AND received_at + INTERVAL '5 minutes'
               ) AS at,
               count(*) FILTER (
                   WHERE measured_at BETWEEN received_at - INTERVAL '366 days' AND received_at + INTERVAL '5 minutes'
               ) AS believed,
               count(*) AS frames
        FROM measurement_frames GROUP BY session_id
    ) AS f
    WHERE f.session_id = s.id AND s.status = 'completed' AND 2 * f.believed > f.frames
"""
_REST = """
    UPDATE measurement_sessions SET effective_at = ended_at, time_basis = 'unknown'
    WHERE status = 'completed' AND effective_at IS NULL
"""


def upgrade() -> None:
    op.add_column("measurement_sessions", sa.Column("effective_at", _TIME))
    op.add_column("measurement_sessions", sa.Column("time_basis", sa.String(8)))
    op.add_column("measurement_sessions", sa.Column("issued_at", _TIME))
    op.execute("UPDATE measurement_sessions SET issued_at = ended_at WHERE ended_at IS NOT NULL")
    op.execute(_FROM_FRAMES)
    op.execute(_REST)
    op.create_index(
        "ix_measurement_sessions_user_effective",
        "measurement_sessions",
        ["user_id", "effective_at", "id"],
        postgresql_where=sa.text("status = 'completed'"),
    )
    op.drop_index("ix_measurement_sessions_user_ended", "measurement_sessions")


def downgrade() -> None:
    op.create_index(
        "ix_measurement_sessions_user_ended",
        "measurement_sessions",
        ["user_id", "ended_at", "id"],
        postgresql_where=sa.text("status = 'completed'"),
    )
    op.drop_index("ix_measurement_sessions_user_effective", "measurement_sessions")
    for name in ("issued_at", "time_basis", "effective_at"):
        op.drop_column("measurement_sessions", name)
