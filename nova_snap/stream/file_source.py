# SPDX-License-Identifier: Apache-2.0
"""Sources that need no server: a raw file, and bytes in memory."""

import errno
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Self

from nova_snap.stream.image_errors import SourceMismatch
from nova_snap.stream.source import Extent

_PIECE: Final = 1 << 20


class FileSource:
    """A raw image, or a block device, that nobody writes to meanwhile.

    The file system says where its holes are.

    :param path: opened for reading.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.lseek(self._fd, 0, os.SEEK_END)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._fd)

    def extents(self) -> Sequence[Extent]:
        found = []
        end = 0
        while end < self.size:
            try:
                data = os.lseek(self._fd, end, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                data = self.size
            if data > end:
                found.append(Extent(end, data - end, False))
            if data < self.size:
                end = os.lseek(self._fd, data, os.SEEK_HOLE)
                found.append(Extent(data, end - data, True))
            else:
                end = data
        return found

    def read(self, ranges: Iterable[tuple[int, int]]) -> Iterator[memoryview]:
        with memoryview(bytearray(_PIECE)) as buffer:
            for offset, length in ranges:
                end = offset + length
                while offset < end:
                    got = os.preadv(self._fd, [buffer[: min(_PIECE, end - offset)]], offset)
                    if not got:
                        raise SourceMismatch(offset=offset, reason="the file ends here")
                    yield buffer[:got]
                    offset += got


class MemorySource:
    """A disk of any size of which a few parts hold data.

    :param size: in bytes.
    :param parts: content by its offset; they must not overlap. All else reads as zeroes.
    :param piece: the longest piece that is handed out, in bytes.
    """

    def __init__(self, size: int, parts: Mapping[int, bytes], piece: int = _PIECE) -> None:
        self.size = size
        self._offsets = sorted(offset for offset in parts if parts[offset])
        self._parts = [parts[offset] for offset in self._offsets]
        self._piece = piece

    def extents(self) -> Sequence[Extent]:
        found: list[Extent] = []
        end = 0
        for offset, part in zip(self._offsets, self._parts, strict=True):
            if offset > end:
                found.append(Extent(end, offset - end, False))
            if found and found[-1].data:
                before = found.pop()
                found.append(Extent(before.offset, before.length + len(part), True))
            else:
                found.append(Extent(offset, len(part), True))
            end = offset + len(part)
        if end < self.size:
            found.append(Extent(end, self.size - end, False))
        return found

    def read(self, ranges: Iterable[tuple[int, int]]) -> Iterator[memoryview]:
        for offset, length in ranges:
            for begin in range(offset, offset + length, self._piece):
                yield memoryview(self._at(begin, min(self._piece, offset + length - begin)))

    def _at(self, offset: int, length: int) -> bytes:
        content = bytearray(length)
        index = max(bisect_right(self._offsets, offset) - 1, 0)
        while index < len(self._parts) and self._offsets[index] < offset + length:
            begin = self._offsets[index]
            part = self._parts[index][max(offset - begin, 0) : offset + length - begin]
            if part:
                at = max(begin - offset, 0)
                content[at : at + len(part)] = part
            index += 1
        return bytes(content)
