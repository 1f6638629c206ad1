# SPDX-License-Identifier: Apache-2.0
"""CPU time, memory and temporary files of the processes that take a snapshot."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

SAMPLE_SECONDS = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: Sequence[int]) -> float:
    """Of this process, of the children that have ended, and of some other processes."""
    total = sum(_cpu_of(pid) for pid in pids)
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


def _cpu_of(pid: int) -> float:
    # Behind the name, which may hold anything: proc(5) has utime and stime as 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_memory(pid: int) -> int:
    """The most bytes that a process has had in memory so far (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise ValueError(f"process {pid} has ended")


def disk_usage(directory: Path) -> int:
    """Bytes on disk of all files below a directory, which may change meanwhile."""
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
    return total


class Watch:
    """Measures what happens in its block.

    :param directory: where its temporary files are.
    :param pids: other processes at work.
    :ivar seconds: how long it took.
    :ivar cpu: seconds of CPU time.
    :ivar temp_bytes: the most that was seen in the directory.
    """

    def __init__(self, directory: Path, pids: Sequence[int] = ()) -> None:
        self.seconds = 0.0
        self.cpu = 0.0
        self.temp_bytes = 0
        self._directory = directory
        self._pids = pids
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._cpu_before = cpu_seconds(self._pids)
        self._began = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.seconds = time.perf_counter() - self._began
        self.cpu = cpu_seconds(self._pids) - self._cpu_before
        self._end.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._end.wait(SAMPLE_SECONDS):
            self.temp_bytes = max(self.temp_bytes, disk_usage(self._directory))
