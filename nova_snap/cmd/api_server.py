# SPDX-License-Identifier: Apache-2.0
"""The REST API on a port of its own: an HTTP server whose threads are for requests only."""

import logging
import math
import queue
import threading
import time
from typing import Any, Final

from cheroot import connections, wsgi
from oslo_config import cfg
from oslo_log import log
from oslo_middleware import sizelimit

from nova_snap.cmd import http
from nova_snap.cmd.gateway import Gateway
from nova_snap.cmd.parts import WSGIApplication

LOG = log.getLogger(__name__)

# Connections that the kernel keeps until they are accepted; it has a limit of its own, too
# (net.core.somaxconn). A client that finds no room tries again a second later.
BACKLOG: Final = 1024
# Those that have been accepted are files of this process, and it is to have no more of them than
# most systems let it (1024): so many without a request, and so many whose request waits.
IDLE: Final = 256
WAITING: Final = 512
# Those for whom there was no room are told so, as many at once. More get no answer.
REFUSED: Final = 128
# Nothing is accepted while one connection waits for room: seconds that one may, and that all may
# who follow each other. Whoever comes later is refused until there is room again.
ROOM_SECONDS: Final = 5.0
NO_ROOM_SECONDS: Final = 30.0
_NO_ROOM: Final = (
    "There are too many requests: there was no room for this one. Nothing was done; try again "
    "later."
)
# What a stop takes beyond its time, to tell those who still wait that they had no turn.
REFUSE_SECONDS: Final = 2.0


class APIServer:
    """Serves until it is stopped."""

    def __init__(self, conf: cfg.ConfigOpts, application: WSGIApplication) -> None:
        self._address = (conf.osapi_compute_listen, conf.osapi_compute_listen_port)
        self._server = _Server(
            self._address,
            application,
            numthreads=conf.api.threads,
            request_queue_size=BACKLOG,
            timeout=conf.api.timeout,
            shutdown_timeout=conf.graceful_shutdown_timeout,
            server_name="nova-snap-api",
            accepted_queue_size=WAITING,
            # A silent connection is closed after the timeout, and must have been looked at before.
            accepted_queue_timeout=min(ROOM_SECONDS, conf.api.timeout / 4),
        )
        self._server.patience = min(NO_ROOM_SECONDS, conf.api.timeout / 2)
        self._server.keep_alive_conn_limit = IDLE
        self._server.gateway = Gateway
        self._server.max_request_header_size = http.MAX_HEADER_BYTES
        self._server.request_timeout = conf.api.request_timeout
        conf.register_opts(sizelimit.OPTS, group="oslo_middleware")
        self._server.body_limit = conf.oslo_middleware.max_request_body_size
        self._thread = threading.Thread(target=self._server.serve, name="api", daemon=True)

    def start(self) -> None:
        """Listen; returns when a client can connect.

        :raises OSError: if the port cannot be had.
        """
        self._server.prepare()
        self._thread.start()
        LOG.info("The API listens on %s port %d", *self._address)

    def stop(self) -> bool:
        """Serve what has come in, within graceful_shutdown_timeout, and close; what has had no turn
        by then gets 503.

        :returns: whether all of it has ended. A request that hangs keeps its thread, which keeps
            the process from ending by itself.
        """
        grace = self._server.shutdown_timeout
        self._server.closes = time.monotonic() + grace
        # cheroot waits for ever for a request that hangs.
        stopping = threading.Thread(target=self._server.stop, name="api-stop", daemon=True)
        stopping.start()
        stopping.join(grace + REFUSE_SECONDS)
        if stopping.is_alive():
            LOG.error("Requests have not ended within %g s: they are left as they are", grace)
        return not stopping.is_alive()


class Connections(connections.ConnectionManager):
    """Those without a request."""

    _selector: Any

    def _expire(self, threshold: float) -> None:
        # A request may have come while the selector's thread waited for room.
        for _, connection in self._selector.select(0):
            if connection is not self.server:
                connection.last_used = time.time()
        super()._expire(threshold)  # type: ignore[misc]


class _Server(wsgi.Server):
    """Gives a connection a thread when there is something to read.

    cheroot does so with connections that it has served before. A new one gets a thread at once, so
    that a few clients which connect and say nothing keep all threads, and everybody waiting.

    :ivar request_timeout: seconds that a client may take to send a request.
    :ivar body_limit: bytes that a body in chunks may have.
    :ivar patience: seconds for which connections that follow each other may wait for room.
    :ivar closes: when nothing more is begun, on the monotonic clock, while it is being stopped.
    """

    ConnectionClass = http.Connection
    request_timeout: float
    body_limit: int
    patience: float
    closes: float = math.inf
    _connections: Any
    _unservicable_conns: queue.Queue[Any]

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        LOG.log(level, "%s", msg, exc_info=traceback)

    def prepare(self) -> None:
        super().prepare()
        self._connections.close()
        self._connections = Connections(self)
        self._room = time.monotonic()

    def process_conn(self, conn: Any) -> None:
        conn.arrived = time.monotonic()
        if conn.last_used is None and self.can_add_keepalive_connection:
            self.put_conn(conn)
            return
        if self.requests.qsize < WAITING:
            self._room = conn.arrived
        if conn.arrived - self._room < self.patience:
            super().process_conn(conn)
        elif self._unservicable_conns.qsize() < REFUSED:
            self._unservicable_conns.put(conn)
        else:
            conn.close()

    def _serve_unservicable(self) -> None:
        """Refuse those for whom there was no room; cheroot would do it without a word of the API's,
        and leave the connection open."""
        while self.ready:
            conn = self._unservicable_conns.get()
            if not isinstance(conn, http.Connection):
                return
            try:
                http.Request(self, conn).simple_response("503", _NO_ROOM)
                conn.close()
            except Exception:
                # Others are to be refused, too.
                LOG.exception("A connection of %s cannot be refused", conn.remote_addr)
