# SPDX-License-Identifier: Apache-2.0
"""Which processes of this host belong to what a tool has started, and how they end.

A process tells by itself: everything that a tool starts has :data:`MARK` in its
environment, and QEMU, whose environment libvirt empties, has the root of its libvirt in its
command line. So a crash, a reboot or a pid that was used again cannot lead to a wrong one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tools._common.errors import NotOurs, TookTooLong

MARK = "NOVA_SNAP_TOOL_HOME"
POLL_SECONDS = 0.05


def mark(home: Path) -> None:
    """Let every process that this one starts from now on belong to the tool's ``home``."""
    os.environ[MARK] = str(home)


def marked(home: Path) -> list[int]:
    """The processes that the tool of this home has started, but for this one."""
    wanted = f"{MARK}={home}".encode()
    return [
        pid
        for pid, directory in _processes()
        if pid != os.getpid() and wanted in _words(directory / "environ")
    ]


def of_roots(roots: Iterable[Path]) -> list[int]:
    """The guests of the libvirts at ``roots``."""
    needles = [f"{root}/".encode() for root in roots]
    found = []
    for pid, directory in _processes():
        words = _words(directory / "cmdline")
        is_emulator = bool(words) and os.path.basename(words[0]).startswith(b"qemu-system")
        if is_emulator and any(needle in word for needle in needles for word in words):
            found.append(pid)
    return found


def end(find: Callable[[], list[int]], what: str, patience: float) -> None:
    """Ask every process that ``find`` finds to end; kill those that have not in ``patience`` s.

    :raises NotOurs: if one is another user's.
    :raises TookTooLong: if some are there even then.
    """
    if _signal_until_gone(find, signal.SIGTERM, patience):
        return
    if not _signal_until_gone(find, signal.SIGKILL, patience):
        raise TookTooLong(f"killing the {what}", patience, f"processes {find()}")


def _signal_until_gone(
    find: Callable[[], list[int]], number: signal.Signals, patience: float
) -> bool:
    told: set[int] = set()
    until = time.monotonic() + patience
    while pids := find():
        for pid in pids:
            if pid not in told:
                told.add(pid)
                _signal(pid, number)
        if time.monotonic() > until:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    except PermissionError:
        raise NotOurs(f"process {pid}") from None


def _processes() -> Iterator[tuple[int, Path]]:
    for directory in Path("/proc").iterdir():
        if directory.name.isdecimal():
            yield int(directory.name), directory


def _words(path: Path) -> list[bytes]:
    """A NUL-separated file of a process; empty if it has ended or is none of ours."""
    try:
        return path.read_bytes().split(b"\0")
    except OSError:
        return []
