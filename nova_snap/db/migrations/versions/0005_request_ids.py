# SPDX-License-Identifier: Apache-2.0
"""Which request a snapshot was asked for by: its action is found by that.

Revision: 0005
After: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Snapshots that run during the upgrade have none, and need none."""
    op.add_column(
        "snapshot_requests", sa.Column("request_id", sa.String(length=255), nullable=True)
    )
