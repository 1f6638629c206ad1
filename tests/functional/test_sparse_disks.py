# SPDX-License-Identifier: Apache-2.0
"""What a raw file does not hold is neither read, nor kept, nor in the image.

A guest that is paused before its first instruction has the disk open and does not write to it.
"""

import json

import pytest

from tests.fixtures import disk_image
from tests.fixtures.commands import run
from tests.fixtures.disks import write_pattern
from tests.functional import snapshot_parts as parts
from tests.functional import stream_parts
from tests.functional.stream_parts import MIB

SIZE = 512 * MIB
CLUSTER = 64 << 10

# Header, tables and the ends of clusters that hold little.
OVERHEAD = 2 * MIB


@pytest.fixture(scope="module")
def lab(_session_lab):
    yield _session_lab
    _session_lab.remove_guests()


@pytest.fixture(scope="module")
def guest(lab):
    """Most of its disk is a hole, with a little data near its end."""
    disk = lab.make_disk("raw", "sparse", SIZE)
    write_pattern(disk.path, "raw", SIZE - 100 * MIB, 3 * MIB, 0x5A)
    made = lab.define_guest("sparse", disk)
    yield made
    made.remove()


@pytest.fixture
def world(lab, tmp_path):
    with stream_parts.open_world(lab, tmp_path) as made:
        yield made


def paused(guest):
    guest.start(paused=True)


def shut_off(guest):
    guest.destroy()


def allocated(path):
    return path.stat().st_blocks * 512


def clusters_with_data(path, image_format):
    """The numbers of the clusters that the image has anything of."""
    output = run("qemu-img", "map", "-U", "--output=json", "-f", image_format, path).stdout
    found = set()
    for extent in json.loads(output):
        if extent["data"]:
            end = extent["start"] + extent["length"]
            found.update(range(extent["start"] // CLUSTER, -(-end // CLUSTER)))
    return found


@pytest.mark.parametrize("bring", [paused, shut_off])
def test_raw_to_qcow2(guest, world, bring):
    bring(guest)
    world.set(snapshot_image_format="qcow2")
    taken = world.snapshot(guest)
    shut_off(guest)
    assert parts.differences(taken, guest) == ""
    assert clusters_with_data(taken.path, "qcow2") == clusters_with_data(guest.disk_path, "raw")
    assert taken.path.stat().st_size < allocated(guest.disk_path) + OVERHEAD
    assert taken.report.temp_bytes < MIB


@pytest.mark.parametrize(
    ("bring", "method"), [(paused, "stream"), (paused, "managed_save"), (shut_off, "offline")]
)
def test_raw_to_raw(guest, world, bring, method):
    """As long as the disk, of which little was on this host."""
    shut_off(guest)
    bring(guest)
    world.set(snapshot_method="managed_save" if method == "managed_save" else "auto")
    taken = world.snapshot(guest)
    shut_off(guest)
    assert (taken.report.method, taken.format) == (method, "raw")
    assert parts.differences(taken, guest) == ""
    assert disk_image.virtual_size(taken.path, "raw") == taken.report.uploaded_bytes == SIZE
    if method == "managed_save":
        assert taken.report.temp_bytes < allocated(guest.disk_path) + OVERHEAD
    else:
        assert taken.report.temp_bytes < MIB
