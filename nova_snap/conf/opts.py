# SPDX-License-Identifier: Apache-2.0
"""What oslo-config-generator asks for: the options, and other defaults for libraries' options."""

from typing import Any

from oslo_config import cfg
from oslo_db import options as db_options

from nova_snap import conf
from nova_snap.conf import api, cinder, service_user

SQLITE_CONNECTION = "sqlite:///$state_path/nova_snap.sqlite"


def list_own_opts() -> list[tuple[str, list[Any]]]:
    """Every option of nova_snap as (group, options)."""
    return [entry for module in conf.MODULES for entry in module.list_opts()]


def list_opts() -> list[tuple[str, list[Any]]]:
    """The same, with the options that libraries have in groups of nova_snap."""
    return list_own_opts() + cinder.list_library_opts() + service_user.list_library_opts()


def set_lib_defaults() -> None:
    """Where nova_snap wants another default than a library has: the database is a SQLite file."""
    api.set_middleware_defaults()
    cfg.set_defaults(db_options.database_opts, connection=SQLITE_CONNECTION)
