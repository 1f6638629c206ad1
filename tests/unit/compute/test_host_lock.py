# SPDX-License-Identifier: Apache-2.0
"""One compute service for each host."""

import os
import pathlib
import subprocess
import sys

import pytest

from nova_snap import exception
from nova_snap.compute.host_lock import HostLock

HOLD = """
import subprocess, sys
from nova_snap.compute.host_lock import HostLock
HostLock(sys.argv[1], "c1").take()
print(subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL).pid, flush=True)
sys.stdin.read()
"""


def test_only_one_has_a_host(tmp_path: pathlib.Path) -> None:
    directory = str(tmp_path / "not" / "there yet")
    one, two, other = (HostLock(directory, host) for host in ("c1", "c1", "c2"))
    one.take()
    one.take()
    other.take()
    with pytest.raises(
        exception.HostTaken, match=rf"c1 is done by process {os.getpid()}, "
    ) as found:
        two.take()
    assert found.value.path == f"{directory}/compute-c1.lock"
    one.release()
    two.take()
    with pytest.raises(exception.HostTaken):
        one.take()


def test_a_name_with_a_slash_stays_in_the_directory(tmp_path: pathlib.Path) -> None:
    HostLock(str(tmp_path), "../c1").take()
    assert [path.name for path in tmp_path.iterdir()] == ["compute-..%2Fc1.lock"]


def test_it_ends_with_the_process_and_not_with_its_children(tmp_path: pathlib.Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    lock = HostLock(str(tmp_path), "c1")
    try:
        with pytest.raises(exception.HostTaken, match=f"by process {holder.pid},"):
            lock.take()
        holder.kill()
        holder.communicate(timeout=60)
        os.kill(child, 0)
        lock.take()
    finally:
        holder.kill()
        os.kill(child, 9)
