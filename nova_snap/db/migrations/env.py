# SPDX-License-Identifier: Apache-2.0
"""What alembic runs: the migrations, over the connection that nova_snap.db.migration passes."""

from alembic import context

from nova_snap.db import models

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=models.Base.metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
