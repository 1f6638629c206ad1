# SPDX-License-Identifier: Apache-2.0
"""Where compressed clusters lie."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_snap.stream.packed import Packed
from nova_snap.stream.qcow2 import ZSTD, Layout
from tests.unit.stream.disks import CLUSTER, KIB, MIB, TIB
from tests.unit.stream.qcow2_reader import OFFSET_MASK, Qcow2

lengths_of = st.one_of(
    st.sampled_from([10, 511, 512, 513, 32 * KIB, CLUSTER - 1, CLUSTER]), st.integers(10, CLUSTER)
)


def check(stored: list[tuple[int, int]], cluster_size: int = CLUSTER) -> Layout:
    packed = Packed(cluster_size)
    for number, length in stored:
        packed.add(number, length)
    layout = Layout(8 * TIB, packed, cluster_size=cluster_size, compression_type=ZSTD)
    image = Qcow2(b"".join(layout.tables()), layout.size)
    assert sorted(image.entries) == [number for number, _ in stored]
    whole = layout.tables_size
    at = whole + sum(cluster_size for _, length in stored if length == cluster_size)
    for number, length in stored:
        entry = image.entries[number]
        if length == cluster_size:
            assert entry & OFFSET_MASK == whole
            whole += cluster_size
        else:
            offset, reach = image.packed_at(entry)
            assert offset == at
            assert 0 <= reach - length < 512
            at += length
    assert at + packed.padding == layout.size
    return layout


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.integers(0, 8 * TIB // CLUSTER - 1), lengths_of, max_size=60))
def test_any_clusters_of_any_length(stored: dict[int, int]) -> None:
    check(sorted(stored.items()))


@pytest.mark.parametrize("length", [10, 511, 512, 513, 40_000, CLUSTER - 1, CLUSTER])
def test_many_neighbours_of_one_length(length: int) -> None:
    check([(number, length) for number in range(20_000)])


def test_clusters_of_two_mib() -> None:
    check([(n, 1 + n * 37 % (2 * MIB)) for n in range(100, 3000)], cluster_size=2 * MIB)


def test_nothing_at_all() -> None:
    assert check([]).size == 5 * CLUSTER
