# SPDX-License-Identifier: Apache-2.0
"""Migrations. The same tests run on MariaDB and PostgreSQL in tests/integration."""

import alembic.autogenerate
import alembic.runtime.migration
import pytest
import sqlalchemy as sa
from oslo_config import cfg

from nova_snap.db import migration, models
from nova_snap.db.session import Database


@pytest.fixture
def empty(conf: cfg.ConfigOpts) -> Database:
    """A database without tables."""
    return Database(conf)


class TestMigration:
    def test_an_empty_database_has_no_version(self, empty: Database) -> None:
        assert migration.current(empty) is None

    def test_a_sync_makes_the_tables_of_the_models(self, empty: Database) -> None:
        migration.sync(empty)
        assert migration.current(empty) == migration.head()
        with empty.engine.connect() as connection:
            context = alembic.runtime.migration.MigrationContext.configure(
                connection, opts={"compare_type": True}
            )
            differences = alembic.autogenerate.compare_metadata(context, models.Base.metadata)
        assert differences == []

    def test_a_second_sync_changes_nothing(self, empty: Database) -> None:
        migration.sync(empty)
        migration.sync(empty)
        assert migration.current(empty) == migration.head()

    def test_what_repeats_the_flavor_is_filled_for_old_instances(self, empty: Database) -> None:
        migration.sync(empty, "0001")
        flavor = '{"name": "m1", "vcpus": 3, "memory_mb": 768}'
        with empty.engine.begin() as connection:
            connection.execute(
                sa.text(
                    "INSERT INTO instances (uuid, name, display_name, project_id, user_id, flavor,"
                    " vm_state, power_state, deleted, metadata, system_metadata, created_at)"
                    " VALUES ('u', 'n', 'd', 'p', 'k', :flavor, 'active', 1, 0, '{}', '{}',"
                    " '2026-01-02 03:04:05')"
                ),
                {"flavor": flavor},
            )
        migration.sync(empty)
        with empty.engine.connect() as connection:
            (row,) = connection.execute(
                sa.text("SELECT vcpus, memory_mb, launch_index, cleanup_pending FROM instances")
            )
        assert (row.vcpus, row.memory_mb, row.launch_index, bool(row.cleanup_pending)) == (
            3,
            768,
            0,
            False,
        )
