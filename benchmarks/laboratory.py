# SPDX-License-Identifier: Apache-2.0
"""A private libvirt, a real Glance and the driver, and the three ways to get a disk into Glance."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from oslo_config import cfg

from benchmarks import recipe, upload
from benchmarks.measure import Watch
from nova_snap import conf as nova_conf
from nova_snap.context import RequestContext
from nova_snap.image import glance
from nova_snap.image.glance import OnCancel
from nova_snap.virt.driver import ImageData, ImageUploader, data_properties
from nova_snap.virt.libvirt.driver import LibvirtDriver
from tests.fixtures.commands import run
from tests.fixtures.disks import Disk
from tests.fixtures.glance import Glance
from tests.fixtures.lab_guest import Guest
from tests.fixtures.libvirt_lab import LibvirtLab
from tests.functional.snapshot_parts import Instance, LabHost, States

MEMORY_MIB = 192


@dataclass(frozen=True)
class Run:
    """One way, gone once.

    :ivar active: seconds until the image was active.
    :ivar seconds: until all was as before, besides.
    :ivar cpu: seconds, of this process, its children and the guest's QEMU; not Glance's.
    :ivar temp_bytes: the most that temporary files took up.
    """

    active: float
    seconds: float
    cpu: float
    temp_bytes: int


class TimedImages:
    """The image service, and when it had an image active (and its hash was compared).

    :ivar active_at: by :func:`time.perf_counter`.
    """

    def __init__(self, images: ImageUploader) -> None:
        self._images = images
        self.active_at = 0.0

    def get(self, context: RequestContext, image_id: str) -> Mapping[str, Any]:
        return self._images.get(context, image_id)

    def update(
        self,
        context: RequestContext,
        image_id: str,
        metadata: Mapping[str, Any],
        data: ImageData | None = None,
        size: int | None = None,
        on_cancel: OnCancel | None = None,
    ) -> Mapping[str, Any]:
        record = self._images.update(context, image_id, metadata, data, size, on_cancel)
        self.active_at = time.perf_counter()
        return record


class Laboratory:
    """A context manager.

    :param directory: for everything; with a short path, for the sockets in it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.glance = Glance(directory / "glance")
        self.lab = LibvirtLab(directory / "l")
        self.context = RequestContext(user_id="bench", project_id="bench", roles=["member"])
        self._snapshots = directory / "snapshots"
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.lab)
            stack.enter_context(self.glance)
            self.lab.connect()
            self._conf = self._make_conf()
            self.images = glance.API(self._conf)
            self._timed = TimedImages(self.images)
            self._driver = self.driver_with(self._timed)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def driver_with(self, images: ImageUploader) -> LibvirtDriver:
        """A driver that uploads to ``images``."""
        return LibvirtDriver(self._conf, images, LabHost(self._conf, self.lab))

    @contextlib.contextmanager
    def guest(self, name: str, disk: Disk) -> Iterator[Guest]:
        """A guest that has booted and whose agent answers; gone afterwards, with its disk."""
        guest = self.lab.define_guest(name, disk, memory_mib=MEMORY_MIB)
        try:
            guest.start()
            guest.wait_ready(120)
            guest.wait_agent(60)
            yield guest
        finally:
            guest.remove()
            shutil.rmtree(disk.path.parent)

    def domain(self, guest: Guest) -> Any:
        """The guest to libvirt itself."""
        return self.lab.connect().lookupByName(guest.name)

    def qemu_pid(self, guest: Guest) -> int:
        return int((self.lab.root / f"run/qemu/{guest.name}.pid").read_text())

    @contextlib.contextmanager
    def image(self) -> Iterator[str]:
        """The id of a new image, which is deleted afterwards.

        Its record has the properties that the API makes one with, and formats, as no upload
        could begin without.
        """
        attributes = {
            "name": "bench",
            "disk_format": "qcow2",
            "container_format": "bare",
            "properties": data_properties(Instance("", "")),
        }
        image_id: str = self.images.create(self.context, attributes)["id"]
        try:
            yield image_id
        finally:
            self.images.delete(self.context, image_id)

    def image_file(self, image_id: str) -> Path:
        """Where Glance keeps an image's data."""
        return self.glance.data_dir / "images" / image_id

    def stream(
        self,
        guest: Guest,
        image_id: str,
        *,
        compression: str = "none",
        verify: bool = True,
        states: States | None = None,
    ) -> Run:
        """Take a snapshot with nova_snap.

        :param verify: whether the hash of what was sent is compared with Glance's.
        :param states: told of the task states.
        """
        self._conf.set_override("snapshot_compression", compression, "libvirt")
        self._conf.set_override("verify_uploads", verify, "glance")
        instance = Instance(guest.uuid, guest.name)
        began = time.perf_counter()
        with Watch(self._snapshots, [self.qemu_pid(guest)]) as watch:
            report = self._driver.snapshot(self.context, instance, image_id, states or States())
        temp_bytes = max(watch.temp_bytes, report.temp_bytes)
        return Run(self._timed.active_at - began, watch.seconds, watch.cpu, temp_bytes)

    def recipe(self, guest: Guest, image_id: str, *, bare: bool = False) -> Run:
        """Take one by hand.

        :param bare: upload with the bare client.
        """
        disk = guest.disk
        if not isinstance(disk, Disk):
            raise TypeError(f"the disk of {guest.name} is only a path")

        def send(path: Path) -> None:
            if bare:
                upload.bare(self.glance.url, image_id, path)
            else:
                upload.by_glanceclient(self.glance.client(), image_id, path)

        directory = Path(tempfile.mkdtemp(prefix="recipe-", dir=self.directory))
        try:
            with Watch(directory, [self.qemu_pid(guest)]) as watch:
                recipe.take(self.domain(guest), disk, directory, send)
        finally:
            shutil.rmtree(directory)
        return Run(watch.seconds, watch.seconds, watch.cpu, watch.temp_bytes)

    def upload(self, path: Path, image_id: str) -> Run:
        """Send a file that is finished."""
        with Watch(self._snapshots) as watch:
            upload.bare(self.glance.url, image_id, path)
        return Run(watch.seconds, watch.seconds, watch.cpu, 0)

    def _make_conf(self) -> cfg.ConfigOpts:
        conf = cfg.ConfigOpts()
        nova_conf.register_opts(conf)
        conf([], project="nova_snap", default_config_files=[])
        sockets = self.directory / "s"
        sockets.mkdir()
        options: dict[str, Any] = {
            "connection_uri": self.lab.uri,
            "virt_type": "qemu",
            "snapshot_method": "stream",
            "snapshots_directory": str(self._snapshots),
            "snapshot_socket_directory": str(sockets),
        }
        for name, value in options.items():
            conf.set_override(name, value, "libvirt")
        conf.set_override("api_servers", [self.glance.url], "glance")
        return conf


def make_raw(laboratory: Laboratory, name: str, size: int) -> Path:
    """A raw disk with the guest's system on it, and room for content from 256 MiB on."""
    path = laboratory.lab.instances / name
    run("cp", "--sparse=always", laboratory.lab.guest_disk().path, path)
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.truncate(size)
    return path


def as_qcow2(laboratory: Laboratory, raw: Path) -> Disk:
    """A disk that holds all of its content itself; the raw file is gone then."""
    disk = Disk(_place(raw), "qcow2", "qcow2", laboratory.lab.guest_disk())
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, disk.path, timeout=600)
    raw.unlink()
    return disk


def over(laboratory: Laboratory, raw: Path) -> Disk:
    """A disk over a raw backing file, as an instance has its image's, with nothing of its own."""
    path = _place(raw)
    base = raw.rename(path.parent / "base")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", path)
    guest = laboratory.lab.guest_disk()
    return Disk(path, "qcow2", "qcow2-backed", guest, ((base, "raw"),))


def _place(raw: Path) -> Path:
    directory = raw.with_name(f"{raw.name}.d")
    directory.mkdir()
    return directory / "disk"
