# SPDX-License-Identifier: Apache-2.0
"""Disks in RBD that the host reads and sends: what direct falls back to, and the seed's way."""

import hashlib

import pytest

from tests.backends import rbd_parts
from tests.fixtures import disk_image, rbd_disk
from tests.functional import snapshot_parts as parts
from tests.functional import stream_parts


@pytest.fixture(scope="module")
def guest(lab, ceph, base):
    with rbd_parts.running_guest(lab, ceph, base, "read") as made:
        yield made


@pytest.fixture
def world(lab, tmp_path, rbd_glance, base):
    with rbd_parts.open_world(lab, tmp_path, rbd_glance, base) as made:
        yield made


def assert_instant(world, taken, image_format, directory, least, most):
    """What Glance sends is the disk of one moment between two readings of the writer's counter."""
    path = directory / "image"
    path.write_bytes(world.served(taken.image_id))
    assert taken.record["disk_format"] == image_format
    assert disk_image.check(path, image_format) == ""
    with disk_image.raw_view(path, image_format) as image:
        assert image.fsck().damage == ""
        written = image.writer_state()
    assert written.problems == ()
    assert least <= written.counter <= most


@pytest.mark.parametrize(
    ("image_format", "compression", "properties"),
    [("raw", "none", {}), ("qcow2", "none", rbd_parts.AGENT), ("qcow2", "zstd", {})],
)
def test_stream(guest, world, tmp_path, image_format, compression, properties):
    """Of a guest that writes hard, as of the request. qcow2 cannot be had within the cluster."""
    world.set(
        snapshot_method="stream" if image_format == "raw" else "auto",
        snapshot_image_format=image_format,
        snapshot_compression=compression,
    )
    stream_parts.churn(guest)
    states, counters = parts.States(), {}
    states.on["image_pending_upload"] = lambda: counters.update(taken=guest.counter())
    states.on["image_uploading"] = lambda: stream_parts.wait_counter(guest, counters["taken"] + 10)
    request = guest.counter()
    taken = world.take(guest, states, **properties)
    stream_parts.end_churn(guest)

    assert taken.report.method == "stream"
    assert taken.report.quiesced == bool(properties)
    assert_instant(world, taken, image_format, tmp_path, request, counters["taken"])
    assert stream_parts.backup_of(guest) is None
    world.assert_clean(guest, taken.image_id)
    stream_parts.assert_at_work(guest)


def test_managed_save(guest, world, tmp_path):
    """As the seed has it, where it is asked for: saved as raw, and the guest resumed."""
    world.set(snapshot_method="managed_save")
    request = guest.counter()
    taken = world.take(guest)
    assert taken.report.method == "managed_save"
    assert_instant(world, taken, "raw", tmp_path, request, guest.counter())
    world.assert_clean(guest, taken.image_id)
    stream_parts.assert_at_work(guest)


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_offline(guest, world, tmp_path, image_format):
    """The disk as it is, bit for bit."""
    if guest.state()["active"]:
        guest.power_off()
    world.set(snapshot_image_format=image_format, snapshot_method="stream")
    taken = world.take(guest)
    assert taken.report.method == "offline"
    path = tmp_path / "image"
    path.write_bytes(world.served(taken.image_id))
    content = rbd_disk.content_sha256(world.ceph, guest.disk.image)
    with disk_image.raw_view(path, image_format) as image:
        assert image.sha256() == content
    if image_format == "raw":
        assert hashlib.sha256(path.read_bytes()).hexdigest() == content
    world.assert_clean(guest, taken.image_id)
