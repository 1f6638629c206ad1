# SPDX-License-Identifier: Apache-2.0
"""A disk that was made to do harm: its very bytes, or a refusal that says why. Never a host's file.

Through the whole driver: guests that are shut off, and guests that QEMU has open.
"""

import itertools
import os
import threading

import pytest

from nova_snap import exception
from tests.fixtures.commands import run
from tests.functional import hostile_parts as hostile
from tests.functional import snapshot_parts as parts
from tests.functional import stream_parts
from tests.functional.hostile_parts import MARKER, Trap


@pytest.fixture(scope="module")
def lab(_session_lab):
    yield _session_lab
    _session_lab.remove_guests()


@pytest.fixture
def trap(tmp_path):
    return Trap(tmp_path)


@pytest.fixture
def world(lab, tmp_path):
    with stream_parts.open_world(lab, tmp_path) as made:
        yield made


@pytest.fixture
def define(lab, trap):
    """A guest that is shut off, over what the trap has made."""
    made = []

    def define(image_format):
        made.append(lab.define_guest("hostile", trap.path, disk_format=image_format))
        return made[0]

    yield define
    for guest in made:
        guest.remove()


def content(path, image_format, target):
    """What a guest sees, as QEMU reads it; a backing file is an error."""
    run("qemu-img", "convert", "-f", image_format, "-O", "raw", path, target)
    return target.read_bytes()


def assert_no_secret(world):
    """In no file that anybody made of the disk."""
    for path in world.images.directory.iterdir():
        assert MARKER not in path.read_bytes()
        with open("/etc/shadow", "rb") as shadow:
            line = shadow.readline()
        assert line not in path.read_bytes()


@pytest.mark.parametrize(
    ("case", "image_format"),
    [
        *itertools.product(hostile.RAW, ["raw", "qcow2"]),
        # By another tool.
        ("qcow2 over a host file", "vmdk"),
        ("vmdk descriptor", "vmdk"),
    ],
)
def test_raw_disk_that_pretends(world, define, trap, tmp_path, case, image_format):
    """What its guest has written is what it is."""
    expected = hostile.RAW[case](trap)
    guest = define("raw")
    world.set(snapshot_image_format=image_format)
    taken = world.snapshot(guest)
    assert taken.report.method == "offline"
    assert content(taken.path, image_format, tmp_path / "content") == expected
    if image_format == "qcow2":
        shown = run("qemu-img", "info", "--output=json", "-f", "qcow2", taken.path).stdout
        assert b"backing" not in shown
        assert b"data-file" not in shown


@pytest.mark.parametrize(
    ("case", "image_format"),
    [
        *itertools.product(hostile.REFUSED, ["qcow2"]),
        # By another tool.
        *itertools.product(["huge L1", "garbage that is compressed"], ["vmdk"]),
    ],
)
def test_disk_that_is_refused(world, define, trap, case, image_format):
    make, reason = hostile.REFUSED[case]
    make(trap)
    guest = define("qcow2")
    world.set(snapshot_image_format=image_format)
    failure = world.fails(guest)
    assert isinstance(failure, exception.SnapshotFailed)
    if "EIO" in reason and image_format == "vmdk":
        reason = "error while reading"
    assert reason in failure.reason
    assert_no_secret(world)


@pytest.mark.parametrize("make", hostile.TAKEN.values(), ids=hostile.TAKEN)
def test_disk_that_is_odd(world, define, trap, tmp_path, make):
    make(trap)
    before = trap.path.read_bytes()
    guest = define("qcow2")
    taken = world.snapshot(guest)
    expected = content(trap.path, "qcow2", tmp_path / "expected")
    assert content(taken.path, taken.format, tmp_path / "content") == expected
    # Nobody repairs what nobody asked to have repaired.
    assert trap.path.read_bytes() == before
    assert run("qemu-img", "check", "-q", "-f", "qcow2", taken.path)


@pytest.mark.parametrize("way", ["stream", "mirror", "managed_save"])
def test_raw_disk_that_pretends_while_its_guest_runs(lab, define, trap, tmp_path, way):
    expected = hostile.RAW["qcow2 over a host file"](trap)
    guest = define("raw")
    guest.start(paused=True)
    image_format = "raw" if way == "stream" else "qcow2"
    with parts.open_world(lab, tmp_path, way) as world:
        world.set(snapshot_image_format=image_format)
        taken = world.snapshot(guest)
    assert taken.report.method == way
    assert content(taken.path, image_format, tmp_path / "content") == expected


@pytest.mark.parametrize("way", ["stream", "mirror", "managed_save"])
def test_header_that_is_changed_while_its_guest_runs(lab, define, trap, tmp_path, way):
    """The guest has the chain that it was started with; so has its image, or there is none."""
    base = trap.path.with_name("base")
    base.write_bytes(os.urandom(hostile.MIB))
    trap.qcow2("-b", str(base), "-F", "raw")
    expected = content(trap.path, "qcow2", tmp_path / "expected")
    guest = define("qcow2")
    guest.start(paused=True)
    offset = trap.value((8, ">Q"))
    length = trap.value((16, ">I"))
    with parts.open_world(lab, tmp_path, way) as world:
        trap.write(offset, str(trap.secret).encode().ljust(length, b"\0"))
        trap.patch((16, ">I"), len(str(trap.secret)))
        if way == "stream":
            taken = world.snapshot(guest)
            assert content(taken.path, taken.format, tmp_path / "content") == expected
        else:
            with pytest.raises(exception.SnapshotFailed, match="and its domain has") as caught:
                world.snapshot(guest)
            assert caught.value.method == way
        assert_no_secret(world)
        assert guest.state()["state"] == "paused"
        trap.write(offset, str(base).encode())
        trap.patch((16, ">I"), length)
        if way == "mirror":
            taken = world.snapshot(guest)
            assert content(taken.path, taken.format, tmp_path / "content") == expected


@pytest.mark.parametrize("kind", ["pipe", "directory", "device", "link to a device", "socket"])
def test_path_that_is_no_disk(world, lab, trap, kind):
    """It is refused at once, and nothing is done to it."""
    if kind == "pipe":
        os.mkfifo(trap.path)
    elif kind == "directory":
        trap.path.mkdir()
    elif kind == "device":
        os.mknod(trap.path, 0o20600, os.makedev(1, 5))
    elif kind == "link to a device":
        trap.path.symlink_to("/dev/zero")
    else:
        run("python3", "-c", "import socket, sys, os; os.chdir(sys.argv[1]); "
            "socket.socket(socket.AF_UNIX).bind('disk')", str(trap.path.parent))  # fmt: skip
    guest = lab.define_guest("no-disk", trap.path, disk_format="raw")
    failures = []
    asking = threading.Thread(target=lambda: failures.append(world.fails(guest)))
    asking.start()
    asking.join(30)
    assert not asking.is_alive(), "it waits for something"
    assert "not a regular file" in failures[0].reason
    guest.remove()


def test_link_to_a_disk_is_a_disk(world, lab, trap, tmp_path):
    """As it is for the hypervisor."""
    expected = trap.raw()
    link = tmp_path / "link"
    link.symlink_to(trap.path)
    guest = lab.define_guest("linked", link, disk_format="raw")
    taken = world.snapshot(guest)
    assert content(taken.path, "raw", tmp_path / "content") == expected
    guest.remove()
