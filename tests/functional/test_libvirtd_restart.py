# SPDX-License-Identifier: Apache-2.0
"""libvirt's daemon is killed, started again, away or held up while snapshots are taken.

The guests live on without it, and so do their jobs: a snapshot goes on when it is back.
"""

import contextlib
import functools
import itertools
import json
import os
import queue
import subprocess
import threading
import time
from concurrent import futures

import libvirt_qemu
import pytest

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.virt.libvirt import host as hosts
from nova_snap.virt.libvirt.guest import Guest as LibvirtGuest
from nova_snap.virt.libvirt.host import Host
from nova_snap.virt.libvirt.snapshot.copy_job import CopyJob
from tests.fixtures import libvirt_ops, lost_job
from tests.fixtures.commands import run
from tests.fixtures.libvirtd import LibvirtdLab
from tests.functional import snapshot_parts as parts
from tests.functional import stream_parts

REQUIRED = {"hw_qemu_guest_agent": "yes", "os_require_quiesce": "yes"}
AWAY_SECONDS = 0.5
_NUMBERS = itertools.count()
# Nobody waits for a connection any longer than this.
PATIENCE = 5


class DaemonHost(Host):
    """The connections are the driver's own."""

    def __init__(self, conf, _lab):
        super().__init__(conf)


class Outage:
    """libvirtd goes away, once, and comes back."""

    def __init__(self, lab, gracefully=False):
        self._end = lab.stop if gracefully else lab.kill
        self._start = lab.start
        self._thread = threading.Thread(target=self._come_back)
        self._begun = threading.Event()
        self.happened = False

    def __call__(self, *_arguments):
        if not self.happened:
            self.happened = True
            self._end()
            self._thread.start()
            self._begun.set()

    def _come_back(self):
        time.sleep(AWAY_SECONDS)
        self._start()

    def wait(self):
        """What it was to be in the middle of may have ended before."""
        assert self._begun.wait(10)
        self._thread.join()


@pytest.fixture(scope="module")
def lab():
    with LibvirtdLab() as made:
        yield made


@pytest.fixture(autouse=True)
def _there(lab):
    """Whatever a test does, the next one finds libvirtd."""
    yield
    lab.resume()
    if not lab.daemon.running:
        lab.start()


@pytest.fixture
def still(lab):
    """A guest whose disk does not change, so that images can be compared with it. Each test has its
    own: what libvirt forgot of one, QEMU may still have."""
    name = f"still-{next(_NUMBERS)}"
    made = lab.define_guest(name, lab.make_disk("qcow2", name))
    made.start(paused=True)
    yield made
    lab.resume()
    lab.start()
    made.remove()


@pytest.fixture(scope="module")
def writer(lab):
    """A guest that runs, writes and has an agent."""
    return parts.writing_guest(lab, "writer")


@pytest.fixture
def world(lab, tmp_path):
    made = stream_parts.StreamWorld(lab, tmp_path, DaemonHost)
    made.driver.init_host()
    yield made
    made.driver.close()


def before(monkeypatch, owner, name, outage):
    """Have the outage begin just before this is called."""
    real = getattr(owner, name)

    def late(*arguments, **more):
        outage()
        return real(*arguments, **more)

    monkeypatch.setattr(owner, name, late)


def during(monkeypatch, owner, name, outage, seconds):
    """Have it begin when this is being done."""
    real = getattr(owner, name)

    def cut_off(*arguments, **more):
        if not outage.happened:
            threading.Timer(seconds, outage).start()
        return real(*arguments, **more)

    monkeypatch.setattr(owner, name, cut_off)


@pytest.fixture
def outage(lab):
    made = Outage(lab)
    yield made
    made.wait()


def assert_same(world, guest):
    taken = world.snapshot(guest)
    assert parts.differences(taken, guest) == ""


def hear(heard, guest, state):
    while heard.get(timeout=20) != (guest.uuid, state):
        pass


def until(condition):
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(exception.HypervisorUnavailable):
            if condition():
                return
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


class TestStream:
    @pytest.mark.parametrize("call", ["describe", "begin_backup", "abort_job"])
    def test_killed_before_a_call(self, world, still, outage, monkeypatch, call):
        before(monkeypatch, LibvirtGuest, call, outage)
        assert_same(world, still)

    @pytest.mark.parametrize("gracefully", [False, True])
    def test_killed_while_the_disk_is_read(self, world, lab, still, gracefully):
        """QEMU goes on to offer it, and libvirt finds the job again."""
        outage = Outage(lab, gracefully)
        world.images.on_bytes = stream_parts.once(outage)
        assert_same(world, still)
        outage.wait()

    @pytest.mark.parametrize("seconds", [0.005, 0.015])
    def test_killed_while_the_job_begins(self, world, lab, still, outage, monkeypatch, seconds):
        """It has begun or it has not, or libvirt has noted one and not which: there is an image, or
        a reason; and the next one works."""
        during(monkeypatch, LibvirtGuest, "begin_backup", outage, seconds)
        with contextlib.suppress(exception.SnapshotFailed):
            assert parts.differences(world.take(still), still) == ""
        outage.wait()
        assert parts.differences(world.take(still), still) == ""
        lost_job.put_right(lab, [still.name])
        assert_same(world, still)

    @pytest.mark.parametrize("job", [False, True])
    def test_files_that_are_open_for_no_job(self, world, still, tmp_path, job):
        """A libvirt leaves them open that was killed when it had given them to QEMU. The guest's
        own disk lies below one of them, and QEMU may have a job that libvirt has not noted yet."""
        scratch = tmp_path / "scratch"
        run("qemu-img", "create", "-q", "-f", "qcow2", scratch, "256M")
        scratch.chmod(0o666)
        tmp_path.chmod(0o711)

        def ask(command, **arguments):
            text = json.dumps({"execute": command, "arguments": arguments})
            domain = stream_parts.domain_of(still)
            return json.loads(libvirt_qemu.qemuMonitorCommand(domain, text, 0))["return"]

        def nodes():
            return {node["node-name"] for node in ask("query-named-block-nodes", flat=True)}

        before = nodes()
        disk = next(name for name in before if name.endswith("-1-format"))
        storage = {"driver": "file", "filename": str(scratch), "node-name": "left-storage"}
        ask("blockdev-add", **storage)
        layer = {"driver": "qcow2", "file": "left-storage", "backing": disk}
        ask("blockdev-add", **{**layer, "node-name": "left-format"})
        if job:
            how = {"sync": "none", "auto-dismiss": False}
            ask("blockdev-backup", device=disk, target="left-format", **{"job-id": "left"}, **how)
        guest = world.host.get_guest(still.name)
        assert guest.drop_files(str(tmp_path / "elsewhere")) == 0
        assert nodes() >= before | {"left-storage", "left-format"}
        assert [each["id"] for each in ask("query-jobs")] == (["left"] if job else [])
        assert guest.drop_files(str(tmp_path)) == 2
        assert nodes() == before
        assert ask("query-jobs") == []

    @pytest.mark.parametrize("seconds", [0, 0.005])
    def test_killed_while_the_job_ends(self, world, still, outage, monkeypatch, seconds):
        during(monkeypatch, LibvirtGuest, "abort_job", outage, seconds)
        assert_same(world, still)
        outage.wait()
        assert_same(world, still)

    def test_job_that_libvirt_has_noted_and_not_which(self, world, lab, still, writer):
        """It died in the middle of beginning it, and waits for its end for ever."""
        status = lab.root / f"run/qemu/{still.name}.xml"
        lab.stop()
        known = status.read_text()
        job = "<job type='none' async='backup' flags='0x0'/>"
        status.write_text(known.replace("<domain ", f"{job}<domain ", 1))
        lab.start()

        def lost():
            connection = lab.connect()
            try:
                state = functools.partial(libvirt_ops.state, connection)
                return lost_job.names([still.name, writer.name], state)
            finally:
                connection.close()

        assert lost() == [still.name]
        taken = world.take(still)
        assert taken.report.method == "mirror"
        assert "while it began a backup" in taken.report.reason
        assert parts.differences(taken, still) == ""
        world.set(snapshot_method="stream")
        with pytest.raises(exception.SnapshotFailed, match="the operator can put that right"):
            world.take(still)
        lost_job.put_right(lab, [still.name])
        assert lost() == []
        assert_same(world, still)

    @pytest.mark.parametrize("call", ["freeze", "begin_backup", "thaw"])
    def test_of_a_guest_that_is_frozen_for_it(self, world, writer, outage, monkeypatch, call):
        before(monkeypatch, LibvirtGuest, call, outage)
        with contextlib.suppress(exception.SnapshotFailed):
            stream_parts.assert_instant(world.snapshot(writer, **REQUIRED))
        stream_parts.assert_at_work(writer)
        stream_parts.assert_instant(world.snapshot(writer, **REQUIRED))


class TestOtherMethods:
    @pytest.mark.parametrize("call", ["start_copy", "abort_block_job"])
    def test_mirror(self, world, still, outage, monkeypatch, call):
        world.set(snapshot_method="mirror")
        before(monkeypatch, LibvirtGuest, call, outage)
        assert_same(world, still)

    def test_mirror_while_it_copies(self, world, still, outage, monkeypatch):
        world.set(snapshot_method="mirror")
        during(monkeypatch, CopyJob, "wait_until_ready", outage, 0.05)
        assert_same(world, still)

    @pytest.mark.parametrize("call", ["managed_save", "launch"])
    def test_managed_save(self, world, still, outage, monkeypatch, call):
        world.set(snapshot_method="managed_save")
        before(monkeypatch, LibvirtGuest, call, outage)
        assert_same(world, still)

    @pytest.mark.parametrize("seconds", [0.05, 0.15])
    def test_managed_save_that_is_cut_off(self, world, still, outage, monkeypatch, seconds):
        world.set(snapshot_method="managed_save")
        during(monkeypatch, LibvirtGuest, "managed_save", outage, seconds)
        with contextlib.suppress(exception.SnapshotFailed):
            assert_same(world, still)
        outage.wait()
        # QEMU does not save a paused guest again that it has all but saved.
        world.set(snapshot_method="auto")
        assert_same(world, still)

    def test_offline(self, world, lab, outage):
        off = lab.define_guest("off", lab.make_disk("qcow2"))
        world.images.on_bytes = stream_parts.once(outage)
        assert_same(world, off)


class TestAway:
    """libvirtd is down for long."""

    def test_a_reason_in_time_and_nothing_to_restart(self, world, lab, still):
        world.set(operation_timeout=PATIENCE)
        heard = queue.SimpleQueue()
        world.driver.on_lifecycle_event(lambda *event: heard.put(event))
        instance = parts.Instance(still.uuid, still.name)
        lab.stop()
        for seconds in (2 * PATIENCE, 1):
            # The first waits, for it might have been for a moment; the second knows better.
            began = time.monotonic()
            with pytest.raises(exception.SnapshotFailed, match=r"Connection refused|No such file"):
                world.take(still)
            with pytest.raises(exception.HypervisorUnavailable):
                world.driver.get_info(instance)
            with pytest.raises(exception.HypervisorUnavailable):
                world.driver.host_resources()
            assert time.monotonic() - began < seconds
        lab.start()
        # Told anew, by a connection that nobody has asked for.
        hear(heard, still, power_state.PAUSED)
        world.driver.unpause(instance)
        hear(heard, still, power_state.RUNNING)
        world.driver.pause(instance)
        assert_same(world, still)

    def test_while_the_disk_is_read(self, world, lab, still):
        """The job cannot be ended: the journal says so, and it is ended when libvirt is back."""
        world.set(operation_timeout=1)
        world.images.on_bytes = stream_parts.once(lab.kill)
        with pytest.raises(exception.SnapshotFailed, match="did not end within 1 s"):
            world.take(still)
        assert len(os.listdir(world.snapshots)) == 1
        lab.start()
        world.set(operation_timeout=60)
        assert world.driver.unfinished() == [still.uuid]
        world.driver.clean_up_after_restart(parts.Instance(still.uuid, still.name))
        assert world.leftovers() == []
        assert stream_parts.backup_of(still) is None
        assert_same(world, still)


class TestHeldUp:
    """Nothing is answered, and nothing is closed."""

    def test_one_guest_that_hangs_holds_up_no_other(self, world, lab, still, writer):
        world.set(operation_timeout=PATIENCE)
        hung = parts.Instance(writer.uuid, writer.name)
        other = parts.Instance(still.uuid, still.name)
        with lab.held_up("writer"), futures.ThreadPoolExecutor(12) as pool:
            asked = [pool.submit(world.host.get_guest("writer").disk_capacity, "vda")
                     for _ in range(10)]  # fmt: skip
            failing = pool.submit(world.take, writer)
            began = time.monotonic()
            for _ in range(2):
                assert world.driver.get_info(other).state == power_state.PAUSED
                assert world.driver.get_info(hung).state == power_state.RUNNING
                world.driver.unpause(other)
                world.driver.pause(other)
                assert world.driver.host_resources().running_vms == 2
            assert time.monotonic() - began < PATIENCE
            assert_same(world, still)
            for each in asked:
                assert isinstance(each.exception(60), exception.WaitTimeout)
            error = failing.exception(60)
            assert isinstance(error, exception.SnapshotFailed)
            assert f"Waited {PATIENCE} s for libvirt's" in error.reason
        world.set(operation_timeout=60)
        stream_parts.assert_at_work(writer)
        stream_parts.assert_instant(world.snapshot(writer))

    def test_libvirtd_that_hangs(self, world, lab, still, monkeypatch):
        """Calls that wait for it are ended by the keepalive; it is the same again later."""
        monkeypatch.setattr(hosts, "KEEPALIVE_INTERVAL", 1)
        monkeypatch.setattr(hosts, "KEEPALIVE_COUNT", 2)
        # From now on.
        world.host.close()
        world.driver.host_resources()
        world.set(operation_timeout=8)
        instance = parts.Instance(still.uuid, still.name)
        lab.pause()
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(exception.HypervisorUnavailable):
                world.driver.get_info(instance)
            assert time.monotonic() - began < 30
        # Who asks then need not wait again.
        began = time.monotonic()
        with pytest.raises(exception.HypervisorUnavailable, match="s for an answer"):
            world.driver.get_info(instance)
        assert time.monotonic() - began < 1
        threads = threading.active_count()
        for _ in range(20):
            with pytest.raises(exception.HypervisorUnavailable):
                world.driver.get_info(instance)
        assert threading.active_count() <= threads + 2
        lab.resume()
        until(lambda: world.driver.get_info(instance).state == power_state.PAUSED)
        assert_same(world, still)


def test_guests_outlive_it(lab, still, writer):
    """What all of this stands on."""
    pids = [lab.qemu_pid(guest.name) for guest in (still, writer)]
    lab.kill()
    lab.start()
    assert [lab.qemu_pid(guest.name) for guest in (still, writer)] == pids
    assert subprocess.run(["pgrep", "-F", lab.root / "libvirtd.pid"], check=True).returncode == 0
    assert still.state()["state"] == "paused"
    stream_parts.assert_at_work(writer)
