# SPDX-License-Identifier: Apache-2.0
"""The connection to libvirt: opened when it is needed, opened again when it broke."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import libvirt
from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import exception
from nova_snap.virt.libvirt import bounded, capabilities, errors
from nova_snap.virt.libvirt.guest import Guest

LOG = logging.getLogger(__name__)

T = TypeVar("T")

KEEPALIVE_INTERVAL = 5
KEEPALIVE_COUNT = 5

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
    :mod:`nova_snap.virt.libvirt.bounded`).
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._lock = threading.Lock()
        self._connection: Any = None
        self._broken = False

    @property
    def uri(self) -> str:
        uri: str = self._conf.libvirt.connection_uri
        return uri

    @property
    def operation_timeout(self) -> int:
        """Seconds that a short operation may take."""
        seconds: int = self._conf.libvirt.operation_timeout
        return seconds

    def call(
        self,
        operation: str,
        domain: str,
        function: Callable[[], T],
        seconds: float | None = None,
        give_up: Callable[[], None] | None = None,
        grace: float = 0.0,
    ) -> T:
        """Run one libvirt call with a bound, and translate its errors.

        :param operation: libvirt's name of the call.
        :param domain: which domain it is about, for the error.
        :param seconds: the bound; ``[libvirt] operation_timeout`` if it is ``None``.
        :param give_up: see :func:`nova_snap.virt.libvirt.bounded.call`, as ``grace``.
        :raises nova_snap.exception.WaitTimeout:
        :raises nova_snap.exception.LibvirtOperationFailed:
        :raises nova_snap.exception.DomainNotFound:
        :raises nova_snap.exception.HypervisorUnavailable:
        """
        if seconds is None:
            seconds = self.operation_timeout
        what = f"libvirt's {operation} of {domain}" if domain else f"libvirt's {operation}"
        try:
            return bounded.call(function, seconds, what, give_up, grace)
        except libvirt.libvirtError as exc:
            error = errors.translate(exc, operation, domain, self.uri, self._is_alive())
            if isinstance(error, exception.HypervisorUnavailable):
                self._broken = True
            raise error from exc

    def connection(self) -> Any:
        """The connection, opened if there is none that works.

        :raises nova_snap.exception.HypervisorUnavailable: if libvirt cannot be reached in time.
        """
        with self._lock:
            if self._connection is not None and not self._broken and self._is_alive():
                return self._connection
            self._let_go()
            self._connection = self._open()
            self._broken = False
            return self._connection

    def close(self) -> None:
        """Let go of the connection. Guests keep running. May be called twice."""
        with self._lock:
            self._let_go()

    def capabilities(self) -> capabilities.Capabilities:
        """What this host can do, asked anew: the daemon may have been upgraded meanwhile."""
        connection = self.connection()
        return self.call(
            "getVersion",
            "",
            lambda: capabilities.Capabilities(
                hypervisor=connection.getType(),
                libvirt_version=connection.getLibVersion(),
                hypervisor_version=connection.getVersion(),
            ),
        )

    def get_guest(self, name: str) -> Guest:
        """:raises nova_snap.exception.DomainNotFound: if no domain has this name."""
        domain = self.lookup("lookupByName", name)
        return Guest(self, domain, name=name, uuid=domain.UUIDString())

    def get_guest_by_uuid(self, uuid: str) -> Guest:
        """:raises nova_snap.exception.DomainNotFound: if no domain has this uuid."""
        domain = self.lookup("lookupByUUIDString", uuid)
        return Guest(self, domain, name=domain.name(), uuid=uuid)

    def lookup(self, operation: str, key: str) -> Any:
        """The ``virDomain`` that the given look-up finds; for :class:`Guest` only."""
        connection = self.connection()
        return self.call(operation, key, lambda: getattr(connection, operation)(key))

    def list_domains(self) -> Sequence[str]:
        """Names of all domains, running or not, in alphabetical order."""
        connection = self.connection()
        return self.call(
            "listAllDomains", "", lambda: sorted(dom.name() for dom in connection.listAllDomains())
        )

    def define(self, xml: str, name: str) -> Guest:
        """Make the domain of this XML persistent, whether it runs or not."""
        connection = self.connection()
        domain = self.call("defineXML", name, lambda: connection.defineXML(xml))
        return Guest(self, domain, name=name, uuid=domain.UUIDString())

    def _is_alive(self) -> bool:
        connection = self._connection
        if connection is None:
            return False
        try:
            # Asks nobody: it tells whether the socket is still open.
            return bool(connection.isAlive())
        except libvirt.libvirtError:
            return False

    def _open(self) -> Any:
        _start_event_loop()
        seconds = self.operation_timeout
        try:
            # A late answer of an open that was given up is dropped, and its connection with it.
            connection = bounded.call(
                lambda: libvirt.open(self.uri), seconds, f"the connection to libvirt at {self.uri}"
            )
        except (libvirt.libvirtError, exception.WaitTimeout) as exc:
            raise exception.HypervisorUnavailable(uri=self.uri, reason=str(exc)) from exc
        try:
            connection.setKeepAlive(KEEPALIVE_INTERVAL, KEEPALIVE_COUNT)
        except libvirt.libvirtError as exc:
            LOG.debug("libvirt at %s has no keepalive: %s", self.uri, exc)
        self._wait_for_guests(connection)
        LOG.info("Connected to libvirt at %s", self.uri)
        return connection

    def _wait_for_guests(self, connection: Any) -> None:
        """Wait until a libvirt inside of this process has its monitors and agents back.

        It returns from the opening before that, and until then agents seem not connected. A call
        that takes a job waits.
        """
        if ":///embed" not in self.uri:
            return
        for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
            try:
                bounded.call(domain.memoryStats, self.operation_timeout, "memoryStats")
            except (libvirt.libvirtError, exception.WaitTimeout) as exc:
                LOG.warning("Domain %s does not answer: %s", domain.name(), exc)

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            bounded.call(connection.close, self.operation_timeout, "close")
        except (libvirt.libvirtError, exception.WaitTimeout) as exc:
            LOG.debug("The old connection to libvirt could not be closed: %s", exc)
