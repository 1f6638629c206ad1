# SPDX-License-Identifier: Apache-2.0
"""Flavors, and what is known of an instance that the service has made itself.

Revision: 0002
After: 0001
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

DATETIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
TABLE: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}


def upgrade() -> None:
    """Add the table and the columns, and fill the columns that repeat the flavor's numbers."""
    op.create_table(
        "flavors",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("flavorid", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("root_gb", sa.Integer(), nullable=False),
        sa.Column("ephemeral_gb", sa.Integer(), nullable=False),
        sa.Column("swap", sa.Integer(), nullable=False),
        sa.Column("rxtx_factor", sa.Double(), nullable=False),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("extra_specs", sa.JSON(), nullable=False),
        sa.Column("created_at", DATETIME, nullable=False),
        sa.Column("updated_at", DATETIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_flavors"),
        sa.UniqueConstraint("flavorid", name="uq_flavors_flavorid"),
        sa.UniqueConstraint("name", name="uq_flavors_name"),
        **TABLE,
    )
    for column in _instance_columns():
        op.add_column("instances", column)
    _fill_numbers()


def _instance_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("reservation_id", sa.String(length=255), nullable=True),
        sa.Column("launch_index", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("key_name", sa.String(length=255), nullable=True),
        sa.Column("access_ip_v4", sa.String(length=39), nullable=True),
        sa.Column("access_ip_v6", sa.String(length=39), nullable=True),
        sa.Column("auto_disk_config", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("vcpus", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("memory_mb", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("cleanup_pending", sa.Boolean(), nullable=False, server_default=sa.false()),
    ]


def _fill_numbers() -> None:
    instances = sa.table(
        "instances",
        sa.column("id", sa.Integer),
        sa.column("flavor", sa.JSON),
        sa.column("vcpus", sa.Integer),
        sa.column("memory_mb", sa.Integer),
    )
    connection = op.get_bind()
    for row in connection.execute(sa.select(instances.c.id, instances.c.flavor)).all():
        connection.execute(
            sa.update(instances)
            .where(instances.c.id == row.id)
            .values(vcpus=row.flavor["vcpus"], memory_mb=row.flavor["memory_mb"])
        )
