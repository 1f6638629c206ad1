# SPDX-License-Identifier: Apache-2.0
"""The image is the guest's disk as of the request: one pass, every state, disk and kind of image.

Each two of the values that meet in a snapshot meet in some test here; not each three.
"""

import itertools
import json

import pytest

from tests.fixtures import disk_image
from tests.fixtures.commands import run
from tests.functional import snapshot_parts as parts
from tests.functional import stream_parts

# In the order in which a guest gets into them.
STATES = ["writing", "idle", "paused", "suspended", "shut-off"]
KINDS = ["qcow2", "qcow2-deep", "raw"]
COMPRESSIONS = ["none", "zstd", "zlib"]

# How often the guest writes after the point in time, before any of the image is sent.
WRITES_AFTER = 20

# What is compressed is a qcow2 image; a raw one leaves the option without an effect.
CASES = [
    ("writing", "qcow2", "none", "qcow2"),
    ("writing", "qcow2-deep", "zstd", "qcow2"),
    ("writing", "raw", "zlib", "qcow2"),
    ("writing", "qcow2-deep", "none", "raw"),
    ("idle", "qcow2", "zstd", "qcow2"),
    ("idle", "qcow2-deep", "zlib", "qcow2"),
    ("idle", "raw", "none", "qcow2"),
    ("idle", "raw", "zstd", "raw"),
    ("paused", "qcow2", "zlib", "qcow2"),
    ("paused", "qcow2-deep", "none", "qcow2"),
    ("paused", "raw", "zstd", "qcow2"),
    ("paused", "qcow2", "none", "raw"),
    ("suspended", "qcow2", "none", "qcow2"),
    ("suspended", "qcow2-deep", "zstd", "qcow2"),
    ("suspended", "raw", "zlib", "qcow2"),
    ("suspended", "qcow2-deep", "zlib", "raw"),
    ("shut-off", "qcow2", "zstd", "qcow2"),
    ("shut-off", "qcow2-deep", "zlib", "qcow2"),
    ("shut-off", "raw", "none", "qcow2"),
    ("shut-off", "raw", "none", "raw"),
]


def cases(kind):
    """Of one kind of disk, in the order of the states."""
    return [case for case in CASES if case[1] == kind]


def test_every_pair_is_tried():
    values = (STATES, KINDS, COMPRESSIONS, ["qcow2", "raw"])
    for one, other in itertools.combinations(range(len(values)), 2):
        met = {(case[one], case[other]) for case in CASES}
        assert met == set(itertools.product(values[one], values[other]))
    really_compressed = {(case[0], case[2]) for case in CASES if case[3] == "qcow2"}
    assert really_compressed == set(itertools.product(STATES, COMPRESSIONS))


@pytest.fixture(scope="module")
def lab(_session_lab):
    yield _session_lab
    _session_lab.remove_guests()


@pytest.fixture(scope="module")
def guests(lab):
    """A guest of each kind of disk, booted when it is first asked for."""
    made = {}

    def get(kind):
        if kind not in made:
            guest = lab.define_guest(f"content-{kind}", lab.make_disk(kind, f"content-{kind}"))
            guest.start()
            guest.wait_ready()
            made[kind] = guest
        return made[kind]

    yield get
    for guest in made.values():
        guest.remove()


@pytest.fixture
def world(lab, tmp_path):
    with stream_parts.open_world(lab, tmp_path) as made:
        yield made


def bring(guest, state):
    """Get a guest into one of the states, whichever it is in.

    It is paused and suspended in the middle of its writing.
    """
    known = guest.state()
    found = "suspended" if known["managed_save"] else known["state"].replace(" ", "-")
    if found == state:
        return
    running(guest)
    if state in ("idle", "shut-off"):
        stream_parts.end_churn(guest)
        guest.hold_still()
        if state == "shut-off":
            guest.power_off()
        return
    guest.let_go()
    guest.start_writer()
    stream_parts.churn(guest)
    stream_parts.wait_counter(guest, guest.counter() + 1)
    if state == "paused":
        guest.suspend()
    elif state == "suspended":
        guest.managed_save()


def running(guest):
    state = guest.state()
    if state["state"] == "paused":
        guest.resume()
    elif state["state"] == "shut off":
        guest.start()
        if not state["managed_save"]:
            guest.wait_ready()


class Writing:
    """Reads the writer's counter at the request and at the point in time, and keeps the upload
    waiting until much has been overwritten since."""

    def __init__(self, guest, world):
        self._guest = guest
        self.states = parts.States()
        self.states.on["image_pending_upload"] = self._taken
        world.images.on_update = self._overwritten
        self.request = guest.counter()
        self.taken = self.uploading = 0

    def _taken(self):
        self.taken = self._guest.counter()

    def _overwritten(self):
        self.uploading = stream_parts.wait_counter(self._guest, self.taken + WRITES_AFTER)


@pytest.mark.parametrize(
    ("state", "kind", "compression", "image_format"),
    [case for kind in KINDS for case in cases(kind)],
)
def test_content(guests, world, state, kind, compression, image_format):
    guest = guests(kind)
    bring(guest, state)
    world.set(snapshot_compression=compression, snapshot_image_format=image_format)
    writing = Writing(guest, world) if state == "writing" else None
    taken = world.snapshot(guest, writing and writing.states)

    assert taken.report.method == ("offline" if state in ("suspended", "shut-off") else "stream")
    assert taken.metadata["disk_format"] == taken.format == image_format
    assert taken.states == ["image_pending_upload", "image_uploading"]
    assert taken.report.uploaded_bytes == taken.path.stat().st_size
    if taken.report.method == "stream":
        assert stream_parts.backup_of(guest) is None
    assert disk_image.check(taken.path, image_format) == ""
    assert_compressed(taken, compression if image_format == "qcow2" else "none")
    if writing:
        assert_instant(taken, writing)
        return
    if state == "idle":
        guest.suspend()
    assert parts.differences(taken, guest) == ""
    stream_parts.assert_sound(guest)


def assert_compressed(taken, compression):
    """As it was asked for: most of the guest's data can be compressed."""
    if taken.format == "raw":
        assert taken.report.uploaded_bytes == disk_image.virtual_size(taken.path, "raw")
        return
    details = disk_image.info(taken.path, "qcow2")
    assert "backing-filename" not in details
    compression_type = details["format-specific"]["data"]["compression-type"]
    assert compression_type == ("zstd" if compression == "zstd" else "zlib")
    found = json.loads(run("qemu-img", "check", "--output=json", "-f", "qcow2", taken.path).stdout)
    share = found.get("compressed-clusters", 0) / found["allocated-clusters"]
    assert share > 0.5 if compression != "none" else share == 0


def assert_instant(taken, writing):
    """Of the request, and of nothing that came after it."""
    with disk_image.raw_view(taken.path, taken.format) as image:
        assert image.fsck().damage == ""
        written = image.writer_state()
    assert written.problems == ()
    assert writing.request <= written.counter <= writing.taken
    assert writing.uploading - writing.taken >= WRITES_AFTER
