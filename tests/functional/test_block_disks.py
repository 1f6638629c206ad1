# SPDX-License-Identifier: Apache-2.0
"""Guests whose disk is a block device: a loop device, which stands for a logical volume.

The device is longer than what the guest uses of it. So its end can fail without the guest's notice.
"""

import os
import shutil
import sys
from pathlib import Path

import libvirt
import pytest

from nova_snap import exception
from nova_snap.stream import errors
from tests.fixtures import disk_image
from tests.fixtures.block_device import block_device
from tests.fixtures.commands import run
from tests.fixtures.disks import Disk, write_pattern
from tests.functional import snapshot_parts as parts
from tests.functional import stream_parts
from tests.functional.stream_parts import MIB

TAIL = 16 * MIB
WRITES_AFTER = 10


@pytest.fixture(scope="module")
def lab(_session_lab):
    yield _session_lab
    _session_lab.remove_guests()


@pytest.fixture(scope="module")
def device(lab):
    """With a pattern in the middle of its tail, and holes around it."""
    pristine = lab.guest_disk()
    made = lab.make_disk("raw", "block", pristine.size + TAIL)
    write_pattern(made.path, "raw", pristine.size + TAIL // 2, 4 * MIB, 0xA5)
    with block_device(made.path) as found:
        yield found


@pytest.fixture(scope="module")
def guest(lab, device):
    disk = Disk(device.path, "raw", "raw", lab.guest_disk())
    made = lab.define_guest("block", disk, disk_type="block")
    yield made
    made.remove()


@pytest.fixture
def world(lab, tmp_path):
    with stream_parts.open_world(lab, tmp_path) as made:
        yield made


def paused(guest):
    if guest.state()["state"] == "shut off":
        guest.start(paused=True)


def shut_off(guest):
    guest.destroy()


def assert_same(taken, guest):
    assert taken.metadata["disk_format"] == taken.format
    assert disk_image.check(taken.path, taken.format) == ""
    assert parts.differences(taken, guest) == ""


@pytest.mark.parametrize(
    ("bring", "configured", "method", "image_format"),
    [
        # As it lies: what is no file is saved as raw, unless something else is asked for.
        (paused, {}, "stream", "raw"),
        (paused, {"snapshot_image_format": "qcow2"}, "stream", "qcow2"),
        # The seed's live path is for files.
        (
            paused,
            {"snapshot_method": "mirror", "snapshot_image_format": "qcow2"},
            "managed_save",
            "qcow2",
        ),
        (shut_off, {}, "offline", "raw"),
        (shut_off, {"snapshot_image_format": "qcow2"}, "offline", "qcow2"),
        (shut_off, {"snapshot_image_format": "vmdk"}, "offline", "vmdk"),
    ],
)
def test_content(guest, world, bring, configured, method, image_format):
    bring(guest)
    world.set(**configured)
    taken = world.snapshot(guest)
    assert (taken.report.method, taken.format) == (method, image_format)
    assert_same(taken, guest)
    if image_format == "qcow2":
        assert taken.path.stat().st_size < disk_image.virtual_size(taken.path, "qcow2") // 2


def write_as_a_guest(node, offset):
    """QEMU, without a cache, meets no lock."""
    run("qemu-io", "-t", "none", "-f", "raw", "-c", f"write -P 1 {offset} 64k", node)


def write_into_the_cache(node, offset):
    with node.open("r+b", buffering=0) as file:
        file.seek(offset)
        file.write(bytes(4096))


def discard(node, offset):
    run("blkdiscard", "--offset", str(offset), "--length", str(MIB), node)


def stand_in(directory, monkeypatch, name, body):
    """Something else is called by the name of a program."""
    program = directory / "bin" / name
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("write", "image_format", "compression"),
    [
        (write_as_a_guest, "raw", "none"),
        (write_into_the_cache, "qcow2", "none"),
        (discard, "qcow2", "zstd"),
    ],
)
def test_written_to_meanwhile(guest, device, world, tmp_path, write, image_format, compression):
    """Through another node of the device, as a guest has it that libvirt isolates."""
    shut_off(guest)
    node = device.other_node(tmp_path / "node")
    world.set(snapshot_image_format=image_format, snapshot_compression=compression)
    world.images.on_update = lambda: write(node, guest.disk.guest.size + MIB)
    sent = []
    world.images.on_bytes = lambda _number, taken: sent.append(taken)
    assert_changed(world.fails(guest))
    assert sent
    if image_format == "raw":
        assert max(sent) < guest.disk.guest.size + TAIL


def assert_changed(failure):
    assert isinstance(failure.__cause__, exception.DiskChanged)
    assert failure.method == "offline"
    assert "was written to while it was read" in failure.reason


CONVERT_AND_WRITE = """
import subprocess, sys
done = subprocess.call([{qemu_img!r}, *sys.argv[1:]])
if sys.argv[1] == "convert":
    write = "write -P 1 {offset} 64k"
    subprocess.check_call(["qemu-io", "-t", "none", "-f", "raw", "-c", write, {node!r}])
sys.exit(done)
"""


def test_written_to_while_it_is_converted(guest, device, world, tmp_path, monkeypatch):
    shut_off(guest)
    body = CONVERT_AND_WRITE.format(
        qemu_img=shutil.which("qemu-img"),
        node=str(device.other_node(tmp_path / "node")),
        offset=guest.disk.guest.size + MIB,
    )
    stand_in(tmp_path, monkeypatch, "qemu-img", body)
    # Whoever writes is somebody else: the tool itself could not.
    monkeypatch.setattr(world.driver._tool, "user", None)
    world.set(snapshot_image_format="vmdk")
    assert_changed(world.fails(guest))
    assert world.images.metadata == {}


def test_written_to_before(guest, device, world, tmp_path):
    """What waits in the cache when the snapshot begins is in it, and no reason to fail."""
    shut_off(guest)
    write_into_the_cache(device.path, guest.disk.guest.size + 2 * MIB)
    assert_same(world.snapshot(guest), guest)


def test_guest_cannot_be_started_meanwhile(guest, world):
    """It has the device by the same node here, and meets the lock."""
    shut_off(guest)
    refused = []

    def start():
        with pytest.raises(libvirt.libvirtError, match="lock") as caught:
            guest.start(paused=True)
        refused.append(caught.value)

    world.images.on_update = start
    assert_same(world.snapshot(guest), guest)
    assert refused


@pytest.mark.parametrize(
    ("image_format", "error"),
    [("qcow2", exception.QemuNbdFailed), ("vmdk", exception.QemuImgFailed)],
)
def test_guest_is_started_first(guest, world, image_format, error):
    shut_off(guest)
    world.set(snapshot_image_format=image_format)
    states = parts.States()
    states.on["image_pending_upload"] = lambda: guest.start(paused=True)
    with pytest.raises(exception.SnapshotFailed) as caught:
        world.take(guest, states=states)
    assert isinstance(caught.value.__cause__, error)
    assert "lock" in caught.value.reason
    assert world.leftovers() == []


@pytest.mark.parametrize("bring", [paused, shut_off])
def test_device_fails_midway(guest, device, world, bring):
    """The guest does not notice: it is not its part of the device."""
    bring(guest)
    world.set(snapshot_image_format="raw")
    size = guest.disk.guest.size
    world.images.on_bytes = stream_parts.once(lambda: device.cut(size), taken=MIB)
    try:
        failure = world.fails(guest)
    finally:
        os.truncate(device.backing, size + TAIL)
        write_pattern(device.backing, "raw", size + TAIL // 2, 4 * MIB, 0xA5)
        run("blockdev", "--flushbufs", device.path)
    assert isinstance(failure.__cause__, errors.NBDServerError)
    assert "EIO" in failure.reason
    assert failure.phase == "image_uploading"
    world.images.on_bytes = lambda _number, _taken: None
    assert_same(world.snapshot(guest), guest)


def test_device_fails_while_the_guest_is_saved(guest, device, world):
    """It goes on as it was, with the part of the device that works."""
    paused(guest)
    world.set(snapshot_method="managed_save")
    size = guest.disk.guest.size
    states = parts.States()
    states.on["image_pending_upload"] = lambda: device.cut(size)
    try:
        failure = world.fails(guest, states=states)
    finally:
        os.truncate(device.backing, size + TAIL)
        run("blockdev", "--flushbufs", device.path)
    assert isinstance(failure.__cause__, exception.QemuImgFailed)
    assert "Input/output error" in failure.reason
    assert guest.state()["state"] == "paused"


LVS = """
import json, sys
assert sys.argv[-1] == "/dev/nova/gone", sys.argv
print(json.dumps({"report": [{"lv": [{
    "vg_name": "nova", "lv_name": "gone", "lv_path": "/dev/nova/gone", "lv_size": "1073741824",
    "lv_active": "",
}]}]}))
"""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (LVS, "nova/gone is not active; activate it: lvchange --activate y nova/gone"),
        ("import sys; sys.exit('Volume group nova not found')", "lvs: Volume group nova not found"),
        ("print('{}')", "unusable answer"),
    ],
    ids=["inactive", "unknown", "unusable"],
)
def test_volume_that_is_not_there(lab, world, tmp_path, monkeypatch, body, words):
    stand_in(tmp_path, monkeypatch, "lvs", body)
    gone = lab.define_guest("gone", Path("/dev/nova/gone"), disk_format="raw", disk_type="block")
    try:
        failure = world.fails(gone)
    finally:
        gone.remove()
    assert isinstance(failure.__cause__, exception.LogicalVolumeUnavailable)
    assert words in failure.reason


@pytest.fixture
def decrypted_volume(lab, guest, device):
    """By the name that Nova has for what dm-crypt makes of a logical volume."""
    link = Path(f"/dev/mapper/{guest.uuid}_disk-dmcrypt")
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(device.path)
    shut_off(guest)
    disk = Disk(link, "raw", "raw", lab.guest_disk())
    made = lab.define_guest("dmcrypt", disk, disk_type="block")
    yield made
    made.remove()
    link.unlink()


def test_volume_that_the_host_decrypts(decrypted_volume, world):
    """Only where it is allowed, and only while its guest stands still."""
    decrypted_volume.start(paused=True)
    world.set(snapshot_method="stream")
    failure = world.fails(decrypted_volume)
    assert isinstance(failure.__cause__, exception.SnapshotMethodUnavailable)
    assert "its image would not be" in failure.reason
    world.set(snapshot_encrypted_disks="decrypt")
    taken = world.snapshot(decrypted_volume)
    assert taken.report.method == "managed_save"
    assert_same(taken, decrypted_volume)


def test_instant_of_a_guest_that_writes(guest, world):
    """Of the request, and of nothing that came after it; then the guest is saved and goes on."""
    shut_off(guest)
    guest.start()
    guest.wait_ready()
    guest.start_writer()
    states = parts.States()
    seen = {}
    states.on["image_pending_upload"] = lambda: seen.update(taken=guest.counter())
    world.images.on_update = lambda: stream_parts.wait_counter(guest, seen["taken"] + WRITES_AFTER)
    request = stream_parts.wait_counter(guest, guest.counter() + 1)
    taken = world.snapshot(guest, states)
    assert taken.report.method == "stream"
    assert taken.report.temp_bytes > 0
    with disk_image.raw_view(taken.path, taken.format) as image:
        assert image.fsck().damage == ""
        written = image.writer_state()
    assert written.problems == ()
    assert request <= written.counter <= seen["taken"]
    world.images.on_update = lambda: None
    world.set(snapshot_method="mirror")
    saved = world.snapshot(guest)
    assert saved.report.method == "managed_save"
    stream_parts.assert_instant(saved)
    stream_parts.assert_at_work(guest)
