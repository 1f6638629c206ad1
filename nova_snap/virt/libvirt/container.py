# SPDX-License-Identifier: Apache-2.0
"""The disk of a container: a file system that the host's own kernel has mounted.

What its image file holds meanwhile is not even what a power failure would leave: what is not
written yet is missing in any order. It is whole only while nobody can write to the file system,
and whether that is so the kernel knows, and not the domain's XML: a system in the container may
have mounted its own root anew.
"""

import dataclasses
import glob
import os
from collections.abc import Iterator
from typing import Final

from lxml import etree

from nova_snap import exception
from nova_snap.virt.libvirt.domain_disks import Disk

# A container's root has no name of its own, such as vda.
ROOT: Final = "rootfs"

_LOOPS: Final = "/sys/block/loop*/loop/backing_file"
_MOUNTS: Final = "/proc/[0-9]*/mountinfo"


@dataclasses.dataclass(frozen=True)
class Mounted:
    """A disk that is mounted.

    :ivar device: path of the block device that is mounted.
    :ivar read_only: nobody can write to its file system, through whichever mount.
    """

    device: str
    read_only: bool


def disks(root: etree._Element, domain: str) -> Iterator[Disk]:
    """The disk that a container's root directory is on.

    :param root: a ``<domain>``.
    :param domain: what to call it in errors.
    :raises nova_snap.exception.InvalidDomain: if libvirt would not have written it.
    """
    for element in root.iterfind("devices/filesystem"):
        target, source, driver = (element.find(tag) for tag in ("target", "source", "driver"))
        if target is None or target.get("dir") != "/":
            continue
        if source is None:
            raise exception.InvalidDomain(
                domain=domain, reason="its root directory has no <source>"
            )
        yield Disk(
            target=ROOT,
            bus=None,
            device="disk",
            source_type=element.get("type", "mount"),
            path=source.get("file") or source.get("dev") or source.get("dir"),
            format=(None if driver is None else driver.get("format")) or "raw",
            readonly=element.find("readonly") is not None,
        )


def look(disk: Disk) -> Mounted | None:
    """Whether a container's disk is mounted now, by whomever.

    :returns: ``None`` if it is not, or if that cannot be seen.
    """
    device = _device(disk)
    if device is None:
        return None
    try:
        status = os.stat(device)
    except OSError:
        # A device that is not there is refused by whoever reads it.
        return None
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    read_only = _is_read_only(number)
    return None if read_only is None else Mounted(device, read_only)


def _device(disk: Disk) -> str | None:
    """The block device that is mounted for a disk."""
    if disk.path is None:
        return None
    if disk.source_type == "block":
        return disk.path
    if disk.source_type == "file":
        wanted = os.path.realpath(disk.path)
        for path in sorted(glob.glob(_LOOPS)):
            if os.path.realpath(_line(path)) == wanted:
                return f"/dev/{path.split('/')[3]}"
    return None


def _is_read_only(number: str) -> bool | None:
    """Whether a device's file system is: all its mounts have one superblock.

    :param number: of the device, as in ``mountinfo`` (Linux, Documentation/filesystems/proc.rst).
    :returns: ``None`` if it is mounted nowhere.
    """
    for path in glob.glob(_MOUNTS):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = file.readlines()
        except OSError:
            # The process has ended, or is not ours to look at.
            continue
        for line in lines:
            mount, _, file_system = line.partition(" - ")
            if mount.split()[2] == number:
                return "ro" in file_system.split()[-1].split(",")
    return None


def _line(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""
