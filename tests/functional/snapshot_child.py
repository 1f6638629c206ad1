# SPDX-License-Identifier: Apache-2.0
"""A compute process that dies in the middle of a snapshot, and the one after it.

``python -m tests.functional.snapshot_child ROOT DIRECTORY WAY WORK GUEST UUID``, where WORK is the
point at which to stop, or ``recover``. A process that has got to its point says so, and waits to be
killed. Each holds the lab's root until it has ended.
"""

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import nova_snap.cmd  # noqa: F401 - chooses the backend of oslo.service
from nova_snap.virt.libvirt import imagebackend
from nova_snap.virt.libvirt.snapshot import mirror
from nova_snap.virt.libvirt.snapshot.copy_job import CopyJob
from tests.fixtures.libvirt_lab import LibvirtLab
from tests.functional import snapshot_parts as parts


def stop_here(*_arguments: Any, **_more: Any) -> None:
    """The point has come."""
    print("here", flush=True)
    time.sleep(600)


POINTS: dict[str, tuple[type, str]] = {
    "copying": (CopyJob, "wait_until_ready"),
    "frozen": (mirror.Mirror, "_pivot"),
    "saved": (imagebackend.Qcow2, "snapshot_extract"),
}


def main(root: str, directory: str, way: str, work: str, name: str, uuid: str) -> None:
    """Take the snapshot up to its point, or put right what was left of it."""
    shutil.rmtree(Path(directory) / "images", ignore_errors=True)
    host_class, method = parts.WAYS[way]
    world = parts.World(LibvirtLab(Path(root)), Path(directory), host_class)
    world.set(snapshot_method=method)
    instance = parts.Instance(uuid, name, image_properties={"hw_qemu_guest_agent": "yes"})
    if work == "recover":
        world.driver.init_host()
        world.driver.clean_up_after_restart(instance)
        print("done", flush=True)
        return
    setattr(*POINTS[work], stop_here)
    world.driver.snapshot(world.context, instance, "image", parts.States())


if __name__ == "__main__":
    main(*sys.argv[1:])
