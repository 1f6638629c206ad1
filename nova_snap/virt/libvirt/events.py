# SPDX-License-Identifier: Apache-2.0
"""libvirt tells that a guest has started, stopped or paused; whoever wants to know is told.

libvirt's event loop serves everything: keepalives, the monitors of an embedded driver, the agents.
What it calls only takes a note, and a thread of this module does the rest. The same thread looks
from time to time whether the connection still is the one that events come from; after a gap it
tells the states as they are now.
"""

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Final

import libvirt
from oslo_log import log as logging

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.virt.libvirt.guest import POWER_STATES
from nova_snap.virt.libvirt.host import Host

LOG = logging.getLogger(__name__)

Callback = Callable[[str, int], None]

LOOK_SECONDS: Final = 5.0

_STATES: Final = {
    libvirt.VIR_DOMAIN_EVENT_STARTED: power_state.RUNNING,
    libvirt.VIR_DOMAIN_EVENT_RESUMED: power_state.RUNNING,
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: power_state.PAUSED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED: power_state.SHUTDOWN,
    libvirt.VIR_DOMAIN_EVENT_CRASHED: power_state.CRASHED,
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: power_state.SUSPENDED,
}


def state_after(event: int, detail: int) -> int | None:
    """The power state that an event of libvirt means; ``None`` if it says nothing of it."""
    if (
        event == libvirt.VIR_DOMAIN_EVENT_STOPPED
        and detail == libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED
    ):
        return power_state.CRASHED
    return _STATES.get(event)


class Listener:
    """Hears of the guests of a host, for as long as it is not closed."""

    def __init__(self, host: Host, look_seconds: float = LOOK_SECONDS) -> None:
        """:param look_seconds: between two looks at the connection."""
        self._host = host
        self._look_seconds = look_seconds
        self._lock = threading.Lock()
        self._callbacks: list[Callback] = []
        # (uuid, state); None wakes the thread up.
        self._notes: queue.SimpleQueue[tuple[str, int] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._connection: Any = None
        self._registered: int | None = None
        self._deaf = False

    def add(self, callback: Callback) -> None:
        """Have ``callback`` called; the first one begins the listening.

        Returns when events come, unless libvirt cannot be reached now.
        """
        with self._lock:
            self._callbacks.append(callback)
            if self._thread is not None:
                return
            self._closed.clear()
            self._look()
            self._thread = threading.Thread(target=self._run, name="guest-events", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Listen no more. A callback that runs may still be running. May be called twice."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._callbacks.clear()
        self._closed.set()
        self._notes.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join(self._look_seconds)
        self._let_go()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                note = self._notes.get(timeout=self._look_seconds)
            except queue.Empty:
                self._look()
                continue
            if note is not None:
                self._tell(*note)

    def _tell(self, uuid: str, state: int) -> None:
        with self._lock:
            callbacks = list(self._callbacks)
        for callback in callbacks:
            try:
                callback(uuid, state)
            except Exception:
                LOG.exception("Power state %s of domain %s was not taken well", state, uuid)

    # -- the connection ----------------------------------------------------------------------

    def _look(self) -> None:
        """Register on the connection that there is now, if it is another one than before."""
        try:
            connection = self._host.connection()
            if connection is self._connection:
                return
            gap = self._connection is not None
            self._let_go()
            self._registered = self._host.call_on(
                connection,
                "domainEventRegisterAny",
                lambda connection: connection.domainEventRegisterAny(
                    None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._note, None
                ),
            )
            self._connection = connection
            self._deaf = False
            if gap:
                LOG.info("Events of guests come again; some may have been lost")
                self._note_all()
        except exception.NovaSnapError as exc:
            # Said once, not with every look.
            level = logging.DEBUG if self._deaf else logging.WARNING
            LOG.log(level, "No events of guests come: %s", exc)
            self._deaf = True

    def _note(
        self,
        _connection: Any,
        domain: Any,
        event: int,
        detail: int,
        _opaque: object,
    ) -> None:
        """Called in libvirt's event loop."""
        state = state_after(event, detail)
        if state is not None:
            # Asks nobody: the domain comes with it.
            self._notes.put((domain.UUIDString(), state))

    def _note_all(self) -> None:
        states = self._host.ask("listAllDomains", "", _states)
        for uuid, state in states:
            self._notes.put((uuid, POWER_STATES.get(state, power_state.NOSTATE)))

    def _let_go(self) -> None:
        connection, registered = self._connection, self._registered
        self._connection = self._registered = None
        if connection is None or registered is None:
            return
        # It may be closed, or lost with its daemon.
        with contextlib.suppress(exception.NovaSnapError):
            self._host.call_on(
                connection,
                "domainEventDeregisterAny",
                lambda connection: connection.domainEventDeregisterAny(registered),
            )


def _states(connection: Any) -> list[tuple[str, int]]:
    return [(domain.UUIDString(), domain.state()[0]) for domain in connection.listAllDomains()]
