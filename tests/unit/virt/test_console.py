# SPDX-License-Identifier: Apache-2.0
"""The log of a console: where it is, and how much of it is read."""

import os
import pwd

import pytest

from nova_snap import exception
from nova_snap.virt.libvirt import console

XML = "<domain><name>x</name><devices>{}</devices></domain>"


@pytest.mark.parametrize(
    ("devices", "path"),
    [
        ("<serial type='pty'><log file='/a'/></serial>", "/a"),
        ("<console type='pty'><log file='/b'/></console>", "/b"),
        ("<serial type='file'><source path='/c'/></serial>", "/c"),
        ("<serial type='pty'/><serial type='tcp'><log file='/d'/></serial>", "/d"),
        ("<serial type='pty'><source path='/dev/pts/3'/></serial>", None),
        ("", None),
    ],
)
def test_place(devices, path):
    assert console.log_path(XML.format(devices), "x") == path


@pytest.mark.parametrize(
    ("content", "size", "found"),
    [(b"", 10, b""), (b"short", 10, b"short"), (b"0123456789", 4, b"6789")],
)
def test_tail(tmp_path, content, size, found):
    path = tmp_path / "log"
    path.write_bytes(content)
    assert console.tail(str(path), size) == found


def test_no_log_yet(tmp_path):
    assert console.tail(str(tmp_path / "none"), 10) == b""


def test_pipe_does_not_hold_it_up(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        console.tail(str(tmp_path / "pipe"), 10)


def test_link_is_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (tmp_path / "log").symlink_to(secret)
    with pytest.raises(OSError, match="symbolic link"):
        console.tail(str(tmp_path / "log"), 10)


def test_second_name_of_a_file(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    os.link(tmp_path / "secret", tmp_path / "log")
    with pytest.raises(OSError, match="another name"):
        console.tail(str(tmp_path / "log"), 10)


@pytest.mark.parametrize("path", ["log", "./log", "", "/"])
def test_path_that_is_not_absolute(tmp_path, monkeypatch, path):
    (tmp_path / "log").write_bytes(b"text")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="no absolute path"):
        console.tail(path, 10)


class TestDirectory:
    """Who can write to it says what this process, which may read everything, reads."""

    @pytest.fixture
    def log(self, public_path):
        path = public_path / "instances" / "uuid" / "console.log"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"text")
        return path

    @pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o1777])
    def test_that_others_may_write_to(self, log, mode):
        log.parent.chmod(mode)
        with pytest.raises(OSError, match=f"others may write to {log.parent}, "):
            console.tail(str(log), 10)

    def test_below_one_that_others_may_write_to(self, log):
        log.parent.parent.chmod(0o777)
        with pytest.raises(OSError, match=f"others may write to {log.parent.parent}, "):
            console.tail(str(log), 10)

    def test_that_a_link_of_somebody_else_leads_to(self, log, public_path):
        theirs = public_path / "theirs"
        theirs.mkdir()
        (theirs / "link").symlink_to(log.parent)
        assert console.tail(str(theirs / "link" / log.name), 10) == b"text"
        theirs.chmod(0o777)
        with pytest.raises(OSError, match=f"others may write to {theirs}, "):
            console.tail(str(theirs / "link" / log.name), 10)

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
    def test_of_somebody_else(self, log):
        os.chown(log.parent, 12345, -1)
        with pytest.raises(OSError, match="others may write"):
            console.tail(str(log), 10)

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
    def test_of_the_hypervisors_user(self, log, monkeypatch):
        """And of Nova's; the names of both are those of distributions."""
        monkeypatch.setattr(console, "_OWNERS", ("nobody", "no-such-user"))
        os.chown(log.parent, pwd.getpwnam("nobody").pw_uid, -1)
        assert console.tail(str(log), 10) == b"text"

    def test_of_the_log_before_this_one(self, log, monkeypatch):
        """The check is that of the file itself."""
        log.unlink()
        os.symlink("/etc/passwd", f"{log}.0")
        with pytest.raises(exception.ConsoleNotAvailable, match="symbolic link"):
            console.read(Guest(log))


class Guest:
    name, uuid = "instance-1", "3f1c8c1e-5e0b-4b2a-9a44-0d8f2f9f8c11"

    def __init__(self, path):
        self.path = path

    def xml(self):
        return XML.format(f"<serial type='pty'><log file='{self.path}'/></serial>")


def test_large_log_is_bounded(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"x" * console.MAX_BYTES + b"end")
    found = console.read(Guest(path))
    assert len(found) == console.MAX_BYTES
    assert found.endswith(b"xend")


def test_log_that_has_just_begun_anew(tmp_path):
    (tmp_path / "log").write_bytes(b"new")
    (tmp_path / "log.0").write_bytes(b"o" * console.MAX_BYTES + b"ld,")
    found = console.read(Guest(tmp_path / "log"))
    assert len(found) == console.MAX_BYTES
    assert found.endswith(b"old,new")


def test_log_that_cannot_be_read(tmp_path):
    (tmp_path / "log").mkdir()
    with pytest.raises(exception.ConsoleNotAvailable) as caught:
        console.read(Guest(tmp_path / "log"))
    assert caught.value.instance_uuid == Guest.uuid
