# SPDX-License-Identifier: Apache-2.0
"""Whatever a guest's hypervisor, its other jobs or its agent do to a stream, it stays as it was."""

import contextlib
import os
import signal
import threading
import time

import libvirt
import pytest

from nova_snap import exception
from nova_snap.stream import errors
from nova_snap.virt.libvirt.guest import Guest as LibvirtGuest
from tests.fixtures import disk_image
from tests.functional import snapshot_parts as parts
from tests.functional import stream_parts

AGENT = {"hw_qemu_guest_agent": "yes"}
REQUIRED = {**AGENT, "os_require_quiesce": "yes"}


@pytest.fixture(scope="module")
def lab(_session_lab):
    yield _session_lab
    _session_lab.remove_guests()


@pytest.fixture(scope="module")
def guest(lab):
    """A guest that runs, writes and has an agent."""
    return parts.writing_guest(lab, "streamed", "streamed")


@pytest.fixture
def world(guest, tmp_path):
    with stream_parts.proven_world(guest, tmp_path) as made:
        yield made


class TestHypervisor:
    @pytest.fixture
    def victim(self, lab):
        made = lab.define_guest("victim", lab.make_disk("qcow2", "victim"))
        made.start()
        yield made
        made.remove()

    @pytest.fixture
    def victim_world(self, lab, tmp_path):
        with stream_parts.open_world(lab, tmp_path) as made:
            yield made

    @staticmethod
    def pid(guest):
        return int((guest.lab.root / f"run/qemu/{guest.name}.pid").read_text())

    def test_is_killed_midway(self, victim, victim_world):
        """The domain is still there, shut off, to be started and taken again."""
        kill = stream_parts.once(lambda: os.kill(self.pid(victim), signal.SIGKILL))
        victim_world.images.on_bytes = kill
        with pytest.raises(exception.SnapshotFailed) as caught:
            victim_world.take(victim)
        assert isinstance(caught.value.__cause__, errors.NBDDisconnected)
        assert caught.value.phase == "image_uploading"
        assert victim_world.leftovers() == []
        victim.wait_state("shut off")
        assert victim.state()["persistent"]
        victim_world.images.on_bytes = lambda _number, _taken: None
        taken = victim_world.snapshot(victim)
        assert taken.report.method == "offline"
        assert parts.differences(taken, victim) == ""

    def test_hangs_midway(self, victim, victim_world):
        """It cannot even be told to end the job. When it wakes up, the next snapshot does it."""
        victim_world.set(snapshot_read_timeout=1, operation_timeout=2)
        pid = self.pid(victim)
        victim_world.images.on_bytes = stream_parts.once(lambda: os.kill(pid, signal.SIGSTOP))
        try:
            with pytest.raises(exception.SnapshotFailed):
                victim_world.take(victim)
            assert len(victim_world.leftovers()) == 1
        finally:
            os.kill(pid, signal.SIGCONT)
        victim_world.set(operation_timeout=60)
        victim_world.images.on_bytes = lambda _number, _taken: None
        taken = victim_world.take(victim)
        assert taken.report.method == "stream"
        assert disk_image.check(taken.path, taken.format) == ""
        assert stream_parts.backup_of(victim) is None
        assert victim_world.leftovers() == []


class TestOtherJobs:
    @pytest.fixture
    def other(self, guest, tmp_path):
        """A backup job of somebody else."""
        domain = stream_parts.domain_of(guest)
        socket = guest.lab.root / "other"
        domain.backupBegin(
            f"<domainbackup mode='pull'><server transport='unix' socket='{socket}'/><disks>"
            f"<disk name='vda' type='file'><scratch file='{tmp_path}/other'/></disk></disks>"
            "</domainbackup>",
            None,
            0,
        )
        yield
        domain.abortJob()
        deadline = time.monotonic() + 60
        while stream_parts.backup_of(guest) is not None:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def test_backup_of_somebody_else(self, guest, world, other):
        """It is told apart from ours, and left alone."""
        before = stream_parts.backup_of(guest)
        with pytest.raises(exception.SnapshotFailed) as caught:
            world.take(guest)
        assert isinstance(caught.value.__cause__, exception.BackupJobFailed)
        assert "another backup of this domain runs" in caught.value.reason
        assert caught.value.phase == "image_snapshot"
        assert stream_parts.backup_of(guest) == before
        assert world.leftovers() == []

    def test_block_copy(self, guest, world, tmp_path):
        """libvirt does not begin a backup beside it; the copy goes on."""
        target = tmp_path / "copy"
        target.touch()
        xml = f"<disk type='file'><driver type='qcow2'/><source file='{target}'/></disk>"
        flags = libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
        domain = stream_parts.domain_of(guest)
        domain.blockCopy("vda", xml, None, flags)
        try:
            with pytest.raises(exception.SnapshotFailed) as caught:
                world.take(guest)
            assert "vda" in caught.value.reason
            assert "vda" in guest.state()["block_jobs"]
            assert world.leftovers() == []
        finally:
            domain.blockJobAbort("vda", 0)


class TestAgent:
    @contextlib.contextmanager
    def hanging(self, guest):
        guest.run("killall -STOP qemu-ga")
        try:
            yield
        finally:
            guest.run("killall -CONT qemu-ga")
            guest.wait_agent()

    @staticmethod
    def hang_after_the_freeze(guest, monkeypatch):
        """The point in time is taken, and then the agent does not answer the thaw."""
        begin = LibvirtGuest.begin_backup

        def begin_and_hang(self, xml, seconds=None):
            begin(self, xml, seconds)
            guest.run("killall -STOP qemu-ga")

        monkeypatch.setattr(LibvirtGuest, "begin_backup", begin_and_hang)

    def test_freeze_is_short(self, guest, world, monkeypatch):
        """From the order to freeze to the answer to the thaw."""
        at = {}
        freeze, thaw = LibvirtGuest.freeze, LibvirtGuest.thaw

        def timed_freeze(self, seconds):
            at["freeze"] = time.monotonic()
            return freeze(self, seconds)

        def timed_thaw(self, seconds):
            count = thaw(self, seconds)
            at["thaw"] = time.monotonic()
            return count

        monkeypatch.setattr(LibvirtGuest, "freeze", timed_freeze)
        monkeypatch.setattr(LibvirtGuest, "thaw", timed_thaw)
        states = parts.States()
        states.on["image_pending_upload"] = lambda: at.setdefault("begun", time.monotonic())
        taken = world.snapshot(guest, states, **REQUIRED)
        assert taken.report.quiesced
        assert at["thaw"] - at["freeze"] < 1
        assert at["thaw"] < at["begun"], "the user is told before the guest is thawed"
        with disk_image.raw_view(taken.path, taken.format) as image:
            assert image.fsck().state == "clean"
            assert image.writer_state().problems == ()

    def test_hangs(self, guest, world):
        world.set(agent_timeout=1, thaw_timeout=1)
        with self.hanging(guest):
            taken = world.snapshot(guest, **AGENT)
            assert not taken.report.quiesced
            error = world.fails(guest, **REQUIRED)
        assert isinstance(error.__cause__, exception.AgentError)
        assert (error.method, error.phase) == ("stream", "image_snapshot")
        stream_parts.assert_instant(taken)

    def test_answers_the_thaw_late(self, guest, world, monkeypatch):
        """The thaw is tried until it works: the image is good."""
        world.set(agent_timeout=1, thaw_timeout=60)
        self.hang_after_the_freeze(guest, monkeypatch)
        waker = threading.Timer(3, guest.run, ["killall -CONT qemu-ga"])
        waker.start()
        try:
            taken = world.snapshot(guest, **REQUIRED)
        finally:
            waker.join()
        assert taken.report.quiesced
        stream_parts.assert_instant(taken)

    def test_does_not_answer_the_thaw(self, guest, world, monkeypatch):
        """The snapshot fails without a job left, and the thaw is still owed: the next start, or
        the next snapshot, pays it."""
        world.set(agent_timeout=1, thaw_timeout=1)
        self.hang_after_the_freeze(guest, monkeypatch)
        try:
            with pytest.raises(exception.SnapshotFailed) as caught:
                world.take(guest, **REQUIRED)
            assert isinstance(caught.value.__cause__, exception.AgentError)
            assert stream_parts.backup_of(guest) is None
            assert len(world.leftovers()) == 1
        finally:
            guest.run("killall -CONT qemu-ga")
        world.set(agent_timeout=5, thaw_timeout=30)
        world.driver.init_host()
        assert world.leftovers() == []

    def test_backup_that_does_not_begin(self, guest, world, monkeypatch):
        """The guest is not held for as long as libvirt's other calls may take."""
        world.set(agent_timeout=1, operation_timeout=30)
        at = {}
        freeze, thaw = LibvirtGuest.freeze, LibvirtGuest.thaw
        never = threading.Event()

        def hang(self, xml, seconds=None):
            self._call("backupBegin", lambda _domain: never.wait(20), seconds)

        def timed_freeze(self, seconds):
            at["freeze"] = time.monotonic()
            return freeze(self, seconds)

        def timed_thaw(self, seconds):
            count = thaw(self, seconds)
            at.setdefault("thaw", time.monotonic())
            return count

        with monkeypatch.context() as patched:
            patched.setattr(LibvirtGuest, "begin_backup", hang)
            patched.setattr(LibvirtGuest, "freeze", timed_freeze)
            patched.setattr(LibvirtGuest, "thaw", timed_thaw)
            with pytest.raises(exception.SnapshotFailed) as caught:
                world.take(guest, **REQUIRED)
        never.set()
        assert isinstance(caught.value.__cause__, exception.WaitTimeout)
        assert 1 <= at["thaw"] - at["freeze"] < 5
        # It might have begun when nobody looked any more: the next start looks.
        assert len(world.leftovers()) == 1
        world.driver.init_host()
        assert world.leftovers() == []
        assert guest.run("touch /tmp/not-frozen") is not None
