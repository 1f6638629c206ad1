# SPDX-License-Identifier: Apache-2.0
"""Header and tables of a qcow2 image, wherever in the file they stand.

Version 3, no backing file, no data file, no snapshots, no extended L2 entries, 16 bit refcounts.
The tables are made as they are read: 1 TiB of data has 128 MiB of L2 tables, of which one is in
memory.

The format: docs/interop/qcow2.rst of QEMU; the limits: those its driver checks when opening.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Final

from nova_snap.stream.clusters import Runs
from nova_snap.stream.content import Piece, zeroes
from nova_snap.stream.image_errors import LayoutUnsupported

CLUSTER_SIZE: Final = 64 << 10
SECTOR: Final = 512

ZLIB: Final = 0
ZSTD: Final = 1

# Bit 63 of an entry: the refcount is exactly 1.
COPIED: Final = 1 << 63
_COMPRESSED: Final = 1 << 62

ENTRY: Final = 8
"""Bytes of an L1, L2 or refcount table entry."""

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


class Geometry:
    """What follows from the size of a disk and of its clusters.

    :param virtual_size: in bytes. A qcow2 image has whole sectors: a size that is no multiple of
        512 is rounded up, as ``qemu-img`` does, and the bytes in between read as zeroes.
    :param cluster_size: in bytes, a power of two from 64 KiB to 2 MiB.
    :raises LayoutUnsupported: if the L1 table would be longer than QEMU opens.
    :ivar per_table: entries of an L2 table, and of a cluster of the refcount table.
    """

    def __init__(self, virtual_size: int, cluster_size: int) -> None:
        check_cluster_size(cluster_size)
        self.virtual_size = virtual_size + -virtual_size % SECTOR
        self.cluster_size = cluster_size
        self.per_table = cluster_size // ENTRY
        self.l1_entries = max(over(self.virtual_size, self.per_table * cluster_size), 1)
        if self.l1_entries * ENTRY > _L1_LIMIT:
            most = _L1_LIMIT // ENTRY * self.per_table * cluster_size
            raise LayoutUnsupported(
                what="Virtual size", value=virtual_size, allowed=f"at most {most} bytes"
            )
        self.l1_clusters = over(self.l1_entries * ENTRY, cluster_size)

    def header(
        self, *, l1_offset: int, refcount_offset: int, refcount_tables: int, compression_type: int
    ) -> bytes:
        """:param refcount_tables: clusters of the refcount table.

        :param compression_type: :data:`ZLIB` or :data:`ZSTD`; the first where nothing is
            compressed.
        """
        zstd = compression_type != ZLIB
        return _HEADER.pack(
            *(b"QFI\xfb", 3),
            *(0, 0),
            *(self.cluster_size.bit_length() - 1, self.virtual_size, 0),
            *(self.l1_entries, l1_offset),
            *(refcount_offset, refcount_tables),
            *(0, 0),
            *(_INCOMPATIBLE_COMPRESSION if zstd else 0, 0, 0),
            *(_REFCOUNT_ORDER, _HEADER_LENGTH),
            compression_type,
            *(0, 0),
        )

    def refcount_table(self, first: int, blocks: int) -> Iterator[bytes]:
        """:param first: offset of the first of the ``blocks``, which lie one after the other."""
        ramp = Ramp(self.cluster_size, self.per_table)
        for done in range(0, blocks, self.per_table):
            count = min(self.per_table, blocks - done)
            yield ramp.from_(first + done * self.cluster_size, count)

    def l1_table(self, tables: Runs, first: int) -> Iterator[bytes]:
        """:param tables: the numbers of the L2 tables that there are.

        :param first: offset of the first of them; they lie one after the other.
        """
        ramp = Ramp(self.cluster_size, self.per_table)
        following = first | COPIED
        written = 0
        for group, within, count in tables.split(self.per_table):
            entry = group * self.per_table + within
            yield from _zero_entries(entry - written)
            yield ramp.from_(following, count)
            following += count * self.cluster_size
            written = entry + count
        yield from _zero_entries(self.l1_entries - written)

    def l2_tables(self, runs: Runs, take: Entries) -> Iterator[bytes]:
        """:param runs: the numbers of the guest's clusters that are in the image.

        :param take: their entries.
        """
        table = -1
        parts: list[bytes] = []
        end = 0  # entries in parts
        for group, within, count in runs.split(self.per_table):
            if group != table:
                if parts:
                    parts.append(bytes((self.per_table - end) * ENTRY))
                    yield b"".join(parts)
                table, parts, end = group, [], 0
            parts += (bytes((within - end) * ENTRY), take(count))
            end = within + count
        if parts:
            parts.append(bytes((self.per_table - end) * ENTRY))
            yield b"".join(parts)

    def padded(self, pieces: Iterator[bytes] | Iterator[Piece]) -> Iterator[Piece]:
        """The same up to the end of the cluster."""
        length = 0
        for piece in pieces:
            length += len(piece)
            yield piece
        yield from zeroes(-length % self.cluster_size)

    def compressed_entry(self, offset: int, length: int) -> int:
        """The L2 entry of a compressed cluster."""
        # Offset in bytes; from bit ``shift`` on, how many sectors besides the one that the offset
        # is in; the flag.
        shift = 62 - (self.cluster_size.bit_length() - 1 - 8)
        sectors = (offset + length - 1) // SECTOR - offset // SECTOR
        return _COMPRESSED | sectors << shift | offset


class Ramp:
    """Big-endian 64 bit numbers that rise by a constant step, many at a time.

    All of them are one long integer, for one multiplication and one addition there make thousands
    of entries: ten times as fast as an :class:`array.array` of a range.
    """

    def __init__(self, step: int, longest: int) -> None:
        self._step = step
        self._longest = longest
        self._ones = int.from_bytes((1).to_bytes(ENTRY, "big") * longest, "big")
        self._rise = int.from_bytes(
            struct.pack(f">{longest}Q", *range(0, step * longest, step)), "big"
        )

    def from_(self, first: int, count: int) -> bytes:
        """``count`` numbers, at most the longest, from ``first`` on; all below 2**64."""
        if count < 32:
            return struct.pack(f">{count}Q", *range(first, first + count * self._step, self._step))
        # What is shifted out are the last numbers, for the first stand in the highest bits.
        excess = (self._longest - count) * 8 * ENTRY
        together = (self._rise >> excess) + (self._ones >> excess) * first
        return together.to_bytes(count * ENTRY, "big")

    def taking(self, first: int) -> Entries:
        """The L2 entries of clusters that lie one after the other, as they are.

        :param first: offset of the first.
        """
        following = first | COPIED

        def take(count: int) -> bytes:
            nonlocal following
            taken = self.from_(following, count)
            following += count * self._step
            return taken

        return take


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
    :raises LayoutUnsupported: if the refcount table would be longer than QEMU opens.
    """
    blocks = tables = 0
    while True:
        needed = refcount_blocks(others + tables, cluster_size)
        found = (needed, over(needed * ENTRY, cluster_size))
        if found == (blocks, tables):
            break
        blocks, tables = found
    if tables * cluster_size > _REFCOUNT_TABLE_LIMIT:
        raise LayoutUnsupported(
            what="Image size",
            value=others * cluster_size,
            allowed=f"what a refcount table of {_REFCOUNT_TABLE_LIMIT} bytes covers",
        )
    return blocks, tables


def refcount_blocks(others: int, cluster_size: int) -> int:
    """How many refcount blocks a file needs.

    :param others: clusters of the file besides these.
    """
    blocks = 0
    while (needed := over((others + blocks) * _REFCOUNT, cluster_size)) != blocks:
        blocks = needed
    return blocks


def ones(count: int) -> Iterator[bytes]:
    """The refcounts of ``count`` clusters that are referred to once."""
    full = b"\x00\x01" * min(count, CLUSTER_SIZE)
    while count:
        part = min(count, CLUSTER_SIZE)
        yield full[: part * _REFCOUNT]
        count -= part


def unused(count: int) -> Iterator[bytes]:
    """The refcounts of ``count`` clusters that nothing refers to."""
    for piece in zeroes(count * _REFCOUNT):
        yield bytes(piece)


def over(amount: int, unit: int) -> int:
    """How many units hold the amount."""
    return -(-amount // unit)


def _zero_entries(count: int) -> Iterator[bytes]:
    for piece in zeroes(count * ENTRY):
        yield bytes(piece)
