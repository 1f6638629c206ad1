# SPDX-License-Identifier: Apache-2.0
"""All disks of a guest at one instant, two of them in Ceph and one in a file."""

import pytest

from tests.backends import rbd_parts
from tests.fixtures import disk_image, rbd_disk
from tests.fixtures.commands import run
from tests.fixtures.glance import Glance
from tests.functional import all_disks_parts as all_disks
from tests.functional import snapshot_parts as parts

FORMATS = {"vda": "raw", "vdb": "raw", "vdc": "qcow2"}


@pytest.fixture(scope="module")
def guest(lab, ceph, base):
    """A guest with the root disk and an ephemeral disk in Ceph, and swap in a file."""
    ceph.user(rbd_parts.USER, rbd_parts.DISKS, Glance.POOL)
    root = rbd_parts.clone_disk(ceph, base, "all_disk")
    ceph.rbd("create", "--size", "64M", f"{rbd_parts.DISKS}/all_disk.eph0")
    ephemeral = rbd_disk.RbdDisk(ceph, f"{rbd_parts.DISKS}/all_disk.eph0")
    swap = lab.instances / "disk.swap"
    run("qemu-img", "create", "-q", "-f", "qcow2", swap, "48M")
    devices = ephemeral.xml("vdb") + (
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
        f"<source file='{swap}'/><target dev='vdc' bus='virtio'/></disk>"
    )
    made = lab.define_guest("all", root, devices_xml=devices)
    made.start()
    made.wait_ready()
    made.wait_agent()
    all_disks.start_loop(made)
    all_disks.wait_rounds(made)
    return made


class Records:
    """The compute service's side: records in the real Glance."""

    def __init__(self, world):
        self._world = world

    def create(self, root, others):
        assert (root, others) == ("vda", ["vdb", "vdc"])
        return [self._world.new_image() for _ in others]


@pytest.fixture
def world(lab, tmp_path, rbd_glance, base):
    with rbd_parts.open_world(lab, tmp_path, rbd_glance, base) as made:
        made.set(snapshot_all_disks=True)
        yield made


def take(world, guest, directory):
    instance = parts.Instance(guest.uuid, guest.name, image_ref=world.base)
    before = parts.steady(guest)
    report = world.driver.snapshot(
        world.context, instance, world.new_image(), parts.States(), None, Records(world)
    )
    world.assert_nothing_left(guest, before)
    paths = {}
    for disk, image_id in report.images.items():
        paths[disk] = directory / disk
        paths[disk].write_bytes(world.served(image_id))
        assert world.api.get(world.context, image_id)["status"] == "active"
    world.assert_clean(guest, *report.images.values())
    return all_disks.TakenSet(report, paths, {})


def test_guest_that_writes(guest, world, tmp_path):
    """Ceph would take each disk at a moment of its own: they are streamed."""
    taken = take(world, guest, tmp_path)
    assert taken.report.method == "stream"
    assert all_disks.assert_one_instant(taken, FORMATS) > 0
    all_disks.wait_rounds(guest)


def test_guest_that_is_shut_off(guest, world, tmp_path):
    all_disks.stop_loop(guest)
    guest.power_off()
    taken = take(world, guest, tmp_path)
    assert taken.report.method == "offline"
    for disk, image in (("vda", "all_disk"), ("vdb", "all_disk.eph0")):
        found = disk_image.content_sha256(taken.paths[disk], "raw")
        assert found == rbd_disk.content_sha256(world.ceph, f"{rbd_parts.DISKS}/{image}")
    swap = world.lab.instances / "disk.swap"
    assert disk_image.differences(taken.paths["vdc"], "qcow2", swap, "qcow2") == ""
