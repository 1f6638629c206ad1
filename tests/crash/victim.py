# SPDX-License-Identifier: Apache-2.0
"""A real service that can be told where to die: ``python -m tests.crash.victim COMMAND OPTIONS``.

COMMAND is ``nova-snap-all`` or another of the project's commands, OPTIONS are its own. The
directory of ``$NOVA_SNAP_CRASH`` gets the trace of what it does, and a socket to ask it how its
guests are: of an embedded libvirt nobody else knows.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
from pathlib import Path

import libvirt

import nova_snap.cmd  # noqa: F401 - chooses the backend of oslo.service
from nova_snap.virt.libvirt import capabilities
from nova_snap.virt.libvirt.host import Host
from tests.crash.boundaries import Boundaries
from tests.fixtures import libvirt_ops
from tests.fixtures.probe import Probe

DIRECTORY_ENV = "NOVA_SNAP_CRASH"
URI_ENV = "NOVA_SNAP_CRASH_URI"
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
    own = {"arm": lambda **target: boundaries.arm(target)}
    Probe(directory / SOCKET, os.environ[URI_ENV], STEPS, own).start()
    module = importlib.import_module(f"nova_snap.cmd.{command.rpartition('-')[2]}")
    return int(module.main())


if __name__ == "__main__":
    sys.exit(main())
