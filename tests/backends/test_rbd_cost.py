# SPDX-License-Identifier: Apache-2.0
"""What method direct takes of the compute host: nothing that depends on the disk's size."""

import threading
import time

import pytest

from nova_snap import exception
from tests.backends import rbd_parts
from tests.fixtures import rbd_disk
from tests.fixtures.glance import Glance
from tests.fixtures.rbd_disk import RbdDisk

MIB = 1 << 20
SMALL, LARGE = 256, 2048


@pytest.fixture(scope="module")
def glance(start_glance, ceph):
    """It does not read the images to hash them: whatever is read, is read for the snapshot."""
    made = start_glance("trusted", ceph=ceph, extra_config="[DEFAULT]\ndo_secure_hash = false\n")
    allow(ceph, Glance.POOL, ceph.pool(rbd_parts.DISKS))
    yield made
    allow(ceph, Glance.POOL)


def allow(ceph, *pools):
    """Let Glance use these pools: an image that stays a clone is read through the disk."""
    rights = ", ".join(f"profile rbd pool={pool}" for pool in pools)
    user = f"client.{Glance.CEPH_USER}"
    ceph.command("auth", "caps", user, "mon", "profile rbd", "osd", rights, "mgr", rights)


@pytest.fixture(scope="module")
def guests(lab, ceph, glance):
    """Two guests that are shut off, with disks that are full, by size in MiB."""
    ceph.user(rbd_parts.USER, ceph.pool(rbd_parts.DISKS), Glance.POOL)
    made = {}
    for size in (SMALL, LARGE):
        image = f"{rbd_parts.DISKS}/full-{size}"
        rbd_parts.fill(ceph, image, size)
        made[size] = lab.define_guest(f"full-{size}", RbdDisk(ceph, image))
    return made


@pytest.fixture
def commands(tmp_path, monkeypatch):
    return rbd_parts.Commands.in_path(tmp_path / "bin", monkeypatch)


@pytest.fixture
def world(lab, tmp_path, glance):
    with rbd_parts.open_world(lab, tmp_path, glance, "") as made:
        made.set(snapshot_direct_pool=Glance.POOL)
        yield made


def test_clone_that_is_kept(guests, world, ceph):
    """No data is read by anybody, and eight times the disk takes no more time."""
    world.set(snapshot_direct_flatten="never")
    seconds, read, images = {}, {}, {}
    for size in (SMALL, LARGE, SMALL, LARGE):
        before, began = rbd_parts.bytes_read(ceph), time.monotonic()
        taken = world.take(guests[size])
        seconds[size] = min(time.monotonic() - began, seconds.get(size, 1000))
        read[size] = rbd_parts.bytes_read(ceph) - before
        assert taken.report.method == "direct"
        assert taken.record["size"] == size * MIB
        images[size] = taken.image_id
    print(f"bytes read, and seconds, by MiB of the disk: {read}, {seconds}")
    assert all(count < MIB for count in read.values()), read
    assert seconds[LARGE] < 2 * seconds[SMALL], seconds

    # The clone keeps the snapshot of the disk, and the next one does away with it.
    disk = guests[LARGE].disk.image
    snapshot = f"{disk}@nova_snap-{images[LARGE]}"
    assert ceph.children(snapshot) == [f"{Glance.POOL}/{images[LARGE]}"]
    world.api.delete(world.context, images[LARGE])
    assert f"nova_snap-{images[LARGE]}" in ceph.snapshots(disk)
    world.set(snapshot_direct_flatten="manager")
    world.take(guests[LARGE])
    assert f"nova_snap-{images[LARGE]}" not in ceph.snapshots(disk)


def test_clone_that_is_flattened(guests, world, commands):
    """Ceph's manager does it: no command that handles data is run on this host."""
    taken = world.take(guests[SMALL])
    ran = commands.run()
    assert world.ceph.rbd_json("info", f"{Glance.POOL}/{taken.image_id}").get("parent") is None
    assert any(" rbd task add flatten " in line for line in ran)
    assert not any(f" {word} " in line for line in ran for word in ("export", "import", "copy"))
    assert not any(" flatten --no-progress" in line for line in ran)
    content = rbd_disk.content_sha256(world.ceph, guests[SMALL].disk.image)
    with world.view(taken.image_id) as image:
        assert image.sha256() == content


def test_image_deleted_while_this_host_flattens(guests, world):
    """The command is ended, and the image removed when Ceph has forgotten who had it open."""
    world.set(snapshot_direct_flatten="host", operation_timeout=5)
    image_id = world.new_image()
    monitor = rbd_parts.Deleted(world, image_id)

    def delete():
        world.api.delete(world.context, image_id)
        monitor.stop()

    flattening = threading.Event()

    def on_cancel(callback):
        monitor.stop = callback
        if not flattening.is_set():
            flattening.set()
            threading.Timer(1, delete).start()

    monitor.on_cancel = on_cancel
    kept = world.ceph.snapshots(guests[LARGE].disk.image)
    with pytest.raises(exception.ImageNotFound):
        world.take(guests[LARGE], monitor=monitor, image_id=image_id)
    assert flattening.is_set()
    assert world.new_images() == set()
    assert world.ceph.snapshots(guests[LARGE].disk.image) == kept
