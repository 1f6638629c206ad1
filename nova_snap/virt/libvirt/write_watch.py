# SPDX-License-Identifier: Apache-2.0
"""Tells whether anything wrote to a disk while it was read, where no lock keeps it from that.

QEMU locks the node of a device, not the device: a guest that libvirt starts in a mount namespace
of its own (its default) opens another node, and meets no lock. The kernel counts what is written
to the device itself, by whomever.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from nova_snap import exception
from nova_snap.virt.driver import ImageData
from nova_snap.virt.libvirt import chain as chains

# Fields of a block device's "stat" (Linux, Documentation/block/stat.rst).
_SECTORS_WRITTEN: Final = 6
_SECTORS_DISCARDED: Final = 13

# No guest is started, writes and is shut off again in so short a time.
_START_SECONDS: Final = 0.5


class WriteWatch:
    """Watches a device from when it is made."""

    def __init__(self, path: str) -> None:
        """:raises nova_snap.exception.DiskUnwatched: if the kernel does not count."""
        self._path = path
        self._before = self._counts()

    def check(self) -> None:
        """:raises nova_snap.exception.DiskChanged: if something was written to it.

        :raises nova_snap.exception.DiskUnwatched: if nobody can tell any more.
        """
        now = self._counts()
        if now != self._before:
            raise exception.DiskChanged(path=self._path)

    def _counts(self) -> tuple[int, int, int]:
        """Sectors written and discarded so far, and writes that are on their way."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                # What waits in the page cache is counted when it is written.
                os.fsync(descriptor)
                device = os.fstat(descriptor).st_rdev
            finally:
                os.close(descriptor)
            directory = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"
            counts = _numbers(f"{directory}/stat")
            _reads, writes = _numbers(f"{directory}/inflight")
            return counts[_SECTORS_WRITTEN], counts[_SECTORS_DISCARDED], writes
        except (OSError, ValueError, IndexError) as exc:
            raise exception.DiskUnwatched(path=self._path, reason=str(exc)) from exc


class FileWatch:
    """Watches a file, for what the host's kernel writes to it: a loop device asks for no lock.

    The file is what is read, and not the loop device: that shows what the kernel holds in memory,
    which for a file system that is mounted read-only is never written.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._before = self._times()

    def check(self) -> None:
        """:raises nova_snap.exception.DiskChanged: if something was written to it."""
        if self._times() != self._before:
            raise exception.DiskChanged(path=self._path)

    def _times(self) -> tuple[int, int]:
        """When it was changed, in the file system's own resolution."""
        try:
            status = os.stat(self._path)
        except OSError as exc:
            raise exception.DiskUnwatched(path=self._path, reason=str(exc)) from exc
        return status.st_mtime_ns, status.st_size


class Startable(Protocol):
    """A guest."""

    def is_active(self) -> bool:
        """A hypervisor process runs for it."""


class StartWatch:
    """Watches the guest itself, for a disk that has neither a lock nor a count: an RBD image.

    It looks often enough not to miss one that is started and stopped, as long as somebody reads.
    """

    def __init__(
        self, guest: Startable, path: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """:param path: what to call the disk in errors."""
        self._guest = guest
        self._path = path
        self._clock = clock
        self._looked = -_START_SECONDS

    def glance(self) -> None:
        """:meth:`check`, if the last one was a while ago."""
        if self._clock() - self._looked >= _START_SECONDS:
            self.check()

    def check(self) -> None:
        """:raises nova_snap.exception.DiskChanged: if the guest runs."""
        if self._guest.is_active():
            raise exception.DiskChanged(path=self._path)
        self._looked = self._clock()


def watch(chain: chains.Chain) -> WriteWatch | None:
    """:returns: ``None`` for a disk that is no block device."""
    return WriteWatch(chain[0].path) if chain[0].driver == chains.HOST_DEVICE else None


class CheckedData:
    """Bytes of which the last are handed out only if ``check`` lets them.

    Who takes them, the image service, has no whole image otherwise.
    """

    def __init__(
        self,
        data: ImageData,
        size: int | None,
        check: Callable[[], None],
        glance: Callable[[], None] = lambda: None,
    ) -> None:
        """:param size: as of :class:`nova_snap.virt.libvirt.snapshot.base.Content`.

        :param glance: called for every piece.
        """
        self._data = data
        self._size = size
        self._check = check
        self._glance = glance

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        self._glance()
        piece = self._data.read(size)
        at_end = self._data.tell() == self._size if self._size is not None else not piece
        if at_end:
            self._check()
        return piece

    def seek(self, offset: int, /) -> int:
        """Go to ``offset``, which is always 0."""
        return self._data.seek(offset)

    def tell(self) -> int:
        """How many bytes were read since then."""
        return self._data.tell()


def _numbers(path: str) -> Sequence[int]:
    with open(path, encoding="ascii") as file:
        return [int(word) for word in file.read().split()]
