# SPDX-License-Identifier: Apache-2.0
"""Reading over NBD: what is asked for, and replies of every legal shape."""

import contextlib
import itertools
import random

import pytest

from nova_snap.stream import errors, nbd
from tests.unit.stream import nbd_peer
from tests.unit.stream.nbd_peer import Gone, Peer, serving

KIB = 1024
SIZE = 64 * KIB
CONTENT = random.Random(1).randbytes(SIZE)


@contextlib.contextmanager
def reading(transmission, *, size=SIZE, handshake=None, **kwargs):
    """A client of a server that has done the handshake and goes on with ``transmission``."""

    def script(peer: Peer) -> None:
        peer.handshake(size, **(handshake or {}))
        transmission(peer)

    kwargs.setdefault("timeout", 5)
    with serving(script) as server, nbd.Client(server.path, **kwargs) as client:
        yield client, server


def content(pieces) -> bytes:
    """Each is copied while it is valid."""
    return b"".join(bytes(piece) for piece in pieces)


def good(peer: Peer) -> None:
    peer.serve(CONTENT)


def asked(server) -> list[tuple[int, int]]:
    return [
        (request.offset, request.length)
        for request in server.peer.requests
        if request.command == nbd_peer.READ
    ]


@pytest.mark.parametrize("structured", [True, False])
def test_whole_disk(structured):
    def simple(peer: Peer) -> None:
        while True:
            request = peer.request()
            end = request.offset + request.length
            peer.simple(request.cookie, content=CONTENT[request.offset : end])

    serve = good if structured else simple
    with reading(serve, handshake={"structured": structured}, piece_size=4 * KIB) as (client, _):
        assert content(client.read([(0, client.size)])) == CONTENT


def test_ranges_and_pieces():
    """A range is cut, and neighbours are not joined."""
    ranges = [(100, 50), (150, 10), (0, 4 * KIB), (8 * KIB - 1, 4 * KIB + 2), (63 * KIB, KIB)]
    with reading(good, piece_size=4 * KIB) as (client, server):
        pieces = [bytes(piece) for piece in client.read(iter(ranges))]
        assert content(pieces) == b"".join(CONTENT[at : at + length] for at, length in ranges)
        assert asked(server) == [
            (100, 50),
            (150, 10),
            (0, 4 * KIB),
            (8 * KIB - 1, 1),
            (8 * KIB, 4 * KIB),
            (12 * KIB, 1),
            (63 * KIB, KIB),
        ]
        assert [len(piece) for piece in pieces] == [length for _, length in asked(server)]


@pytest.mark.parametrize("ranges", [[], [(5, 0)], [(0, 0), (len(CONTENT), 0)]])
def test_nothing_to_read(ranges):
    with reading(good) as (client, server):
        assert list(client.read(ranges)) == []
        assert asked(server) == []


@pytest.mark.parametrize(
    "wrong", [(-1, 5), (0, -1), (0, len(CONTENT) + 1), (len(CONTENT), 1), (1 << 64, 1)]
)
def test_range_outside_of_the_disk(wrong):
    with reading(good) as (client, _):
        with pytest.raises(ValueError, match="do not lie within a disk of 65536"):
            list(client.read([(0, 10), wrong]))
        assert [bytes(piece) for piece in client.read([(3, 4)])] == [CONTENT[3:7]]


@pytest.mark.parametrize(
    ("blocks", "piece_size", "ranges", "expected"),
    [
        pytest.param((512, 512, 1 << 20), 4096, [(1000, 30)], [(512, 1024)], id="within-blocks"),
        pytest.param(
            (512, 512, 1 << 20),
            1024,
            [(1000, 3000)],
            [(512, 1024), (1536, 1024), (2560, 1024), (3584, 512)],
            id="cut-at-blocks",
        ),
        pytest.param((512, 512, 1024), 1 << 20, [(0, 1536)], [(0, 1024), (1024, 512)], id="max"),
        pytest.param(
            (512, 512, 1100), 1 << 20, [(0, 1536)], [(0, 1024), (1024, 512)], id="odd-max"
        ),
        pytest.param((4096, 4096, 1 << 20), 100, [(0, 5000)], [(0, 4096), (4096, 4096)], id="tiny"),
        pytest.param(
            (1, 4096, 0xFFFFFFFF), 8192, [(1, 9000)], [(1, 8191), (8192, 809)], id="preferred"
        ),
        pytest.param(
            (1, 1 << 31, 0xFFFFFFFF),
            8192,
            [(1, 9000)],
            [(1, 8192), (8193, 808)],
            id="too-preferred",
        ),
        pytest.param((512, 4096, 1 << 20), 4096, [(65000, 536)], [(64512, 1024)], id="to-the-end"),
    ],
)
def test_block_sizes(blocks, piece_size, ranges, expected):
    with reading(good, handshake={"blocks": blocks}, piece_size=piece_size) as (client, server):
        assert content(client.read(ranges)) == b"".join(
            CONTENT[at : at + length] for at, length in ranges
        )
        assert asked(server) == expected


def test_disk_that_is_no_multiple_of_a_block():
    size = 10 * KIB + 100
    blocks = (512, 512, 1 << 20)
    with reading(good, size=size, handshake={"blocks": blocks}) as (client, server):
        assert content(client.read([(10 * KIB + 10, 90)])) == CONTENT[10 * KIB + 10 : size]
        assert asked(server) == [(10 * KIB, 100)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_replies_in_any_order(order):
    def script(peer: Peer) -> None:
        requests = [peer.request() for _ in range(3)]
        for number in order:
            request = requests[number]
            end = request.offset + request.length
            peer.data(request.cookie, request.offset, CONTENT[request.offset : end])

    with reading(script, piece_size=KIB, depth=3) as (client, _):
        assert content(client.read([(0, 3 * KIB)])) == CONTENT[: 3 * KIB]


def test_in_flight():
    """As many requests as asked for, before the first reply; then one for each piece."""

    def script(peer: Peer) -> None:
        first = [peer.request() for _ in range(4)]
        assert len({request.cookie for request in first}) == 4
        assert not peer.has_input
        for request in first[:3]:
            peer.data(request.cookie, request.offset, b"a" * KIB)
        rest = itertools.chain(first[3:], (peer.request() for _ in range(4)))
        for letter, request in zip(b"bcdef", rest, strict=True):
            peer.data(request.cookie, request.offset, bytes([letter]) * KIB)

    with reading(script, piece_size=KIB, depth=4) as (client, _):
        expected = b"".join(bytes([letter]) * KIB for letter in b"aaabcdef")
        assert content(client.read([(0, 8 * KIB)])) == expected


def test_buffers_are_used_again():
    with reading(good, piece_size=KIB, depth=3) as (client, _):
        places = set()
        for piece in client.read([(0, client.size)]):
            places.add(id(piece.obj))
        assert len(places) == 3


def test_a_piece_is_gone_with_the_next():
    with reading(good, piece_size=KIB) as (client, _):
        pieces = client.read([(0, 2 * KIB)])
        first = next(pieces)
        assert first.readonly
        assert first == CONTENT[:KIB]
        next(pieces)
        with pytest.raises(ValueError, match="released"):
            bytes(first)


def chunked(*chunks):
    """A server that replies to one request of 4 KiB in these parts."""

    def script(peer: Peer) -> None:
        request = peer.request()
        for number, chunk in enumerate(chunks):
            chunk(peer, request.cookie, number == len(chunks) - 1)
        peer.hang()

    return script


def data(start: int, end: int):
    return lambda peer, cookie, done: peer.data(cookie, start, CONTENT[start:end], done=done)


def hole(start: int, end: int):
    return lambda peer, cookie, done: peer.hole(cookie, start, end - start, done=done)


def none(peer: Peer, cookie: int, done: bool) -> None:
    peer.chunk(cookie, nbd_peer.NONE)


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([data(0, 4096)], id="one"),
        pytest.param([data(0, 4096), none], id="one-and-none"),
        pytest.param([data(0, 512), data(512, 4096)], id="two"),
        pytest.param([data(512, 4096), data(0, 512)], id="backwards"),
        pytest.param([data(1024, 2048), data(3072, 4096), data(0, 1024), data(2048, 3072)], id="4"),
        pytest.param([data(1, 4096), data(0, 1), none], id="a-byte"),
    ],
)
def test_chunks(chunks):
    with reading(chunked(*chunks)) as (client, _):
        assert content(client.read([(0, 4096)])) == CONTENT[:4096]


@pytest.mark.parametrize(
    ("chunks", "zero"),
    [
        pytest.param([hole(0, 4096)], (0, 4096), id="all"),
        pytest.param([data(0, 512), hole(512, 1024), data(1024, 4096)], (512, 1024), id="within"),
        pytest.param([hole(512, 4096), data(0, 512), none], (512, 4096), id="first"),
    ],
)
def test_hole_chunks(chunks, zero):
    """The buffer holds something else before: a hole must overwrite it."""

    def script(peer: Peer) -> None:
        request = peer.request()
        peer.data(request.cookie, 0, b"\xff" * 4096)
        chunked(*chunks)(peer)

    start, end = zero
    expected = CONTENT[:start] + bytes(end - start) + CONTENT[end:4096]
    with reading(script, piece_size=4096, depth=1) as (client, _):
        assert content(client.read([(0, 4096)])) == b"\xff" * 4096
        assert content(client.read([(0, 4096)])) == expected


def test_large_hole():
    size = 1 << 20
    with reading(chunked(hole(0, size)), size=size, piece_size=size) as (client, _):
        assert content(client.read([(0, size)])) == bytes(size)


def test_chunks_of_several_replies_mixed():
    def script(peer: Peer) -> None:
        one, two = peer.request(), peer.request()
        peer.data(two.cookie, 1536, CONTENT[1536:2048], done=False)
        peer.data(one.cookie, 0, CONTENT[:512], done=False)
        peer.data(two.cookie, 1024, CONTENT[1024:1536])
        peer.data(one.cookie, 512, CONTENT[512:1024])

    with reading(script, piece_size=KIB) as (client, _):
        assert content(client.read([(0, 2 * KIB)])) == CONTENT[: 2 * KIB]


# -- errors of the server ----------------------------------------------------------------------


def fails_at(offset: int, answer):
    def script(peer: Peer) -> None:
        while True:
            request = peer.request()
            if request.offset == offset:
                answer(peer, request.cookie)
            else:
                end = request.offset + request.length
                peer.data(request.cookie, request.offset, CONTENT[request.offset : end])

    return script


@pytest.mark.parametrize(
    ("answer", "where", "words"),
    [
        pytest.param(lambda peer, cookie: peer.error(cookie, 5), 2048, "EIO", id="error"),
        pytest.param(
            lambda peer, cookie: peer.error(cookie, 5, b"disk on fire"),
            2048,
            "in a read of 1024 bytes: disk on fire",
            id="words",
        ),
        pytest.param(
            lambda peer, cookie: peer.chunk(
                cookie,
                nbd_peer.ERROR_OFFSET,
                b"\0\0\0\x16" + b"\0\3" + b"bad" + (2500).to_bytes(8, "big"),
            ),
            2500,
            "EINVAL at offset 2500 in a read of 1024 bytes: bad",
            id="offset",
        ),
        pytest.param(lambda peer, cookie: peer.error(cookie, 99), 2048, "Errno 0x63", id="number"),
        pytest.param(
            lambda peer, cookie: peer.chunk(cookie, 0xFFFF, b"\0\0\0\5" + b"\0\1?" + b"more"),
            2048,
            "EIO",
            id="unknown-error-type",
        ),
        pytest.param(lambda peer, cookie: peer.simple(cookie, 12), 2048, "ENOMEM", id="simple"),
        pytest.param(
            lambda peer, cookie: (
                peer.data(cookie, 2048, b"x" * 512, done=False),
                peer.error(cookie, 5, done=False),
                peer.data(cookie, 2560, b"x" * 512, done=False),
                peer.error(cookie, 12, done=False),
                peer.chunk(cookie, nbd_peer.NONE),
            ),
            2048,
            "EIO",
            id="first-of-two-after-data",
        ),
    ],
)
def test_server_error(answer, where, words):
    """It comes in its turn, and others can be read after it."""
    with reading(fails_at(2048, answer), piece_size=KIB) as (client, _):
        got = []
        with pytest.raises(errors.NBDServerError, match=words) as caught:
            got.extend(bytes(piece) for piece in client.read([(0, 4 * KIB)]))
        assert b"".join(got) == CONTENT[: 2 * KIB]
        assert (caught.value.offset, caught.value.length) == (where, 1024)
        assert content(client.read([(3 * KIB, KIB)])) == CONTENT[3 * KIB : 4 * KIB]


def test_error_where_replies_are_simple():
    def script(peer: Peer) -> None:
        peer.simple(peer.request().cookie, 5)

    with (
        reading(script, handshake={"structured": False}) as (client, _),
        pytest.raises(errors.NBDServerError, match="EIO at offset 7"),
    ):
        list(client.read([(7, 1)]))


def test_in_one_piece():
    """Where the server offers it, so that QEMU can tell of an error; the map knows the holes."""
    with reading(good, handshake={"one_piece": True}, piece_size=KIB) as (client, _):
        assert content(client.read([(0, client.size)])) == CONTENT


def test_in_pieces_without_a_map():
    """Holes in the replies are then all that saves sending zeroes."""
    handshake = {"one_piece": True, "context": False}
    with reading(good, handshake=handshake, piece_size=KIB) as (client, _):
        assert content(client.read([(0, client.size)])) == CONTENT


def test_too_long_for_one_piece():
    """Asked for again in pieces, and so is all that follows."""

    def script(peer: Peer) -> None:
        for request in [peer.request() for _ in range(2)]:
            peer.error(request.cookie, 75)
        peer.one_piece = False
        peer.serve(CONTENT)

    with reading(script, handshake={"one_piece": True}, piece_size=KIB, depth=2) as (client, _):
        assert content(client.read([(0, client.size)])) == CONTENT


def test_too_long_anyway():
    def script(peer: Peer) -> None:
        peer.error(peer.request().cookie, 75)
        peer.one_piece = False
        peer.error(peer.request().cookie, 75)

    with (
        reading(script, handshake={"one_piece": True}) as (client, _),
        pytest.raises(errors.NBDServerError, match="EOVERFLOW"),
    ):
        content(client.read([(0, KIB)]))


# -- stopping early ----------------------------------------------------------------------------


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_read_again_after_stopping(taken):
    with reading(good, piece_size=KIB) as (client, _):
        for _ in range(3):
            pieces = client.read([(0, client.size)])
            assert content(itertools.islice(pieces, taken)) == CONTENT[: taken * KIB]
            pieces.close()
        assert content(client.read([(0, client.size)])) == CONTENT


def test_stopping_does_not_wait():
    """Not even for a server that never answers what is in flight."""

    def script(peer: Peer) -> None:
        request = peer.request()
        peer.data(request.cookie, request.offset, CONTENT[:KIB])
        peer.hang()

    with reading(script, piece_size=KIB, timeout=0.2) as (client, _):
        pieces = client.read([(0, client.size)])
        next(pieces)
        pieces.close()
        with pytest.raises(errors.NBDTimeout, match="replies to an earlier read"):
            list(client.read([(0, KIB)]))


def test_later_read_ends_an_earlier_one():
    with reading(good, piece_size=KIB) as (client, _):
        earlier = client.read([(0, client.size)])
        next(earlier)
        assert content(client.read([(0, client.size)])) == CONTENT
        with pytest.raises(RuntimeError, match="a later read"):
            next(earlier)


def test_map_in_the_middle_of_a_read():
    with reading(good, piece_size=KIB) as (client, _):
        pieces = client.read([(0, client.size)])
        start = bytes(next(pieces))
        assert list(client.extents()) == [(0, len(CONTENT), True)]
        assert start + content(pieces) == CONTENT


def test_farewell():
    said = []

    def script(peer: Peer) -> None:
        try:
            good(peer)
        except Gone:
            said.extend(peer.requests)

    with reading(script) as (client, server):
        list(client.read([(0, KIB)]))
        client.close()
        server.stop()
        assert said[-1].command == nbd_peer.DISC


def test_simple_replies_forbid_a_map():
    """All is data then, and nothing is asked."""
    with reading(good, handshake={"structured": False}) as (client, server):
        assert list(client.extents()) == [(0, len(CONTENT), True)]
        assert server.peer.requests == []
