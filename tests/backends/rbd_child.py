# SPDX-License-Identifier: Apache-2.0
"""A compute process that dies in the middle of a snapshot within Ceph, and the one after it.

``python -m tests.backends.rbd_child ROOT DIRECTORY GLANCE CEPH_CONF WORK GUEST UUID IMAGE``, where
WORK is the point at which to stop, or ``recover``. See :mod:`tests.functional.snapshot_child`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nova_snap.cmd  # noqa: F401 - chooses the backend of oslo.service
from nova_snap.image.glance import API
from nova_snap.virt.libvirt import rbd
from nova_snap.virt.libvirt.driver import LibvirtDriver
from nova_snap.virt.libvirt.snapshot.direct import Direct
from tests.backends.rbd_parts import AGENT
from tests.fixtures.glance import Glance
from tests.fixtures.lab_guest import Guest
from tests.fixtures.libvirt_lab import LibvirtLab
from tests.functional import snapshot_parts as parts
from tests.functional.snapshot_child import ROOT, stop_here


def after(kind: type, name: str) -> None:
    """Let a method do its work, and then stop."""
    original = getattr(kind, name)

    def stopping(*arguments: Any, **more: Any) -> Any:
        original(*arguments, **more)
        stop_here()

    setattr(kind, name, stopping)


POINTS = {
    "snapshotted": lambda: after(rbd.Cluster, "create_snapshot"),
    "cloned": lambda: after(rbd.Cluster, "clone"),
    "flattening": lambda: setattr(Direct, "_wait_for", stop_here),
    "finished": lambda: setattr(API, "add_location", stop_here),
    "handed-over": lambda: after(API, "add_location"),
}


class Compute:
    """A compute process of its own, for one guest."""

    def __init__(self, glance: Glance, directory: Path, guest: Guest) -> None:
        assert glance.ceph is not None
        self._where = (guest.lab.root, directory, glance.url, glance.ceph.conf)
        self._guest = (guest.name, guest.uuid)

    def _start(self, work: str, image_id: str) -> subprocess.Popen[str]:
        words = (*self._where, work, *self._guest, image_id)
        return subprocess.Popen(
            [sys.executable, "-m", "tests.backends.rbd_child", *map(str, words)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def die_at(self, point: str, image_id: str) -> None:
        """Take a snapshot as far as this point, and be killed there."""
        process = self._start(point, image_id)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "here\n"
        finally:
            process.kill()
            process.communicate(timeout=60)

    def start_again(self) -> None:
        """Start, clean up, end."""
        output, _ = self._start("recover", "-").communicate(timeout=120)
        assert output == "done\n"


def main(
    root: str, directory: str, glance: str, ceph_conf: str,
    work: str, name: str, uuid: str, image_id: str,
) -> None:  # fmt: skip
    """Take the snapshot up to its point, or put right what was left of it."""
    world = parts.World(LibvirtLab(Path(root)), Path(directory) / work)
    world.conf.set_override("auth_strategy", "noauth2", "api")
    world.conf.set_override("api_servers", [glance], "glance")
    world.set(
        images_rbd_ceph_conf=ceph_conf,
        snapshot_direct_pool=Glance.POOL,
        snapshots_directory=str(Path(directory) / "snapshots"),
    )
    driver = LibvirtDriver(world.conf, API(world.conf), world.host)
    if work == "recover":
        driver.init_host()
        print("done", flush=True)
        return
    POINTS[work]()
    instance = parts.Instance(uuid, name, image_properties=AGENT)
    driver.snapshot(world.context, instance, image_id, parts.States())


if __name__ == "__main__":
    main(*sys.argv[1:])
