# SPDX-License-Identifier: Apache-2.0
"""The streaming methods' sockets have a place of their own, and nothing of it stays."""

import os
import pathlib
import stat
import tempfile
import threading

import pytest

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.virt.libvirt.snapshot import workdir
from nova_snap.virt.libvirt.snapshot.base import ImageRequest, Request
from nova_snap.virt.libvirt.snapshot.recovery import Recovery
from nova_snap.virt.libvirt.snapshot.stream import Stream, socket_directory
from tests.unit.virt import doubles


class OwnedGuest(doubles.FakeGuest):
    """:ivar label: of the process, as libvirt's ``dac`` security model has it."""

    label = ""

    def xml(self):
        seclabel = f"<seclabel model='dac'><label>{self.label}</label></seclabel>"
        return super().xml().replace("</domain>", f"{seclabel if self.label else ''}</domain>")


@pytest.fixture
def guest():
    return OwnedGuest()


@pytest.fixture
def short():
    """pytest's own directories have names too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="nsm-", dir="/tmp") as made:
        yield pathlib.Path(made)


@pytest.fixture
def directory(conf, short):
    made = workdir.create(str(short / "snapshots"), doubles.UUID, conf.host)
    yield made
    made.close()


@pytest.fixture
def request_(guest, directory):
    domain = guest.describe()
    image = ImageRequest(domain.root_disk(), None, "qcow2")
    return Request(guest, domain, power_state.RUNNING, [image], directory, lambda: None)


@pytest.fixture
def sockets(conf, short):
    """The operator's own place for them."""
    path = short / "sockets"
    path.mkdir()
    conf.set_override("snapshot_socket_directory", str(path), "libvirt")
    return path


def test_lies_beside_the_other_files(conf, request_):
    with socket_directory(conf, request_) as made:
        assert os.path.dirname(made) == request_.workdir.path
        assert stat.S_IMODE(os.stat(made).st_mode) == 0o700
    assert not os.path.exists(made)


def test_lies_where_it_is_told(conf, request_, sockets):
    with socket_directory(conf, request_) as made, socket_directory(conf, request_) as other:
        assert os.path.dirname(made) == os.path.dirname(other) == str(sockets)
        assert made != other
    assert os.listdir(sockets) == []


def test_is_gone_after_an_error_with_its_socket(conf, request_, sockets):
    def fail():
        with socket_directory(conf, request_) as made:
            pathlib.Path(made, "nbd").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert os.listdir(sockets) == []
    assert request_.workdir.journal.socket_directory == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_is_the_hypervisors_own(conf, request_, guest):
    guest.label = "+12345:+23456"
    with socket_directory(conf, request_) as made:
        status = os.stat(made)
        assert (status.st_uid, status.st_gid) == (12345, 23456)


def test_user_is_not_known_here(conf, request_, guest):
    guest.label = "nobody-here:nobody-here"
    with socket_directory(conf, request_) as made:
        assert os.stat(made).st_uid == os.geteuid()


@pytest.mark.parametrize(("length", "fits"), [(107, True), (108, False)])
def test_path_of_a_socket_has_a_limit(conf, request_, sockets, length, fits):
    """107 bytes, and the zero after them."""
    deep = sockets / ("d" * (length - len(f"{sockets}//s12345678/nbd")))
    deep.mkdir()
    conf.set_override("snapshot_socket_directory", str(deep), "libvirt")
    if fits:
        with socket_directory(conf, request_) as made:
            assert len(os.path.join(made, "nbd")) == length
    else:
        with (
            pytest.raises(
                exception.SocketDirectoryUnusable, match="snapshot_socket_directory to a short"
            ),
            socket_directory(conf, request_),
        ):
            pytest.fail("it is too long")
    assert os.listdir(deep) == []


def test_there_is_no_such_place(conf, request_, tmp_path):
    conf.set_override("snapshot_socket_directory", str(tmp_path / "missing"), "libvirt")
    with (
        pytest.raises(
            exception.SocketDirectoryUnusable,
            match=r"missing.*snapshot_socket_directory",
        ),
        socket_directory(conf, request_),
    ):
        pytest.fail("it is not there")


def test_process_dies(conf, guest, tmp_path, sockets):
    """It is noted before it is there, for the next process to remove."""
    conf.set_override("snapshots_directory", str(tmp_path / "snapshots"), "libvirt")
    left = workdir.create(str(tmp_path / "snapshots"), doubles.UUID, conf.host)
    left.note(socket_directory=str(sockets / "s12345678"))
    os.close(left._lock)
    recovery = Recovery(conf, doubles.FakeHost(guest), doubles.FakeImages())
    (sockets / "s12345678").mkdir()
    (sockets / "s12345678" / "nbd").touch()
    recovery.recover()
    assert os.listdir(sockets) == []
    assert os.listdir(tmp_path / "snapshots") == []


def test_data_go_although_the_guest_is_not_right(directory):
    """The journal stays, and neither a scratch file nor sockets."""
    directory.new_file("scratch")
    os.mkdir(directory.file("s12345678"))
    directory.note(backup_socket="/run/nbd")
    directory.close()
    assert sorted(os.listdir(directory.path)) == ["journal.json", "lock"]
    os.unlink(directory.file("journal.json"))
    directory._lock = os.open(directory.file("lock"), os.O_RDWR)
    directory.note(backup_socket="")


@pytest.mark.parametrize(
    ("socket", "own"),
    [
        ("{sockets}/s0123abcd/nbd", True),
        ("{snapshots}/3f1c8c1e-5e0b-4b2a-9a44-0d8f2f9f8c11-abcdefgh/s0123abcd/nbd", True),
        ("{sockets}/virtnbdbackup.4711", False),
        ("{sockets}/others/nbd", False),
        ("{sockets}/s0123abcd/other", False),
        ("{snapshots}/others/s0123abcd/nbd", False),
        ("/elsewhere/s0123abcd/nbd", False),
    ],
)
def test_whose_a_socket_is(conf, sockets, socket, own):
    """Other tools may have theirs in the same place, such as /var/tmp."""
    paths = {"sockets": sockets, "snapshots": conf.libvirt.snapshots_directory}
    stream = Stream(conf, None, doubles.NEW)
    assert stream._is_own(socket.format(**paths)) == own


class Backup(doubles.FakeGuest):
    """Has backup jobs, and an agent that answers late."""

    def backup_socket(self):
        return None

    def begin_backup(self, xml, seconds=None):
        self.calls.append("begin_backup")


def test_scratch_file_is_watched_while_the_guest_is_thawed(conf, directory):
    """Its freeze may have failed, and a thaw may take two minutes: it writes all the while."""
    conf.set_override("thaw_timeout", 1, "libvirt")
    conf.set_override("snapshot_scratch_reserve", 0, "libvirt")
    guest = Backup()
    late = exception.AgentUnresponsive(domain=guest.name, operation="it", reason="late")
    guest.errors.update(freeze=late, thaw=late)
    watched = []
    guest.before["thaw"] = lambda: watched.append(
        any(thread.name == "scratch-guard" for thread in threading.enumerate())
    )
    domain = guest.describe()
    image = ImageRequest(domain.root_disk(), None, "qcow2")
    request = Request(
        guest, domain, power_state.RUNNING, [image], directory, lambda: None, quiesce=True
    )
    with (
        pytest.raises(exception.AgentUnresponsive),
        Stream(conf, None, doubles.NEW).open(request),
    ):
        pytest.fail("the guest may be frozen")
    assert "begin_backup" in guest.calls
    assert watched
    assert all(watched)
