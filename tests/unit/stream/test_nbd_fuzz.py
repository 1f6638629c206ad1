# SPDX-License-Identifier: Apache-2.0
"""Garbage, damaged conversations, and every legal way to answer."""

import itertools
import random
import socket
import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_snap.stream import errors, nbd
from tests.unit.stream.nbd_peer import DATA, HOLE, NONE, STATUS, Peer, serving

SIZE = 40_000
PIECE = 4096
TIMEOUT = 0.2
# For one example: connecting, the map, reading, each up to its timeout, and a busy machine.
LONGEST = 10
CONTENT = bytes(8192) + random.Random(2).randbytes(SIZE - 16384) + bytes(8192)
EXTENTS = [(8192, 3), (SIZE - 16384, 0), (8192, 2)]

fuzzing = settings(max_examples=100, deadline=None, database=None)


def replay(data: bytes, *, end: bool = True):
    """A server that says this whatever it is asked, and then hangs up or is silent."""

    def script(peer: Peer) -> None:
        peer.send(data)
        if end:
            peer.socket.shutdown(socket.SHUT_WR)
        peer.hang()

    return script


def use(path: str, depth: int = 4) -> bytes:
    """All that a client does; what it reads."""
    with nbd.Client(path, timeout=TIMEOUT, piece_size=PIECE, depth=depth) as client:
        extents = client.extents()
        assert sum(extent.length for extent in extents) == client.size
        found = b""
        for piece in client.read([(0, min(client.size, SIZE))]):
            found += piece
        assert len(found) == min(client.size, SIZE)
        return found


def survive(data: bytes, *, end: bool = True) -> bytes | None:
    """What a client makes of it: content, or one of the errors that are documented."""
    started = time.monotonic()
    found = None
    with serving(replay(data, end=end)) as server:
        try:
            found = use(server.path)
        except errors.NBDError as error:
            messages = [str(error), error.for_user()]
            assert all(messages), "each error says something"
    assert time.monotonic() - started < LONGEST
    return found


class Recorder(Peer):
    """Remembers what the server said."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.said = b""

    def send(self, *parts: bytes) -> None:
        self.said += b"".join(parts)
        super().send(*parts)


@pytest.fixture(scope="module")
def conversation() -> bytes:
    """All that a good server says to a client, which would say the same again."""
    said = []

    def script(peer: Peer) -> None:
        recorder = Recorder(peer.socket)
        try:
            recorder.handshake(SIZE, blocks=(1, 4096, 1 << 20))
            recorder.serve(CONTENT, EXTENTS)
        finally:
            said.append(recorder.said)

    with serving(script) as server:
        assert use(server.path) == CONTENT
    return said[0]


def test_undamaged(conversation):
    """What the tests below damage is a conversation that works."""
    assert survive(conversation) == CONTENT


def test_cut_anywhere(conversation):
    """At each byte of the handshake and the map, and then at some."""
    whole = len(conversation)
    for end in [*range(320), *range(320, whole, 1499), whole - 1]:
        assert survive(conversation[:end]) is None


@fuzzing
@given(data=st.binary(max_size=300))
def test_garbage(data):
    assert survive(data) is None


@fuzzing
@given(data=st.binary(max_size=200), kept=st.integers(18, 400))
def test_garbage_after_a_good_beginning(conversation, data, kept):
    survive(conversation[:kept] + data)


@st.composite
def damage(draw):
    """Changes near the interesting places: the first ones, and the heads of the replies."""
    kind = draw(st.sampled_from(["flip", "set", "cut", "repeat", "insert"]))
    near = draw(st.one_of(st.integers(0, 360), st.integers(0, SIZE + 1000)))
    return kind, near, draw(st.integers(1, 40)), draw(st.binary(min_size=1, max_size=16))


def damaged(data: bytes, kind: str, at: int, length: int, extra: bytes) -> bytes:
    at %= len(data)
    before, after = data[:at], data[at:]
    if kind == "flip":
        return before + bytes([after[0] ^ (1 << length % 8)]) + after[1:]
    if kind == "set":
        return before + extra + after[len(extra) :]
    if kind == "cut":
        return before + after[length:]
    if kind == "repeat":
        return before + after[:length] + after
    return before + extra + after


@fuzzing
@given(changes=st.lists(damage(), min_size=1, max_size=3))
def test_damaged(conversation, changes):
    for change in changes:
        conversation = damaged(conversation, *change)
    survive(conversation)


@settings(fuzzing, max_examples=25)
@given(change=damage())
def test_damaged_and_silent(conversation, change):
    """The server does not hang up: a client that waits for more must stop by itself."""
    survive(damaged(conversation, *change), end=False)


NUMBERS = st.sampled_from([0, 1, 2, 7, 8, 9, 12, 13, 511, 4096, 4104, 4105, 1 << 31, (1 << 32) - 1])


@st.composite
def messages(draw):
    """Well-formed heads with any numbers in them."""
    if draw(st.integers(0, 4)) == 0:
        head = struct.pack(">IIQ", 0x67446698, draw(NUMBERS), draw(st.integers(0, 6)))
    else:
        kind = draw(st.sampled_from([0, 1, 2, 5, 6, 0x8001, 0x8002, 0x8003, 0xFFFF]))
        length = draw(st.one_of(NUMBERS, st.integers(0, 40)))
        head = struct.pack(
            ">IHHQI", 0x668E33EF, draw(st.integers(0, 3)), kind, draw(st.integers(0, 6)), length
        )
    numbers = draw(st.lists(st.one_of(NUMBERS, st.integers(0, SIZE)), max_size=6))
    sizes = st.sampled_from([4, 8])
    return head + b"".join((n % (1 << 32)).to_bytes(draw(sizes), "big") for n in numbers)


@fuzzing
@given(replies=st.lists(messages(), max_size=8))
def test_well_formed_nonsense(conversation, replies):
    """After a good handshake and with, or without, a good map."""
    after_handshake = conversation.index(struct.pack(">IHHQ", 0x668E33EF, 1, STATUS, 1))
    survive(conversation[:after_handshake] + b"".join(replies))
    after_map = after_handshake + 20 + 4 + 8 * len(EXTENTS)
    survive(conversation[:after_map] + b"".join(replies))


class AnyAnswer:
    """A server that is always right and never does it in the same way: replies in any order, cut
    into any chunks, in any order, mixed with those of others, zeroes as data or holes.
    """

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._pending: list[tuple[int, int, bool]] = []

    def __call__(self, peer: Peer) -> None:
        peer.handshake(SIZE, blocks=(1, 512, 1 << 20))
        while True:
            while not self._pending or peer.has_input:
                self._cut(peer.request())
            self._send(peer)

    def _cut(self, request) -> None:
        start, end = request.offset, request.offset + request.length
        inner = self._dice.sample(
            range(start + 1, end), min(self._dice.randrange(6), end - start - 1)
        )
        edges = [start, *sorted(inner), end]
        chunks = list(itertools.pairwise(edges))
        self._dice.shuffle(chunks)
        if self._dice.random() < 0.5:
            chunks.append((0, 0))
        self._pending.append((request.cookie, chunks))

    def _send(self, peer: Peer) -> None:
        which = self._dice.randrange(len(self._pending))
        cookie, chunks = self._pending[which]
        start, end = chunks.pop(0)
        done = not chunks
        content = CONTENT[start:end]
        if not content:
            peer.chunk(cookie, NONE)
        elif not content.strip(b"\0") and self._dice.random() < 0.7:
            peer.chunk(cookie, HOLE, struct.pack(">QI", start, end - start), done=done)
        else:
            peer.chunk(cookie, DATA, struct.pack(">Q", start) + content, done=done)
        if done:
            del self._pending[which]


@fuzzing
@given(
    seed=st.integers(0, 1 << 32),
    depth=st.integers(1, 6),
    piece_size=st.integers(1000, 20_000),
    ranges=st.lists(
        st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(
            lambda pair: (min(pair), max(pair) - min(pair))
        ),
        max_size=5,
    ),
    stop=st.integers(0, 10),
)
def test_any_legal_answer(seed, depth, piece_size, ranges, stop):
    """Stopped once on the way and begun again."""
    expected = b"".join(CONTENT[at : at + length] for at, length in ranges)
    with (
        serving(AnyAnswer(seed)) as server,
        nbd.Client(server.path, timeout=10, piece_size=piece_size, depth=depth) as client,
    ):
        for _ in zip(range(stop), client.read(ranges), strict=False):
            pass
        assert b"".join(bytes(piece) for piece in client.read(ranges)) == expected
