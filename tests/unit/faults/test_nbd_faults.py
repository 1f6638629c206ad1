# SPDX-License-Identifier: Apache-2.0
"""A hypervisor whose NBD server refuses, stalls, truncates and lies, under the real driver.

The guest and its libvirt are doubles: a backup job of theirs is the stand-in. Everything above is
the service's own, up to the image service's stand-in.
"""

import os
import pathlib
import random
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap.objects.instance import Instance
from nova_snap.virt import driver
from nova_snap.virt.libvirt.driver import LibvirtDriver
from tests.fixtures.service import configuration
from tests.stand_ins import nbd
from tests.unit.faults.world import World
from tests.unit.virt import doubles

DISK = random.Random(7).randbytes(2 << 20)


class BackupGuest(doubles.FakeGuest):
    """A running guest with a raw disk, whose backup jobs the stand-in serves.

    :ivar fault: of the next jobs.
    """

    patience = 5.0
    fault: nbd.Fault | None = None
    _server: nbd.NBDStandIn | None = None

    def disk_capacity(self, target: str) -> int:
        return len(DISK)

    def begin_backup(self, xml: str, seconds: float | None = None) -> None:
        self._enter("begin_backup")
        (path,) = re.findall('socket="([^"]*)"', xml)
        self._server = nbd.NBDStandIn(path, DISK, self.fault)

    def backup_socket(self) -> str | None:
        return self._server.path if self._server else None

    def abort_job(self) -> None:
        self._enter("abort_job")
        if self._server is not None:
            self._server.stop()
            self._server = None

    def stop_nbd_server(self) -> bool:
        return False


class BackupHost(doubles.FakeHost):
    """The libvirt of that guest."""

    uri = "test:///stand-in"

    def close(self) -> None:
        """There is no connection."""


class Driver(LibvirtDriver):
    """The real one; nobody wants to know what this host has, or when its guest is switched."""

    def host_resources(self) -> driver.HostResources:
        return driver.HostResources("here", "QEMU", 1, 1, 0, 1, 0, 1, 0, 1, 0, {}, "")

    def on_lifecycle_event(self, callback: Callable[[str, int], None]) -> None:
        """It is never switched."""


class NBDWorld(World):
    """:ivar guest: the only one that there is.

    :ivar instance: which is this.
    """

    instance: Instance

    def __init__(self, conf: cfg.ConfigOpts, directory: pathlib.Path) -> None:
        disk = directory / "disk"
        disk.write_bytes(DISK)
        self.guest = BackupGuest(disk=str(disk), disk_format="raw")
        self.snapshots = directory / "snapshots"
        host: Any = BackupHost(self.guest)
        super().__init__(conf, lambda conf, images: Driver(conf, images, host))
        for name, value in {
            "snapshots_directory": str(self.snapshots),
            "virt_type": "qemu",
            "snapshot_read_timeout": 1,
            "snapshot_scratch_reserve": 0,
            "snapshot_compression": "none",
        }.items():
            conf.set_override(name, value, "libvirt")

    def content(self, instance: Instance) -> bytes:
        return DISK


@pytest.fixture(scope="module")
def _world() -> Iterator[NBDWorld]:
    # pytest's own directories have names too long for a socket.
    with (
        tempfile.TemporaryDirectory(prefix="nsf-") as name,
        configuration(directory := pathlib.Path(name)) as conf,
        NBDWorld(conf, directory) as made,
    ):
        made.instance = made.add_instance(uuid=doubles.UUID, name=doubles.NAME)
        yield made


@pytest.fixture
def world(_world: NBDWorld) -> Iterator[NBDWorld]:
    yield _world
    _world.guest.fault = None


FAULTS = nbd.disk_faults(len(DISK))

# What the action says of some of them; of the others, that the compute host's log says why.
WORDS = {
    **dict.fromkeys(
        [name for name in FAULTS if name.startswith("stalls")] + ["silent"],
        "The disk could not be read: no answer within 1 s.",
    ),
    "error-in-a-reply": "The disk could not be read: EIO at offset",
    "size-too-large": "The disk could not be read: EINVAL at offset",
}
READ = ("The disk could not be read", "The compute host could not do it")


@pytest.mark.parametrize("name", FAULTS)
def test_fault(world: NBDWorld, name: str, caplog: pytest.LogCaptureFixture) -> None:
    instance = world.instance
    world.guest.fault = FAULTS[name]
    outcome = world.snapshot(instance)
    assert outcome.event == "Error"
    assert outcome.message is not None
    assert outcome.message.startswith("Snapshot by method stream failed during image_")
    assert any(words in outcome.message for words in READ)
    assert WORDS.get(name, "; ") in outcome.message
    assert "NBD" in caplog.text or "it exports" in caplog.text
    assert outcome.seconds < 10
    assert outcome.image_id not in world.glance.images.records
    assert not world.is_remembered(outcome.image_id)
    assert world.guest.backup_socket() is None
    assert os.listdir(world.snapshots) == []
    world.guest.fault = None
    world.assert_next_one_works(instance)
