# SPDX-License-Identifier: Apache-2.0
"""Compression, and whether it pays."""

import threading

import pytest

from nova_snap.stream.clusters import allocated
from nova_snap.stream.compress import CODECS, compress, pays, sample_ratio
from nova_snap.stream.control import Control
from nova_snap.stream.file_source import MemorySource
from nova_snap.stream.image_errors import StreamCancelled
from nova_snap.stream.spool import Spool
from tests.unit.stream.disks import CLUSTER, GIB, MIB, content


@pytest.mark.parametrize(
    ("ratio", "workers", "limit", "answer"),
    [
        (0.35, 2, 0, True),
        (0.65, 2, 0, True),
        (0.66, 2, 0, False),
        (1.0, 2, 0, False),
        (0.35, 1, 0, False),
        (0.30, 1, 0, True),
        (0.82, 4, 0, True),
        (0.83, 4, 0, False),
        (0.35, 2, 10 * MIB, False),
        (0.0, 2, 10 * MIB, True),
        (0.35, 2, 10 * GIB, True),
    ],
)
def test_it_pays_where_the_whole_is_faster(
    ratio: float, workers: int, limit: float, answer: bool
) -> None:
    assert pays(ratio, workers, limit) is answer


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("random", 1, 1), ("text", 0.001, 0.02), ("zeroes", 0, 0)]
)
def test_a_sample_tells_what_a_disk_is_like(kind: str, low: float, high: float) -> None:
    source = MemorySource(GIB, {5 * MIB + 3: content(20 * MIB, kind, 1)})
    control = Control()
    runs = allocated(source.extents(), source.size, CLUSTER)
    assert low <= sample_ratio(source, runs, CLUSTER, control) <= high


def test_a_sample_is_taken_from_all_over_the_disk() -> None:
    source = MemorySource(
        GIB, {0: content(6 * MIB, "random", 1), 500 * MIB: content(6 * MIB, "text", 1)}
    )
    runs = allocated(source.extents(), source.size, CLUSTER)
    assert 0.49 < sample_ratio(source, runs, CLUSTER, Control()) < 0.52


def test_a_disk_without_data_has_nothing_to_gain() -> None:
    source = MemorySource(GIB, {})
    assert sample_ratio(source, allocated(source.extents(), GIB, CLUSTER), CLUSTER, Control()) == 1


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("codec", ["zlib", "zstd"])
def test_clusters_are_stored_in_their_order(codec: str, workers: int) -> None:
    kinds = ["text", "zeroes", "random", "text"] * 40
    pieces = [content(CLUSTER, kind, seed) for seed, kind in enumerate(kinds)]
    control = Control()
    with Spool(100 * MIB) as spool:
        packed = compress(
            iter(pieces),
            iter(range(7, 7 + len(pieces))),
            CODECS[codec],
            cluster_size=CLUSTER,
            workers=workers,
            spool=spool,
            control=control,
        )
        assert spool.size == packed.packed
    numbers = [n for first, count in packed.runs for n in range(first, first + count)]
    assert numbers == [7 + n for n, kind in enumerate(kinds) if kind != "zeroes"]
    verbatim = [n for first, count in packed.verbatim for n in range(first, first + count)]
    assert verbatim == [7 + n for n, kind in enumerate(kinds) if kind == "random"]
    assert (control.counts.zero_clusters, control.counts.verbatim_clusters) == (40, 40)


def test_cancelling_ends_it_and_its_threads() -> None:
    before = threading.active_count()
    taken = 0

    def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(CLUSTER)

    control = Control(cancelled=lambda: taken > 500)
    with Spool(0) as spool, pytest.raises(StreamCancelled, match=r"cancelled after \d+ bytes"):
        compress(
            endless(),  # type: ignore[arg-type]
            iter(range(10**9)),
            CODECS["zstd"],
            cluster_size=CLUSTER,
            workers=2,
            spool=spool,
            control=control,
        )
    assert taken < 600
    assert threading.active_count() == before
