# SPDX-License-Identifier: Apache-2.0
"""The map of a disk, from block status replies of every legal shape."""

import itertools
import random
import time

import pytest

from nova_snap.stream.nbd_extents import ExtentMap
from tests.unit.stream.nbd_peer import Peer
from tests.unit.stream.test_nbd_read import reading

HOLE, ZERO = 1, 2
GIB = 1 << 30


def mapped(replies, size, **kwargs):
    """The map that a server's replies give, and the requests for it.

    :param replies: lists of (length, flags).
    """

    def script(peer: Peer) -> None:
        for extents in replies:
            peer.status(peer.request().cookie, extents)
        peer.request()

    with reading(script, size=size, **kwargs) as (client, server):
        found = client.extents()
        client.close()
        server.stop()
        requests = [(r.offset, r.length) for r in server.peer.requests if r.command == 7]
        assert len(requests) == len(replies)
        return list(found), requests


@pytest.mark.parametrize(
    ("flags", "data"),
    [(0, True), (HOLE, True), (ZERO, False), (HOLE | ZERO, False), (0x8000 | ZERO, False)],
)
def test_only_zero_is_not_data(flags, data):
    assert mapped([[(4096, flags)]], 4096)[0] == [(0, 4096, data)]


def test_neighbours_are_merged():
    replies = [[(512, 0), (512, HOLE), (1024, 3), (1024, ZERO)], [(1024, ZERO), (4096, 0)]]
    assert mapped(replies, 8192) == (
        [(0, 1024, True), (1024, 3072, False), (4096, 4096, True)],
        [(0, 8192), (3072, 5120)],
    )


def test_one_extent_in_a_reply():
    replies = [[(1024, number % 2 * 3)] for number in range(8)]
    extents, requests = mapped(replies, 8192)
    assert extents == [(n * 1024, 1024, n % 2 == 0) for n in range(8)]
    assert requests == [(n * 1024, 8192 - n * 1024) for n in range(8)]


def test_last_extent_beyond_the_request():
    """A server may tell more than it was asked for."""
    size = 8 * GIB
    longest = 4 * GIB - 4096
    extents, requests = mapped([[(4096, 0), (4 * GIB - 1, 3)], [(longest, 3)], [(1, 0)]], size)
    assert requests == [(0, longest), (4 * GIB + 4095, longest), (size - 1, 1)]
    assert extents == [(0, 4096, True), (4096, size - 4097, False), (size - 1, 1, True)]


def test_sparse_terabyte():
    """In requests as long as the protocol has them, in multiples of the preferred block."""
    size = 1 << 40
    longest = 4 * GIB - 4096
    replies = []
    left = size
    while left:
        replies.append([(min(left, longest), 3)])
        left -= min(left, longest)
    started = time.monotonic()
    extents, requests = mapped(replies, size)
    assert extents == [(0, size, False)]
    assert len(requests) == 257
    assert time.monotonic() - started < 2


def test_forty_thousand_extents():
    """Of 64 KiB, with as many in a reply as there are in 4 GiB."""
    cluster = 64 << 10
    count = 40_000
    size = count * cluster
    flags = [number % 2 * 3 for number in range(count)]
    started = time.process_time()
    extents, _ = mapped([[(cluster, flag) for flag in flags]], size)
    assert time.process_time() - started < 10
    assert extents == [(n * cluster, cluster, not flag) for n, flag in enumerate(flags)]


@pytest.mark.parametrize("limit", [1 << 20, 1000], ids=["exact", "coarse"])
def test_time_grows_with_the_extents(limit):
    """Ten times as many take about ten times as long, not a hundred times."""

    def seconds(count: int) -> float:
        best = 1e9
        for _ in range(3):
            disk = ExtentMap(limit)
            started = time.process_time()
            for number in range(count):
                disk.append(512, number % 2 == 0)
            best = min(best, time.process_time() - started)
        return best

    assert seconds(200_000) < 30 * seconds(20_000)


def test_descriptors_that_are_not_whole_blocks():
    """The next request begins at a whole one, and tells again what is known of it."""
    replies = [[(1000, 0)], [(488, 3), (600, 3)], [(512, 0)]]
    extents, requests = mapped(replies, 2048, handshake={"blocks": (512, 512, 1 << 20)})
    assert requests == [(0, 2048), (512, 1536), (1536, 512)]
    assert extents == [(0, 1000, True), (1000, 600, False), (1600, 448, True)]


def test_empty_disk():
    assert mapped([], 0) == ([], [])


def test_no_context():
    """All is data, and no request is made."""
    assert mapped([], 4096, handshake={"context": False}) == ([(0, 4096, True)], [])


# -- the map itself ----------------------------------------------------------------------------


def filled(lengths, limit=1 << 20) -> ExtentMap:
    disk = ExtentMap(limit)
    for number, length in enumerate(lengths):
        disk.append(length, data=number % 2 == 1)
    return disk


def test_sequence():
    disk = filled([5, 1, 7])
    assert len(disk) == 3
    assert disk.end == 13
    assert [disk[0], disk[1], disk[-1]] == [(0, 5, False), (5, 1, True), (6, 7, False)]
    assert disk[1:] == [(5, 1, True), (6, 7, False)]
    assert disk == list(disk)
    assert disk != disk[1:]
    with pytest.raises(IndexError):
        disk[3]


@pytest.mark.parametrize("limit", [1, 2, 3, 10, 64])
def test_coarse(limit):
    """Fewer extents, the same disk, and no data taken for zero."""
    dice = random.Random(limit)
    lengths = [dice.choice([512, 4096, 65536, 1 << 20]) for _ in range(1000)]
    exact, coarse = filled(lengths), filled(lengths, limit)
    assert len(coarse) <= limit < len(exact)
    assert coarse.end == exact.end
    assert all(a.data != b.data for a, b in itertools.pairwise(coarse))
    zero = [extent for extent in exact if not extent.data]
    for extent in coarse:
        if not extent.data:
            assert any(
                known.offset <= extent.offset
                and extent.offset + extent.length <= known.offset + known.length
                for known in zero
            )


def test_coarse_keeps_the_long_holes():
    disk = filled([4096, 4096] * 50 + [1 << 30, 4096] + [4096, 4096] * 50, 20)
    assert (1 << 30) in [extent.length for extent in disk if not extent.data]
