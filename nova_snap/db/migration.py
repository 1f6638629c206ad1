# SPDX-License-Identifier: Apache-2.0
"""Bring the database's tables to the version that this code needs (alembic)."""

import pathlib

import alembic.command
import alembic.config
import alembic.runtime.migration
import alembic.script

from nova_snap.db.session import Database

_HERE = pathlib.Path(__file__).parent / "migrations"


def _config() -> alembic.config.Config:
    config = alembic.config.Config()
    # '%' begins an interpolation in alembic's settings.
    config.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    return config


def sync(database: Database, version: str = "head") -> None:
    """Upgrade to ``version``; a database that is there already is left alone."""
    config = _config()
    with database.patient_engine() as engine, engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, version)


def current(database: Database) -> str | None:
    """The version of the database; ``None`` for an empty one."""
    with database.engine.connect() as connection:
        context = alembic.runtime.migration.MigrationContext.configure(connection)
        return context.get_current_revision()


def head() -> str:
    """The version that this code needs."""
    found = alembic.script.ScriptDirectory.from_config(_config()).get_current_head()
    if found is None:
        raise RuntimeError(f"no migrations in {_HERE}")
    return found
