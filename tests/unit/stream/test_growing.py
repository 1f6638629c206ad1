# SPDX-License-Identifier: Apache-2.0
"""An image that is sent while it is made, by a reader that knows only the specification."""

import itertools
import random
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_snap.stream.clusters import Runs
from nova_snap.stream.growing import STRETCH, Clusters, GrowingLayout, Stored
from nova_snap.stream.image_errors import LayoutUnsupported
from nova_snap.stream.qcow2_format import ZSTD
from tests.unit.stream.disks import CLUSTER, KIB, MIB, TIB
from tests.unit.stream.qcow2_reader import OFFSET_MASK, Qcow2

WHOLE = random.Random(1).randbytes(2 * MIB)

lengths_of = st.one_of(
    st.just(CLUSTER),
    st.sampled_from([10, 511, 512, 513, 32 * KIB, CLUSTER - 1]),
    st.integers(10, CLUSTER),
)


def data_of(number: int, length: int) -> bytes:
    """Different for every cluster."""
    return number.to_bytes(8, "big") + WHOLE[: length - 8]


class Making:
    """One image, made from clusters of given lengths; 0 for one that is not stored.

    :ivar data: the file.
    :ivar rest: the clusters that were read to be sent as they are.
    :ivar taken: how many clusters were asked for.
    """

    def __init__(
        self,
        lengths: dict[int, int],
        expected: int,
        hold: int,
        cluster_size: int = CLUSTER,
        virtual_size: int = 8 * TIB,
    ) -> None:
        self._lengths = dict(sorted(lengths.items()))
        self._size = cluster_size
        self.rest: list[int] = []
        self.taken = 0
        self.closed = False
        runs = Runs()
        for number in self._lengths:
            runs.add(number)
        layout = GrowingLayout(
            virtual_size, runs, expected, cluster_size=cluster_size, compression_type=ZSTD
        )
        self.pieces = layout.pieces(self._clusters(), self._as_they_are, hold)

    def _clusters(self) -> Clusters:
        try:
            for number, length in self._lengths.items():
                self.taken += 1
                if length:
                    yield Stored(number, data_of(number, length))
        finally:
            self.closed = True

    def _as_they_are(self, runs: Runs) -> Iterator[bytes]:
        assert self.closed, "the disk is read twice at a time"
        for first, count in runs:
            for number in range(first, first + count):
                self.rest.append(number)
                yield data_of(number, self._size)

    def check(self) -> Qcow2:
        """That the file holds what is to be stored, and nothing else."""
        found = Qcow2(b"".join(self.pieces), gap=True)
        assert self.closed
        rest = set(self.rest)
        wanted = {
            number: self._size if number in rest else length
            for number, length in self._lengths.items()
            if length or number in rest
        }
        assert sorted(found.entries) == list(wanted)
        for number, length in wanted.items():
            entry = found.entries[number]
            if length == self._size:
                offset = entry & OFFSET_MASK
            else:
                offset, reach = found.packed_at(entry)
                assert 0 <= reach - length < 512
            assert found.image[offset : offset + length] == data_of(number, length)
        return found


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(
        st.integers(0, 8 * TIB // CLUSTER - 1), st.one_of(st.just(0), lengths_of), max_size=80
    ),
    st.integers(0, 4 * MIB),
    st.sampled_from([0, 1, 100 * KIB, 64 * MIB]),
)
def test_any_clusters_of_any_length(lengths: dict[int, int], expected: int, hold: int) -> None:
    Making(lengths, expected, hold).check()


@pytest.mark.parametrize("length", [10, 511, 512, 513, 40_000, CLUSTER - 1, CLUSTER])
@pytest.mark.parametrize("share", [0, 0.5, 0.97, 1.0, 1.3])
def test_many_neighbours_of_one_length(length: int, share: float) -> None:
    """More than a stretch of them, and more than one refcount block and L2 table where large."""
    count = min(20_000, 3 * STRETCH // length)
    lengths = dict.fromkeys(range(count), length)
    making = Making(lengths, int(count * length * share), 2 * MIB)
    found = making.check()
    left = count * length * (1 - share)
    if share < 1 and left > 3 * MIB and length < CLUSTER:
        assert making.rest == list(range(making.rest[0], count)), "the last ones"
    elif share > 1:
        assert not making.rest
        assert found.file_size <= count * length * share + 12 * CLUSTER


def test_clusters_of_two_mib() -> None:
    lengths = {n: 10 + n * 37_000 % (2 * MIB - 9) for n in range(100, 160)}
    assert 2 * MIB not in lengths.values()
    for expected in (0, 20 * MIB, 200 * MIB):
        Making(lengths, expected, 8 * MIB, cluster_size=2 * MIB).check()


def test_nothing_at_all() -> None:
    making = Making({}, 0, 0, virtual_size=0)
    # Header, L1 table, refcount table and block.
    assert making.check().file_size == 4 * CLUSTER


@pytest.mark.parametrize("length", [20_000, CLUSTER])
def test_it_is_handed_out_while_clusters_come(length: int) -> None:
    """Of what stands before the tables, no more than a stretch is held back."""
    count = 2000
    making = Making(dict.fromkeys(range(count), length), count * length, 0)
    out = 0
    for piece in making.pieces:
        out += len(piece)
        if making.taken < count:
            assert making.taken * length - out <= STRETCH + CLUSTER
    assert out > count * length


def test_what_is_held_is_bounded() -> None:
    """With no room before the tables, what is taken is what may be held, and no more."""
    count, length = 2000, 20_000
    making = Making(dict.fromkeys(range(count), length), 0, 5 * MIB)
    making.check()
    assert making.taken * length < 5 * MIB + 2 * length
    assert len(making.rest) == count - making.taken


def test_zeroes_that_were_seen_are_not_stored_after_all() -> None:
    lengths = {n: 0 if n % 2 else 1000 for n in range(1000)}
    making = Making(lengths, 100_000, 100_000)
    making.check()
    first = making.rest[0]
    assert first == making.taken or lengths[first - 1] == 0
    assert making.rest == list(range(first, 1000))


def test_whoever_has_enough_ends_it() -> None:
    making = Making(dict.fromkeys(range(1000), 20_000), 32 * MIB, 0)
    for _piece in itertools.islice(making.pieces, 1000):
        if making.taken:
            break
    assert 0 < making.taken < 1000
    making.pieces.close()
    assert making.closed


def layout_of(virtual_size: int, count: int, cluster_size: int = CLUSTER) -> GrowingLayout:
    runs = Runs()
    runs.add(0, count)
    return GrowingLayout(virtual_size, runs, 0, cluster_size=cluster_size, compression_type=ZSTD)


def test_a_disk_that_is_too_large() -> None:
    with pytest.raises(LayoutUnsupported, match="Virtual size"):
        layout_of(2**61, 0)
    with pytest.raises(LayoutUnsupported, match="Image size"):
        layout_of(2**50, 2**36)


def test_runs_after_a_number() -> None:
    runs = Runs()
    for first, count in ((3, 4), (10, 1), (20, 5)):
        runs.add(first, count)
    numbers = numbers_of(runs)
    for number in range(-1, 26):
        assert numbers_of(runs.after(number)) == [n for n in numbers if n > number]


def numbers_of(runs: Iterable[tuple[int, int]]) -> list[int]:
    return [n for first, count in runs for n in range(first, first + count)]
