# SPDX-License-Identifier: Apache-2.0
"""The layout of a qcow2 image whose every table comes before its data.

::

    header | refcount table | refcount blocks | L1 table | L2 tables | data

Version 3, no backing file, no data file, no snapshots, no extended L2 entries, 16 bit refcounts.
Where everything lies, and the exact length of the file, follows from which clusters it holds. The
tables are made as they are read: 1 TiB of data has 128 MiB of L2 tables, of which one is in memory.

The format: docs/interop/qcow2.rst of QEMU; the limits: those its driver checks when opening.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from nova_snap.stream.clusters import Runs
from nova_snap.stream.content import Piece, zeroes
from nova_snap.stream.image_errors import LayoutUnsupported

CLUSTER_SIZE: Final = 64 << 10
SECTOR: Final = 512

ZLIB: Final = 0
ZSTD: Final = 1

# Bit 63 of an entry: the refcount is exactly 1.
COPIED: Final = 1 << 63

_ENTRY: Final = 8  # bytes of an L1, L2 or refcount table entry
_REFCOUNT: Final = 2  # bytes of a refcount
_REFCOUNT_ORDER: Final = 4  # as the header has it: the power of two of its bits
_L1_LIMIT: Final = 32 << 20
_REFCOUNT_TABLE_LIMIT: Final = 8 << 20
_INCOMPATIBLE_COMPRESSION: Final = 1 << 3

_HEADER: Final = struct.Struct(
    ">4sI"  # magic, version
    "QI"  # backing file: offset, length of its name
    "IQI"  # cluster bits, virtual size, encryption
    "IQ"  # L1 table: entries, offset
    "QI"  # refcount table: offset, clusters
    "IQ"  # snapshots: number, offset
    "QQQ"  # features: incompatible, compatible, autoclear
    "II"  # refcount order, header length
    "B7x"  # compression type
    "II"  # header extensions: the end of them
)
_HEADER_LENGTH: Final = _HEADER.size - 8

# Takes the next ``n`` clusters of an image, in the guest's order; answers their L2 entries.
Entries = Callable[[int], bytes]


class Placement(Protocol):
    """Where the clusters of an image lie in its data area.

    :ivar runs: the numbers of the guest's clusters that are in the image.
    :ivar host_clusters: length of the data area, in clusters.
    """

    @property
    def runs(self) -> Runs: ...
    @property
    def host_clusters(self) -> int: ...
    def entries(self, offset: int) -> Entries:
        """:param offset: of the data area, in bytes."""

    def refcounts(self) -> Iterator[bytes]:
        """Two bytes for each host cluster."""


class InOrder:
    """Clusters as they are, one after the other in the guest's order."""

    def __init__(self, runs: Runs, cluster_size: int) -> None:
        self.runs = runs
        self.host_clusters = runs.total
        self._cluster_size = cluster_size

    def entries(self, offset: int) -> Entries:
        ramp = Ramp(self._cluster_size, self._cluster_size // _ENTRY)
        following = offset | COPIED

        def take(count: int) -> bytes:
            nonlocal following
            taken = ramp.from_(following, count)
            following += count * self._cluster_size
            return taken

        return take

    def refcounts(self) -> Iterator[bytes]:
        return ones(self.host_clusters)


class Layout:
    """What stands where in a qcow2 file.

    :param virtual_size: in bytes. A qcow2 image has whole sectors: a size that is no multiple of
        512 is rounded up, as ``qemu-img`` does, and the bytes in between read as zeroes.
    :param cluster_size: in bytes, a power of two from 64 KiB to 2 MiB.
    :param compression_type: :data:`ZLIB` or :data:`ZSTD`; the first where nothing is compressed.
    :raises LayoutUnsupported: if a table would be longer than QEMU opens.
    :ivar size: the exact length of the file, in bytes.
    :ivar tables_size: how much of it comes before the data.
    """

    def __init__(
        self,
        virtual_size: int,
        placement: Placement,
        *,
        cluster_size: int = CLUSTER_SIZE,
        compression_type: int = ZLIB,
    ) -> None:
        check_cluster_size(cluster_size)
        self.virtual_size = virtual_size + -virtual_size % SECTOR
        self.cluster_size = cluster_size
        self._compression_type = compression_type
        self._placement = placement
        self._per_table = cluster_size // _ENTRY
        self._l2 = placement.runs.groups(self._per_table)
        self._l1_entries = max(_over(self.virtual_size, self._per_table * cluster_size), 1)
        if self._l1_entries * _ENTRY > _L1_LIMIT:
            most = _L1_LIMIT // _ENTRY * self._per_table * cluster_size
            raise LayoutUnsupported(
                what="Virtual size", value=virtual_size, allowed=f"at most {most} bytes"
            )
        l1_clusters = _over(self._l1_entries * _ENTRY, cluster_size)
        others = 1 + l1_clusters + self._l2.total + placement.host_clusters
        self._refcount_blocks, self._refcount_tables = refcount_clusters(others, cluster_size)
        if self._refcount_tables * cluster_size > _REFCOUNT_TABLE_LIMIT:
            raise LayoutUnsupported(
                what="Image size",
                value=others * cluster_size,
                allowed=f"what a refcount table of {_REFCOUNT_TABLE_LIMIT} bytes covers",
            )
        self._l1_offset = (1 + self._refcount_tables + self._refcount_blocks) * cluster_size
        self._l2_offset = self._l1_offset + l1_clusters * cluster_size
        self.tables_size = self._l2_offset + self._l2.total * cluster_size
        self.size = self.tables_size + placement.host_clusters * cluster_size

    def tables(self) -> Iterator[Piece]:
        """The first :attr:`tables_size` bytes of the file, in pieces of about a cluster."""
        yield from self._padded(iter((self._header(),)))
        yield from self._padded(self._refcount_table())
        yield from self._padded(self._refcounts())
        yield from self._padded(self._l1_table())
        yield from self._l2_tables()

    def _header(self) -> bytes:
        zstd = self._compression_type != ZLIB
        return _HEADER.pack(
            *(b"QFI\xfb", 3),
            *(0, 0),
            *(self.cluster_size.bit_length() - 1, self.virtual_size, 0),
            *(self._l1_entries, self._l1_offset),
            *(self.cluster_size, self._refcount_tables),
            *(0, 0),
            *(_INCOMPATIBLE_COMPRESSION if zstd else 0, 0, 0),
            *(_REFCOUNT_ORDER, _HEADER_LENGTH),
            self._compression_type,
            *(0, 0),
        )

    def _refcount_table(self) -> Iterator[bytes]:
        ramp = Ramp(self.cluster_size, self._per_table)
        first = (1 + self._refcount_tables) * self.cluster_size
        for done in range(0, self._refcount_blocks, self._per_table):
            count = min(self._per_table, self._refcount_blocks - done)
            yield ramp.from_(first + done * self.cluster_size, count)

    def _refcounts(self) -> Iterator[bytes]:
        yield from ones(self.tables_size // self.cluster_size)
        yield from self._placement.refcounts()

    def _l1_table(self) -> Iterator[bytes]:
        ramp = Ramp(self.cluster_size, self._per_table)
        following = self._l2_offset | COPIED
        written = 0
        for group, within, count in self._l2.split(self._per_table):
            first = group * self._per_table + within
            yield from _zero_entries(first - written)
            yield ramp.from_(following, count)
            following += count * self.cluster_size
            written = first + count
        yield from _zero_entries(self._l1_entries - written)

    def _l2_tables(self) -> Iterator[bytes]:
        take = self._placement.entries(self.tables_size)
        table = -1
        parts: list[bytes] = []
        end = 0  # entries in parts
        for group, within, count in self._placement.runs.split(self._per_table):
            if group != table:
                if parts:
                    parts.append(bytes((self._per_table - end) * _ENTRY))
                    yield b"".join(parts)
                table, parts, end = group, [], 0
            parts += (bytes((within - end) * _ENTRY), take(count))
            end = within + count
        if parts:
            parts.append(bytes((self._per_table - end) * _ENTRY))
            yield b"".join(parts)

    def _padded(self, pieces: Iterator[bytes] | Iterator[Piece]) -> Iterator[Piece]:
        length = 0
        for piece in pieces:
            length += len(piece)
            yield piece
        yield from zeroes(-length % self.cluster_size)


class Ramp:
    """Big-endian 64 bit numbers that rise by a constant step, many at a time.

    All of them are one long integer, for one multiplication and one addition there make thousands
    of entries: ten times as fast as an :class:`array.array` of a range.
    """

    def __init__(self, step: int, longest: int) -> None:
        self._step = step
        self._longest = longest
        self._ones = int.from_bytes((1).to_bytes(_ENTRY, "big") * longest, "big")
        self._rise = int.from_bytes(
            struct.pack(f">{longest}Q", *range(0, step * longest, step)), "big"
        )

    def from_(self, first: int, count: int) -> bytes:
        """``count`` numbers, at most the longest, from ``first`` on; all below 2**64."""
        if count < 32:
            return struct.pack(f">{count}Q", *range(first, first + count * self._step, self._step))
        # What is shifted out are the last numbers, for the first stand in the highest bits.
        excess = (self._longest - count) * 8 * _ENTRY
        together = (self._rise >> excess) + (self._ones >> excess) * first
        return together.to_bytes(count * _ENTRY, "big")


def check_cluster_size(cluster_size: int) -> None:
    """:raises LayoutUnsupported: unless it is a power of two from 64 KiB to 2 MiB."""
    if cluster_size.bit_count() != 1 or not 64 << 10 <= cluster_size <= 2 << 20:
        raise LayoutUnsupported(
            what="Cluster size", value=cluster_size, allowed="a power of two from 65536 to 2097152"
        )


def refcount_clusters(others: int, cluster_size: int) -> tuple[int, int]:
    """How many refcount blocks, and clusters of refcount table, a file needs.

    They count themselves too: the least fixed point, reached in a few steps from below.

    :param others: clusters of the file besides these.
    """
    blocks = tables = 0
    while True:
        total = others + blocks + tables
        needed = _over(total * _REFCOUNT, cluster_size)
        found = (needed, _over(needed * _ENTRY, cluster_size))
        if found == (blocks, tables):
            return found
        blocks, tables = found


def ones(count: int) -> Iterator[bytes]:
    """The refcounts of ``count`` clusters that are referred to once."""
    full = b"\x00\x01" * min(count, CLUSTER_SIZE)
    while count:
        part = min(count, CLUSTER_SIZE)
        yield full[: part * _REFCOUNT]
        count -= part


def _zero_entries(count: int) -> Iterator[bytes]:
    for piece in zeroes(count * _ENTRY):
        yield bytes(piece)


def _over(amount: int, unit: int) -> int:
    """How many units hold the amount."""
    return -(-amount // unit)
