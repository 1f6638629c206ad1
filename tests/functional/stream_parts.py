# SPDX-License-Identifier: Apache-2.0
"""What the tests of the one-pass methods put around a guest, besides ``snapshot_parts``."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import libvirt
import pytest

from nova_snap import exception
from nova_snap.virt.libvirt.driver import LibvirtDriver
from tests.fixtures import disk_image
from tests.fixtures.commands import run
from tests.fixtures.disks import Disk
from tests.fixtures.lab_guest import Guest
from tests.fixtures.libvirt_lab import LibvirtLab
from tests.functional import snapshot_parts as parts

MIB = 1 << 20


class Disconnected(Exception):
    """The image service hangs up. An upload starts again from byte 0 then, if it may."""


class Images(parts.FileImages):
    """An image service that is not always well.

    :ivar on_bytes: called with the number of the try, from 1, and the bytes that it has taken so
        far; what it raises ends the try.
    :ivar tries: how often an upload is begun at most.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.on_bytes: Callable[[int, int], None] = lambda _number, _taken: None
        self.tries = 1
        self.numbers: list[int] = []

    def _receive(self, image_id: str, data: IO[bytes], size: int | None) -> None:
        for number in range(1, self.tries + 1):
            self.numbers.append(number)
            try:
                assert self._take(image_id, data, number) == (data.tell() if size is None else size)
            except Disconnected:
                if number == self.tries:
                    raise
                data.seek(0)
                continue
            break

    def _take(self, image_id: str, data: IO[bytes], number: int) -> int:
        taken = 0
        with (self.directory / image_id).open("wb") as file:
            while block := data.read(64 << 10):
                taken += file.write(block)
                self.on_bytes(number, taken)
        return taken


class StreamWorld(parts.World):
    """A driver that takes every snapshot in one pass."""

    images: Images

    def __init__(
        self, lab: LibvirtLab, directory: Path, host_class: type[parts.LabHost] = parts.LabHost
    ) -> None:
        super().__init__(lab, directory, host_class)
        shutil.rmtree(self.images.directory)
        self.images = Images(self.images.directory)
        self.driver = LibvirtDriver(self.conf, self.images, self.host)
        self.set(snapshot_method="auto", snapshot_compression="none")

    def fails(
        self, guest: Guest, monitor: Any = None, states: parts.States | None = None, **kw: str
    ) -> Any:
        """A snapshot that must not become an image; see that nothing is left of it.

        :returns: what it raised.
        """
        before = parts.steady(guest)
        with pytest.raises(exception.NovaSnapError) as caught:
            self.take(guest, monitor, states, **kw)
        self.assert_nothing_left(guest, before)
        assert backup_of(guest) is None
        return caught.value

    def take(
        self, guest: Guest, monitor: Any = None, states: parts.States | None = None, **kw: str
    ) -> parts.Taken:
        """A snapshot, without a look at what it leaves."""
        image_id = str(uuid.uuid4())
        states = states or parts.States()
        instance = parts.Instance(guest.uuid, guest.name, image_properties=kw)
        report = self.driver.snapshot(self.context, instance, image_id, states, monitor)
        path = self.images.directory / image_id
        return parts.Taken(report, path, self.images.metadata[image_id], states.seen)


@contextlib.contextmanager
def open_world(
    lab: LibvirtLab, directory: Path, host_class: type[parts.LabHost] = parts.LabHost
) -> Iterator[StreamWorld]:
    """A :class:`StreamWorld`."""
    world = StreamWorld(lab, directory, host_class)
    world.driver.init_host()
    yield world
    world.driver.close()


@contextlib.contextmanager
def proven_world(guest: Guest, directory: Path) -> Iterator[StreamWorld]:
    """The same; whatever was done with it, the guest works after it, and its next snapshot too."""
    with open_world(guest.lab, directory) as made:
        yield made
        assert_at_work(guest)
    (directory / "next").mkdir()
    with open_world(guest.lab, directory / "next") as again:
        assert_instant(again.snapshot(guest))


def once(
    function: Callable[[], object], number: int = 1, taken: int = 5 * MIB
) -> Callable[[int, int], None]:
    """For :attr:`Images.on_bytes`: do this once, when a try has got so far."""
    done = []

    def on_bytes(now: int, so_far: int) -> None:
        if now == number and so_far >= taken and not done:
            done.append(True)
            function()

    return on_bytes


def assert_instant(taken: parts.Taken) -> None:
    """An image of one moment of a guest that writes."""
    with disk_image.raw_view(taken.path, taken.format) as image:
        assert image.fsck().damage == ""
        assert image.writer_state().problems == ()


def domain_of(guest: Guest) -> libvirt.virDomain:
    """libvirt's own handle of a guest."""
    return guest.lab.connect().lookupByName(guest.name)


def backup_of(guest: Guest) -> str | None:
    """The XML of the guest's backup job, if it has one."""
    try:
        return str(domain_of(guest).backupGetXMLDesc(0))
    except libvirt.libvirtError as exc:
        if exc.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_BACKUP:
            return None
        raise


def churn(guest: Guest) -> None:
    """Have the guest write as hard as it can, besides its writer: files come and go."""
    loop = "while :; do cp /bin/busybox /data/churn; sync /data/churn; rm /data/churn; done"
    guest.run(
        "[ -e /run/churn ] || "
        f"{{ setsid sh -c '{loop}' > /dev/null 2>&1 < /dev/null & echo $! > /run/churn; }}"
    )


def end_churn(guest: Guest) -> None:
    """Undo :func:`churn`, if it was done."""
    guest.run("[ ! -e /run/churn ] || { kill $(cat /run/churn); rm /run/churn; }")


def wait_counter(guest: Guest, wanted: int, seconds: float = 60) -> int:
    """Wait until the guest's writer has got that far."""
    deadline = time.monotonic() + seconds
    while (counter := guest.counter()) < wanted:
        assert time.monotonic() < deadline, f"the writer is at {counter}, not yet at {wanted}"
        time.sleep(0.1)
    return counter


def assert_at_work(guest: Guest) -> None:
    """The guest's writer goes on; its file systems are writable and not frozen."""
    wait_counter(guest, guest.counter() + 1)
    # By exit codes: what the kernel has to say may come between the lines.
    guest.run("grep -q ' / ext4 rw' /proc/mounts")
    guest.run("! dmesg | grep -qi 'i/o error\\|ext4-fs error'")
    guest.wait_agent()
    assert guest.agent("guest-fsfreeze-status") == "thawed"


def assert_sound(guest: Guest) -> None:
    """The guest's own disk, every layer of it; it must be paused or shut off."""
    assert isinstance(guest.disk, Disk)
    for path, image_format in ((guest.disk.path, guest.disk.format), *guest.disk.backing):
        if image_format == "qcow2":
            run("qemu-img", "check", "-U", "-f", "qcow2", path)


@contextlib.contextmanager
def small_file_system(directory: Path, mebibytes: int) -> Iterator[None]:
    """A file system of its own at a directory, for as long as it is needed."""
    directory.mkdir(exist_ok=True)
    options = f"size={mebibytes}m,mode=711"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True)
