# SPDX-License-Identifier: Apache-2.0
"""Which snapshots are asked for or run, and what became of all that were.

Revision: 0004
After: 0003
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

DATETIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
TABLE: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}


def upgrade() -> None:
    """Make the two tables. Snapshots that run during the upgrade have no row, and need none."""
    op.create_table(
        "snapshot_requests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("instance_uuid", sa.String(length=36), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("phase", sa.String(length=64), nullable=False),
        sa.Column("phase_since", DATETIME, nullable=False),
        sa.Column("reaped_until", DATETIME, nullable=True),
        sa.Column("created_at", DATETIME, nullable=False),
        sa.Column("updated_at", DATETIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_snapshot_requests"),
        sa.UniqueConstraint("image_id", name="uq_snapshot_requests_image_id"),
        **TABLE,
    )
    op.create_index("ix_snapshot_requests_phase_since", "snapshot_requests", ["phase_since"])

    op.create_table(
        "snapshot_totals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("method", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.String(length=64), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_snapshot_totals"),
        sa.UniqueConstraint(
            "host",
            "action",
            "method",
            "outcome",
            name="uq_snapshot_totals_host_action_method_outcome",
        ),
        **TABLE,
    )
