# SPDX-License-Identifier: Apache-2.0
"""Sources that need no server."""

import itertools
import pathlib

import pytest
from hypothesis import given, settings

from nova_snap.stream.file_source import FileSource, MemorySource
from nova_snap.stream.image_errors import SourceMismatch
from nova_snap.stream.source import Extent
from tests.unit.stream.disks import MIB, TIB, disks


def sparse_file(path: pathlib.Path, size: int, parts: dict[int, bytes]) -> pathlib.Path:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, part in parts.items():
            file.seek(offset)
            file.write(part)
    return path


def test_a_file_knows_its_holes(tmp_path: pathlib.Path) -> None:
    parts = {MIB: b"a" * MIB, 4 * TIB: b"b" * 4096}
    with FileSource(sparse_file(tmp_path / "disk", 4 * TIB + MIB, parts)) as source:
        assert source.size == 4 * TIB + MIB
        assert source.extents() == [
            Extent(0, MIB, False),
            Extent(MIB, MIB, True),
            Extent(2 * MIB, 4 * TIB - 2 * MIB, False),
            Extent(4 * TIB, 4096, True),
            Extent(4 * TIB + 4096, MIB - 4096, False),
        ]
        ranges = [(MIB - 1, 2), (4 * TIB - 10, 20), (0, 0)]
        for _ in range(2):
            found = [bytes(piece) for piece in source.read(ranges)]
            assert found == [b"\0a", bytes(10) + b"b" * 10]


def test_long_ranges_come_in_pieces(tmp_path: pathlib.Path) -> None:
    data = bytes(range(256)) * (10 * MIB // 256)
    path = tmp_path / "disk"
    path.write_bytes(data + b"end")
    with FileSource(path) as source:
        pieces = [bytes(piece) for piece in source.read([(1, 10 * MIB + 2)])]
        assert source.extents() == [Extent(0, 10 * MIB + 3, True)]
    assert b"".join(pieces) == data[1:] + b"end"
    assert max(map(len, pieces)) == MIB


def test_an_empty_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "disk"
    path.touch()
    with FileSource(path) as source:
        assert (source.size, source.extents()) == (0, [])


def test_a_file_that_got_shorter(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(1000))
    with FileSource(path) as source:
        path.write_bytes(bytes(600))
        with pytest.raises(SourceMismatch, match="at offset 600: the file ends here"):
            list(source.read([(0, 1000)]))


@settings(max_examples=60, deadline=None)
@given(disks(largest=4 * MIB))
def test_memory_is_a_disk(source: MemorySource) -> None:
    """The extents cover it, alternate, and what is no data is zeroes."""
    end = 0
    kinds = []
    for offset, length, data in source.extents():
        assert offset == end
        content = b"".join(bytes(piece) for piece in source.read([(offset, length)]))
        assert len(content) == length
        assert data or not any(content)
        end += length
        kinds.append(data)
    assert end == source.size
    assert all(before != after for before, after in itertools.pairwise(kinds))


def test_memory_reads_across_parts() -> None:
    source = MemorySource(100, {10: b"abc", 13: b"def", 20: b"g"}, piece=7)
    pieces = [bytes(piece) for piece in source.read([(8, 14), (12, 2)])]
    assert pieces == [b"\0\0abcde", b"f\0\0\0\0g\0", b"cd"]
