# SPDX-License-Identifier: Apache-2.0
"""Where compressed data waits for its tables: in memory first, then on disk."""

import os
import tempfile
from collections.abc import Iterator
from typing import Final, Self

from nova_snap.stream.image_errors import SpoolFailed

_BLOCK: Final = 1 << 20


class Spool:
    """Bytes that are written once, in order, and then read as often as is needed.

    The file has no name: nothing is left when the process dies.

    :param memory: how many bytes are held in memory before any goes to disk.
    :param directory: for the file; ``None`` for the system's choice.
    :ivar size: bytes written.
    :ivar on_disk: how many of them are on disk.
    """

    def __init__(self, memory: int, directory: str | None = None) -> None:
        self.size = 0
        self.on_disk = 0
        self._memory = memory
        self._directory = directory if directory is not None else tempfile.gettempdir()
        self._blocks: list[bytes] = []
        self._held = 0  # bytes in the blocks
        self._open = bytearray()  # the block that is being filled
        self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        """Append.

        :raises SpoolFailed: if the disk is full, or there is no such directory.
        """
        self._open += data
        self.size += len(data)
        if len(self._open) >= _BLOCK:
            self._put_away()

    def read(self) -> Iterator[bytes]:
        """Everything from the first byte on, in pieces."""
        yield from self._blocks
        for offset in range(0, self.on_disk, _BLOCK):
            wanted = min(_BLOCK, self.on_disk - offset)
            piece = os.pread(self._fd, wanted, offset)
            if len(piece) != wanted:
                raise self._failure(f"{wanted} bytes at {offset} came back as {len(piece)}")
            yield piece
        if self._open:
            yield bytes(self._open)

    def close(self) -> None:
        """Forget everything. May be called again."""
        self._blocks = []
        self._open = bytearray()
        self.size = self.on_disk = self._held = 0
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _put_away(self) -> None:
        if self._held + len(self._open) <= self._memory:
            self._blocks.append(bytes(self._open))
            self._held += len(self._open)
        else:
            self._write_out(self._open)
            self._held = self._memory  # from now on everything goes to disk
        self._open = bytearray()

    def _write_out(self, block: bytearray) -> None:
        try:
            if self._fd < 0:
                self._fd = _nameless_file(self._directory)
            with memoryview(block) as view:
                done = 0
                while done < len(view):
                    written = os.write(self._fd, view[done:])
                    done += written
                    self.on_disk += written
        except OSError as error:
            raise self._failure(os.strerror(error.errno or 0)) from error

    def _failure(self, reason: str) -> SpoolFailed:
        return SpoolFailed(directory=self._directory, written=self.on_disk, reason=reason)


def _nameless_file(directory: str) -> int:
    """A file descriptor of a file that only this process can reach."""
    with tempfile.TemporaryFile(dir=directory, prefix="nova_snap-spool-") as file:
        return os.dup(file.fileno())
