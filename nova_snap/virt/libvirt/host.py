# SPDX-License-Identifier: Apache-2.0
"""libvirt, as its calls are made: each within a bound, on a connection to itself."""

import threading
import time
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import libvirt
from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import exception
from nova_snap.virt.libvirt import bounded, capabilities, connections, errors
from nova_snap.virt.libvirt.guest import Guest

LOG = logging.getLogger(__name__)

T = TypeVar("T")

KEEPALIVE_INTERVAL: Final = 5
KEEPALIVE_COUNT: Final = 5

# A question that the connection was lost under is asked again.
_ATTEMPTS: Final = 3

_event_loop_lock = threading.Lock()
_event_loop: threading.Thread | None = None


def _run_event_loop() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError:
            LOG.exception("libvirt's event loop failed once; it goes on")


def _start_event_loop() -> None:
    """Start the thread that libvirt's events, timers and keepalive need: one for the process.

    libvirt has to know of its loop before the first connection is opened, and the loop can never
    be taken away again.
    """
    global _event_loop
    with _event_loop_lock:
        if _event_loop is not None and _event_loop.is_alive():
            return
        libvirt.virEventRegisterDefaultImpl()
        # Errors arrive as exceptions; without this they are also written to stderr.
        libvirt.registerErrorHandler(lambda _context, error: LOG.debug("libvirt: %s", error), None)
        _event_loop = threading.Thread(target=_run_event_loop, name="libvirt-events", daemon=True)
        _event_loop.start()


class Host:
    """One libvirt.

    Every call has a bound. Where libvirt speaks with a daemon, a keepalive notices within about
    half a minute that the daemon is gone, and ends the calls that wait for it; a daemon that lives
    but does not answer is given ``[libvirt] operation_timeout`` (see
    :mod:`nova_snap.virt.libvirt.bounded`). As long again, calls wait for a daemon that has gone
    away to be back.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._lock = threading.Lock()
        self._kept: Any = None
        self._connections = connections.Connections(
            lambda: self._open(),
            self.uri,
            lambda: self.operation_timeout,
            shared=not _has_daemon(self.uri),
        )

    @property
    def uri(self) -> str:
        uri: str = self._conf.libvirt.connection_uri
        return uri

    @property
    def operation_timeout(self) -> int:
        """Seconds that a short operation may take."""
        seconds: int = self._conf.libvirt.operation_timeout
        return seconds

    @property
    def interruptions(self) -> int:
        """How often a connection was lost so far. If it is as often as before, then libvirt has
        lived all the while, and nothing that it was doing was cut off."""
        return self._connections.losses

    def call(
        self,
        operation: str,
        domain: str,
        function: Callable[[Any], T],
        seconds: float | None = None,
        give_up: Callable[[], None] | None = None,
        grace: float = 0.0,
        find: Callable[[Any], Any] | None = None,
    ) -> T:
        """Run one libvirt call with a bound, and translate its errors.

        :param operation: libvirt's name of the call.
        :param domain: which domain it is about, for the error.
        :param function: is given a connection that nobody else uses meanwhile.
        :param seconds: the bound; ``[libvirt] operation_timeout`` if it is ``None``.
        :param give_up: see :func:`nova_snap.virt.libvirt.bounded.call`, as ``grace``.
        :param find: asked first, for what ``function`` is given instead of the connection. A
            connection that turns out to be lost by then is made up for: nothing was called yet.
        :raises nova_snap.exception.WaitTimeout:
        :raises nova_snap.exception.LibvirtOperationFailed:
        :raises nova_snap.exception.DomainNotFound:
        :raises nova_snap.exception.HypervisorUnavailable: also if the connection is lost meanwhile:
            the call may have been obeyed.
        """
        if seconds is None:
            seconds = self.operation_timeout
        called = threading.Event()

        def find_and_call(connection: Any) -> T:
            found = connection if find is None else find(connection)
            called.set()
            return function(found)

        for _attempt in range(_ATTEMPTS - 1):
            connection = self._connections.take()
            try:
                return self._lent(
                    connection, operation, domain, find_and_call, seconds, give_up, grace
                )
            except exception.HypervisorUnavailable:
                if called.is_set():
                    raise
        connection = self._connections.take()
        return self._lent(connection, operation, domain, find_and_call, seconds, give_up, grace)

    def ask(self, operation: str, domain: str, function: Callable[[Any], T]) -> T:
        """:meth:`call` for what changes nothing: asked again if the connection is lost
        meanwhile."""
        for _attempt in range(_ATTEMPTS - 1):
            connection = self._connections.take()
            try:
                return self._lent(connection, operation, domain, function, self.operation_timeout)
            except exception.HypervisorUnavailable as exc:
                LOG.debug("%s is asked again: %s", _what(operation, domain), exc)
        connection = self._connections.take()
        return self._lent(connection, operation, domain, function, self.operation_timeout)

    def call_on(self, connection: Any, operation: str, function: Callable[[Any], T]) -> T:
        """:meth:`call` on a connection that the caller keeps: that of :meth:`connection`."""
        return bounded.call(
            lambda: self._translated(connection, operation, "", function),
            self.operation_timeout,
            _what(operation, ""),
        )

    def connection(self) -> Any:
        """A connection for what has to stay on one: the same as long as it works.

        :raises nova_snap.exception.HypervisorUnavailable: if libvirt cannot be reached in time.
        """
        with self._lock:
            if self._kept is not None and connections.is_alive(self._kept):
                return self._kept
        taken = self._connections.take()
        if not _has_daemon(self.uri):
            return taken
        with self._lock:
            self._kept = taken
        return taken

    def close(self) -> None:
        """Let go of the connections. Guests keep running. May be called twice."""
        with self._lock:
            kept, self._kept = self._kept, None
        self._connections.close()
        if kept is not None:
            connections.close(kept)

    def capabilities(self) -> capabilities.Capabilities:
        """What this host can do, asked anew: the daemon may have been upgraded meanwhile."""
        return self.ask(
            "getVersion",
            "",
            lambda connection: capabilities.Capabilities(
                hypervisor=connection.getType(),
                libvirt_version=connection.getLibVersion(),
                hypervisor_version=connection.getVersion(),
            ),
        )

    def get_guest(self, name: str) -> Guest:
        """:raises nova_snap.exception.DomainNotFound: if no domain has this name."""
        uuid = self.ask(
            "lookupByName", name, lambda connection: connection.lookupByName(name).UUIDString()
        )
        return Guest(self, name=name, uuid=uuid)

    def get_guest_by_uuid(self, uuid: str) -> Guest:
        """:raises nova_snap.exception.DomainNotFound: if no domain has this uuid."""
        name = self.ask(
            "lookupByUUIDString",
            uuid,
            lambda connection: connection.lookupByUUIDString(uuid).name(),
        )
        return Guest(self, name=name, uuid=uuid)

    def list_domains(self) -> Sequence[str]:
        """Names of all domains, running or not, in alphabetical order."""
        return self.ask(
            "listAllDomains",
            "",
            lambda connection: sorted(dom.name() for dom in connection.listAllDomains()),
        )

    def define(self, xml: str, name: str) -> Guest:
        """Make the domain of this XML persistent, whether it runs or not."""
        uuid = self.call(
            "defineXML",
            name,
            lambda connection: connection.defineXML(xml).UUIDString(),
            find=_working,
        )
        return Guest(self, name=name, uuid=uuid)

    def _lent(
        self,
        connection: Any,
        operation: str,
        domain: str,
        function: Callable[[Any], T],
        seconds: float,
        give_up: Callable[[], None] | None = None,
        grace: float = 0.0,
    ) -> T:
        """Use a connection and give it back: when the call returns, and not when it is given up."""

        def run() -> T:
            lost = False
            try:
                return self._translated(connection, operation, domain, function)
            except exception.HypervisorUnavailable:
                lost = True
                raise
            finally:
                self._connections.give_back(connection, lost)

        try:
            return bounded.call(run, seconds, _what(operation, domain), give_up, grace)
        except exception.HostStarved:
            self._connections.give_back(connection, lost=False)
            raise

    def _translated(
        self, connection: Any, operation: str, domain: str, function: Callable[[Any], T]
    ) -> T:
        try:
            return function(connection)
        except libvirt.libvirtError as exc:
            alive = connections.is_alive(connection)
            raise errors.translate(exc, operation, domain, self.uri, alive) from exc

    def _open(self) -> Any:
        """Called by a thread that may take its time."""
        _start_event_loop()
        connection = libvirt.open(self.uri)
        try:
            connection.setKeepAlive(KEEPALIVE_INTERVAL, KEEPALIVE_COUNT)
        except libvirt.libvirtError as exc:
            LOG.debug("libvirt at %s has no keepalive: %s", self.uri, exc)
        self._wait_for_guests(connection)
        return connection

    def _wait_for_guests(self, connection: Any) -> None:
        """Wait until a libvirt inside of this process has its monitors and agents back.

        It returns from the opening before that, and until then agents seem not connected. A call
        that takes a job waits. Guests that hang have half of the time that an opening may take,
        all of them together.
        """
        if not _is_embedded(self.uri):
            return
        until = time.monotonic() + self.operation_timeout / 2
        for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
            try:
                left = max(0.0, until - time.monotonic())
                bounded.call(domain.memoryStats, left, "memoryStats")
            except (libvirt.libvirtError, exception.WaitTimeout) as exc:
                LOG.warning("Domain %s does not answer: %s", domain.name(), exc)


def _what(operation: str, domain: str) -> str:
    return f"libvirt's {operation} of {domain}" if domain else f"libvirt's {operation}"


def _working(connection: Any) -> Any:
    """The connection, if libvirt answers on it."""
    connection.getLibVersion()
    return connection


def _is_embedded(uri: str) -> bool:
    return ":///embed" in uri


def _has_daemon(uri: str) -> bool:
    """libvirt's driver for tests has none either."""
    return not _is_embedded(uri) and urllib.parse.urlsplit(uri).scheme != "test"
