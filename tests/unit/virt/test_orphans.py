# SPDX-License-Identifier: Apache-2.0
"""What a dead process has started is ended by the directory that it works for."""

import errno
import os
import signal
import socket
import subprocess
import tempfile

import pytest

from nova_snap.virt.libvirt import confinement, orphans, qemu_nbd
from nova_snap.virt.libvirt.chain import Layer

MIB = 1 << 20


@pytest.fixture
def directory(tmp_path):
    """Of a snapshot."""
    made = tmp_path / "left"
    made.mkdir()
    return made


@pytest.fixture
def start():
    """Starts a program."""
    started = []

    def start(*words, **more):
        started.append(subprocess.Popen([str(word) for word in words], **more))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def reader(tmp_path, directory, start):
    """A qemu-nbd, of which nobody has noted anything."""
    disk = tmp_path / "disk"
    disk.write_bytes(os.urandom(MIB))
    command = qemu_nbd.command([Layer(str(disk), "raw", MIB)], str(tmp_path / "nbd"))
    with (directory / "log").open("wb") as log:
        return start(*command, stdout=log, stderr=log)


class TestReader:
    def test_is_ended(self, reader, directory):
        orphans.end_all(str(directory))
        assert reader.wait(10) == -signal.SIGKILL

    def test_its_directory_has_another_name(self, reader, directory, tmp_path):
        """``/var/lib`` may be a link, for one."""
        (tmp_path / "link").symlink_to(tmp_path)
        orphans.end_all(str(tmp_path / "link" / directory.name))
        assert reader.wait(10) == -signal.SIGKILL

    def test_its_log_is_deleted(self, reader, directory):
        (directory / "log").unlink()
        orphans.end_all(str(directory))
        assert reader.wait(10) == -signal.SIGKILL

    def test_is_of_another_snapshot(self, reader, tmp_path):
        for other in (tmp_path / "lef", tmp_path / "other"):
            orphans.end_all(str(other))
        assert reader.poll() is None


class TestCopy:
    """A qemu-img, whose disk is a server that never says a word."""

    @pytest.fixture
    def copy(self, directory, start):
        with tempfile.TemporaryDirectory(prefix="nso-", dir="/tmp") as short:
            path = f"{short}/nbd"
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(path)
                server.listen()
                server.settimeout(10)
                disk = f"nbd+unix:///?socket={path}"
                words = ["qemu-img", "convert", "-f", "raw", disk, str(directory / "image")]
                process = start(*confinement.command(words, confinement.COPY_LIMITS))
                with server.accept()[0]:
                    yield process

    def test_is_ended(self, copy, directory):
        orphans.end_all(str(directory))
        assert copy.wait(10) == -signal.SIGKILL

    def test_is_of_another_snapshot(self, copy, tmp_path):
        orphans.end_all(str(tmp_path / "lef"))
        assert copy.poll() is None

    def test_cannot_be_told_from_others(self, copy, directory, monkeypatch):
        """Whoever asked must not take it for ended."""

        def full(*_arguments):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        monkeypatch.setattr("builtins.open", full)
        with pytest.raises(OSError, match="Too many open files"):
            orphans.end_all(str(directory))
        assert copy.poll() is None


def test_who_only_looks_at_the_directory_is_left_alone(directory, start):
    (directory / "log").touch()
    operator = start("tail", "-f", directory / "log", stdout=subprocess.DEVNULL)
    orphans.end_all(str(directory))
    assert operator.poll() is None
