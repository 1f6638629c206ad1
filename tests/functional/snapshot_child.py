# SPDX-License-Identifier: Apache-2.0
"""A compute process that dies in the middle of a snapshot, and the one after it.

``python -m tests.functional.snapshot_child ROOT DIRECTORY WAY WORK GUEST UUID``, where WORK is the
point at which to stop, or ``recover``, or ``take`` for a whole snapshot. A process that has got to
its point says so, and waits to be killed. Each holds the lab's root until it has ended.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nova_snap.cmd  # noqa: F401 - chooses the backend of oslo.service
from nova_snap.virt.libvirt import imagebackend, quiesce
from nova_snap.virt.libvirt.guest import Guest
from nova_snap.virt.libvirt.snapshot import mirror
from nova_snap.virt.libvirt.snapshot.copy_job import CopyJob
from tests.fixtures import lab_guest
from tests.fixtures.libvirt_lab import LibvirtLab
from tests.functional import snapshot_parts as parts

ROOT = Path(__file__).resolve().parents[2]


class Compute:
    """A compute process of its own, for one guest."""

    def __init__(self, lab: LibvirtLab, directory: Path, way: str, guest: lab_guest.Guest) -> None:
        self._arguments = (str(lab.root), str(directory), way)
        self._guest = (guest.name, guest.uuid)

    def _start(self, work: str) -> subprocess.Popen[str]:
        module = [sys.executable, "-m", "tests.functional.snapshot_child"]
        return subprocess.Popen(
            [*module, *self._arguments, work, *self._guest],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def die_at(self, point: str) -> None:
        """Take a snapshot as far as this point, and be killed there."""
        process = self._start(point)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "here\n"
        finally:
            process.kill()
            process.communicate(timeout=60)

    def start_again(self) -> None:
        """Start, clean up, end."""
        self._do("recover")

    def take(self) -> None:
        """A whole snapshot; the image is ``images/image``."""
        self._do("take")

    def _do(self, work: str) -> None:
        output, _ = self._start(work).communicate(timeout=120)
        assert output == "done\n"


def stop_here(*_arguments: Any, **_more: Any) -> None:
    """The point has come."""
    print("here", flush=True)
    time.sleep(600)


def stop_midway(
    _images: Any, _context: Any, _id: str, metadata: Any, data: Any = None, *_rest: Any,
    **_more: Any,
) -> Any:  # fmt: skip
    """An upload has begun, and the disk is being read; at first the image is only described."""
    if data is not None:
        data.read(1 << 20)
        stop_here()
    return metadata


POINTS: dict[str, tuple[type, str]] = {
    "copying": (CopyJob, "wait_until_ready"),
    "frozen": (mirror.Mirror, "_pivot"),
    "saved": (imagebackend.Qcow2, "snapshot_extract"),
    "detached": (Guest, "managed_save"),
    "beginning": (Guest, "begin_backup"),
    "thawing": (quiesce.Quiescer, "_thaw"),
    "streaming": (parts.FileImages, "update"),
}


def main(root: str, directory: str, way: str, work: str, name: str, uuid: str) -> None:
    """Take the snapshot up to its point, or put right what was left of it."""
    shutil.rmtree(Path(directory) / "images", ignore_errors=True)
    host_class, method = (parts.WAYS | parts.DEVICE_WAYS)[way]
    world = parts.World(LibvirtLab(Path(root)), Path(directory), host_class)
    world.set(snapshot_method=method)
    instance = parts.Instance(uuid, name, image_properties={"hw_qemu_guest_agent": "yes"})
    if work == "recover":
        world.driver.init_host()
        world.driver.clean_up_after_restart(instance)
        print("done", flush=True)
        return
    if work in POINTS:
        setattr(*POINTS[work], stop_midway if work == "streaming" else stop_here)
    world.driver.snapshot(world.context, instance, "image", parts.States())
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
