# SPDX-License-Identifier: Apache-2.0
"""Runs of clusters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_snap.stream.clusters import Runs, allocated
from nova_snap.stream.image_errors import ExtentMapInvalid
from nova_snap.stream.source import Extent
from tests.unit.stream.disks import CLUSTER, MIB, TIB, clusters_with_data, extents, sizes

spans = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), max_size=30).map(sorted)


def runs_of(added: list[tuple[int, int]]) -> tuple[Runs, list[int]]:
    runs = Runs()
    for first, count in added:
        runs.add(first, count)
    return runs, sorted({n for first, count in added for n in range(first, first + count)})


@given(spans)
def test_runs_are_a_set(added: list[tuple[int, int]]) -> None:
    runs, numbers = runs_of(added)
    assert [n for first, count in runs for n in range(first, first + count)] == numbers
    assert runs.total == len(numbers)
    assert len(runs) == len([n for n in numbers if n - 1 not in numbers])


@given(spans, st.integers(1, 64))
def test_they_are_split_at_multiples(added: list[tuple[int, int]], size: int) -> None:
    runs, numbers = runs_of(added)
    found: list[int] = []
    for group, within, count in runs.split(size):
        assert 0 < count <= size - within
        found += range(group * size + within, group * size + within + count)
    assert found == numbers
    groups = [n for first, count in runs.groups(size) for n in range(first, first + count)]
    assert groups == sorted({n // size for n in numbers})


@given(spans, st.integers(0, 64))
def test_a_sample_is_spread_over_them(added: list[tuple[int, int]], limit: int) -> None:
    runs, numbers = runs_of(added)
    sample = list(runs.sample(limit))
    assert len(sample) == min(limit, len(numbers))
    if sample:
        assert sample == [numbers[i * len(numbers) // len(sample)] for i in range(len(sample))]


@given(st.data())
def test_clusters_are_those_that_data_touches(data: st.DataObject) -> None:
    size = data.draw(sizes(TIB))
    found = data.draw(extents(size))
    runs = allocated(found, size, CLUSTER)
    assert {n for first, count in runs for n in range(first, first + count)} == (
        clusters_with_data(found)
    )


@pytest.mark.parametrize(
    ("found", "at"),
    [
        ([], 0),
        ([Extent(0, MIB - 1, True)], MIB - 1),
        ([Extent(0, MIB + 1, True)], MIB + 1),
        ([Extent(1, MIB - 1, True)], 0),
        ([Extent(0, 512, True), Extent(1024, MIB - 1024, False)], 512),
        ([Extent(0, 512, True), Extent(256, MIB - 256, False)], 512),
        ([Extent(0, 0, True), Extent(0, MIB, False)], 0),
        ([Extent(0, MIB, True), Extent(MIB, -512, True), Extent(MIB - 512, 512, True)], MIB),
    ],
    ids=["empty", "short", "long", "late", "gap", "overlap", "nothing", "backwards"],
)
def test_a_map_that_is_none(found: list[Extent], at: int) -> None:
    with pytest.raises(ExtentMapInvalid, match=f"invalid at offset {at}:"):
        allocated(found, MIB, CLUSTER)
