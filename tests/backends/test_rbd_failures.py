# SPDX-License-Identifier: Apache-2.0
"""Method direct when something is refused, is gone or does not answer: another method, or a reason;
and nothing left in either pool."""

import time

import pytest

from nova_snap import exception
from tests.backends import rbd_parts
from tests.fixtures import rbd_disk
from tests.fixtures.glance import Glance
from tests.fixtures.guest.disk import guest_disk
from tests.functional import snapshot_parts as parts
from tests.functional import stream_parts

LIMITED = "limited"


@pytest.fixture(scope="module")
def guest(lab, ceph, base):
    """It runs and writes."""
    with rbd_parts.running_guest(lab, ceph, base, "failing") as made:
        yield made


@pytest.fixture(scope="module")
def resting(lab, ceph, base):
    """A guest that is shut off."""
    ceph.user(rbd_parts.USER, ceph.pool(rbd_parts.DISKS), Glance.POOL)
    return lab.define_guest("resting", rbd_parts.clone_disk(ceph, base, "resting"))


@pytest.fixture
def world(lab, tmp_path, rbd_glance, base):
    with rbd_parts.open_world(lab, tmp_path, rbd_glance, base) as made:
        yield made


@pytest.fixture
def commands(tmp_path, monkeypatch):
    return rbd_parts.Commands.in_path(tmp_path / "bin", monkeypatch)


def assert_streamed(world, guest, taken, reason):
    """Another method has made the image, of one moment, and the reason is there to read."""
    assert taken.report.method == "stream"
    assert "not by method direct: " in taken.report.reason
    assert reason in taken.report.reason
    assert taken.states == ["image_pending_upload", "image_uploading"]
    assert (taken.record["status"], taken.record["disk_format"]) == ("active", "raw")
    with world.view(taken.image_id) as image:
        assert image.fsck().damage == ""
        assert image.writer_state().problems == ()
    world.assert_clean(guest, taken.image_id)
    stream_parts.assert_at_work(guest)


# -- refused: another method ---------------------------------------------------------------------


def test_pool_that_nothing_tells(guest, world):
    world.base = None
    assert_streamed(world, guest, world.take(guest), "nothing tells the image service's pool")


def test_base_image_of_another_cluster(guest, world, rbd_glance):
    """Where the image is said to be tells the cluster; here it is none that exists."""
    client = rbd_glance.client("user-1", "project-1")
    world.base = str(client.images.create(name="elsewhere").id)
    elsewhere = f"rbd://00000000-0000-0000-0000-000000000000/{Glance.POOL}/x/snap"
    get = world.api.get

    def get_with_location(context, image_id):
        record = get(context, image_id)
        return {**record, "direct_url": elsewhere} if image_id == world.base else record

    world.api.get = get_with_location
    image_id = world.new_image()
    instance = parts.Instance(guest.uuid, guest.name, image_ref=world.base)
    report = world.driver.snapshot(world.context, instance, image_id, parts.States())
    assert report.method == "stream"
    assert "is in another cluster (00000000-" in report.reason


def test_clone_without_permission(guest, world, ceph):
    """Known only when the cluster is asked for the clone: the snapshot of the disk is there."""
    ceph.user(LIMITED, rbd_parts.DISKS)
    pools = f"profile rbd pool={rbd_parts.DISKS}, profile rbd-read-only pool={Glance.POOL}"
    ceph.command("auth", "caps", f"client.{LIMITED}", "mon", "profile rbd", "osd", pools)
    world.set(rbd_user=LIMITED, snapshot_direct_pool=Glance.POOL)
    taken = world.take(guest, **rbd_parts.AGENT)
    assert_streamed(world, guest, taken, "rbd clone")
    assert taken.report.quiesced


def test_disk_that_may_not_be_looked_at(guest, world, ceph):
    """The disk's own parent is out of the user's reach: nothing was made, and nothing stays."""
    ceph.user("stranger", rbd_parts.DISKS)
    world.set(rbd_user="stranger", snapshot_direct_pool=Glance.POOL)
    assert_streamed(world, guest, world.take(guest), "Operation not permitted")


def test_pool_that_does_not_exist(guest, world):
    world.set(snapshot_direct_pool="nowhere")
    assert_streamed(world, guest, world.take(guest), "nowhere")


def test_flatten_that_is_refused(guest, world, commands):
    """Neither the manager nor this host: the clone is there already."""
    commands.before("flatten", "echo 'rbd: no more room' >&2; exit 28")
    assert_streamed(world, guest, world.take(guest), "no more room")


@pytest.fixture
def strict_glance(start_glance, ceph):
    """It lets nobody add a location."""
    made = start_glance("trusted", ceph=ceph)
    (made.data_dir / "policy.yaml").write_text(
        '"add_image_location": "!"\n"set_image_location": "!"\n'
    )
    made.restart()
    return made


def test_glance_that_refuses_locations(guest, lab, tmp_path, strict_glance):
    """Known only when all is done: none of it stays."""
    base = rbd_parts.base_image(strict_glance)
    with rbd_parts.open_world(lab, tmp_path, strict_glance, base) as world:
        world.set(snapshot_direct_pool=Glance.POOL)
        taken = world.take(guest)
        assert_streamed(world, guest, taken, "takes no location")
        assert taken.report.uploaded_bytes == taken.record["size"]


def test_direct_and_nothing_else(resting, world):
    """``snapshot_method = direct`` is no wish: what cannot be fails, with the reason."""
    world.set(snapshot_method="direct", snapshot_direct_pool="nowhere")
    with pytest.raises(exception.SnapshotFailed, match="nowhere") as caught:
        world.take(resting)
    assert caught.value.method == "direct"
    world.assert_clean(resting)


def test_offline_instead(resting, world):
    """A guest that is shut off is read where its disk lies, from a snapshot of that."""
    world.base = None
    before = rbd_disk.content_sha256(world.ceph, resting.disk.image)

    def written_to_meanwhile():
        assert len(world.ceph.snapshots(resting.disk.image)) == 1
        rbd_disk.write_pattern(world.ceph, resting.disk.image, guest_disk().tail_offset, 4096, 7)

    states = parts.States()
    states.on["image_uploading"] = written_to_meanwhile
    taken = world.take(resting, states)
    assert taken.report.method == "offline"
    with world.view(taken.image_id) as image:
        assert image.sha256() == before
    assert before != rbd_disk.content_sha256(world.ceph, resting.disk.image)
    world.assert_clean(resting, taken.image_id)


# -- a Glance that is older ----------------------------------------------------------------------


def test_glance_without_the_new_request(resting, lab, tmp_path, start_glance, ceph):
    """To the old one everybody is an administrator, and nobody a service."""
    glance = start_glance("open", ceph=ceph)
    base = rbd_parts.upload(glance, guest_disk().path)
    with rbd_parts.open_world(lab, tmp_path, glance, base) as world:
        world.set(snapshot_direct_pool=Glance.POOL)
        taken = world.take(resting)
        assert (taken.report.method, taken.record["status"]) == ("direct", "active")
        world.assert_clean(resting, taken.image_id)
        assert "is disabled" not in taken.report.reason


# -- taken away, and not answered ----------------------------------------------------------------


@pytest.mark.parametrize("word", ["create", "clone", "add", "protect"])
def test_image_deleted_midway(resting, world, commands, word):
    image_id = world.new_image()
    url = f"{world.glance.url}/v2/images/{image_id}"
    headers = "-H 'X-User-Id: user-1' -H 'X-Tenant-Id: project-1' -H 'X-Roles: member'"
    commands.before(word, f"curl -s -X DELETE {headers} {url} > /dev/null")
    with pytest.raises(exception.ImageNotFound):
        world.take(resting, monitor=rbd_parts.Deleted(world, image_id), image_id=image_id)
    world.assert_clean(resting)


@pytest.mark.parametrize(
    ("word", "properties", "reason"),
    [
        ("create", {}, "it was not done within 5 s"),
        # A guest that waits for its disk has an agent that cannot thaw it.
        ("create", rbd_parts.AGENT, "it was not done within 5 s|failed to thaw"),
        ("clone", rbd_parts.AGENT, "it was not done within 5 s"),
    ],
)
def test_cluster_that_stops_answering(guest, world, ceph, commands, word, properties, reason):
    """It fails in a bounded time, and is cleaned up after when Ceph is back."""
    world.set(operation_timeout=5, agent_timeout=5)
    commands.before(word, f"kill -STOP $(cat {ceph.directory}/osd.0.pid)")
    image_id = world.new_image()
    instance = parts.Instance(
        guest.uuid, guest.name, image_ref=world.base, image_properties=properties
    )
    began = time.monotonic()
    try:
        with pytest.raises(exception.SnapshotFailed, match=reason) as caught:
            world.driver.snapshot(world.context, instance, image_id, parts.States())
        assert time.monotonic() - began < 60
    finally:
        ceph.resume_osd()
    assert caught.value.method == "direct"
    assert len(world.leftovers()) == 1
    world.driver.clean_up_after_restart(instance)
    assert world.leftovers() == []
    world.assert_clean(guest)
    stream_parts.assert_at_work(guest)
