# SPDX-License-Identifier: Apache-2.0
"""``nova-snap-compute``: the service on every compute host."""

from nova_snap.cmd import config, parts, run
from nova_snap.compute import rpc
from nova_snap.db.session import Database

PROG = "nova-snap-compute"


def main() -> int:
    """Take snapshots until SIGTERM."""
    return run.guarded(_main)


def _main() -> int:
    stop = run.Stop()
    conf = config.load(None, PROG)
    database = Database(conf)
    transport = rpc.get_transport(conf)
    service = parts.compute_service(conf, database, transport)
    service.start()
    stop.wait()
    run.exit_within(conf.graceful_shutdown_timeout)
    if service.stop():
        run.exit_now(0)
    rpc.close(transport)
    database.close()
    return 0
