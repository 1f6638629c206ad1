# SPDX-License-Identifier: Apache-2.0
"""``nova-snap-api``: the REST API, on a port of its own or under any WSGI server."""

from collections.abc import Sequence

from nova_snap.cmd import config, parts, run
from nova_snap.compute import rpc
from nova_snap.db.session import Database

PROG = "nova-snap-api"


def build_application(
    argv: Sequence[str] | None = None, config_files: Sequence[str] | None = None
) -> parts.WSGIApplication:
    """The application of this process.

    :param config_files: instead of those in /etc/nova_snap.
    """
    conf = config.load(argv, PROG, config_files=config_files)
    return parts.api_application(conf, Database(conf), rpc.get_transport(conf))


def main() -> int:
    """Serve until SIGTERM."""
    return run.guarded(_main)


def _main() -> int:
    stop = run.Stop()
    conf = config.load(None, PROG)
    database = Database(conf)
    transport = rpc.get_transport(conf)
    server = run.APIServer(conf, parts.api_application(conf, database, transport))
    server.start()
    stop.wait()
    server.stop()
    transport.cleanup()
    database.close()
    return 0
