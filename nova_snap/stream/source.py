# SPDX-License-Identifier: Apache-2.0
"""What an image is made from: a disk as of one moment, which says where it has data."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol


class Extent(NamedTuple):
    """A part of a disk.

    :ivar offset: in bytes.
    :ivar length: in bytes, never 0.
    :ivar data: ``False`` where the disk is known to read as zeroes.
    """

    offset: int
    length: int
    data: bool


class Source(Protocol):
    """A disk that does not change while it is read, and can be read more than once."""

    @property
    def size(self) -> int:
        """Virtual size in bytes."""

    def extents(self) -> Sequence[Extent]:
        """The whole disk in order, without gaps; neighbours differ in ``data``."""

    def read(self, ranges: Iterable[tuple[int, int]]) -> Iterator[memoryview]:
        """The content of (offset, length) ranges, in their order, in pieces.

        :returns: each piece lies within one range, follows the piece before it, and is valid until
            the next one is asked for.
        """
