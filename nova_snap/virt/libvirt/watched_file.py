# SPDX-License-Identifier: Apache-2.0
"""A file that is being sent: every piece of it is progress, and a chance to stop."""

from typing import BinaryIO

from nova_snap.virt.driver import SnapshotMonitor


class WatchedFile:
    """What an upload reads: ``read`` and ``seek(0)``.

    :param size: of the file, in bytes.
    """

    def __init__(self, file: BinaryIO, size: int, monitor: SnapshotMonitor) -> None:
        self._file = file
        self._size = size
        self._monitor = monitor
        self._done = 0
        monitor.progress(0, size)

    def read(self, size: int = -1) -> bytes:
        """The next bytes of the file.

        :raises nova_snap.exception.ImageNotFound: or InstanceNotFound: see
            :meth:`nova_snap.virt.driver.SnapshotMonitor.check`.
        """
        self._monitor.check()
        piece = self._file.read(size)
        self._done += len(piece)
        self._monitor.progress(self._done, self._size)
        return piece

    def seek(self, offset: int) -> int:
        """Go to ``offset``: an upload that failed begins again."""
        self._done = self._file.seek(offset)
        return self._done

    def tell(self) -> int:
        return self._file.tell()
