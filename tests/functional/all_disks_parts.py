# SPDX-License-Identifier: Apache-2.0
"""A guest with several disks that writes to all of them, and what is asked of their images."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from nova_snap import exception
from nova_snap.virt.driver import SnapshotReport
from tests.fixtures import disk_image
from tests.fixtures.commands import run
from tests.fixtures.disks import Disk
from tests.fixtures.lab_guest import Guest
from tests.fixtures.libvirt_lab import LibvirtLab
from tests.functional import snapshot_parts as parts
from tests.functional import stream_parts
from tests.functional.stream_parts import MIB

OTHERS: Final = {"vdb": ("disk.eph0", "raw", 64 * MIB), "vdc": ("disk.swap", "qcow2", 48 * MIB)}
"""The disks besides the root disk: file, format and size."""

LEFT_OUT: Final = {
    "vdd": ("read-only", "data", "<readonly/>"),
    "vde": ("shared with other guests", "shared", "<shareable/>"),
    "vdf": ("the config drive", "disk.config", ""),
    "vdg": ("a volume", "volume", f"<serial>{uuid.uuid4()}</serial>"),
}
"""Disks that are no part of a snapshot: why, file, and elements of their own."""

# A counter stands at the beginning and at the end of each disk; the root disk's lie in its tail,
# which is in no partition. Each is on the disk before the next is written.
BLOCK: Final = 4096
PLACES: Final = {
    "vda": (252 * MIB, 256 * MIB - BLOCK),
    "vdb": (0, 64 * MIB - BLOCK),
    "vdc": (0, 48 * MIB - BLOCK),
}

COUNT: Final = "; ".join(
    f"printf '%016d' $n | dd of=/dev/{disk} bs={BLOCK} seek={place // BLOCK} conv=notrunc,fsync"
    " 2> /dev/null"
    for disk, places in PLACES.items()
    for place in places
)
CHURN: Final = "; ".join(
    f"dd if=/dev/urandom of=/dev/{disk} bs=64k count=16 seek=$((1 + n % 20 * 16)) conv=notrunc"
    " 2> /dev/null"
    for disk in OTHERS
)
LOOP: Final = f"n=0; while :; do n=$((n + 1)); {COUNT}; {CHURN}; echo $n > /run/n; done"


def define(lab: LibvirtLab, name: str) -> Guest:
    """A guest that has every kind of disk; it is not started."""
    root = lab.make_disk("qcow2-backed", name)
    directory = root.path.parent
    devices = [_disk(directory / file, fmt, size, target, "")
               for target, (file, fmt, size) in OTHERS.items()]  # fmt: skip
    devices += [_disk(directory / file, "raw", MIB, target, more)
                for target, (_, file, more) in LEFT_OUT.items()]  # fmt: skip
    return lab.define_guest(name, root, devices_xml="".join(devices))


def _disk(path: Path, image_format: str, size: int, target: str, more: str) -> str:
    run("qemu-img", "create", "-q", "-f", image_format, path, str(size))
    path.chmod(0o644)
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='{image_format}'/>"
        f"<source file='{path}'/><target dev='{target}' bus='virtio'/>{more}</disk>"
    )


def start_loop(guest: Guest) -> None:
    """Have the guest count on all of its disks, and write as hard as it can between that."""
    guest.run(f"setsid sh -c '{_quoted(LOOP)}' > /dev/null 2>&1 < /dev/null & echo $! > /run/loop")


def _quoted(script: str) -> str:
    return script.replace("'", "'\\''")


def stop_loop(guest: Guest) -> None:
    """Undo :func:`start_loop`, if it was done."""
    guest.run("[ ! -e /run/loop ] || { kill -9 $(cat /run/loop); rm /run/loop; sync; }")


def wait_rounds(guest: Guest, rounds: int = 2, seconds: float = 60) -> None:
    """Wait until the guest has written to all of its disks again."""
    deadline = time.monotonic() + seconds
    wanted = current_round(guest) + rounds
    while current_round(guest) < wanted:
        assert time.monotonic() < deadline, "the guest does not write any more"
        time.sleep(0.05)


def current_round(guest: Guest) -> int:
    """What the guest has counted to on all of its disks."""
    return int(guest.run("cat /run/n 2> /dev/null || echo 0"))


class Records:
    """The compute service's side: records for the images of the other disks.

    :ivar made: the images by disk. :ivar on_create: called first; what it raises is raised.
    """

    def __init__(self) -> None:
        self.made: dict[str, str] = {}
        self.on_create: Callable[[], object] = lambda: None

    def create(self, root: str, others: Sequence[str]) -> Sequence[str]:
        assert root == "vda"
        self.on_create()
        self.made = {disk: str(uuid.uuid4()) for disk in others}
        return list(self.made.values())


@dataclasses.dataclass(frozen=True)
class TakenSet:
    """A snapshot of all disks. :ivar paths: of the images' data, by disk."""

    report: SnapshotReport
    paths: Mapping[str, Path]
    metadata: Mapping[str, Mapping[str, Any]]

    def counters(self, formats: Mapping[str, str]) -> list[int]:
        """In the order in which they are written."""
        found = []
        for disk, places in PLACES.items():
            with disk_image.raw_view(self.paths[disk], formats[disk]) as image:
                found += [int(image.read(place, 16).strip(b"\0") or b"0") for place in places]
        return found


class World(stream_parts.StreamWorld):
    """A driver that takes all disks.

    :ivar order: the images that were sent, in this order.
    """

    def __init__(self, lab: LibvirtLab, directory: Path) -> None:
        super().__init__(lab, directory)
        self.set(snapshot_all_disks=True)
        self.records = Records()

    def take_all(
        self, guest: Guest, monitor: Any = None, states: parts.States | None = None, **kw: str
    ) -> TakenSet:
        """A snapshot; the guest and the host are as before it."""
        image_id = str(uuid.uuid4())
        instance = parts.Instance(guest.uuid, guest.name, image_properties=kw)
        before = parts.steady(guest)
        try:
            report = self.driver.snapshot(
                self.context, instance, image_id, states or parts.States(), monitor, self.records
            )
        finally:
            self.assert_nothing_left(guest, before)
            assert stream_parts.backup_of(guest) is None
        ids = {"vda": image_id, **self.records.made}
        assert report.images == ids
        return TakenSet(
            report,
            {disk: self.images.directory / each for disk, each in ids.items()},
            {disk: self.images.metadata[each] for disk, each in ids.items()},
        )

    def fails_all(self, guest: Guest, monitor: Any = None, **kw: str) -> Any:
        """A snapshot that must fail.

        :returns: what it raised.
        """
        with pytest.raises(exception.NovaSnapError) as caught:
            self.take_all(guest, monitor, **kw)
        return caught.value


def assert_one_instant(taken: TakenSet, formats: Mapping[str, str]) -> int:
    """The counters say that no image is older than the one before it in the order of writing, and
    none newer.

    :returns: the first one.
    """
    found = taken.counters(formats)
    assert found == sorted(found, reverse=True), found
    assert found[0] - found[-1] <= 1, found
    return found[0]


def assert_same_bytes(taken: TakenSet, guest: Guest, formats: Mapping[str, str]) -> None:
    """Compare all images with the disks of a guest that is paused or shut off."""
    assert isinstance(guest.disk, Disk)
    directory = guest.disk.path.parent
    disks = {"vda": (guest.disk.path, guest.disk.format)}
    disks |= {target: (directory / file, fmt) for target, (file, fmt, _) in OTHERS.items()}
    for target, (path, image_format) in disks.items():
        difference = disk_image.differences(
            taken.paths[target], formats[target], path, image_format, shared=True
        )
        assert difference == "", f"{target}: {difference}"


@contextlib.contextmanager
def in_use(path: Path, image_format: str) -> Iterator[None]:
    """Somebody else has a disk open, and may write to it."""
    command = ["qemu-io", "-f", image_format, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # It answers when it has opened the disk.
        process.stdin.write(b"length\n")
        process.stdin.flush()
        assert process.stdout.read(7) == b"qemu-io"
        yield
        process.stdin.close()


FORMATS: Final = {"vda": "qcow2", "vdb": "raw", "vdc": "qcow2"}
"""Of the images, where the configuration says nothing."""

QCOW2: Final = dict.fromkeys(FORMATS, "qcow2")
