# SPDX-License-Identifier: Apache-2.0
"""The programs that a process has started and did not live to end.

They hold QEMU's locks on a guest's disks: as long as a qemu-nbd or a qemu-img is left, the guest
cannot be started. No note of a process id is to be relied on, for there is a moment between the
start of a program and any note of it. What is known for certain beforehand is the directory that
the program works for.
"""

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from typing import Final

from oslo_log import log as logging

LOG = logging.getLogger(__name__)

_STOP_SECONDS: Final = 10
_STDERR: Final = 2
_QEMU_IMG: Final = b"qemu-img"


def end_all(directory: str) -> None:
    """End every qemu-nbd that has its log in a directory, and every qemu-img that writes into it.

    :param directory: of a snapshot that was cut off.
    :raises OSError: if not all programs could be looked at, or ended.
    """
    for pid in _processes():
        with contextlib.suppress(ProcessLookupError):
            _end(pid, directory)


def _processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _end(pid: int, directory: str) -> None:
    if not _works_for(pid, directory):
        return
    # From here on the number cannot become another process's, which it may have become by now.
    descriptor = os.pidfd_open(pid)
    try:
        if _works_for(pid, directory):
            LOG.warning("Ending a program (pid %d) that was left behind in %s", pid, directory)
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            # Not select(), which knows no descriptor above 1023.
            end = select.poll()
            end.register(descriptor, select.POLLIN)
            end.poll(_STOP_SECONDS * 1000)
    finally:
        os.close(descriptor)


def _works_for(pid: int, directory: str) -> bool:
    # The kernel knows a file by its one true path; a command knows it by the path that it was told.
    true, told = (os.path.join(path, "") for path in (os.path.realpath(directory), directory))
    try:
        if os.readlink(f"/proc/{pid}/fd/{_STDERR}").startswith(true):
            return True
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        # It has ended, or is somebody else's. Whatever else there is tells nothing of it.
        return False
    # Its limits are set by another program, which becomes it: the first word may be that one's.
    names = [os.path.basename(word) for word in words]
    return _QEMU_IMG in names and any(word.startswith(os.fsencode(told)) for word in words)
