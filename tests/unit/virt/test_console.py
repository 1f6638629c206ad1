# SPDX-License-Identifier: Apache-2.0
"""The log of a console: where it is, and how much of it is read."""

import os

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
