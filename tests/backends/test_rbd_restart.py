# SPDX-License-Identifier: Apache-2.0
"""The compute process is killed while Ceph makes an image; the next one removes what it left."""

import os

import pytest

from tests.backends import rbd_parts
from tests.backends.rbd_child import Compute
from tests.fixtures.glance import Glance
from tests.fixtures.guest.disk import guest_disk
from tests.fixtures.libvirt_lab import LibvirtLab


@pytest.fixture(scope="module")
def lab():
    """A libvirt that this process does not hold."""
    with LibvirtLab() as made:
        yield made


@pytest.fixture(scope="module")
def glance(start_glance, ceph):
    """Everybody is its administrator, as the service is that starts."""
    return start_glance("open", ceph=ceph)


@pytest.fixture(scope="module")
def guest(lab, ceph, glance):
    """It is shut off: what becomes of the cluster does not depend on what it does."""
    base = rbd_parts.upload(glance, guest_disk().path)
    return lab.define_guest("restart", rbd_parts.clone_disk(ceph, base, "restart"))


@pytest.fixture
def writer(lab, ceph, glance):
    """It runs, and is to be frozen."""
    base = rbd_parts.base_image(glance)
    with rbd_parts.running_guest(lab, ceph, base, "restart-writer") as made:
        yield made


@pytest.fixture
def image_id(glance):
    """A record in status queued."""
    return str(glance.client().images.create(name="snapshot").id)


@pytest.mark.parametrize(
    ("point", "clones"),
    [("snapshotted", 0), ("cloned", 1), ("flattening", 1), ("finished", 1)],
)
def test_killed_midway(glance, ceph, guest, image_id, tmp_path, point, clones):
    """There is a snapshot and a clone, or a task of the manager, and then there is none."""
    (tmp_path / point).mkdir()
    (tmp_path / "recover").mkdir()
    before = set(ceph.images(Glance.POOL))
    compute = Compute(glance, tmp_path, guest)
    compute.die_at(point, image_id)
    assert len(os.listdir(tmp_path / "snapshots")) == 1
    assert len(set(ceph.images(Glance.POOL)) - before) == clones
    assert len(ceph.snapshots(guest.disk.image)) == (0 if point == "finished" else 1)

    compute.start_again()
    assert os.listdir(tmp_path / "snapshots") == []
    assert set(ceph.images(Glance.POOL)) == before
    assert ceph.snapshots(guest.disk.image) == []
    assert ceph.command("rbd", "task", "list") == []
    assert glance.client().images.get(image_id).status == "queued"


def test_killed_after_it_was_handed_over(glance, ceph, guest, image_id, tmp_path):
    """The image is whole, and keeps what it consists of."""
    for name in ("handed-over", "recover"):
        (tmp_path / name).mkdir()
    compute = Compute(glance, tmp_path, guest)
    compute.die_at("handed-over", image_id)
    assert glance.client().images.get(image_id).status == "active"
    compute.start_again()
    assert os.listdir(tmp_path / "snapshots") == []
    assert ceph.snapshots(guest.disk.image) == []
    assert image_id in ceph.images(Glance.POOL)
    client = glance.client()
    assert sum(len(piece) for piece in client.images.data(image_id)) == guest_disk().size


def test_killed_while_the_guest_is_frozen(glance, ceph, writer, image_id, tmp_path):
    """The snapshot in the cluster is there, and nobody has thawed the guest."""
    for name in ("snapshotted", "recover"):
        (tmp_path / name).mkdir()
    definition = writer.xml(inactive=True)
    compute = Compute(glance, tmp_path, writer)
    compute.die_at("snapshotted", image_id)
    assert writer.agent("guest-fsfreeze-status") == "frozen"
    assert len(ceph.snapshots(writer.disk.image)) == 1

    compute.start_again()
    assert writer.agent("guest-fsfreeze-status") == "thawed"
    state = writer.state()
    assert (state["state"], state["persistent"]) == ("running", True)
    assert writer.xml(inactive=True) == definition
    assert ceph.snapshots(writer.disk.image) == []
    assert os.listdir(tmp_path / "snapshots") == []
    counter = writer.counter()
    writer.run(f"while [ $(counter) = {counter} ]; do sleep 0.1; done")
    assert glance.client().images.get(image_id).status == "queued"
