# SPDX-License-Identifier: Apache-2.0
"""How far a snapshot is, and how fast it may be."""

import time

import pytest

from nova_snap.virt.driver import NoMonitor
from tests.fixtures import disk_image
from tests.functional import snapshot_parts as parts
from tests.functional import stream_parts
from tests.functional.stream_parts import MIB


@pytest.fixture(scope="module")
def lab(_session_lab):
    yield _session_lab
    _session_lab.remove_guests()


@pytest.fixture(scope="module")
def guest(lab):
    """A guest that has not run for a moment: QEMU has its disk, which does not change."""
    made = lab.define_guest("progress", lab.make_disk("qcow2", "progress"))
    made.start(paused=True)
    return made


@pytest.fixture
def world(lab, tmp_path):
    with stream_parts.open_world(lab, tmp_path) as made:
        yield made


class Progress(NoMonitor):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told = []

    def progress(self, done: int, total: int) -> None:
        self.told.append((done, total))


@pytest.mark.parametrize(
    ("image_format", "compression"), [("qcow2", "none"), ("qcow2", "zstd"), ("raw", "none")]
)
def test_progress(guest, world, image_format, compression):
    """It never shrinks, and ends with everything done."""
    world.set(snapshot_image_format=image_format, snapshot_compression=compression)
    progress = Progress()
    taken = world.take(guest, progress)
    shares = [done / total for done, total in progress.told]
    assert shares == sorted(shares)
    assert shares[0] < 0.5
    assert shares[-1] == 1
    assert len(progress.told) >= taken.report.uploaded_bytes // MIB
    if compression == "none":
        assert {total for _, total in progress.told} == {taken.report.uploaded_bytes}


def test_progress_of_a_new_try(guest, world):
    """It begins again, as the upload does."""
    world.images.tries = 2

    def hang_up():
        raise stream_parts.Disconnected

    world.images.on_bytes = stream_parts.once(hang_up)
    progress = Progress()
    taken = world.take(guest, progress)
    done = [done for done, _ in progress.told]
    (again,) = [i for i in range(1, len(done)) if done[i] < done[i - 1]]
    assert 5 * MIB <= done[again - 1] < 7 * MIB
    assert done[again] <= MIB
    assert done[-1] == taken.report.uploaded_bytes


@pytest.mark.parametrize("compression", ["none", "zlib"])
def test_bandwidth_is_kept(guest, world, compression):
    """Of the reading, where less is sent than is read."""
    limit = 8
    world.set(snapshot_bandwidth=limit, snapshot_compression=compression)
    progress = Progress()
    began = time.monotonic()
    taken = world.take(guest, progress)
    took = time.monotonic() - began
    moved, _ = progress.told[-1]
    assert moved >= taken.report.uploaded_bytes
    assert took >= moved / (limit * MIB) - 0.2
    assert parts.differences(taken, guest) == ""
    assert disk_image.check(taken.path, "qcow2") == ""
