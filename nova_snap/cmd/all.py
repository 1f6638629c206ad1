# SPDX-License-Identifier: Apache-2.0
"""``nova-snap-all``: API and compute host in one process, for one host of its own.

Messages stay in the process and the database is a SQLite file, unless the configuration says
otherwise; the tables are brought up to date at the start.
"""

import threading
import time
from concurrent import futures
from typing import Final

from nova_snap.cmd import config, parts, run
from nova_snap.cmd.api_server import REFUSE_SECONDS, APIServer
from nova_snap.compute import rpc
from nova_snap.compute.service import ComputeService
from nova_snap.db import migration
from nova_snap.db.session import Database

PROG = "nova-snap-all"

# Of a stop: what requests need that do not hang.
API_FIRST_SECONDS: Final = 5.0


def main() -> int:
    """Serve until SIGTERM."""
    return run.guarded(_main)


def _main() -> int:
    stop = run.Stop()
    conf = config.load(None, PROG, embedded=True)
    database = Database(conf)
    migration.sync(database)
    transport = rpc.get_transport(conf)
    service = parts.compute_service(conf, database, transport)
    server = APIServer(conf, parts.api_application(conf, database, transport))
    service.start()
    server.start()
    stop.wait()
    run.exit_within(conf.graceful_shutdown_timeout)
    if stop_both(server, service, conf.graceful_shutdown_timeout):
        run.exit_now(0)
    rpc.close(transport)
    database.close()
    return 0


def stop_both(server: APIServer, service: ComputeService, timeout: float) -> int:
    """End the two within one timeout: the API first, whose requests the host has to take up; but
    snapshots that run do not pay for a request that hangs.

    :param timeout: seconds, of graceful_shutdown_timeout.
    :returns: how many snapshots and other tasks still run; requests that hang count as one.
    """
    until = time.monotonic() + timeout
    ended: futures.Future[bool] = futures.Future()
    threading.Thread(
        target=lambda: ended.set_result(server.stop()), name="api-stop-first", daemon=True
    ).start()
    futures.wait([ended], timeout=min(API_FIRST_SECONDS, timeout / 2))
    left = service.stop(max(0.0, until - time.monotonic()))
    # It has a bound of its own, which is over at about the same time.
    rest = max(0.0, until - time.monotonic()) + 2 * REFUSE_SECONDS
    futures.wait([ended], timeout=rest)
    return left + (not (ended.done() and ended.result(timeout=0)))
