# SPDX-License-Identifier: Apache-2.0
"""Whatever fails, the guest is as before and nothing stays on the host.

``World.snapshot`` checks that after each snapshot, good or not.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import libvirt
import pytest

from nova_snap import exception
from nova_snap.virt.libvirt.guest import Guest as LibvirtGuest
from nova_snap.virt.libvirt.snapshot.copy_job import CopyJob
from tests.functional import snapshot_parts as parts

MIRRORS = ["mirror", "mirror-undefine"]


@pytest.fixture(scope="module")
def lab(_session_lab):
    yield _session_lab
    _session_lab.remove_guests()


@pytest.fixture(scope="module")
def guest(lab):
    """A guest that runs and writes; its disk has no backing file, so that there is much to copy."""
    return parts.writing_guest(lab, "failures")


@pytest.fixture(params=[*MIRRORS, "managed_save"])
def world(request, lab, tmp_path):
    with parts.open_world(lab, tmp_path, request.param) as made:
        yield made


@pytest.fixture(params=MIRRORS)
def mirror_world(request, lab, tmp_path):
    with parts.open_world(lab, tmp_path, request.param) as made:
        yield made


def fake_qemu_img(directory, monkeypatch, convert: str) -> None:
    """Put a qemu-img in front of the real one which, told to convert, does this instead."""
    program = directory / "bin" / "qemu-img"
    program.parent.mkdir()
    real = subprocess.run(["which", "qemu-img"], capture_output=True, check=True).stdout.decode()
    program.write_text(
        f"#!{sys.executable}\nimport os, sys, time\n"
        f"if sys.argv[1] == 'convert': {convert}\n"
        f"os.execv({real.strip()!r}, sys.argv)\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def assert_writes(guest):
    before = guest.counter()
    deadline = time.monotonic() + 20
    while guest.counter() == before:
        assert time.monotonic() < deadline, "the guest does not write any more"


def fails(world, guest, states=None) -> exception.SnapshotFailed:
    with pytest.raises(exception.SnapshotFailed) as caught:
        world.snapshot(guest, states)
    return caught.value


def test_upload_fails(guest, world):
    """The guest has long gone on by then."""
    seen = []

    def refuse():
        seen.append(guest.state()["state"])
        raise exception.ImageServiceUnavailable(endpoint="http://glance", reason="503")

    world.images.on_update = refuse
    error = fails(world, guest)
    assert error.phase == "image_uploading"
    assert "http://glance cannot be reached: 503" in error.reason
    assert isinstance(error.__cause__, exception.ImageServiceUnavailable)
    assert seen == ["running"]
    assert_writes(guest)


def test_image_is_deleted_meanwhile(guest, mirror_world):
    def gone():
        raise exception.ImageNotFound(image_id="x")

    mirror_world.images.on_update = gone
    with pytest.raises(exception.ImageNotFound):
        mirror_world.snapshot(guest)


@pytest.mark.parametrize("phase", ["image_pending_upload", "image_uploading"])
def test_instance_is_taken_away_meanwhile(guest, world, phase):
    def gone():
        raise exception.UnexpectedTaskState(instance_uuid="x", expected=[], actual="deleting")

    states = parts.States()
    states.on[phase] = gone
    with pytest.raises(exception.UnexpectedTaskState):
        world.snapshot(guest, states)
    assert_writes(guest)


def test_conversion_fails(guest, world, public_path, monkeypatch):
    fake_qemu_img(public_path, monkeypatch, "sys.exit('no space left')")
    world.set(snapshot_image_format="vmdk")
    error = fails(world, guest)
    assert error.reason == "qemu-img convert failed (exit code 1): no space left"
    assert error.phase == "image_pending_upload"
    assert_writes(guest)


def test_conversion_takes_too_long(guest, world, public_path, monkeypatch):
    fake_qemu_img(public_path, monkeypatch, "time.sleep(600)")
    world.set(snapshot_image_format="vmdk", qemu_img_timeout=1)
    assert "stopped after 1 s" in fails(world, guest).reason
    assert_writes(guest)


def test_copy_takes_too_long(guest, mirror_world):
    mirror_world.set(block_copy_bandwidth=1, block_copy_timeout=1)
    error = fails(mirror_world, guest)
    assert "Waited 1 s for the block copy of disk vda to catch up" in error.reason
    assert isinstance(error.__cause__, exception.WaitTimeout)
    assert_writes(guest)


def test_bandwidth_is_kept(guest, mirror_world):
    mirror_world.set(block_copy_bandwidth=16)
    began = time.monotonic()
    taken = mirror_world.snapshot(guest)
    assert time.monotonic() - began > taken.path.stat().st_size / (16 << 20) * 0.5


@pytest.mark.parametrize("way", MIRRORS)
def test_guest_is_killed_meanwhile(lab, tmp_path, way):
    """The domain is still there, shut off, to be started again."""
    guest = lab.define_guest("killed", lab.make_disk("qcow2", "killed"))
    guest.start()
    pid = int((lab.root / "run/qemu/killed.pid").read_text())
    states = parts.States()
    with parts.open_world(lab, tmp_path, way) as world:
        world.set(block_copy_bandwidth=1)
        killer = threading.Timer(1, os.kill, (pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(exception.SnapshotFailed, match="the guest stopped while its disk"):
            world.driver.snapshot(
                world.context, parts.Instance(guest.uuid, guest.name), "image", states
            )
        killer.join()
        assert world.leftovers() == []
        guest.wait_state("shut off")
        assert guest.state()["persistent"]
        assert world.snapshot(guest).report.method == "offline"
    guest.remove()


def test_guest_is_shut_down_meanwhile(lab, tmp_path):
    guest = lab.define_guest("shut", lab.make_disk("qcow2", "shut"))
    guest.start()
    with parts.open_world(lab, tmp_path, "mirror-undefine") as world:
        world.set(block_copy_bandwidth=1)
        states = parts.States()
        killer = threading.Timer(1, guest.destroy)
        killer.start()
        with pytest.raises(exception.SnapshotFailed, match="the guest stopped while its disk"):
            world.driver.snapshot(
                world.context, parts.Instance(guest.uuid, guest.name), "image", states
            )
        killer.join()
        assert world.leftovers() == []
    assert guest.state()["state"] == "shut off"
    guest.remove()


def test_room_for_the_copy_ends(guest, mirror_world):
    """The snapshot fails; the guest's own writes go on."""
    mirror_world.snapshots.mkdir()
    with small_file_system(mirror_world.snapshots, 4):
        error = fails(mirror_world, guest)
        assert "ended before it was ready; there are" in error.reason
        assert_writes(guest)


@contextlib.contextmanager
def small_file_system(directory, mebibytes):
    options = f"size={mebibytes}m,mode=711"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


class TestBlockJobs:
    """That were there before."""

    @staticmethod
    def domain(lab, guest) -> libvirt.virDomain:
        return lab.connect().lookupByName(guest.name)

    def begin_copy(self, guest, lab, target):
        target.touch()
        xml = f"<disk type='file'><driver type='qcow2'/><source file='{target}'/></disk>"
        flags = libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
        self.domain(lab, guest).blockCopy("vda", xml, None, flags)

    def test_stale_copy_is_ended(self, guest, lab, mirror_world):
        world = mirror_world
        left = world.snapshots / "left"
        left.mkdir(parents=True)
        self.begin_copy(guest, lab, left / "delta")
        instance = parts.Instance(guest.uuid, guest.name)
        world.driver.snapshot(world.context, instance, "image", parts.States())
        assert (world.images.directory / "image").stat().st_size > 0
        assert guest.state()["block_jobs"] == {}
        assert guest.state()["state"] == "running"

    def test_copy_of_somebody_else_is_left_alone(self, guest, lab, world, tmp_path):
        """Nova would take one that was ended for complete. libvirt itself saves no such guest."""
        target = tmp_path / "another"
        self.begin_copy(guest, lab, target)
        try:
            refused = pytest.raises(exception.SnapshotFailed, match=f"{target}|block job")
            with refused:
                world.driver.snapshot(
                    world.context, parts.Instance(guest.uuid, guest.name), "image", parts.States()
                )
            assert "vda" in guest.state()["block_jobs"]
        finally:
            self.domain(lab, guest).blockJobAbort("vda", 0)
        assert guest.state()["state"] == "running"

    def test_other_work_on_the_disk_is_left_alone(self, lab, mirror_world):
        """A commit into the backing file is not ours to end."""
        guest = lab.define_guest("busy", lab.make_disk("qcow2-deep", "busy"))
        guest.start(paused=True)
        domain = self.domain(lab, guest)
        domain.blockCommit("vda", None, None, 0, libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)
        before = domain.blockJobInfo("vda")
        with pytest.raises(exception.SnapshotFailed, match="block job of kind active commit"):
            mirror_world.driver.snapshot(
                mirror_world.context,
                parts.Instance(guest.uuid, guest.name),
                "image",
                parts.States(),
            )
        assert domain.blockJobInfo("vda")["type"] == before["type"]
        assert guest.state()["persistent"]
        guest.remove()


class TestManagedSave:
    def test_save_that_takes_too_long_is_stopped(self, guest, lab, tmp_path):
        """The guest runs on as if nothing had been asked of it."""
        with parts.open_world(lab, tmp_path, "managed_save") as world:
            found = world.host.get_guest(guest.name)
            with pytest.raises(exception.WaitTimeout, match="managedSave"):
                found.managed_save(0.05)
        assert guest.state()["state"] == "running"
        assert not guest.state()["managed_save"]
        assert_writes(guest)

    def test_save_fails(self, guest, lab, tmp_path, monkeypatch):
        def fail(self, seconds):
            raise exception.WaitTimeout(what="the save", seconds=seconds)

        monkeypatch.setattr(LibvirtGuest, "managed_save", fail)
        with parts.open_world(lab, tmp_path, "managed_save") as world:
            assert "the save" in fails(world, guest).reason
        assert_writes(guest)


def test_pivot_fails_once(guest, mirror_world, monkeypatch):
    """The copy is there, and its end does not come at the first attempt."""
    abort = LibvirtGuest.abort_block_job
    calls = []

    def abort_late(self, target):
        calls.append(target)
        if len(calls) == 1:
            raise exception.LibvirtOperationFailed(
                operation="blockJobAbort", domain=self.name, code=1, reason="told to fail"
            )
        abort(self, target)

    monkeypatch.setattr(LibvirtGuest, "abort_block_job", abort_late)
    assert "told to fail" in fails(mirror_world, guest).reason
    assert len(calls) == 2


def test_time_is_over_while_the_copy_is_ready(guest, mirror_world, monkeypatch):
    """A failure after the copy has caught up: it is ended, not left to follow the guest."""
    wait = CopyJob.wait_until_ready

    def wait_and_fail(self, *arguments):
        wait(self, *arguments)
        raise exception.WaitTimeout(what="something else", seconds=1)

    monkeypatch.setattr(CopyJob, "wait_until_ready", wait_and_fail)
    assert "something else" in fails(mirror_world, guest).reason


def test_autostart_survives(guest, lab, mirror_world):
    """It belongs to the definition, which the old way takes away for a while."""
    domain = lab.connect().lookupByName(guest.name)
    domain.setAutostart(1)
    try:
        mirror_world.snapshot(guest)
        assert domain.autostart() == 1
    finally:
        domain.setAutostart(0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("-o backing_file=nbd://localhost/x,backing_fmt=raw -u", "not a plain file name"),
        ("-o backing_file=/dev/null,backing_fmt=raw -u", "not a regular file"),
        ("-o backing_file=missing,backing_fmt=raw -u", "cannot be read"),
        (
            "--object secret,id=s,data=x -o encrypt.format=aes,encrypt.key-secret=s",
            "encrypted",
        ),
        ("-o data_file={disk}.data", "external data file"),
    ],
    ids=["protocol", "device", "missing", "encrypted", "data-file"],
)
def test_disk_that_must_not_be_followed(lab, tmp_path, content, reason):
    path = tmp_path / "disk"
    arguments = content.format(disk=path).split()
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", *arguments, str(path), "1M"], check=True
    )
    guest = lab.define_guest("unsafe", path, disk_format="qcow2")
    with parts.open_world(lab, tmp_path) as world:
        error = fails(world, guest)
    assert isinstance(error.__cause__, exception.UnsafeDisk)
    assert reason in error.reason
    guest.remove()


class Cancelled:
    """A monitor of a snapshot whose image is deleted after a while."""

    def __init__(self, seconds: float) -> None:
        self._gone = threading.Event()
        self._callbacks = []
        self._timer = threading.Timer(seconds, self._cancel)
        self._timer.start()

    def _cancel(self) -> None:
        self._gone.set()
        for callback in self._callbacks:
            callback()

    def progress(self, done: int, total: int) -> None:
        """Nobody looks."""

    def check(self) -> None:
        if self._gone.is_set():
            raise exception.ImageNotFound(image_id="image")

    def on_cancel(self, callback) -> None:
        self._callbacks.append(callback)
        if self._gone.is_set():
            callback()


@pytest.mark.parametrize("work", ["copy", "conversion"])
def test_cancelled_at_once(guest, mirror_world, public_path, monkeypatch, work):
    """The image is deleted: nothing goes on that nobody wants any more."""
    if work == "copy":
        mirror_world.set(block_copy_bandwidth=1)
    else:
        fake_qemu_img(public_path, monkeypatch, "time.sleep(600)")
        mirror_world.set(snapshot_image_format="vmdk")
    instance = parts.Instance(guest.uuid, guest.name)
    before = parts.steady(guest)
    began = time.monotonic()
    with pytest.raises(exception.ImageNotFound):
        mirror_world.driver.snapshot(
            mirror_world.context, instance, "image", parts.States(), Cancelled(2)
        )
    assert time.monotonic() - began < 20
    mirror_world.assert_nothing_left(guest, before)
