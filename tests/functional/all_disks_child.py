# SPDX-License-Identifier: Apache-2.0
"""A compute process that dies while it sends the second of a guest's disks, and the one after it.

``python -m tests.functional.all_disks_child ROOT DIRECTORY WORK GUEST UUID``; WORK is ``die``,
``recover`` or ``take``. See :mod:`tests.functional.snapshot_child`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nova_snap.cmd  # noqa: F401 - chooses the backend of oslo.service
from tests.fixtures import lab_guest
from tests.fixtures.libvirt_lab import LibvirtLab
from tests.functional import snapshot_parts as parts
from tests.functional.all_disks_parts import World
from tests.functional.snapshot_child import ROOT, stop_here


def start(guest: lab_guest.Guest, directory: Path, work: str) -> subprocess.Popen[str]:
    """Such a process. It says "here" and waits to be killed, or "done" and ends."""
    module = [sys.executable, "-m", "tests.functional.all_disks_child"]
    return subprocess.Popen(
        [*module, str(guest.lab.root), str(directory), work, guest.name, guest.uuid],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def main(root: str, directory: str, work: str, name: str, uuid: str) -> None:
    """Do the work."""
    place = Path(directory) / work
    place.mkdir()
    world = World(LibvirtLab(Path(root)), place)
    world.set(snapshots_directory=str(Path(directory) / "snapshots"))
    instance = parts.Instance(uuid, name)
    if work == "recover":
        world.driver.init_host()
        world.driver.clean_up_after_restart(instance)
    else:
        if work == "die":
            world.images.on_bytes = lambda *_: world.images.metadata and stop_here()
        world.driver.snapshot(world.context, instance, "image", parts.States(), None, world.records)
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
