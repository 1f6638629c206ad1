# SPDX-License-Identifier: Apache-2.0
"""What the tests of the libvirt driver put around a guest of the lab."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from oslo_config import cfg

from nova_snap import conf as nova_conf
from nova_snap import exception
from nova_snap.compute import task_states
from nova_snap.context import RequestContext
from nova_snap.virt.driver import SnapshotReport
from nova_snap.virt.libvirt import capabilities, domain_devices, domain_xml
from nova_snap.virt.libvirt.driver import LibvirtDriver
from nova_snap.virt.libvirt.guest import Guest as LibvirtGuest
from nova_snap.virt.libvirt.host import Host
from tests.fixtures import disk_image
from tests.fixtures.disks import Disk
from tests.fixtures.lab_guest import Guest
from tests.fixtures.libvirt_lab import LibvirtLab


def writing_guest(lab: LibvirtLab, name: str, directory: str | None = None) -> Guest:
    """A guest that runs, writes all the time and has an agent; no file backs its disk.

    :param directory: of its disk below ``instances/``; one of its own if it is not given.
    """
    made = lab.define_guest(name, lab.make_disk("qcow2", directory))
    made.start()
    made.wait_ready()
    made.wait_agent()
    made.start_writer()
    return made


@dataclasses.dataclass(frozen=True)
class Instance:
    """The little that the driver reads of an instance."""

    uuid: str
    name: str
    project_id: str = "project-1"
    user_id: str = "user-1"
    image_ref: str | None = None
    kernel_id: str | None = None
    ramdisk_id: str | None = None
    os_type: str | None = "linux"
    image_properties: Mapping[str, str] = dataclasses.field(default_factory=dict)


class FileImages:
    """An image service that keeps what it is sent in files, and can be told to fail.

    :ivar metadata: of the images whose data it has, by id.
    :ivar on_update: called as an upload begins; what it raises is raised to the driver.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.metadata: dict[str, Mapping[str, Any]] = {}
        self._described: dict[str, Mapping[str, Any]] = {}
        self.on_update: Any = lambda: None

    def get(self, context: RequestContext, image_id: str) -> Mapping[str, Any]:
        return {"id": image_id, "name": f"image {image_id}", "status": "queued"}

    def update(
        self,
        context: RequestContext,
        image_id: str,
        metadata: Mapping[str, Any],
        data: IO[bytes] | None = None,
        size: int | None = None,
        on_cancel: Any = None,
    ) -> Mapping[str, Any]:
        known = self._described.get(image_id, {"name": f"image {image_id}"})
        described = self._described[image_id] = {**known, **metadata}
        if data is not None:
            self.on_update()
            self._receive(image_id, data, size)
            self.metadata[image_id] = described
        return described

    def _receive(self, image_id: str, data: IO[bytes], size: int | None) -> None:
        with (self.directory / image_id).open("wb") as file:
            shutil.copyfileobj(data, file)
            assert size in (None, file.tell())


class States:
    """The manager's callback: keeps to the order that the database would enforce.

    :ivar on: called before a state is entered, by state.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.current = task_states.IMAGE_SNAPSHOT
        self.on: dict[str, Any] = {}

    def __call__(self, task_state: str, expected_state: str = task_states.IMAGE_SNAPSHOT) -> None:
        self.on.get(task_state, lambda: None)()
        if self.current != expected_state:
            raise exception.UnexpectedTaskState(
                instance_uuid="", expected=[expected_state], actual=self.current
            )
        self.current = task_state
        self.seen.append(task_state)


@dataclasses.dataclass(frozen=True)
class Taken:
    """A snapshot that was taken. :ivar path: of the image's data."""

    report: SnapshotReport
    path: Path
    metadata: Mapping[str, Any]
    states: list[str]

    @property
    def format(self) -> str:
        return self.report.image_format


class LabHost(Host):
    """A host on the connection that the lab has open already.

    A process may open the embedded driver only so often: each time registers its driver again,
    and libvirt has room for few ("Too many drivers").
    """

    def __init__(self, conf: cfg.ConfigOpts, lab: LibvirtLab) -> None:
        super().__init__(conf)
        self._lab = lab

    def _open(self) -> Any:
        return self._lab.connect()

    def close(self) -> None:
        """The connection is the lab's."""


class OldHost(LabHost):
    """A libvirt that has no transient block copy, as far as the driver is told."""

    def capabilities(self) -> capabilities.Capabilities:
        return dataclasses.replace(
            super().capabilities(),
            libvirt_version=capabilities.TRANSIENT_BLOCK_COPY_VERSION - 1,
        )


class GuestOfHostDevices(LibvirtGuest):
    """A guest whose port and second disk pass for devices of the host.

    That is all that is pretended: they are taken and given back for real.
    """

    def describe(self) -> domain_xml.Domain:
        xml = self.xml()
        root = domain_xml.read_root(xml, self.name)
        found = [
            domain_xml.HostDevice(kind, str(address), domain_devices.plain(element))
            for kind, path, identity in (
                ("pci", "devices/disk", "target/@dev"),
                ("sriov", "devices/interface", "mac/@address"),
            )
            for element in root.iterfind(path)
            if (address := element.xpath(identity)[0]) != "vda"
        ]
        return dataclasses.replace(domain_xml.parse(xml, self.name), host_devices=found)


class HostWithDevices(LabHost):
    """A host that guests use devices of."""

    def get_guest_by_uuid(self, uuid: str) -> LibvirtGuest:
        return GuestOfHostDevices(self, name=super().get_guest_by_uuid(uuid).name, uuid=uuid)


class World:
    """A driver on the lab's libvirt, with the parts that it is handed."""

    def __init__(
        self, lab: LibvirtLab, directory: Path, host_class: type[LabHost] = LabHost
    ) -> None:
        self.lab = lab
        self.conf = cfg.ConfigOpts()
        nova_conf.register_opts(self.conf)
        self.conf([], project="nova_snap", default_config_files=[])
        self.snapshots = directory / "snapshots"
        # pytest's directories are too long for a socket.
        self.sockets = lab.root / "sockets"
        self.sockets.mkdir(exist_ok=True)
        self.set(
            connection_uri=lab.uri,
            virt_type="qemu",
            snapshots_directory=str(self.snapshots),
            snapshot_socket_directory=str(self.sockets),
            snapshot_scratch_reserve=64,
            agent_timeout=5,
            thaw_timeout=10,
        )
        self.host = host_class(self.conf, lab)
        self.images = FileImages(directory / "images")
        self.driver = LibvirtDriver(self.conf, self.images, self.host)
        self.context = RequestContext(overwrite=False)

    def set(self, **options: Any) -> None:
        """Set options of ``[libvirt]``; ``None`` is the default."""
        for name, value in options.items():
            if value is None:
                self.conf.clear_override(name, "libvirt")
            else:
                self.conf.set_override(name, value, "libvirt")

    def snapshot(self, guest: Guest, states: States | None = None, **properties: str) -> Taken:
        """Take a snapshot, and see that the guest and the host are as before.

        :param properties: of the instance's image.
        """
        states = states or States()
        image_id = str(uuid.uuid4())
        instance = Instance(guest.uuid, guest.name, image_properties=properties)
        before = steady(guest)
        try:
            report = self.driver.snapshot(self.context, instance, image_id, states)
        finally:
            self.assert_nothing_left(guest, before)
        return Taken(
            report, self.images.directory / image_id, self.images.metadata[image_id], states.seen
        )

    def assert_nothing_left(self, guest: Guest, before: Mapping[str, Any]) -> None:
        """The guest is as it was, without a job; no temporary file is there."""
        assert steady(guest) == before
        assert not guest.state()["block_jobs"]
        assert guest.state()["job"] == 0
        assert "<mirror" not in guest.xml()
        assert self.leftovers() == []

    def leftovers(self) -> list[str]:
        """Whatever snapshots have left on the host."""
        left = os.listdir(self.sockets)
        with contextlib.suppress(FileNotFoundError):
            left += os.listdir(self.snapshots)
        return sorted(left)


def steady(guest: Guest) -> dict[str, Any]:
    """What a snapshot must not change of a guest."""
    state = guest.state()
    return {
        **{key: state[key] for key in ("state", "active", "persistent", "managed_save")},
        "xml": guest.xml(inactive=True),
    }


def differences(taken: Taken, guest: Guest) -> str:
    """Compare an image with a guest's disk; the guest must be paused or shut off."""
    assert isinstance(guest.disk, Disk)
    return disk_image.differences(
        taken.path, taken.format, guest.disk.path, guest.disk.format, shared=True
    )


WAYS = {
    "stream": (LabHost, "stream"),
    "mirror": (LabHost, "mirror"),
    "mirror-undefine": (OldHost, "mirror"),
    "managed_save": (LabHost, "managed_save"),
}
"""How a guest that runs or is paused is taken: what its host can do, and ``snapshot_method``."""

DEVICE_WAYS = {f"devices-{name}": (HostWithDevices, name) for name in ("managed_save", "stream")}
"""The same, of guests that use devices of the host."""


@contextlib.contextmanager
def open_world(lab: LibvirtLab, directory: Path, way: str = "mirror") -> Iterator[World]:
    """A driver that takes snapshots in one of :data:`WAYS` or :data:`DEVICE_WAYS`."""
    host_class, method = (WAYS | DEVICE_WAYS)[way]
    world = World(lab, directory, host_class)
    world.set(snapshot_method=method)
    world.driver.init_host()
    yield world
    world.driver.close()
