# SPDX-License-Identifier: Apache-2.0
"""A disk as one run of bytes."""

import itertools
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_snap.stream.content import (
    BLOCK,
    READ_THROUGH,
    blocks,
    chosen_clusters,
    content,
    whole_clusters,
    zeroes,
)
from nova_snap.stream.file_source import MemorySource
from nova_snap.stream.image_errors import SourceMismatch
from nova_snap.stream.source import Extent
from tests.unit.stream.disks import CLUSTER, MIB, clusters_with_data, disk_bytes, disks


@settings(max_examples=60, deadline=None)
@given(disks())
def test_whole_clusters_are_the_disks_clusters(source: MemorySource) -> None:
    found = source.extents()
    made = b"".join(content(source, lambda: whole_clusters(found, CLUSTER)))
    wanted = sorted(clusters_with_data(found))
    assert made == b"".join(disk_bytes(source, n * CLUSTER, CLUSTER) for n in wanted)


@settings(max_examples=60, deadline=None)
@given(disks())
def test_parts_are_in_order_and_zeroes_are_not_read(source: MemorySource) -> None:
    found = source.extents()
    parts = list(whole_clusters(found, CLUSTER))
    for before, after in itertools.pairwise(parts):
        assert before.offset + before.length <= after.offset
    zero = [extent for extent in found if not extent.data and extent.length >= READ_THROUGH]
    for part in parts:
        assert part.length > 0
        if part.data:
            assert part.offset + part.length <= source.size
            assert not any(
                part.offset < extent.offset + extent.length
                and extent.offset < part.offset + part.length
                for extent in zero
            )


@pytest.mark.parametrize(("gap", "requests"), [(READ_THROUGH - 1, 1), (READ_THROUGH, 2)])
def test_short_zeroes_are_cheaper_to_read_than_to_leave_out(gap: int, requests: int) -> None:
    source = MemorySource(MIB, {0: b"a" * 512, 512 + gap: b"b" * 512})
    parts = list(whole_clusters(source.extents(), CLUSTER))
    assert len([part for part in parts if part.data]) == requests
    made = b"".join(content(source, lambda: parts))
    assert made == disk_bytes(source, 0, CLUSTER)


def test_chosen_clusters_end_with_zeroes_past_the_disk() -> None:
    source = MemorySource(2 * CLUSTER + 5, {CLUSTER: b"x" * (CLUSTER + 5)})
    parts = list(chosen_clusters([(1, 2)], source.size, CLUSTER))
    assert parts == [
        Extent(CLUSTER, CLUSTER + 5, True),
        Extent(2 * CLUSTER + 5, CLUSTER - 5, False),
    ]
    assert b"".join(content(source, lambda: parts)) == disk_bytes(source, CLUSTER, 2 * CLUSTER)


class Wrong(MemorySource):
    """Gives other pieces than were asked for."""

    def __init__(self, pieces: list[int]) -> None:
        super().__init__(MIB, {0: b"x" * 1000})
        self.pieces = pieces
        self.closed = False

    def read(self, ranges: Iterable[tuple[int, int]]) -> Iterator[memoryview]:
        list(ranges)
        try:
            for length in self.pieces:
                yield memoryview(bytes(length))
        finally:
            self.closed = True


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([], "ended 600 bytes too early"),
        ([599], "at offset 599: it ended 1 bytes too early"),
        ([300, 400], "100 bytes longer than its range"),
        ([600, 399], "at offset 1999: it ended 1 bytes too early"),
        ([600, 400, 1], "more came"),
    ],
)
def test_a_source_that_gives_something_else(pieces: list[int], reason: str) -> None:
    source = Wrong(pieces)
    parts = [Extent(0, 600, True), Extent(600, 1000, False), Extent(1600, 400, True)]
    with pytest.raises(SourceMismatch, match=reason):
        list(content(source, lambda: parts))


def test_a_source_is_told_when_no_more_is_wanted() -> None:
    source = Wrong([100, 100])
    pieces = content(source, lambda: [Extent(0, 200, True)])
    next(pieces)
    assert not source.closed
    pieces.close()  # type: ignore[attr-defined]
    assert source.closed


@given(st.lists(st.integers(0, 3 * BLOCK), max_size=6), st.integers(0, 50))
@settings(max_examples=50, deadline=None)
def test_blocks_are_the_same_bytes_in_handy_lengths(lengths: list[int], small: int) -> None:
    pieces = [bytes([n % 251 + 1]) * length for n, length in enumerate([*lengths, *[777] * small])]
    made = list(blocks(memoryview(piece) for piece in pieces))
    assert b"".join(made) == b"".join(pieces)
    assert all(0 < len(block) <= BLOCK for block in made)
    assert len(made) <= 2 + 8 * len(b"".join(pieces)) // BLOCK


@given(st.integers(0, 5 * BLOCK))
def test_zeroes(length: int) -> None:
    made = b"".join(zeroes(length))
    assert len(made) == length
    assert not any(made)
