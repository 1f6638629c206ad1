# SPDX-License-Identifier: Apache-2.0
"""The image is the guest's disk at the point in time: every state, way and kind of disk."""

import pytest

from tests.fixtures import disk_image
from tests.functional import snapshot_parts as parts

KINDS = ["qcow2-backed", "qcow2", "raw"]
FORMATS = ["raw", "qcow2", "vmdk", "vdi"]


@pytest.fixture(scope="module")
def lab(_session_lab):
    yield _session_lab
    _session_lab.remove_guests()


@pytest.fixture(scope="module", params=KINDS)
def guest(request, lab):
    """A guest that runs and writes nothing; booted once for all the tests of its kind of disk."""
    made = lab.define_guest(f"running-{request.param}", lab.make_disk(request.param))
    made.start()
    made.wait_ready()
    made.hold_still()
    yield made
    made.remove()


@pytest.fixture(scope="module", params=[*KINDS, "qcow2-deep"])
def stopped_guest(request, lab):
    """A guest that was never started, with data in each layer of its disk."""
    made = lab.define_guest("stopped", lab.make_disk(request.param, "stopped"))
    yield made
    made.remove()


@pytest.fixture(scope="module", params=[*KINDS, "qcow2-deep"])
def paused_guest(request, lab):
    """A guest that was started, and has not run for a moment."""
    made = lab.define_guest("paused", lab.make_disk(request.param, "paused"))
    made.start(paused=True)
    yield made
    made.remove()


@pytest.fixture(params=parts.WAYS)
def world(request, lab, tmp_path):
    with parts.open_world(lab, tmp_path, request.param) as made:
        yield made


@pytest.fixture
def any_world(lab, tmp_path):
    with parts.open_world(lab, tmp_path) as made:
        yield made


def assert_same(taken, guest):
    """Compare whole disks; the guest must be paused or shut off."""
    assert parts.differences(taken, guest) == ""
    assert disk_image.check(taken.path, taken.format) == ""


def test_running(guest, world):
    """It is held still, so that its disk is the same before, during and after."""
    taken = world.snapshot(guest)
    guest.suspend()
    try:
        assert_same(taken, guest)
    finally:
        guest.resume()
    assert guest.run("echo alive") == "alive"
    assert taken.states == ["image_pending_upload", "image_uploading"]
    assert taken.report.uploaded_bytes == taken.path.stat().st_size
    assert taken.format == guest.disk.format


def test_paused(guest, world):
    guest.suspend()
    try:
        assert_same(world.snapshot(guest), guest)
    finally:
        guest.resume()
    assert guest.run("echo alive") == "alive"


def test_running_and_writing(guest, world):
    """The image is of one instant between the two moments at which the counter was read."""
    guest.let_go()
    guest.start_writer()
    before = guest.counter()
    taken = world.snapshot(guest)
    after = guest.counter()
    guest.hold_still()
    with disk_image.raw_view(taken.path, taken.format) as image:
        assert image.fsck().damage == ""
        written = image.writer_state()
    assert written.problems == ()
    assert before <= written.counter <= after


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("way", ["mirror", "mirror-undefine"])
def test_copy_in_each_format(paused_guest, lab, tmp_path, way, image_format):
    """The newest layer of the disk may hold nothing to copy: such a copy is ready at once."""
    with parts.open_world(lab, tmp_path, way) as world:
        world.set(snapshot_image_format=image_format)
        taken = world.snapshot(paused_guest)
    assert taken.metadata["disk_format"] == taken.format == image_format
    assert_same(taken, paused_guest)


@pytest.mark.parametrize("image_format", FORMATS)
def test_shut_off_in_each_format(stopped_guest, any_world, image_format):
    any_world.set(snapshot_image_format=image_format)
    taken = any_world.snapshot(stopped_guest)
    assert taken.metadata["disk_format"] == taken.format == image_format
    assert_same(taken, stopped_guest)


@pytest.mark.parametrize("method", ["auto", "mirror", "managed_save"])
def test_shut_off(stopped_guest, any_world, method):
    any_world.set(snapshot_method=method)
    taken = any_world.snapshot(stopped_guest)
    assert_same(taken, stopped_guest)
    assert taken.report.method == "offline"


def test_suspended_to_disk_stays_so(lab, any_world):
    """Its saved memory is its user's: it is not touched, and still goes with the disk."""
    guest = lab.define_guest("suspended", lab.make_disk())
    guest.start()
    guest.wait_ready()
    guest.run("echo remembered > /run/memory")
    guest.managed_save()
    taken = any_world.snapshot(guest)
    assert guest.state()["managed_save"]
    assert_same(taken, guest)
    guest.start()
    assert guest.run("cat /run/memory") == "remembered"
    guest.remove()


def test_compressed(lab, any_world):
    guest = lab.define_guest("compressed", lab.make_disk("qcow2", "compressed"))
    plain = any_world.snapshot(guest)
    any_world.set(snapshot_compression="zlib")
    small = any_world.snapshot(guest)
    assert_same(small, guest)
    assert small.path.stat().st_size < plain.path.stat().st_size
    guest.remove()


def test_metadata(lab, any_world):
    guest = lab.define_guest("metadata", lab.make_disk("qcow2", "metadata"))
    taken = any_world.snapshot(guest)
    assert taken.metadata == {
        "name": f"image {taken.path.name}",
        "disk_format": "qcow2",
        "container_format": "bare",
        "properties": {
            "image_location": "snapshot",
            "image_state": "available",
            "owner_id": "project-1",
            "os_type": "linux",
        },
    }
    guest.remove()
