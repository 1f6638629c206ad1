# SPDX-License-Identifier: Apache-2.0
"""Programs that end, that do not want to, and that cannot."""

import logging
import subprocess
import sys
import time
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.virt.libvirt import confinement, lvm, processes, qemu_img, rbd
from tests.fixtures import logs

SLEEP = "import time; time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); {SLEEP}"


def start(program: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)


class Stuck:
    """A program that the kernel cannot kill: it waits for a disk that does not answer."""

    pid, returncode = 4711, None
    stdin = stdout = stderr = None

    def __init__(self) -> None:
        self.waits: list[float | None] = []
        self.signals: list[str] = []

    def poll(self) -> None:
        return None

    def terminate(self) -> None:
        self.signals.append("TERM")

    def kill(self) -> None:
        self.signals.append("KILL")

    def wait(self, timeout: float | None = None) -> int:
        self.waits.append(timeout)
        raise subprocess.TimeoutExpired("stuck", timeout or 0)

    def communicate(self, timeout: float | None = None) -> Any:
        self.wait(timeout)


def test_what_cannot_be_killed_is_left(caplog: pytest.LogCaptureFixture) -> None:
    stuck = Stuck()
    assert not processes.end(stuck, "qemu-nbd", 3)  # type: ignore[arg-type]
    assert stuck.signals == ["TERM", "KILL"]
    assert stuck.waits == [3, processes.KILL_SECONDS]
    (error,) = logs.ours(caplog, logging.ERROR)
    assert "qemu-nbd (pid 4711) was killed and has not ended within 10 s" in error


def test_nobody_waits_longer_for_what_was_late() -> None:
    stuck = Stuck()
    with pytest.raises(subprocess.TimeoutExpired), processes.ended(stuck, "x"):  # type: ignore[arg-type]
        stuck.communicate(7)
    assert stuck.waits == [7, processes.KILL_SECONDS]


@pytest.mark.parametrize(("seconds", "code"), [(0.0, -9), (30.0, -15)])
def test_asked_or_killed(seconds: float, code: int) -> None:
    process = start(SLEEP)
    with processes.ended(process, "python", seconds):
        pass
    assert process.returncode == code
    assert process.stdout is not None
    assert process.stdout.closed


def test_what_does_not_want_to_end_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    process = start(DEAF)
    with processes.ended(process, "python", 0.2):
        assert process.stdout is not None
        process.stdout.readline()
    assert process.returncode == -9
    assert f"python (pid {process.pid}) does not end, and is killed" in caplog.text


def test_what_has_ended_is_left_alone() -> None:
    process = start("")
    began = time.monotonic()
    with processes.ended(process, "python", 60):
        assert process.communicate(timeout=60) == (b"", None)
    assert process.returncode == 0
    assert time.monotonic() - began < 30


def test_conversion_that_cannot_be_killed_fails(
    conf: cfg.ConfigOpts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """So that its snapshot does not keep its place for ever."""
    tool = qemu_img.QemuImg(conf)
    monkeypatch.setattr(subprocess, "Popen", lambda *_words, **_more: Stuck())
    with pytest.raises(exception.QemuImgFailed, match="stopped after 30 s"):
        tool.create_raw("/stuck/disk", 1)
    assert "qemu-img (pid 4711) was killed and has not ended" in caplog.text


def test_command_of_ceph_that_cannot_be_killed_fails(
    conf: cfg.ConfigOpts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_words, **_more: Stuck())
    with pytest.raises(exception.CephFailed, match="not done within"):
        rbd.Cluster(conf, rbd.Access()).fsid()
    assert "ceph (pid 4711) was killed and has not ended" in caplog.text


def test_lvm_that_cannot_be_killed_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A physical volume does not answer."""
    monkeypatch.setattr(subprocess, "Popen", lambda *_words, **_more: Stuck())
    with pytest.raises(exception.LogicalVolumeUnavailable, match="no answer within 30 s"):
        lvm.check_device("/dev/nova/gone")
    assert "lvs (pid 4711) was killed and has not ended" in caplog.text


def test_path_whose_rights_nobody_tells(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_words, **_more: Stuck())
    assert not confinement.User("nobody", 65534, 65534, ()).may("r", "/stuck/disk")
    assert "setpriv (pid 4711) was killed and has not ended" in caplog.text


def test_what_a_command_says() -> None:
    program = "import sys; print('a'); print('b', file=sys.stderr); sys.exit(3)"
    done = processes.run([sys.executable, "-c", program], 60, {})
    assert (done.returncode, done.stdout, done.stderr) == (3, "a\n", "b\n")


def test_command_that_cannot_be_run() -> None:
    with pytest.raises(FileNotFoundError):
        processes.run(["/nonexistent"], 60, {})
