# SPDX-License-Identifier: Apache-2.0
"""Compression, and whether it pays."""

import itertools
import threading
import zlib
from collections.abc import Iterator

import pytest
import zstandard

from nova_snap.stream.ahead import CLOSE_TIMEOUT
from nova_snap.stream.clusters import allocated
from nova_snap.stream.compress import CODECS, compressed, pays, sample_ratio
from nova_snap.stream.control import Control
from nova_snap.stream.file_source import MemorySource
from nova_snap.stream.growing import Clusters
from nova_snap.stream.image_errors import StreamCancelled
from tests.unit.stream.disks import CLUSTER, GIB, MIB, content


@pytest.mark.parametrize(
    ("ratio", "workers", "limit", "answer"),
    [
        (0.35, 1, 0, True),
        (0.35, 2, 0, True),
        (0.90, 1, 0, True),
        (0.90, 4, 0, True),
        (0.91, 4, 0, False),
        (1.0, 4, 0, False),
        # The limit is what the disk may be read with: what is sent cannot be faster than that.
        (0.35, 2, 10 * MIB, False),
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
def test_clusters_come_in_their_order(codec: str, workers: int) -> None:
    kinds = ["text", "zeroes", "random", "text"] * 40
    pieces = [content(CLUSTER, kind, seed) for seed, kind in enumerate(kinds)]
    control = Control()
    found = list(
        compressed(
            iter(pieces),
            iter(range(7, 7 + len(pieces))),
            CODECS[codec],
            cluster_size=CLUSTER,
            workers=workers,
            control=control,
        )
    )
    assert [stored.number for stored in found] == [
        7 + n for n, kind in enumerate(kinds) if kind != "zeroes"
    ]
    for number, data in found:
        if kinds[number - 7] == "random":
            assert data == pieces[number - 7]
        else:
            assert len(data) < CLUSTER // 2
            assert decompress(codec, data) == pieces[number - 7]
    assert (control.counts.zero_clusters, control.counts.verbatim_clusters) == (40, 40)
    assert control.done == len(kinds) * CLUSTER


def decompress(codec: str, data: bytes) -> bytes:
    if codec == "zlib":
        return zlib.decompress(data, -12)
    return zstandard.ZstdDecompressor().decompress(data)


def endless(taken: list[int]) -> Iterator[bytes]:
    for number in itertools.count(1):
        taken[0] = number
        yield bytes(CLUSTER)


def run_endlessly(taken: list[int], control: Control) -> Clusters:
    return compressed(
        endless(taken),
        itertools.count(),
        CODECS["zstd"],
        cluster_size=CLUSTER,
        workers=2,
        control=control,
    )


def test_cancelling_ends_it_and_its_threads() -> None:
    before = threading.active_count()
    taken = [0]
    control = Control(cancelled=lambda: taken[0] > 500)
    with pytest.raises(StreamCancelled, match=r"cancelled after \d+ bytes"):
        for _ in run_endlessly(taken, control):
            pass
    assert taken[0] < 600
    assert threading.active_count() == before


def test_whoever_has_enough_ends_its_threads() -> None:
    before = threading.active_count()
    taken = [0]
    pieces = itertools.chain([content(CLUSTER, "random", 1)], endless(taken))
    found = compressed(
        pieces,
        itertools.count(),
        CODECS["zstd"],
        cluster_size=CLUSTER,
        workers=2,
        control=Control(),
    )
    assert next(found).number == 0
    found.close()
    assert threading.active_count() == before
    assert taken[0] < 200


def test_whoever_has_enough_waits_for_what_is_being_read() -> None:
    """Two that read the same export would take each other's answers."""
    stuck, free = threading.Event(), threading.Event()
    readers: list[threading.Thread] = []

    def pieces() -> Iterator[bytes]:
        readers.append(threading.current_thread())
        # More than the five batches of 16 that it takes to give something, and less than are read.
        yield from [content(CLUSTER, "random", 1)] * 100
        stuck.set()
        assert free.wait(30)

    found = compressed(
        pieces(),
        itertools.count(),
        CODECS["zstd"],
        cluster_size=CLUSTER,
        workers=2,
        control=Control(),
    )
    assert next(found).number == 0
    assert stuck.wait(30)
    closing = threading.Thread(target=found.close)
    closing.start()
    closing.join(2 * CLOSE_TIMEOUT)
    try:
        assert closing.is_alive()
    finally:
        free.set()
        closing.join(30)
    assert not closing.is_alive()
    assert not readers[0].is_alive()
