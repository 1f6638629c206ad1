# SPDX-License-Identifier: Apache-2.0
"""Connections to the database, held by an object that its owner passes around."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, Final, ParamSpec, TypeVar

import sqlalchemy as sa
from oslo_config import cfg
from oslo_db import api as db_api
from oslo_db import exception as db_exception
from oslo_db import options as db_options
from oslo_db.sqlalchemy import enginefacade
from sqlalchemy import exc as sa_exc
from sqlalchemy import orm

from nova_snap.db import bounds

_P = ParamSpec("_P")
_T = TypeVar("_T")

_PASSABLE: Final = 0o711


def retry_on_deadlock(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Run a whole transaction again, up to five times, that the database chose to end.

    A deadlock's loser has changed nothing, so that even a compare-and-swap may be repeated.
    """
    wrapped: Callable[_P, _T] = db_api.wrap_db_retry(max_retries=5, retry_on_deadlock=True)(
        function
    )
    return wrapped


def retry_on_failover(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """The same, also when the connection is lost: for about half a minute, which another server
    needs to take over.

    Whether a transaction was done whose answer was lost nobody knows: it must do no harm to
    repeat it.
    """
    wrapped: Callable[_P, _T] = db_api.wrap_db_retry(
        max_retries=5, retry_on_deadlock=True, retry_on_disconnect=True
    )(function)
    return wrapped


def _make_private(path: pathlib.Path) -> None:
    """Make the empty file of an SQLite database, which only its owner may read.

    The directory above it is the service's state_path as well, through which the hypervisor passes
    to the files of guests and snapshots: it may be entered, and not listed. SQLite gives the files
    that it puts beside the database the mode of that.
    """
    for each in (*reversed(path.parent.parents), path.parent):
        if not each.is_dir():
            each.mkdir(exist_ok=True)
            each.chmod(_PASSABLE)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _is_path(name: str | None) -> bool:
    """Whether an SQLite database of that name lies in a file that we may make: not in memory, and
    not where a URI says."""
    return bool(name) and name != ":memory:" and not str(name).startswith("file:")


class Database:
    """The engine and the sessions of one process.

    :param conf: its ``[database]`` group says where the database is, and ``[DEFAULT]
        database_timeout`` how long to wait for it.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        conf.register_opts(db_options.database_opts, group="database")
        settings = dict(conf.database.items())
        settings.pop("backend", None)
        for name in ("connection", "slave_connection"):
            if settings[name]:
                settings[name] = bounds.limited(settings[name], conf.database_timeout)
        url = sa.make_url(settings["connection"])
        if url.get_backend_name() == "sqlite" and _is_path(url.database):
            _make_private(pathlib.Path(str(url.database)).absolute())
        self._unbounded = {**settings, "connection": conf.database.connection}
        self._facade = enginefacade.transaction_context()
        self._facade.configure(**{k: v for k, v in settings.items() if v is not None})

    @property
    def engine(self) -> sa.Engine:
        """The engine, for migrations and for closing."""
        engine: sa.Engine = self._facade.writer.get_engine()
        return engine

    @contextlib.contextmanager
    def patient_engine(self) -> Iterator[sa.Engine]:
        """An engine of its own without a bound, for migrations: a change of a large table takes
        as long as it takes."""
        if self.engine.dialect.name == "sqlite":
            # It waits for locks only; and a database in memory is this engine's own.
            yield self.engine
            return
        made = enginefacade.transaction_context()
        made.configure(**{k: v for k, v in self._unbounded.items() if v is not None})
        with bounds.patience():
            yield made.writer.get_engine()
        made.dispose_pool()

    @contextlib.contextmanager
    def reader(self) -> Iterator[orm.Session]:
        """A session that writes nothing."""
        with _full_is_away(), self._facade.reader.using(_Scope()) as session:
            yield session

    @contextlib.contextmanager
    def writer(self) -> Iterator[orm.Session]:
        """A session whose transaction is committed at the end, or rolled back on an error."""
        with _full_is_away(), self._facade.writer.using(_Scope()) as session:
            if self.engine.dialect.name == "sqlite":
                _take_write_lock(session.connection())
            yield session

    def close(self) -> None:
        """Close every connection; the next session opens new ones."""
        self._facade.dispose_pool()


@contextlib.contextmanager
def _full_is_away() -> Iterator[None]:
    """A pool with no connection for anybody else within ``[database] pool_timeout`` is, to whoever
    waits, a database that cannot be reached: oslo.db has no name for it."""
    try:
        yield
    except sa_exc.TimeoutError as error:
        raise db_exception.DBConnectionError(error) from error


def _take_write_lock(connection: sa.Connection) -> None:
    """Wait for one's turn at the beginning. SQLite does not let a transaction wait that has read
    before it writes: that fails at once with "database is locked" while another one writes."""
    connection.exec_driver_sql("ROLLBACK")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@enginefacade.transaction_context_provider
class _Scope:
    """What oslo.db hangs the state of one transaction on: a new one for each, because nothing
    here nests transactions."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)
