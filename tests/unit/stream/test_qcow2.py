# SPDX-License-Identifier: Apache-2.0
"""The layout, by a reader that knows only the specification."""

import hashlib
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_snap.stream.clusters import Runs, allocated
from nova_snap.stream.image_errors import LayoutUnsupported
from nova_snap.stream.qcow2 import Layout, write_empty
from nova_snap.stream.qcow2_format import Ramp, refcount_clusters
from nova_snap.stream.source import Extent
from tests.fixtures import disk_image
from tests.fixtures.disks import write_pattern
from tests.unit.stream.disks import (
    AROUND,
    CLUSTER,
    GIB,
    KIB,
    L2_COVERS,
    MIB,
    TIB,
    clusters_with_data,
    extents,
    sizes,
)
from tests.unit.stream.qcow2_reader import OFFSET_MASK, Qcow2


def layout_of(size: int, found: list[Extent], cluster_size: int = CLUSTER) -> Layout:
    runs = allocated(found, size, cluster_size)
    return Layout(size, runs, cluster_size=cluster_size)


def tables_of(layout: Layout) -> bytes:
    tables = b"".join(layout.tables())
    assert len(tables) == layout.tables_size
    return tables


def check(size: int, found: list[Extent], cluster_size: int = CLUSTER) -> Qcow2:
    """That the tables describe exactly the clusters with data, in order, after all tables."""
    layout = layout_of(size, found, cluster_size)
    image = Qcow2(tables_of(layout), layout.size)
    assert image.header["size"] == -(-size // 512) * 512
    assert image.tables_end == layout.tables_size
    wanted = sorted(clusters_with_data(found, cluster_size))
    assert sorted(image.entries) == wanted
    places = [image.entries[number] & OFFSET_MASK for number in wanted]
    assert places == list(range(layout.tables_size, layout.size, cluster_size))
    return image


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_map_of_any_size(data: st.DataObject) -> None:
    size = data.draw(sizes(8 * TIB))
    check(size, data.draw(extents(size)))


@settings(max_examples=20, deadline=None)
@given(st.data(), st.sampled_from([128 * KIB, 512 * KIB, 2 * MIB]))
def test_other_cluster_sizes(data: st.DataObject, cluster_size: int) -> None:
    size = data.draw(sizes(8 * TIB))
    check(size, data.draw(extents(size)), cluster_size)


@pytest.mark.parametrize("size", [*AROUND, 8 * TIB - 1, 8 * TIB])
@pytest.mark.parametrize("where", ["nowhere", "first-byte", "last-byte"])
def test_sizes_around_each_boundary(size: int, where: str) -> None:
    found = [Extent(0, size, False)] if size else []
    if size > 1 and where == "first-byte":
        found = [Extent(0, 1, True), Extent(1, size - 1, False)]
    if size > 1 and where == "last-byte":
        found = [Extent(0, size - 1, False), Extent(size - 1, 1, True)]
    check(size, found)


@pytest.mark.parametrize("short_of", range(-1, 10))
def test_lengths_around_what_a_refcount_block_covers(short_of: int) -> None:
    length = (32768 - short_of) * CLUSTER
    image = check(length, [Extent(0, length, True)])
    # 4 L2 tables or 5, the header, the refcount table, the L1 table, and the blocks themselves.
    assert len(image.references) in range(32768 - short_of + 8, 32768 - short_of + 11)


def test_a_table_is_made_only_where_there_is_data() -> None:
    found = [
        Extent(0, 3 * L2_COVERS, False),
        Extent(3 * L2_COVERS, 1, True),
        Extent(3 * L2_COVERS + 1, 8 * TIB - 3 * L2_COVERS - 1, False),
    ]
    layout = layout_of(8 * TIB, found)
    # Header, refcount table and block, two clusters of L1, one L2 table, one cluster of data.
    assert layout.size == 7 * CLUSTER


@given(st.integers(1, 1 << 34), st.sampled_from([CLUSTER, 2 * MIB]))
def test_refcounts_count_themselves_and_no_cluster_too_many(others: int, cluster_size: int) -> None:
    blocks, tables = refcount_clusters(others, cluster_size)
    per_block, per_table = cluster_size // 2, cluster_size // 8
    assert blocks * per_block >= others + blocks + tables
    assert tables * per_table >= blocks
    assert (tables - 1) * per_table < blocks
    assert (blocks - 1) * per_block < others + blocks + tables


@given(st.integers(0, (1 << 62)), st.integers(0, 8192))
def test_a_ramp_is_a_range(first: int, count: int) -> None:
    expected = b"".join(
        n.to_bytes(8, "big") for n in range(first, first + count * CLUSTER, CLUSTER)
    )
    assert Ramp(CLUSTER, 8192).from_(first, count) == expected


@pytest.mark.parametrize("size", [0, 512, 32 * KIB, 65535, 96 * KIB, 4 * MIB])
def test_a_cluster_size_that_is_none(size: int) -> None:
    with pytest.raises(LayoutUnsupported, match=f"Cluster size {size} .* from 65536 to 2097152"):
        Layout(MIB, Runs(), cluster_size=size)


def test_the_largest_disk_and_one_byte_more() -> None:
    largest = 2 << 50
    layout = layout_of(largest, [Extent(0, largest, False)])
    assert layout.tables_size == sum(len(piece) for piece in layout.tables())
    with pytest.raises(LayoutUnsupported, match=f"{largest + 1} .* at most {largest} bytes"):
        layout_of(largest + 1, [Extent(0, largest + 1, False)])


def test_a_file_beyond_what_the_largest_refcount_table_covers() -> None:
    # 2 PiB of data fit into the L1 table, but the tables come on top.
    size = 2 << 50
    with pytest.raises(LayoutUnsupported, match="refcount table of 8388608 bytes"):
        layout_of(size, [Extent(0, size, True)])


def test_the_tables_of_8_tib_of_data_are_never_held() -> None:
    layout = layout_of(8 * TIB, [Extent(0, 8 * TIB, True)])
    assert layout.tables_size > GIB
    tracemalloc.start()
    try:
        made = sum(len(piece) for piece in layout.tables())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made == layout.tables_size
    assert layout.size - made == 8 * TIB
    assert peak < 2 * MIB


def test_tables_are_made_faster_than_they_could_be_sent() -> None:
    layout = layout_of(TIB, [Extent(0, TIB, True)])
    begin = time.thread_time()
    made = sum(len(piece) for piece in layout.tables())
    assert made / (time.thread_time() - begin) > 100e6


@pytest.mark.parametrize(
    ("data", "hole"),
    [(64 * KIB, 64 * KIB), (4 * KIB, 1 * MIB), (4 * KIB, 4 * KIB)],
    ids=["every-second-cluster", "far-apart", "many-in-a-cluster"],
)
def test_a_fragmented_map_takes_a_moment(data: int, hole: int) -> None:
    """Two seconds are what is promised; a quadratic step would take minutes."""
    found = []
    for number in range(20_000):
        found.append(Extent(number * (data + hole), data, True))
        found.append(Extent(number * (data + hole) + data, hole, False))
    size = 20_000 * (data + hole)
    begin = time.thread_time()
    layout = layout_of(size, found)
    tables = tables_of(layout)
    assert time.thread_time() - begin < 2
    image = Qcow2(tables, layout.size)
    assert set(image.entries) == clusters_with_data(found)


@pytest.mark.parametrize("size", [512, CLUSTER + 512, L2_COVERS + 512])
def test_an_empty_file_is_an_image_to_qemu(tmp_path, size):
    path = tmp_path / "empty"
    path.write_bytes(b"what was there before" * CLUSTER)
    write_empty(str(path), size)
    assert disk_image.check(path, "qcow2") == ""
    assert disk_image.virtual_size(path, "qcow2") == -(-size // 512) * 512
    assert "backing-filename" not in disk_image.info(path, "qcow2")
    assert disk_image.content_sha256(path, "qcow2") == hashlib.sha256(bytes(size)).hexdigest()


def test_nothing_of_what_was_in_the_file_stays(tmp_path):
    """It would be clusters that nothing refers to, and somebody else's data in a guest's disk."""
    used, new = tmp_path / "used", tmp_path / "new"
    used.write_bytes(b"what was there before" * MIB)
    new.touch()
    for path in (used, new):
        write_empty(str(path), GIB)
    assert used.read_bytes() == new.read_bytes()


def test_a_huge_empty_file_is_short(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    write_empty(str(path), 64 * TIB + 1)
    assert disk_image.check(path, "qcow2") == ""
    assert disk_image.virtual_size(path, "qcow2") == 64 * TIB + 512
    assert path.stat().st_size < 2 * MIB


def test_an_empty_file_takes_what_a_guest_writes(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    write_empty(str(path), GIB)
    write_pattern(path, "qcow2", GIB - MIB, MIB, 0x5A)
    assert disk_image.check(path, "qcow2") == ""
    with disk_image.raw_view(path, "qcow2") as view:
        assert view.read(GIB - MIB, MIB) == b"\x5a" * MIB
