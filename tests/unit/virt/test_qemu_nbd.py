# SPDX-License-Identifier: Apache-2.0
"""qemu-nbd serves one disk, as it was told to, and is gone afterwards."""

import json
import os
import signal
import stat
import sys

import pytest

from nova_snap import exception
from nova_snap.stream import nbd
from nova_snap.virt.libvirt import qemu_nbd
from nova_snap.virt.libvirt.chain import Layer

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path):
    """A raw disk that begins like a qcow2 image: its guest wrote that."""
    path = tmp_path / "disk"
    path.write_bytes(b"QFI\xfb" + os.urandom(MIB - 4))
    return path


@pytest.fixture
def chain(disk):
    return [Layer(str(disk), "raw", MIB)]


class Exported:
    """An export, and what was told of its process."""

    def __init__(self, chain, directory):
        self.socket = str(directory / "nbd")
        self.log = directory / "qemu-nbd.log"
        self.pids = []
        self.context = qemu_nbd.export(chain, self.socket, str(self.log), self.pids.append)


@pytest.fixture
def exported(chain, tmp_path):
    return Exported(chain, tmp_path)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def stand_in(tmp_path, monkeypatch, body):
    """Something else is called qemu-nbd."""
    program = tmp_path / "bin" / "qemu-nbd"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport os, signal, sys, time\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_disk_is_read_as_what_it_is_said_to_be(exported, disk):
    """Not as what its first bytes say."""
    with exported.context as export, nbd.Client(export.socket, export.name) as client:
        assert client.size == MIB
        assert client.read_only
        content = b"".join(bytes(piece) for piece in client.read([(0, MIB)]))
    assert content == disk.read_bytes()


def test_nobody_else_may_read_it(exported):
    with exported.context as export:
        mode = os.stat(export.socket).st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) & 0o077 == 0


def test_outlives_a_client(exported):
    with exported.context as export:
        for _ in range(3):
            with nbd.Client(export.socket, export.name) as client:
                assert client.size == MIB


def test_process_is_told_and_gone(exported):
    with exported.context:
        (pid,) = exported.pids
        assert is_alive(pid)
    assert exported.pids == [pid, 0]
    assert not is_alive(pid)


def test_gone_after_an_error_too(exported):
    with pytest.raises(ZeroDivisionError), exported.context:
        raise ZeroDivisionError
    assert exported.pids[1:] == [0]
    assert not is_alive(exported.pids[0])


def test_gone_although_it_cannot_be_noted(chain, tmp_path):
    seen = []

    def refuse(pid):
        seen.append(pid)
        raise OSError("no space left on device")

    with (
        pytest.raises(OSError, match="no space left"),
        qemu_nbd.export(chain, str(tmp_path / "nbd"), str(tmp_path / "log"), refuse),
    ):
        pytest.fail("it is not noted")
    assert not is_alive(seen[0])


def test_command_names_every_layer(tmp_path):
    chain = [Layer("/a,b", "qcow2", MIB), Layer("/base", "raw", MIB)]
    command = qemu_nbd.command(chain, "/run/s/nbd")
    assert command[-1].startswith("json:")
    node = json.loads(command[-1].removeprefix("json:"))
    assert node["driver"] == "qcow2"
    assert node["file"] == {"driver": "file", "filename": "/a,b"}
    assert node["backing"]["driver"] == "raw"
    assert "--read-only" in command
    assert "--socket=/run/s/nbd" in command
    assert any(argument.startswith("--as=") for argument in command)
    assert "--core=0" in command


@pytest.mark.parametrize(
    ("path", "image_format", "words"),
    [("/nonexistent/disk", "raw", "No such file"), ("disk", "qcow2", "Unsupported qcow2 version")],
)
def test_does_not_start(tmp_path, disk, path, image_format, words):
    """The reason is in its own words, although it listens before it fails."""
    path = str(tmp_path / path)
    exported = Exported([Layer(path, image_format, MIB)], tmp_path)
    with pytest.raises(exception.QemuNbdFailed, match=words) as caught, exported.context:
        pytest.fail("it does not serve")
    assert caught.value.path == path
    assert exported.pids[1:] == [0]


def test_is_not_installed(exported, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(exception.QemuNbdFailed, match="No such file"), exported.context:
        pytest.fail("it does not serve")


def test_ends_without_a_word(exported, monkeypatch, tmp_path):
    stand_in(tmp_path, monkeypatch, "sys.exit(1)")
    with pytest.raises(exception.QemuNbdFailed, match="ended without a word"), exported.context:
        pytest.fail("it does not serve")


def test_never_serves(exported, monkeypatch, tmp_path):
    stand_in(tmp_path, monkeypatch, "time.sleep(600)")
    monkeypatch.setattr(qemu_nbd, "START_SECONDS", 1)
    with pytest.raises(exception.QemuNbdFailed, match="does not serve after 1 s"), exported.context:
        pytest.fail("it does not serve")
    assert not is_alive(exported.pids[0])


def test_does_not_want_to_end(exported, monkeypatch):
    monkeypatch.setattr(qemu_nbd, "_STOP_SECONDS", 0.5)
    with exported.context:
        os.kill(exported.pids[0], signal.SIGSTOP)
    assert not is_alive(exported.pids[0])
