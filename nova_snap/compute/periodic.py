# SPDX-License-Identifier: Apache-2.0
"""What is looked after from time to time, whatever goes wrong meanwhile."""

import threading
from collections.abc import Callable, Mapping
from typing import Final

from oslo_db import exception as db_exception
from oslo_log import log

from nova_snap import exception
from nova_snap.context import RequestContext, get_admin_context
from nova_snap.db.session import Database

LOG = log.getLogger(__name__)

_STOP_SECONDS: Final = 10.0

Task = Callable[[RequestContext], None]


def guarded(database: Database, what: str, task: Task) -> None:
    """Run a task with a context of its own; what it raises is logged.

    :param what: it does, for the log.
    """
    try:
        task(get_admin_context(database))
    except (exception.NovaSnapError, db_exception.DBError) as error:
        LOG.warning("To %s failed, and is tried again later: %s", what, error)
    except Exception:
        LOG.exception("To %s failed", what)


class Periodic:
    """Runs tasks by a thread of its own, for the first time at once.

    :param seconds: between two rounds.
    :param tasks: by what they do, for the log.
    :param delay: seconds before the first round.
    """

    def __init__(
        self, database: Database, seconds: float, tasks: Mapping[str, Task], delay: float = 0.0
    ) -> None:
        self._database = database
        self._seconds = seconds
        self._delay = delay
        self._tasks = tasks
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Go on until :meth:`stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no task any more."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        if self._end.wait(self._delay):
            return
        while True:
            for what, task in self._tasks.items():
                if self._end.is_set():
                    return
                guarded(self._database, what, task)
            if self._end.wait(self._seconds):
                return
