# SPDX-License-Identifier: Apache-2.0
"""Method direct: the image is made within Ceph, of the moment of the request, and nothing stays."""

import hashlib

import pytest

from tests.backends import rbd_parts
from tests.fixtures import rbd_disk
from tests.functional import snapshot_parts as parts
from tests.functional import stream_parts

WRITES_AFTER = 10


@pytest.fixture(scope="module")
def guest(lab, ceph, base):
    with rbd_parts.running_guest(lab, ceph, base, "direct") as made:
        yield made


@pytest.fixture
def world(lab, tmp_path, rbd_glance, base):
    with rbd_parts.open_world(lab, tmp_path, rbd_glance, base) as made:
        yield made


class Writing:
    """The writer's counter at the request, and when the point in time had been taken."""

    def __init__(self, guest):
        self._guest = guest
        self.states = parts.States()
        self.states.on["image_pending_upload"] = self._taken
        self.states.on["image_uploading"] = self._uploading
        self.request = guest.counter()
        self.taken = self.uploading = 0

    def _taken(self):
        self.taken = self._guest.counter()

    def _uploading(self):
        self.uploading = stream_parts.wait_counter(self._guest, self.taken + WRITES_AFTER)


@pytest.mark.parametrize("flatten", [pytest.param("manager", marks=pytest.mark.short), "host"])
def test_guest_that_writes(guest, world, flatten):
    world.set(snapshot_direct_flatten=flatten)
    stream_parts.churn(guest)
    writing = Writing(guest)
    taken = world.take(guest, writing.states)
    stream_parts.end_churn(guest)

    assert taken.report.method == "direct"
    assert taken.report.uploaded_bytes == taken.report.temp_bytes == 0
    assert taken.states == ["image_pending_upload", "image_uploading"]
    assert (taken.record["status"], taken.record["disk_format"]) == ("active", "raw")
    with world.view(taken.image_id) as image:
        # What checks the file system also repairs it.
        content, size = image.sha256(), image.path.stat().st_size
        assert image.fsck().damage == ""
        written = image.writer_state()
    assert written.problems == ()
    assert writing.request <= written.counter <= writing.taken
    assert taken.record["size"] == size
    assert hashlib.sha256(world.served(taken.image_id)).hexdigest() == content
    world.assert_clean(guest, taken.image_id)
    world.api.delete(world.context, taken.image_id)
    world.assert_clean(guest)


def test_quiesced(guest, world):
    taken = world.take(guest, **rbd_parts.AGENT, os_require_quiesce="yes")
    assert taken.report.method == "direct"
    assert taken.report.quiesced
    with world.view(taken.image_id) as image:
        assert image.fsck().state == "clean"
        assert image.writer_state().problems == ()
    stream_parts.assert_at_work(guest)
    world.assert_clean(guest, taken.image_id)


@pytest.mark.parametrize("state", ["paused", "suspended", "shut-off"])
def test_guest_that_stands_still(guest, world, state):
    """The image is the disk, bit for bit."""
    if state == "paused":
        guest.suspend()
    elif state == "suspended":
        guest.managed_save()
    else:
        guest.power_off()
    taken = world.take(guest)
    assert taken.report.method == "direct"
    with world.view(taken.image_id) as image:
        assert image.sha256() == rbd_disk.content_sha256(world.ceph, guest.disk.image)
    world.assert_clean(guest, taken.image_id)
    if state == "paused":
        guest.resume()
        return
    guest.start()
    if state == "shut-off":
        guest.wait_ready()
        guest.wait_agent()
        guest.start_writer()
