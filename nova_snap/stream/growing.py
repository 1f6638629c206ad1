# SPDX-License-Identifier: Apache-2.0
"""A compressed qcow2 image that is sent while it is made.

::

    header | data | L1 table | refcount table | L2 tables | refcount blocks | the rest of the data

The header comes first, and says where the L1 table and the refcount table lie. So that is decided
before anything is compressed, by an estimate of how long the data will be. It may be wrong: data
that ends early is followed by zeroes, and data that is left goes behind the tables. They have to
say where it lies, so that what is left is compressed first and held in memory, as far as it may
be; what then remains is stored as it is, for its length is known without a look at it.

So nothing waits on disk. Whoever receives the image waits while a stretch is filled, while zeroes
are left out, and while what is left is compressed: with a low limit of the speed, for tens of
seconds. Its length is known only at its end.
"""

import sys
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Final, NamedTuple

from nova_snap.stream.clusters import Runs
from nova_snap.stream.content import Piece, zeroes
from nova_snap.stream.qcow2_format import (
    COPIED,
    Entries,
    Geometry,
    Ramp,
    ones,
    over,
    refcount_blocks,
    refcount_clusters,
    unused,
)

# Compressed clusters lie directly after each other for at least so long. A gap follows, up to the
# end of the cluster: half of one on average.
STRETCH: Final = 4 << 20

_REFCOUNTS_AT_ONCE: Final = 32 << 10


class Stored(NamedTuple):
    """A cluster of the guest as it is stored.

    :ivar data: as long as a cluster if it is stored as it is, shorter if it is compressed.
    """

    number: int
    data: bytes


Clusters = Generator[Stored, None, None]
Pieces = Generator[Piece, None, None]
ReadAsTheyAre = Callable[[Runs], Iterable[Piece]]


class GrowingLayout:
    """What stands where, as far as that is known beforehand.

    :param virtual_size: in bytes.
    :param runs: the numbers of the guest's clusters that may be in the image.
    :param expected: how many bytes of data are to come before the tables.
    :raises LayoutUnsupported: if a table might be longer than QEMU opens.
    """

    def __init__(
        self,
        virtual_size: int,
        runs: Runs,
        expected: int,
        *,
        cluster_size: int,
        compression_type: int,
    ) -> None:
        self.geometry = geometry = Geometry(virtual_size, cluster_size)
        self.runs = runs
        self.front_clusters = expected // cluster_size
        self._compression_type = compression_type
        self.l1_offset = (1 + self.front_clusters) * cluster_size
        self.refcount_offset = self.l1_offset + geometry.l1_clusters * cluster_size
        # As many as there can be: whatever is left may be stored as it is.
        tables = geometry.l1_clusters + runs.groups(geometry.per_table).total
        others = 1 + self.front_clusters + tables + runs.total
        _, self.refcount_tables = refcount_clusters(others, cluster_size)
        self.l2_offset = self.refcount_offset + self.refcount_tables * cluster_size

    def pieces(self, clusters: Clusters, as_they_are: ReadAsTheyAre, hold: int) -> Pieces:
        """The whole file, made once.

        It takes 8 bytes for each cluster that is compressed, and 2 for each cluster of the file
        that holds any of them.

        :param clusters: what is stored, in the guest's order. It is closed in the end.
        :param as_they_are: reads clusters, the last of them filled with zeroes if need be.
        :param hold: how many bytes may be held in memory.
        """
        return _Making(self, as_they_are, hold).pieces(clusters)

    def header(self) -> Iterator[Piece]:
        """The first cluster."""
        header = self.geometry.header(
            l1_offset=self.l1_offset,
            refcount_offset=self.refcount_offset,
            refcount_tables=self.refcount_tables,
            compression_type=self._compression_type,
        )
        return self.geometry.padded(iter((header,)))


class _Making:
    """One try at the file."""

    def __init__(self, layout: GrowingLayout, as_they_are: ReadAsTheyAre, hold: int) -> None:
        self._layout = layout
        self._as_they_are = as_they_are
        self._hold = hold
        self._size = layout.geometry.cluster_size
        self._runs = Runs()
        self._entries = array("Q")
        self._front = _Area(layout.geometry, self._size)

    def pieces(self, clusters: Clusters) -> Pieces:
        with closing(clusters):
            yield from self._layout.header()
            left = yield from self._before_the_tables(clusters)
            late, more = self._held(left, clusters)
        rest = self._layout.runs.after(late[-1].number) if more else Runs()
        yield from self._tables_and_rest(late, rest)

    def _before_the_tables(self, clusters: Clusters) -> Generator[Piece, None, Stored | None]:
        """:returns: the first cluster that has no room there."""
        area, room = self._front, self._layout.front_clusters
        stretch = _Stretch()
        left = None
        for stored in clusters:
            whole = len(stored.data) == self._size
            length = stretch.length + (0 if whole else len(stored.data))
            if area.clusters + over(length, self._size) + whole > room:
                left = stored
                break
            slot = self._slot(stored)
            if whole:
                self._entries[slot] = area.add_whole()
                yield stored.data
                continue
            stretch.add(slot, stored.data)
            if stretch.length >= STRETCH:
                yield from self._together(stretch, area)
                stretch = _Stretch()
        yield from self._together(stretch, area)
        yield from zeroes((room - area.clusters) * self._size)
        return left

    def _held(self, left: Stored | None, clusters: Clusters) -> tuple[list[Stored], bool]:
        """What is left, up to the limit, and whether there may be more."""
        if left is None:
            return [], False
        late, length = [left], len(left.data)
        for stored in clusters:
            late.append(stored)
            length += len(stored.data)
            if length >= self._hold:
                return late, True
        return late, False

    def _tables_and_rest(self, late: list[Stored], rest: Runs) -> Pieces:
        layout, geometry, size = self._layout, self._layout.geometry, self._size
        stretch, whole = _Stretch(), []
        for stored in late:
            slot = self._slot(stored)
            if len(stored.data) < size:
                stretch.add(slot, stored.data)
            else:
                whole.append((slot, stored.data))
        placed = len(self._entries)
        for first, count in rest:
            self._runs.add(first, count)
        tables = self._runs.groups(geometry.per_table)
        first_block = layout.l2_offset + tables.total * size
        data_clusters = over(stretch.length, size) + len(whole) + rest.total
        blocks = refcount_blocks(first_block // size + data_clusters, size)
        back = _Area(geometry, first_block + blocks * size)
        data = [*self._together(stretch, back)]
        for slot, content in whole:
            self._entries[slot] = back.add_whole()
            data.append(content)

        yield from geometry.padded(geometry.l1_table(tables, layout.l2_offset))
        yield from geometry.padded(geometry.refcount_table(first_block, blocks))
        yield from zeroes((layout.refcount_tables - over(blocks, geometry.per_table)) * size)
        take = _taking(self._entries, placed, Ramp(size, geometry.per_table).taking(back.end))
        yield from geometry.l2_tables(self._runs, take)
        yield from geometry.padded(self._refcounts(back, rest))
        yield from data
        if rest.total:
            yield from self._as_they_are(rest)

    def _refcounts(self, back: "_Area", rest: Runs) -> Iterator[bytes]:
        yield from ones(1)
        yield from self._front.refcounts()
        yield from unused(self._layout.front_clusters - self._front.clusters)
        yield from ones(back.first - self._layout.l1_offset // self._size)
        yield from back.refcounts()
        yield from ones(rest.total)

    def _slot(self, stored: Stored) -> int:
        """A place among the entries, which are in the guest's order."""
        self._runs.add(stored.number)
        self._entries.append(0)
        return len(self._entries) - 1

    def _together(self, stretch: "_Stretch", area: "_Area") -> Iterator[Piece]:
        for slot, entry in zip(stretch.slots, area.add_packed(stretch.parts), strict=True):
            self._entries[slot] = entry
        if stretch.parts:
            yield b"".join(stretch.parts)
            yield from zeroes(-stretch.length % self._size)


class _Stretch:
    """Compressed clusters that are to lie directly after each other."""

    def __init__(self) -> None:
        self.slots: list[int] = []
        self.parts: list[bytes] = []
        self.length = 0

    def add(self, slot: int, data: bytes) -> None:
        self.slots.append(slot)
        self.parts.append(data)
        self.length += len(data)


class _Area:
    """Neighbouring clusters of the file, and how often each is referred to."""

    def __init__(self, geometry: Geometry, offset: int) -> None:
        self._geometry = geometry
        self._offset = offset
        # 16 bits are enough: a frame of zstd is never shorter than 10 bytes, so that at most 6,500
        # begin in 64 KiB, and larger clusters have longer ones: 73 bytes for 2 MiB.
        self._counts = array("H")

    @property
    def first(self) -> int:
        """The number of its first cluster."""
        return self._offset // self._geometry.cluster_size

    @property
    def clusters(self) -> int:
        return len(self._counts)

    @property
    def end(self) -> int:
        """Its end, in bytes of the file."""
        return self._offset + self.clusters * self._geometry.cluster_size

    def add_whole(self) -> int:
        """Add a cluster as it is; returns its entry."""
        entry = self.end | COPIED
        self._counts.append(1)
        return entry

    def add_packed(self, parts: list[bytes]) -> list[int]:
        """Add compressed clusters, one directly after the other; returns their entries."""
        size = self._geometry.cluster_size
        base = at = self.end
        known = self.clusters
        self._counts.extend(bytes(over(sum(map(len, parts)), size)))
        entries = []
        for part in parts:
            entries.append(self._geometry.compressed_entry(at, len(part)))
            first = known + (at - base) // size
            at += len(part)
            last = known + (at - 1 - base) // size
            self._counts[first] += 1
            if last > first:
                self._counts[last] += 1
        return entries

    def refcounts(self) -> Iterator[bytes]:
        for begin in range(0, len(self._counts), _REFCOUNTS_AT_ONCE):
            yield _big_endian(self._counts[begin : begin + _REFCOUNTS_AT_ONCE])


def _taking(entries: "array[int]", count: int, following: Entries) -> Entries:
    """First ``count`` entries that are known, then those that follow."""
    index = 0

    def take(wanted: int) -> bytes:
        nonlocal index
        known = entries[index : min(index + wanted, count)]
        index += len(known)
        return _big_endian(known) + (following(wanted - len(known)) if len(known) < wanted else b"")

    return take


def _big_endian(numbers: "array[int]") -> bytes:
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()
