# SPDX-License-Identifier: Apache-2.0
"""Reads qcow2 by the letter of its specification, sharing no code with what writes it."""

import struct
import zlib
from array import array

import zstandard

FIELDS = (
    ("magic", ">4s", 0),
    ("version", ">I", 4),
    ("backing_file_offset", ">Q", 8),
    ("backing_file_size", ">I", 16),
    ("cluster_bits", ">I", 20),
    ("size", ">Q", 24),
    ("crypt_method", ">I", 32),
    ("l1_size", ">I", 36),
    ("l1_table_offset", ">Q", 40),
    ("refcount_table_offset", ">Q", 48),
    ("refcount_table_clusters", ">I", 56),
    ("nb_snapshots", ">I", 60),
    ("snapshots_offset", ">Q", 64),
    ("incompatible_features", ">Q", 72),
    ("compatible_features", ">Q", 80),
    ("autoclear_features", ">Q", 88),
    ("refcount_order", ">I", 96),
    ("header_length", ">I", 100),
    ("compression_type", ">B", 104),
)
OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00


class Qcow2:
    """:param image: the file, or only its tables if ``size`` says how long it is.

    :param gap: there may be clusters that nothing refers to directly before the L1 table.
    """

    def __init__(
        self, image: bytes | bytearray, size: int | None = None, *, gap: bool = False
    ) -> None:
        self.image = image
        self._gap = gap
        self.file_size = len(image) if size is None else size
        self.header = {n: struct.unpack_from(f, image, at)[0] for n, f, at in FIELDS}
        self.cluster_size = 1 << self.header["cluster_bits"]
        assert self.file_size % self.cluster_size == 0
        self.references = array("H", bytes(2 * (self.file_size // self.cluster_size)))
        self.entries: dict[int, int] = {}
        self.tables_end = 0
        self._check_header()
        self._walk()

    def _check_header(self) -> None:
        header = self.header
        assert header["magic"] == b"QFI\xfb"
        assert header["version"] == 3
        assert header["refcount_order"] == 4
        assert header["header_length"] >= 104
        assert header["header_length"] % 8 == 0
        assert header["size"] % 512 == 0
        for name in (
            *("backing_file_offset", "backing_file_size", "crypt_method", "nb_snapshots"),
            *("compatible_features", "autoclear_features"),
        ):
            assert header[name] == 0, name
        assert header["incompatible_features"] == (8 if header["compression_type"] else 0)
        extension = struct.unpack_from(">I", self.image, header["header_length"])[0]
        assert extension == 0, "a header extension that nobody wanted"

    def _numbers(self, offset: int, count: int, code: str = "Q") -> "array[int]":
        numbers = array(code)
        end = offset + count * numbers.itemsize
        assert end <= len(self.image)
        numbers.frombytes(self.image[offset:end])
        numbers.byteswap()
        return numbers

    def _refer(self, offset: int, clusters: int = 1, *, table: bool = True) -> None:
        assert offset % self.cluster_size == 0
        for cluster in range(offset // self.cluster_size, offset // self.cluster_size + clusters):
            self.references[cluster] += 1
        if table:
            self.tables_end = max(self.tables_end, offset + clusters * self.cluster_size)

    def _walk(self) -> None:
        header, size = self.header, self.cluster_size
        per_table = size // 8
        self._refer(0)
        self._refer(header["refcount_table_offset"], header["refcount_table_clusters"])
        entries = header["l1_size"]
        assert entries * 8 <= 32 << 20
        assert entries * per_table * size >= header["size"]
        self._refer(header["l1_table_offset"], -(-entries * 8 // size))
        for index, l1_entry in enumerate(self._numbers(header["l1_table_offset"], entries)):
            if not l1_entry:
                continue
            assert l1_entry & ~OFFSET_MASK == 1 << 63
            table = l1_entry & OFFSET_MASK
            self._refer(table)
            for slot, entry in enumerate(self._numbers(table, per_table)):
                if entry:
                    self._count(index * per_table + slot, entry)
        self._check_refcounts()

    def _count(self, number: int, entry: int) -> None:
        assert number * self.cluster_size < self.header["size"]
        self.entries[number] = entry
        if entry >> 62 & 1:
            assert not entry >> 63, "COPIED on a compressed cluster"
            offset, length = self.packed_at(entry)
            first = offset // self.cluster_size
            for cluster in range(first, (offset + length - 1) // self.cluster_size + 1):
                self.references[cluster] += 1
        else:
            assert entry & ~OFFSET_MASK == 1 << 63
            self._refer(entry & OFFSET_MASK, table=False)

    def packed_at(self, entry: int) -> tuple[int, int]:
        """Offset of a compressed cluster, and how many bytes up to the end of its last sector."""
        shift = 62 - (self.header["cluster_bits"] - 8)
        offset = entry & ((1 << shift) - 1)
        sectors = (entry & (1 << 62) - 1) >> shift
        return offset, (sectors + 1) * 512 - offset % 512

    def _check_refcounts(self) -> None:
        offset = self.header["refcount_table_offset"]
        length = self.header["refcount_table_clusters"] * self.cluster_size // 8
        blocks = [block for block in self._numbers(offset, length) if block]
        for block in blocks:
            self._refer(block)
        found = array("H")
        for block in blocks:
            found += self._numbers(block, self.cluster_size // 2, "H")
        used = len(self.references)
        assert found[:used] == self.references, "refcounts are not the references"
        assert not any(found[used:]), "refcounts beyond the end of the file"
        unused = [number for number, count in enumerate(self.references) if not count]
        if self._gap and unused:
            table = self.header["l1_table_offset"] // self.cluster_size
            assert unused == list(range(unused[0], table)), "clusters that nothing refers to"
        else:
            assert not unused, "a cluster that nothing refers to"

    def cluster(self, number: int) -> bytes:
        """What a guest reads there."""
        entry = self.entries.get(number)
        if entry is None:
            return bytes(self.cluster_size)
        if not entry >> 62 & 1:
            offset = entry & OFFSET_MASK
            return bytes(self.image[offset : offset + self.cluster_size])
        offset, length = self.packed_at(entry)
        packed = bytes(self.image[offset : offset + length])
        assert len(packed) == length, "the last sector is not in the file"
        if self.header["compression_type"]:
            content = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
        else:
            content = zlib.decompressobj(-12).decompress(packed, self.cluster_size)
        assert len(content) == self.cluster_size
        return content

    def compressed(self) -> int:
        """How many clusters are compressed."""
        return sum(entry >> 62 & 1 for entry in self.entries.values())
