# SPDX-License-Identifier: Apache-2.0
"""Parts of the product that several targets put together, and one look at its log."""

import logging
from pathlib import Path
from typing import Any

from oslo_config import cfg
from oslo_context import context as oslo_context
from oslo_db import options as db_options
from oslo_messaging import conffixture

from nova_snap import conf as nova_conf
from nova_snap.conf import opts
from nova_snap.db import migration, models
from nova_snap.db.session import Database
from tests.fuzz import columns

HOST = "compute-1"


def configuration(directory: Path) -> cfg.ConfigOpts:
    """SQLite and messages in this process, below ``directory``, with nothing waited for."""
    made = cfg.ConfigOpts()
    nova_conf.register_opts(made)
    made.register_opts(db_options.database_opts, group="database")
    opts.set_lib_defaults()
    conffixture.ConfFixture(made, transport_url="fake://").setUp()
    made([], project="nova_snap", default_config_files=[])
    made.set_override("state_path", str(directory / "state"))
    made.set_override("host", HOST)
    made.set_override("retry_interval", 0.0, "glance")
    return made


def database(conf: cfg.ConfigOpts) -> Database:
    """An empty one, in which every row is checked that is written."""
    columns.watch()
    made = Database(conf)
    migration.sync(made)
    return made


def empty(database: Database) -> None:
    """Delete every row."""
    with database.writer() as session:
        for table in reversed(models.Base.metadata.sorted_tables):
            session.execute(table.delete())


class LogWatch(logging.Handler):
    """Remembers the tracebacks that were logged, and for which request.

    :ivar tracebacks: request id, or ``None``, and the error, of each.
    :ivar lines: all that was logged, from level WARNING.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.tracebacks: list[tuple[str | None, BaseException]] = []
        self.lines: list[str] = []

    def watch(self) -> None:
        """From now on."""
        root = logging.getLogger()
        root.handlers[:] = [self]
        root.setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        if record.exc_info and record.exc_info[1] is not None:
            context: Any = oslo_context.get_current()
            found = None if context is None else context.request_id
            self.tracebacks.append((found, record.exc_info[1]))

    def clear(self) -> None:
        self.tracebacks.clear()
        self.lines.clear()
