# SPDX-License-Identifier: Apache-2.0
"""A bounded pool for what takes minutes, apart from the threads that take messages in."""

from collections.abc import Callable
from concurrent import futures
from threading import Lock

from oslo_log import log

LOG = log.getLogger(__name__)


class LongTasks:
    """Runs at most ``size`` tasks at the same time; the others wait in order."""

    def __init__(self, size: int, name: str = "snapshot") -> None:
        """:param name: what the threads' names begin with."""
        self._pool = futures.ThreadPoolExecutor(size, thread_name_prefix=name)
        self._lock = Lock()
        self._running: set[futures.Future[None]] = set()

    def submit(self, task: Callable[[], None]) -> None:
        """Run ``task`` when there is a free place. What it raises is logged: a task that has
        something to say to others says it itself.

        :raises RuntimeError: after :meth:`stop`.
        """
        future = self._pool.submit(task)
        with self._lock:
            self._running.add(future)
        future.add_done_callback(self._done)

    def stop(self, timeout: float) -> int:
        """Take no more tasks, drop those that have not begun and wait for the others.

        :param timeout: seconds.
        :returns: how many still ran at its end.
        """
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            running = set(self._running)
        return len(futures.wait(running, timeout).not_done)

    def _done(self, future: futures.Future[None]) -> None:
        with self._lock:
            self._running.discard(future)
        error = None if future.cancelled() else future.exception()
        if error is not None:
            LOG.error("A task failed without a word", exc_info=error)
