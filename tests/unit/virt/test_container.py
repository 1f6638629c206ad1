# SPDX-License-Identifier: Apache-2.0
"""What is read of a container's XML. Real containers are in tests/functional/test_containers.py."""

import os

import pytest

from nova_snap import exception
from nova_snap.virt.libvirt import container, domain_xml, write_watch
from nova_snap.virt.libvirt.domain_disks import Disk

UUID = "3f1c8c1e-5e0b-4b2a-9a44-0d8f2f9f8c11"


def parse(devices: str, virt_type: str = "lxc") -> domain_xml.Domain:
    xml = (
        f"<domain type='{virt_type}'><name>c</name><uuid>{UUID}</uuid>"
        f"<devices>{devices}</devices></domain>"
    )
    return domain_xml.parse(xml, "c")


@pytest.mark.parametrize(
    ("filesystem", "disk"),
    [
        (
            "<filesystem type='file'><driver type='loop' format='raw'/><source file='/image'/>"
            "<target dir='/'/><readonly/></filesystem>",
            Disk("rootfs", None, "disk", "file", "/image", "raw", readonly=True),
        ),
        (
            "<filesystem type='file'><driver type='nbd' format='qcow2'/><source file='/image'/>"
            "<target dir='/'/></filesystem>",
            Disk("rootfs", None, "disk", "file", "/image", "qcow2"),
        ),
        (
            "<filesystem type='block'><source dev='/dev/vg/lv'/><target dir='/'/></filesystem>",
            Disk("rootfs", None, "disk", "block", "/dev/vg/lv", "raw"),
        ),
        (
            "<filesystem type='mount'><source dir='/rootfs'/><target dir='/'/></filesystem>",
            Disk("rootfs", None, "disk", "mount", "/rootfs", "raw"),
        ),
    ],
    ids=["loop", "nbd", "block", "directory"],
)
def test_root_of_a_container(filesystem, disk):
    other = "<filesystem type='mount'><source dir='/srv'/><target dir='/srv'/></filesystem>"
    assert parse(other + filesystem).root_disk() == disk


def test_directories_that_a_virtual_machine_shares_are_no_disks():
    shared = "<filesystem type='mount'><source dir='/srv'/><target dir='/'/></filesystem>"
    assert parse(shared, "kvm").disks == ()


def test_root_without_a_source():
    with pytest.raises(exception.InvalidDomain, match="its root directory has no <source>"):
        parse("<filesystem type='file'><target dir='/'/></filesystem>")


@pytest.mark.parametrize("source_type", ["file", "mount", "network"])
def test_disk_that_is_mounted_nowhere(tmp_path, source_type):
    path = tmp_path / "image"
    path.touch()
    disk = Disk("rootfs", None, "disk", source_type, str(path), "raw")
    assert container.look(disk) is None


def test_file_that_is_written_to_while_it_is_read(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"before")
    os.utime(path, (1, 1))
    watch = write_watch.FileWatch(str(path))
    path.read_bytes()
    watch.check()
    with path.open("r+b") as file:
        file.write(b"after!")
    with pytest.raises(exception.DiskChanged, match="image"):
        watch.check()


def test_file_that_vanishes_while_it_is_read(tmp_path):
    path = tmp_path / "image"
    path.touch()
    watch = write_watch.FileWatch(str(path))
    path.unlink()
    with pytest.raises(exception.DiskUnwatched):
        watch.check()


def test_device_that_is_not_there():
    disk = Disk("rootfs", None, "disk", "block", "/dev/not-there", "raw")
    assert container.look(disk) is None
