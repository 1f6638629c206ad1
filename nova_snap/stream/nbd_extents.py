# SPDX-License-Identifier: Apache-2.0
"""The map of a disk, kept small: eight bytes for each extent, and never more than a set number."""

from array import array
from collections.abc import Iterator, Sequence
from typing import overload

from nova_snap.stream.source import Extent

EXTENT_LIMIT = 1 << 20
"""Of one map: 8 MiB. A disk of 64 GiB with every second cluster of 64 KiB in use stays below."""

FIRST_GRAIN = 4096


class ExtentMap(Sequence[Extent]):
    """Extents in order and without gaps, of which neighbours differ in ``data``.

    :param limit: when there are more extents, the shortest zero ones are taken for data, which is
        always true enough: a map of a badly fragmented disk becomes coarser, not larger.
    """

    def __init__(self, limit: int = EXTENT_LIMIT) -> None:
        self._ends = array("Q")
        self._first_is_data = False
        self._limit = limit
        self._grain = FIRST_GRAIN

    @property
    def end(self) -> int:
        """Up to where the disk is mapped, in bytes."""
        return self._ends[-1] if self._ends else 0

    def append(self, length: int, data: bool) -> None:
        """Map the next ``length`` bytes."""
        if not length:
            return
        if not self._ends:
            self._first_is_data = data
        elif self._is_data(len(self._ends) - 1) == data:
            self._ends[-1] += length
            return
        self._ends.append(self.end + length)
        if len(self._ends) > self._limit:
            self._coarsen()

    def _coarsen(self) -> None:
        # Down to half of the limit, so that this is seldom done and its cost does not add up.
        while len(self._ends) > max(1, self._limit // 2):
            self._grain *= 2
            coarse = ExtentMap(len(self))
            for extent in self:
                coarse.append(extent.length, extent.data or extent.length < self._grain)
            self._ends = coarse._ends
            self._first_is_data = coarse._first_is_data

    def _is_data(self, index: int) -> bool:
        return self._first_is_data ^ bool(index & 1)

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[Extent]:
        data = self._first_is_data
        start = 0
        for end in self._ends:
            yield Extent(start, end - start, data)
            start = end
            data = not data

    @overload
    def __getitem__(self, index: int) -> Extent: ...

    @overload
    def __getitem__(self, index: slice) -> list[Extent]: ...

    def __getitem__(self, index: int | slice) -> Extent | list[Extent]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        start = self._ends[place - 1] if place else 0
        return Extent(start, self._ends[place] - start, self._is_data(place))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<ExtentMap of {self.end} bytes in {len(self)} extents>"
