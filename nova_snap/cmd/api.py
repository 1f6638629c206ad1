# SPDX-License-Identifier: Apache-2.0
"""``nova-snap-api``: the REST API, on a port of its own or under any WSGI server."""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nova_snap.cmd import config, parts, run
from nova_snap.cmd.api_server import APIServer
from nova_snap.compute import rpc
from nova_snap.compute.periodic import Periodic
from nova_snap.db.session import Database

PROG = "nova-snap-api"


def build_application(
    argv: Sequence[str] | None = None, config_files: Sequence[str] | None = None
) -> parts.WSGIApplication:
    """The application of this process.

    :param config_files: instead of those in /etc/nova_snap.
    """
    conf = config.load(argv, PROG, config_files=config_files)
    database = Database(conf)
    application = parts.api_application(conf, database, rpc.get_transport(conf))
    return Housekept(application, parts.api_housekeeping(conf, database))


class Housekept:
    """An application that looks after what hosts have left.

    It begins with the first request, and not when it is built: a WSGI server may build it before
    it forks, and threads do not come along.
    """

    def __init__(self, application: parts.WSGIApplication, housekeeping: Periodic) -> None:
        self._application = application
        self._housekeeping = housekeeping
        self._lock = threading.Lock()
        self._begun = False

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        with self._lock:
            if not self._begun:
                self._begun = True
                self._housekeeping.start()
        answer: Iterable[bytes] = self._application(environ, start_response)
        return answer


def main() -> int:
    """Serve until SIGTERM."""
    return run.guarded(_main)


def _main() -> int:
    stop = run.Stop()
    conf = config.load(None, PROG)
    database = Database(conf)
    transport = rpc.get_transport(conf)
    server = APIServer(conf, parts.api_application(conf, database, transport))
    housekeeping = parts.api_housekeeping(conf, database)
    server.start()
    housekeeping.start()
    stop.wait()
    run.exit_within(conf.graceful_shutdown_timeout)
    housekeeping.stop()
    ended = server.stop()
    rpc.close(transport)
    database.close()
    if not ended:
        run.exit_now(0)
    return 0
