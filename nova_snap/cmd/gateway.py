# SPDX-License-Identifier: Apache-2.0
"""From the HTTP server to the application: how long a request has waited; whether for nothing."""

import errno
import select
import socket
import time
from typing import Any, Final

from cheroot import wsgi
from oslo_log import log

from nova_snap.api import overload

LOG = log.getLogger(__name__)

# A client may close its direction of a connection and still read; one that has also waited for so
# many seconds is taken for gone.
PATIENCE: Final = 20.0


class Gateway(wsgi.WSGIGateway_10):
    """Hands a request over, unless its client has gone while it waited: he may have asked again by
    now, and would get two snapshots.

    The connection knows when its request ``arrived``, on the monotonic clock.
    """

    # Of cheroot's own types this one is of its base class, which has none to give.
    def get_environ(self) -> dict[str, Any]:  # type: ignore[override]
        environ: dict[str, Any] = super().get_environ()  # type: ignore[no-untyped-call]
        environ[overload.WAITED] = self._waited()
        environ[overload.CLOSED] = time.monotonic() > self.req.server.closes
        return environ

    def respond(self) -> None:
        """:raises ConnectionResetError: if there is nobody to answer."""
        connection = self.req.conn
        if self._waited() > PATIENCE and _has_hung_up(connection.socket):
            LOG.info("A client at %s has not waited for its turn", connection.remote_addr)
            raise ConnectionResetError(errno.ECONNRESET, "the client has hung up")
        super().respond()

    def _waited(self) -> float:
        return time.monotonic() - float(self.req.conn.arrived)


def _has_hung_up(connection: socket.socket) -> bool:
    look = select.poll()
    look.register(connection, select.POLLRDHUP)
    return bool(look.poll(0))
