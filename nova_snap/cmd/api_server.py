# SPDX-License-Identifier: Apache-2.0
"""The REST API on a port of its own: an HTTP server whose threads are for requests only."""

import logging
import math
import threading
import time
from typing import Any, Final

from cheroot import wsgi
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
            # Until then nothing more is accepted.
            accepted_queue_timeout=conf.api.timeout,
        )
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


class _Server(wsgi.Server):
    """Gives a connection a thread when there is something to read.

    cheroot does so with connections that it has served before. A new one gets a thread at once, so
    that a few clients which connect and say nothing keep all threads, and everybody waiting.

    :ivar request_timeout: seconds that a client may take to send a request.
    :ivar body_limit: bytes that a body in chunks may have.
    :ivar closes: when nothing more is begun, on the monotonic clock, while it is being stopped.
    """

    ConnectionClass = http.Connection
    request_timeout: float
    body_limit: int
    closes: float = math.inf

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        LOG.log(level, "%s", msg, exc_info=traceback)

    def process_conn(self, conn: Any) -> None:
        conn.arrived = time.monotonic()
        if conn.last_used is None and self.can_add_keepalive_connection:
            self.put_conn(conn)
        else:
            super().process_conn(conn)
