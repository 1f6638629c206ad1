# SPDX-License-Identifier: Apache-2.0
"""A real service that can be told where to die: ``python -m tests.crash.victim COMMAND OPTIONS``.

COMMAND is ``nova-snap-all`` or another of the project's commands, OPTIONS are its own. The
directory of ``$NOVA_SNAP_CRASH`` gets the trace of what it does, and a socket: only the process
that has an embedded libvirt open can be asked how its guests are.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import socketserver
import sys
import threading
from pathlib import Path
from typing import Any

import libvirt

import nova_snap.cmd  # noqa: F401 - chooses the backend of oslo.service
from nova_snap.virt.libvirt import capabilities
from nova_snap.virt.libvirt.host import Host
from tests.crash.boundaries import Boundaries
from tests.fixtures import libvirt_ops

DIRECTORY_ENV = "NOVA_SNAP_CRASH"
TARGET_ENV = "NOVA_SNAP_CRASH_AT"
OLD_LIBVIRT_ENV = "NOVA_SNAP_CRASH_OLD_LIBVIRT"
TRACE = "trace"
SOCKET = "probe"


def backup(connection: libvirt.virConnect, name: str) -> str | None:
    """The XML of a guest's backup job, if it has one."""
    try:
        return str(connection.lookupByName(name).backupGetXMLDesc(0))
    except libvirt.libvirtError as exc:
        if exc.get_error_code() in (
            libvirt.VIR_ERR_NO_DOMAIN_BACKUP,
            libvirt.VIR_ERR_OPERATION_INVALID,
        ):
            return None
        raise


STEPS = {**libvirt_ops.STEPS, "backup": backup}


class Probe(socketserver.ThreadingUnixStreamServer):
    """Answers what the matrix asks, out of the middle of the service."""

    daemon_threads = True

    def __init__(self, path: Path, uri: str, boundaries: Boundaries) -> None:
        path.unlink(missing_ok=True)
        super().__init__(str(path), _Question)
        self._uri = uri
        self._boundaries = boundaries
        self._lock = threading.Lock()
        self._connection: libvirt.virConnect | None = None

    def answer(self, step: str, arguments: dict[str, Any]) -> Any:
        """:raises libvirt.libvirtError:"""
        if step == "arm":
            return self._boundaries.arm(arguments)
        with self._lock:
            if self._connection is None:
                # The service has opened it before, and so runs libvirt's events.
                self._connection = libvirt.open(self._uri)
        return STEPS[step](self._connection, **arguments)


class _Question(socketserver.StreamRequestHandler):
    server: Probe

    def handle(self) -> None:
        asked = json.loads(self.rfile.readline())
        try:
            said = {"result": self.server.answer(asked["step"], asked["arguments"])}
        except libvirt.libvirtError as exc:
            said = {"error": str(exc)}
        self.wfile.write(json.dumps(said).encode())


def pass_for_old() -> None:
    """Let libvirt be one that copies only disks of transient domains, as the service sees it."""
    found = Host.capabilities

    def older(host: Host) -> capabilities.Capabilities:
        version = capabilities.TRANSIENT_BLOCK_COPY_VERSION - 1
        return dataclasses.replace(found(host), libvirt_version=version)

    Host.capabilities = older  # type: ignore[method-assign]


def main() -> int:
    """Run the service."""
    directory = Path(os.environ[DIRECTORY_ENV])
    command = sys.argv.pop(1)
    boundaries = Boundaries(directory / TRACE).watch()
    boundaries.arm(json.loads(os.environ.get(TARGET_ENV, "{}")))
    if os.environ.get(OLD_LIBVIRT_ENV):
        pass_for_old()
    probe = Probe(directory / SOCKET, f"qemu:///embed?root={directory}", boundaries)
    threading.Thread(target=probe.serve_forever, name="probe", daemon=True).start()
    module = importlib.import_module(f"nova_snap.cmd.{command.rpartition('-')[2]}")
    return int(module.main())


if __name__ == "__main__":
    sys.exit(main())
