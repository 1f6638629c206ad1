# SPDX-License-Identifier: Apache-2.0
"""Migrations. The same tests run on MariaDB and PostgreSQL in tests/integration."""

import alembic.autogenerate
import alembic.runtime.migration
import pytest
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
