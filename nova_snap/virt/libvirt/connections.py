# SPDX-License-Identifier: Apache-2.0
"""The connections to one libvirt: as many as there are calls at the same time.

libvirt's daemon takes only so many calls of one connection at once (``max_client_requests``: 5).
Beyond that it reads nothing from it, not even the answers that keep it alive: a few calls that hang
would hold up all others, and then break the connection under those that do not. Hence each call has
a connection to itself, and one that hangs keeps nothing else from going on.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import libvirt
from oslo_log import log as logging

from nova_snap import exception

LOG = logging.getLogger(__name__)

MAX_IDLE: Final = 4
"""Connections that are kept for later calls."""

# Between two attempts to reach a libvirt that is away.
_FIRST_PAUSE: Final = 0.1
_LAST_PAUSE: Final = 2.0
# An attempt that hangs is waited for, as a late answer is an answer; but not for ever.
_ABANDONED_SECONDS: Final = 300.0


def is_alive(connection: Any) -> bool:
    """Whether its socket is still open. Asks nobody."""
    try:
        return bool(connection.isAlive())
    except libvirt.libvirtError:
        return False


class Connections:
    """Lends connections.

    One that is lost is made up for by attempts to connect, of which there is one at a time, with
    pauses that become longer. Who asks for a connection within ``patience`` of the loss waits for
    what becomes of them; later, the answer is at once that libvirt is away.

    :param open_one: opens a connection; called by a thread of its own.
    :param patience: seconds.
    :param shared: everybody gets the same connection: to a libvirt inside of this process, which
        does not limit its calls, and cannot be opened often.
    :ivar losses: how many connections were found to be lost so far.
    """

    def __init__(
        self, open_one: Callable[[], Any], uri: str, patience: Callable[[], float], shared: bool
    ) -> None:
        self._open_one = open_one
        self._uri = uri
        self._patience = patience
        self._shared = shared
        self._changed = threading.Condition()
        self._idle: list[Any] = []
        self._attempt = 0
        self._opening_since: float | None = None
        # One that never was there is not waited for.
        self._away_since: float | None = -math.inf
        self._retry_at = -math.inf
        self._pause = _FIRST_PAUSE
        self._error: Exception | None = None
        self.losses = 0

    def take(self) -> Any:
        """A connection that works, which the caller gives back.

        :raises nova_snap.exception.HypervisorUnavailable: if there is none in time.
        """
        with self._changed:
            while True:
                connection = self._pick()
                if connection is not None:
                    return connection
                now = time.monotonic()
                if self._may_try(now):
                    self._begin(now)
                until = self._until()
                if now >= until:
                    raise exception.HypervisorUnavailable(uri=self._uri, reason=self._reason(now))
                self._changed.wait(until - now)

    def give_back(self, connection: Any, lost: bool) -> None:
        """:param lost: it has turned out to be of no use any more."""
        surplus = None
        with self._changed:
            if lost or not is_alive(connection):
                self._is_lost()
                self._idle = [each for each in self._idle if each is not connection]
            elif not self._shared:
                if len(self._idle) < MAX_IDLE:
                    self._idle.append(connection)
                    self._changed.notify()
                else:
                    surplus = connection
        if surplus is not None:
            self._close([surplus])

    def close(self) -> None:
        """Let go of those that nobody has. May be called twice; another call opens a new one."""
        with self._changed:
            idle, self._idle = self._idle, []
        self._close(idle)

    def _close(self, connections: Iterable[Any]) -> None:
        """Close connections, and keep those that cannot be closed now: one that nobody has any
        more would be closed by libvirt's own code, and this would wait for it."""
        for connection in connections:
            if not close(connection):
                with self._changed:
                    self._idle.append(connection)
                    self._changed.notify()

    # -- with the lock held --------------------------------------------------------------------

    def _pick(self) -> Any:
        while self._idle:
            connection = self._idle[-1] if self._shared else self._idle.pop()
            if is_alive(connection):
                return connection
            self._is_lost()
            self._idle = [each for each in self._idle if each is not connection]
        return None

    def _is_lost(self) -> None:
        self.losses += 1
        self._is_away()

    def _is_away(self) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()

    def _may_try(self, now: float) -> bool:
        if self._opening_since is not None and now < self._opening_since + _ABANDONED_SECONDS:
            return False
        return now >= self._retry_at

    def _until(self) -> float:
        """How long it makes sense to wait."""
        if self._opening_since is not None:
            return self._opening_since + self._patience()
        assert self._away_since is not None  # noqa: S101 - for the type checker
        return self._retry_at if self._retry_at < self._away_since + self._patience() else -math.inf

    def _reason(self, now: float) -> str:
        if self._opening_since is not None:
            return f"Waited {now - self._opening_since:.0f} s for an answer; giving up."
        return str(self._error)

    # -- the attempts ----------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        self._attempt += 1
        self._opening_since = now
        thread = threading.Thread(
            target=self._open, args=[self._attempt], name="libvirt-connect", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as exc:
            # Too many threads, just now.
            self._failed(exc)

    def _open(self, attempt: int) -> None:
        try:
            connection = self._open_one()
        except Exception as exc:
            with self._changed:
                if attempt == self._attempt:
                    self._failed(exc)
            return
        with self._changed:
            if attempt == self._attempt:
                self._opening_since = None
            if self._away_since is not None:
                LOG.info("Connected to libvirt at %s", self._uri)
            self._away_since = None
            self._retry_at, self._pause = -math.inf, _FIRST_PAUSE
            self._idle.append(connection)
            self._changed.notify_all()

    def _failed(self, error: Exception) -> None:
        if str(error) != str(self._error) or self._away_since is None:
            LOG.warning("libvirt at %s cannot be reached: %s", self._uri, error)
        self._error = error
        self._opening_since = None
        self._is_away()
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LAST_PAUSE)
        self._changed.notify_all()


def close(connection: Any) -> bool:
    """Close a connection without waiting for it.

    :returns: whether that was begun: there may be no thread for it.
    """

    def run() -> None:
        try:
            connection.close()
        except libvirt.libvirtError as exc:
            LOG.debug("A connection to libvirt was not closed: %s", exc)

    try:
        threading.Thread(target=run, name="libvirt-close", daemon=True).start()
    except RuntimeError as exc:
        # No call fails for it that was good, or that is tried again.
        LOG.warning("A connection to libvirt cannot be closed now: %s", exc)
        return False
    return True
