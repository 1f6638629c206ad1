# SPDX-License-Identifier: Apache-2.0
"""A compute process that dies while it makes an instance, and the one after it.

``python -m tests.functional.spawn_child ROOT DIRECTORY WORK UUID``, where WORK is the point to stop
at, or ``recover``. A process that has got to its point says so, and waits to be killed. Each holds
the lab's root until it has ended.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nova_snap.cmd  # noqa: F401 - chooses the backend of oslo.service
from nova_snap.virt.libvirt.guest import Guest
from nova_snap.virt.libvirt.host import Host
from tests.fixtures.libvirt_lab import LibvirtLab
from tests.functional import lifecycle_parts as parts
from tests.functional.snapshot_parts import Instance

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "9e3d1b8c-9a70-4c0e-9d3f-5d2f6a1e0001"
NAME = "instance-00000001"


def run(lab: LibvirtLab, directory: Path, work: str, uuid: str) -> dict[str, Any]:
    """Make an instance as far as a point and be killed there, or clean up after that.

    :returns: what was left: ``domains``, ``cached``, ``files``.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.functional.spawn_child", lab.root, directory, work, uuid],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        answer: dict[str, Any] = json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate(timeout=60)
    return answer


def say(world: parts.World) -> None:
    """What is there now."""
    found = {
        "domains": list(world.driver.list_domains()),
        "cached": world.cached(),
        "files": sorted(
            path.name for path in world.instances.glob("*") if path.name not in ("_base", "locks")
        ),
    }
    print(json.dumps(found), flush=True)


POINTS: dict[str, tuple[Any, str]] = {
    "disk": (Host, "define"),
    "domain": (Guest, "launch"),
}


def main(root: str, directory: str, work: str, uuid: str) -> None:
    """Make the instance up to its point, or remove what was left of it and make it."""
    scratch = Path(directory)
    for left in scratch.glob("images*"):
        shutil.rmtree(left)
    world = parts.World(LibvirtLab(Path(root)), scratch, Path(root) / "made")
    data = scratch / "data"
    data.write_bytes(bytes(parts.PIECE) + os.urandom(parts.PIECE))
    world.images.add(data, "raw", IMAGE)
    instance = Instance(uuid, NAME)
    world.driver.init_host()

    def stop_here(*_arguments: Any, **_more: Any) -> None:
        say(world)
        time.sleep(600)

    if work == "recover":
        world.driver.destroy(instance)
        say(world)
        return
    if work == "download":
        world.images.on_piece = stop_here
    elif work in POINTS:
        setattr(*POINTS[work], stop_here)
    world.driver.spawn(world.context, instance, world.request(IMAGE, memory_mb=64), parts.nothing)
    stop_here()


if __name__ == "__main__":
    main(*sys.argv[1:])
