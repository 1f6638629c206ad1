# SPDX-License-Identifier: Apache-2.0
"""A driver between a real Ceph and a real Glance, and a guest whose disk is in that Ceph."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nova_snap.context import RequestContext
from nova_snap.image.glance import API
from nova_snap.virt.driver import SnapshotReport
from nova_snap.virt.libvirt.driver import LibvirtDriver
from tests.fixtures import rbd_disk
from tests.fixtures.ceph import Ceph
from tests.fixtures.commands import run
from tests.fixtures.disk_image import RawView
from tests.fixtures.glance import Glance
from tests.fixtures.guest.disk import guest_disk
from tests.fixtures.lab_guest import Guest
from tests.fixtures.libvirt_lab import LibvirtLab
from tests.functional import snapshot_parts as parts

DISKS = "vms"
WRAPPER = """\
#!/bin/sh
echo "{program} $*" >> {log}
for hook in {hooks}/*; do
    case " $* " in *" $(basename "$hook") "*) . "$hook";; esac
done
exec {real} "$@"
"""
USER = "nova"
GLANCE_SNAPSHOT = "snap"
AGENT = {"hw_qemu_guest_agent": "yes"}


def upload(glance: Glance, path: Path) -> str:
    """An image of a raw file, as an operator uploads it."""
    client = glance.client("user-1", "project-1")
    image = client.images.create(name="base", disk_format="raw", container_format="bare")
    with path.open("rb") as data:
        client.images.upload(image.id, data)
    return str(image.id)


def clone_disk(ceph: Ceph, base: str, name: str) -> rbd_disk.RbdDisk:
    """A disk as Nova makes it of an image that is in the same cluster."""
    ceph.pool(DISKS)
    ceph.rbd("clone", f"{Glance.POOL}/{base}@{GLANCE_SNAPSHOT}", f"{DISKS}/{name}")
    return rbd_disk.RbdDisk(ceph, f"{DISKS}/{name}")


class Commands:
    """What the driver runs of Ceph's commands, and what happens before one of them does its work.

    :param directory: put in front of ``PATH``.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._log = directory / "log"
        self._hooks = directory / "hooks"
        self._hooks.mkdir(parents=True)
        for program in ("rbd", "ceph"):
            script = directory / program
            real = shutil.which(program)
            script.write_text(
                WRAPPER.format(program=program, log=self._log, hooks=self._hooks, real=real)
            )
            script.chmod(0o755)

    @classmethod
    def in_path(cls, directory: Path, patch: pytest.MonkeyPatch) -> Commands:
        """Have them run instead of the real ones as long as the test does."""
        made = cls(directory)
        patch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
        return made

    def before(self, word: str, shell: str) -> None:
        """Have a shell do this before any command that has the word among its arguments."""
        (self._hooks / word).write_text(f"{shell}\n")

    def run(self) -> list[str]:
        """Every command line so far."""
        return self._log.read_text().splitlines() if self._log.exists() else []


def bytes_read(ceph: Ceph) -> int:
    """How many bytes the OSD has sent to clients, whoever they are, since it was started."""
    (socket,) = ceph.directory.glob("osd.0.*.asok")
    found = run("ceph", "--conf", ceph.conf, "--admin-daemon", socket, "perf", "dump")
    return int(json.loads(found.stdout)["osd"]["op_out_bytes"])


def fill(ceph: Ceph, image: str, mebibytes: int) -> None:
    """Make an image of which all is allocated."""
    ceph.pool(image.partition("/")[0])
    ceph.rbd("create", "--size", f"{mebibytes}M", image)
    ceph.rbd(
        "bench", "--io-type", "write", "--io-size", "4M", "--io-threads", "4",
        "--io-total", f"{mebibytes}M", image, timeout=300,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Taken:
    """A snapshot that was taken."""

    report: SnapshotReport
    image_id: str
    states: list[str]
    record: dict[str, Any]


class RbdWorld(parts.World):
    """A driver that knows both, and what is in the pools before it has done anything."""

    def __init__(self, lab: LibvirtLab, directory: Path, glance: Glance, base: str) -> None:
        super().__init__(lab, directory)
        assert glance.ceph is not None
        self.ceph: Ceph = glance.ceph
        self.glance = glance
        self.base: str | None = base
        self.conf.set_override("auth_strategy", "noauth2", "api")
        self.conf.set_override("api_servers", [glance.url], "glance")
        self.set(
            rbd_user=USER,
            images_rbd_ceph_conf=str(self.ceph.conf),
            operation_timeout=15,
            snapshot_method="auto",
        )
        self.api = API(self.conf)
        self.driver = LibvirtDriver(self.conf, self.api, self.host)
        self.context = RequestContext(
            user_id="user-1", project_id="project-1", roles=["member", "reader"], overwrite=False
        )
        self._images = set(self.ceph.images(Glance.POOL))

    def new_image(self) -> str:
        """A record in status queued."""
        return str(self.api.create(self.context, {"name": f"snapshot {uuid.uuid4()}"})["id"])

    def take(
        self,
        guest: Guest,
        states: parts.States | None = None,
        monitor: Any = None,
        image_id: str | None = None,
        **properties: str,
    ) -> Taken:
        """Take a snapshot; see that the guest is as before and no file is left on the host."""
        states = states or parts.States()
        image_id = image_id or self.new_image()
        instance = parts.Instance(
            guest.uuid, guest.name, image_ref=self.base, image_properties=properties
        )
        before = parts.steady(guest)
        try:
            report = self.driver.snapshot(self.context, instance, image_id, states, monitor)
        finally:
            self.assert_nothing_left(guest, before)
        record = dict(self.api.get(self.context, image_id))
        return Taken(report, image_id, states.seen, record)

    def new_images(self) -> set[str]:
        """What there is in Glance's pool since this world began."""
        return set(self.ceph.images(Glance.POOL)) - self._images

    def assert_clean(self, guest: Guest, *images: str) -> None:
        """Nothing in either pool but these images; the disk has no snapshot."""
        assert isinstance(guest.disk, rbd_disk.RbdDisk)
        assert self.new_images() == set(images)
        assert self.ceph.snapshots(guest.disk.image) == []
        for image in images:
            assert self.ceph.snapshots(f"{Glance.POOL}/{image}") == [GLANCE_SNAPSHOT]

    @contextlib.contextmanager
    def view(self, image_id: str) -> Iterator[RawView]:
        """The bytes of an image as the cluster has them."""
        spec = f"{Glance.POOL}/{image_id}@{GLANCE_SNAPSHOT}"
        with rbd_disk.rbd_view(self.ceph, spec) as view:
            yield view

    def served(self, image_id: str) -> bytes:
        """The bytes of an image as Glance sends them."""
        client = self.glance.client("user-1", "project-1")
        return b"".join(client.images.data(image_id))


class Deleted:
    """A monitor that has seen the image being deleted, as soon as that is so.

    :ivar stop: what ends the work at once.
    """

    def __init__(self, world: RbdWorld, image_id: str) -> None:
        self._world, self._image_id = world, image_id
        self.stop: Callable[[], None] = lambda: None

    def progress(self, done: int, total: int) -> None:
        """Nobody looks."""

    def check(self) -> None:
        self._world.api.get(self._world.context, self._image_id)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        self.stop = callback


@contextlib.contextmanager
def open_world(lab: LibvirtLab, directory: Path, glance: Glance, base: str) -> Iterator[RbdWorld]:
    """An :class:`RbdWorld`."""
    world = RbdWorld(lab, directory, glance, base)
    world.driver.init_host()
    yield world
    world.driver.close()


@contextlib.contextmanager
def running_guest(lab: LibvirtLab, ceph: Ceph, base: str, name: str) -> Iterator[Guest]:
    """A guest that writes, has an agent, and a disk that is a clone of the base image."""
    ceph.user(USER, DISKS, Glance.POOL)
    guest = lab.define_guest(name, clone_disk(ceph, base, name))
    guest.start()
    guest.wait_ready()
    guest.wait_agent()
    guest.start_writer()
    yield guest
    guest.remove()


def base_image(glance: Glance) -> str:
    """The guest's disk as an image."""
    return upload(glance, guest_disk().path)
