# SPDX-License-Identifier: Apache-2.0
"""A backup job ends in every outcome, and before its scratch file can hurt the guest."""

import contextlib
import dataclasses
import os
import threading

import pytest
from lxml import etree

from nova_snap import exception
from nova_snap.virt.libvirt import backup_job, domain_xml
from nova_snap.virt.libvirt.backup_job import ScratchGuard
from nova_snap.virt.libvirt.domain_disks import Encryption, SecretReference
from tests.fixtures import logs
from tests.unit.virt import doubles

SOCKET = "/run/nova-snap/s1/nbd"
MIB = 1 << 20


def disk(target):
    return domain_xml.Disk(target, "virtio", "disk", "file", f"/{target}", "qcow2")


DOMAIN = domain_xml.parse(
    f"""<domain type='kvm'><name>{doubles.NAME}</name><uuid>{doubles.UUID}</uuid><devices>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>
    <disk type='file' device='disk'><driver type='qcow2'/><source file='/disk'/>
      <target dev='vda' bus='virtio'/></disk>
    <disk type='network' device='disk'><driver type='raw'/><source protocol='rbd' name='p/v'/>
      <target dev='vdb' bus='virtio'/></disk>
    </devices></domain>""",
    doubles.NAME,
)


class BackupGuest(doubles.FakeGuest):
    """A guest that can be backed up.

    :ivar ends_after: how often its job is still seen after the order to end.
    :ivar serves: QEMU's NBD server runs, although libvirt knows of no job.
    :ivar open_files: scratch files that it has open then.
    """

    patience = 0.3

    def __init__(self):
        super().__init__()
        self.socket = None
        self.ends_after = 0
        self.told_to_end = False
        self.begun_xml = ""
        self.serves = False
        self.open_files = 0

    def begin_backup(self, xml, seconds=None):
        self.begin_seconds = seconds
        self._enter("begin_backup")
        self._need_active("backupBegin")
        self.begun_xml = xml
        self.socket = domain_xml.backup_socket(xml, self.name)

    def backup_socket(self):
        self._enter("backup_socket")
        if self.told_to_end and self.socket is not None:
            if self.ends_after == 0:
                self.socket = None
            self.ends_after -= 1
        return self.socket

    def abort_job(self):
        self._enter("abort_job")
        self._need_active("abortJob")
        self.told_to_end = True

    def stop_nbd_server(self):
        self._enter("stop_nbd_server")
        self._need_active("qemuMonitorCommand")
        ran, self.serves = self.serves, False
        return ran

    def drop_files(self, directory):
        self._enter("drop_files")
        assert directory == "/snapshots/x"
        dropped, self.open_files = self.open_files, 0
        return dropped


@pytest.fixture
def guest():
    return BackupGuest()


@pytest.fixture
def notes():
    return []


@pytest.fixture
def job(guest, notes):
    xml = backup_job.job_xml(DOMAIN, SOCKET, {"vda": "/scratch"})
    return backup_job.Job(guest, xml, SOCKET, "/snapshots/x", notes.append)


@pytest.fixture
def running(job):
    @contextlib.contextmanager
    def run():
        with job:
            job.begin()
            yield

    return run()


@pytest.mark.parametrize("where", ["begin_backup", "abort_job", "backup_socket"])
def test_libvirt_was_started_again(guest, running, notes, where):
    """It may have forgotten the job before it had ended it: the server is looked after."""

    def start_again():
        guest.interruptions += 1
        guest.serves = True
        guest.open_files = 2
        guest.before.clear()

    guest.before[where] = start_again
    with running:
        pass
    assert not guest.serves
    assert guest.open_files == 0
    assert notes[-1] == ""


@pytest.mark.parametrize("where", ["abort_job", "backup_socket"])
def test_order_to_end_that_libvirt_has_forgotten(guest, where):
    """It was started again before the job had ended, and goes on to have it."""
    guest.socket = SOCKET
    guest.active = True

    def start_again():
        if guest.told_to_end or where == "abort_job":
            guest.interruptions += 1
            guest.ends_after = 2
            guest.before.clear()

    guest.before[where] = start_again
    guest.patience = 5.0
    backup_job.end(guest, SOCKET)
    assert guest.calls.count("abort_job") == 2


def test_libvirt_lived_on(guest, running):
    """It is not asked behind its back then."""
    with running:
        pass
    assert "stop_nbd_server" not in guest.calls


def test_xml_leaves_the_other_disks_out():
    root = etree.fromstring(backup_job.job_xml(DOMAIN, SOCKET, {"vda": "/dir/a&b"}))
    assert (root.tag, root.get("mode")) == ("domainbackup", "pull")
    assert dict(root.find("server").attrib) == {"transport": "unix", "socket": SOCKET}
    disks = {node.get("name"): node for node in root.iterfind("disks/disk")}
    assert {name: node.get("backup") for name, node in disks.items()} == {
        "sda": "no",
        "vda": "yes",
        "vdb": "no",
    }
    assert disks["vda"].get("exportname") == "vda"
    assert disks["vda"].get("backupmode") == "full"
    assert disks["vda"].find("driver").get("type") == "qcow2"
    assert disks["vda"].find("scratch").get("file") == "/dir/a&b"


def test_xml_of_several_disks():
    """Side by side on one socket, each with a scratch file of its own."""
    root = etree.fromstring(backup_job.job_xml(DOMAIN, SOCKET, {"vda": "/d/a", "vdb": "/d/b"}))
    found = [
        (node.get("name"), node.get("exportname"), node.find("scratch").get("file"))
        for node in root.iterfind("disks/disk[@backup='yes']")
    ]
    assert found == [("vda", "vda", "/d/a"), ("vdb", "vdb", "/d/b")]


@pytest.mark.parametrize(
    ("secret", "attributes"),
    [
        (SecretReference("volume", uuid="u1"), {"type": "passphrase", "uuid": "u1"}),
        (SecretReference("volume", usage="a&b"), {"type": "passphrase", "usage": "a&b"}),
    ],
)
@pytest.mark.parametrize("where", ["disk", "backing file"])
def test_xml_of_an_encrypted_disk(secret, attributes, where):
    """Its scratch file is encrypted with the same secret."""
    luks = Encryption("luks", secret)
    backing = (domain_xml.Layer("/base", "qcow2", luks),)
    found = {"encryption": luks} if where == "disk" else {"backing": backing}
    disks = [dataclasses.replace(each, **found) for each in DOMAIN.disks]
    domain = dataclasses.replace(DOMAIN, disks=disks)
    root = etree.fromstring(backup_job.job_xml(domain, SOCKET, {"vda": "/scratch"}))
    (encryption,) = root.iterfind("disks/disk/scratch/encryption")
    assert encryption.get("format") == "luks"
    assert dict(encryption.find("secret").attrib) == attributes


def test_socket_of_our_own_xml_is_found_again():
    xml = backup_job.job_xml(DOMAIN, SOCKET, {"vda": "/scratch"})
    assert domain_xml.backup_socket(xml, doubles.NAME) == SOCKET


@pytest.mark.parametrize(
    ("socket", "free"),
    [(None, True), ("/run/other", False), ("", False), (SOCKET, False)],
    ids=["none", "other", "tcp", "ours"],
)
def test_check_free(guest, socket, free):
    guest.socket = socket
    if free:
        backup_job.check_free(guest)
    else:
        with pytest.raises(exception.BackupJobFailed, match="another backup of this domain runs"):
            backup_job.check_free(guest)
    assert guest.changes() == ["backup_socket"]


def test_a_stray_job_of_our_own_is_ended(guest):
    guest.socket = SOCKET
    backup_job.check_free(guest, lambda socket: socket == SOCKET)
    assert guest.socket is None


def test_a_job_of_somebody_else_is_left_alone(guest):
    guest.socket = "/var/tmp/virtnbdbackup.4711"
    with pytest.raises(exception.BackupJobFailed, match="another backup"):
        backup_job.check_free(guest, lambda socket: socket == SOCKET)
    assert guest.changes() == ["backup_socket"]


class TestRunning:
    def test_was_never_begun(self, guest, job, notes):
        with job:
            pass
        assert guest.calls == []
        assert notes == [SOCKET, ""]

    def test_is_noted_before_it_may_begin(self, guest, job, notes):
        """And before the guest may be frozen for it, which is when to write it would be dear."""
        with job:
            assert notes == [SOCKET]

    def test_begins_within_a_bound(self, guest, job):
        with job:
            job.begin(7)
        assert guest.begin_seconds == 7

    def test_is_still_there_when_it_could_not_begin_in_time(self, guest, job):
        """Whoever has frozen the guest thaws it first."""
        guest.before["begin_backup"] = lambda: setattr(guest, "socket", SOCKET)
        guest.errors["begin_backup"] = exception.WaitTimeout(what="backupBegin", seconds=1)
        with job:
            with pytest.raises(exception.WaitTimeout):
                job.begin(1)
            assert guest.socket == SOCKET
        assert guest.socket is None

    def test_from_begin_to_end(self, guest, running, notes):
        with running:
            assert guest.socket == SOCKET
            assert notes == [SOCKET]
        assert guest.socket is None
        assert notes == [SOCKET, ""]

    def test_is_noted_before_it_begins(self, guest, running, notes):
        guest.before["begin_backup"] = lambda: notes.append("begin")
        with running:
            pass
        assert notes == [SOCKET, "begin", ""]

    def test_body_fails(self, guest, running, notes):
        with pytest.raises(ZeroDivisionError), running:
            raise ZeroDivisionError
        assert guest.socket is None
        assert notes == [SOCKET, ""]

    def test_is_refused(self, guest, running, notes):
        guest.errors["begin_backup"] = doubles.failed("backupBegin")
        with pytest.raises(exception.LibvirtOperationFailed), running:
            pytest.fail("it has not begun")
        assert "abort_job" not in guest.calls
        assert notes == [SOCKET, ""]

    def test_has_begun_though_the_answer_is_lost(self, guest, running, notes):
        def begin():
            guest.socket = SOCKET

        guest.before["begin_backup"] = begin
        guest.errors["begin_backup"] = doubles.failed("backupBegin", "connection lost")
        with pytest.raises(exception.LibvirtOperationFailed), running:
            pytest.fail("it has not begun")
        assert guest.socket is None
        assert notes == [SOCKET, ""]

    def test_may_begin_yet(self, guest, running, notes):
        """It is not there when we look, and the note stays for whoever looks later."""
        guest.errors["begin_backup"] = exception.WaitTimeout(what="backupBegin", seconds=1)
        with pytest.raises(exception.WaitTimeout), running:
            pytest.fail("it has not begun")
        assert notes == [SOCKET]

    def test_late_answer_of_something_else(self, guest, running, notes):
        with pytest.raises(exception.WaitTimeout), running:
            raise exception.WaitTimeout(what="an upload", seconds=1)
        assert notes == [SOCKET, ""]

    def test_does_not_end(self, guest, running, notes):
        guest.ends_after = 1000
        with pytest.raises(exception.BackupJobFailed, match=r"did not end within 0\.3 s"), running:
            pass
        assert notes == [SOCKET]


class TestEnd:
    def test_waits_until_it_is_gone(self, guest):
        guest.socket = SOCKET
        guest.ends_after = 3
        backup_job.end(guest, SOCKET)
        assert guest.calls.count("abort_job") == 1
        assert guest.socket is None

    @pytest.mark.parametrize("socket", [None, "/run/other", ""])
    def test_leaves_others_alone(self, guest, socket):
        guest.socket = socket
        backup_job.end(guest, SOCKET)
        assert "abort_job" not in guest.calls

    def test_guest_has_stopped(self, guest):
        guest.socket = SOCKET
        guest.stop()
        backup_job.end(guest, SOCKET)
        assert guest.changes() == []

    def test_guest_stops_just_then(self, guest):
        guest.socket = SOCKET
        guest.before["abort_job"] = guest.stop
        backup_job.end(guest, SOCKET)
        assert guest.calls.count("abort_job") == 1

    def test_domain_is_gone(self, guest):
        guest.errors["is_active"] = exception.DomainNotFound(domain=doubles.NAME)
        backup_job.end(guest, SOCKET)

    @pytest.mark.parametrize("call", ["is_active", "backup_socket", "abort_job"])
    def test_is_tried_again(self, guest, call):
        guest.socket = SOCKET
        guest.errors[call] = [doubles.failed(call), doubles.failed(call)]
        backup_job.end(guest, SOCKET)
        assert guest.socket is None

    @pytest.mark.parametrize("call", ["is_active", "backup_socket", "abort_job"])
    def test_is_given_up(self, guest, call):
        guest.socket = SOCKET
        guest.errors[call] = doubles.failed(call)
        with pytest.raises(exception.BackupJobFailed, match="virsh domjobabort"):
            backup_job.end(guest, SOCKET)


class TestEndRest:
    """libvirt was cut off between the job's end and that of what it used."""

    def test_is_ended(self, guest, caplog):
        guest.serves, guest.open_files = True, 2
        backup_job.end_rest(guest, "/snapshots/x")
        assert (guest.serves, guest.open_files) == (False, 0)
        assert "NBD server" in caplog.text
        assert "2 block nodes" in caplog.text

    def test_there_is_none(self, guest, caplog):
        backup_job.end_rest(guest, "/snapshots/x")
        assert logs.ours(caplog) == []

    def test_somebody_elses_job_needs_it(self, guest):
        guest.socket = "/run/other"
        guest.serves = True
        backup_job.end_rest(guest, "/snapshots/x")
        assert guest.serves

    def test_guest_has_stopped(self, guest):
        guest.stop()
        backup_job.end_rest(guest, "/snapshots/x")
        assert "stop_nbd_server" not in guest.calls


class TestScratchGuard:
    @pytest.fixture
    def scratch(self, tmp_path):
        path = tmp_path / "scratch"
        path.touch()
        return str(path)

    @pytest.fixture
    def room(self, monkeypatch):
        """Free bytes of the file system, to be set."""
        free = [100 * MIB]
        monkeypatch.setattr(backup_job, "free_bytes", lambda _path: free[0])
        return free

    def test_there_is_room(self, guest, scratch, room):
        stopped = threading.Event()
        with ScratchGuard(guest, [scratch], 100 * MIB, stopped.set) as guard:
            guard.check()
        assert not stopped.is_set()
        assert guard.error is None

    def test_gives_way_once(self, guest, scratch, room):
        stops = []
        stopped = threading.Event()

        def stop():
            stops.append(guard.error)
            stopped.set()

        guard = ScratchGuard(guest, [scratch], 64 * MIB, stop)
        with guard:
            room[0] = 64 * MIB - 1
            assert stopped.wait(10)
        assert stops == [guard.error]
        assert isinstance(guard.error, exception.ScratchFull)
        assert (guard.error.free_mib, guard.error.reserve_mib) == (63, 64)
        assert guard.error.path == os.path.dirname(scratch)

    def test_room_is_not_known(self, guest, tmp_path):
        """A guard that is blind lets nobody write."""
        stopped = threading.Event()
        scratch = str(tmp_path / "gone" / "scratch")
        with ScratchGuard(guest, [scratch], 0, stopped.set) as guard:
            assert stopped.wait(10)
        assert isinstance(guard.error, exception.BackupJobFailed)
        assert "No such file or directory" in guard.error.reason

    def test_job_does_not_end(self, guest, scratch, room, caplog):
        """The reason stays the room; whoever leaves the job tries to end it again."""

        def stop():
            raise exception.BackupJobFailed(domain=doubles.NAME, reason="it does not end")

        room[0] = 0
        with ScratchGuard(guest, [scratch], 1, stop) as guard:
            guard._thread.join(10)
        assert isinstance(guard.error, exception.ScratchFull)
        assert "still runs" in caplog.text

    def test_measures_what_is_allocated(self, guest, scratch):
        guard = ScratchGuard(guest, [scratch], 0, lambda: None)
        with open(scratch, "r+b") as file:
            file.truncate(100 * MIB)
            assert guard.measure() < MIB
            file.seek(50 * MIB)
            file.write(os.urandom(2 * MIB))
        most = guard.measure()
        assert 2 * MIB <= most < 3 * MIB
        os.truncate(scratch, 0)
        assert guard.measure() == most
        os.unlink(scratch)
        assert guard.measure() == most

    def test_measures_all_files(self, guest, tmp_path):
        paths = [str(tmp_path / name) for name in ("one", "two")]
        for path in paths:
            with open(path, "wb") as file:
                file.write(os.urandom(MIB))
        guard = ScratchGuard(guest, paths, 0, lambda: None)
        assert 2 * MIB <= guard.measure() < 3 * MIB
