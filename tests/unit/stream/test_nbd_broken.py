# SPDX-License-Identifier: Apache-2.0
"""NBD servers that break the protocol, say nothing, or go: always an error, soon, and cheaply."""

import socket
import struct
import threading
import time
import tracemalloc

import pytest

from nova_snap.stream import errors, nbd
from nova_snap.stream.nbd_wire import Deadline, Wire
from tests.unit.stream import nbd_peer
from tests.unit.stream.nbd_peer import CONTEXT, Peer, serving
from tests.unit.stream.test_nbd_read import CONTENT, KIB, content, data, hole, none, reading

PIECE = 4 * KIB
HUGE = 0xFFFFFFFF


def chunk(kind: int, payload: bytes = b"", *, length: int = -1, cookie: int | None = None):
    def send(peer: Peer, request_cookie: int, done: bool) -> None:
        used = request_cookie if cookie is None else cookie
        peer.chunk(used, kind, payload, done=done, length=length)

    return send


def open_chunk(kind: int, payload: bytes = b""):
    """Not the last one, although nothing follows."""
    return lambda peer, cookie, _: peer.chunk(cookie, kind, payload, done=False)


def raw(payload: bytes):
    return lambda peer, _cookie, _done: peer.send(payload)


def simple(code: int = 0, payload: bytes = b""):
    return lambda peer, cookie, _: peer.simple(cookie, code, payload)


def error_chunk(code: int, length: int, words: bytes, *, tail: bytes = b"", kind: int = 0x8001):
    return chunk(kind, struct.pack(">IH", code, length) + words + tail)


# What a server sends in reply to a read of 4096 bytes at 0, and a part of the error.
READ_VIOLATIONS = {
    "magic": ([raw(b"\xde\xad\xbe\xef" * 5)], "magic number of a structured reply, found 0xdead"),
    "request-magic": ([raw(struct.pack(">IIQI", 0x25609513, 0, 1, 0))], "found 0x25609513"),
    "other-cookie": ([chunk(1, bytes(8 + PIECE), cookie=99)], "in flight, found 0x63"),
    "simple-cookie": ([raw(struct.pack(">IIQ", 0x67446698, 5, 0))], "in flight, found 0x0"),
    "simple-success": ([simple(0, CONTENT[:PIECE])], "a structured reply to a read of 4096 bytes"),
    "before-request": ([chunk(1, struct.pack(">Q", 1 << 63) + b"x")], "chunks within a read"),
    "after-request": ([data(PIECE, PIECE + 1)], "found a chunk of 1 bytes at 4096"),
    "across-the-end": ([data(1, PIECE + 1)], "found a chunk of 4096 bytes at 1"),
    "hole-after-request": ([hole(PIECE, 2 * PIECE)], "chunks within a read"),
    "hole-across-the-end": ([chunk(2, struct.pack(">QI", 1, HUGE))], "found a chunk of 4294967295"),
    "empty-hole": ([hole(5, 5)], "found a chunk of 0 bytes at 5"),
    "hole-of-other-length": ([chunk(2, bytes(13))], "a hole chunk of 12 bytes, found 13"),
    "hole-length-huge": ([chunk(2, length=HUGE)], "a hole chunk of 12 bytes"),
    "data-without-content": ([chunk(1, bytes(8))], "at least a byte"),
    "data-without-offset": ([chunk(1, bytes(3))], "at least a byte in a data chunk, found 3"),
    "data-length-huge": ([chunk(1, bytes(8), length=HUGE)], "found a chunk of 4294967287 bytes"),
    "same-chunk-twice": ([data(0, 512), data(0, 512)], "do not overlap"),
    "overlap-left": ([data(512, 1024), data(0, 513)], "do not overlap"),
    "overlap-right": ([data(512, 1024), data(1023, 2000)], "do not overlap"),
    "overlap-around": ([data(512, 1024), hole(0, PIECE)], "do not overlap"),
    "overlap-within": ([data(0, PIECE), hole(7, 8)], "do not overlap"),
    "overlap-joined": ([data(0, 512), data(512, 1024), data(100, 900)], "do not overlap"),
    "nothing": ([none], "the whole of a read of 4096 bytes at 0, found 0 of 4096 bytes"),
    "short": ([data(0, PIECE - 1)], "found 4095 of 4096 bytes"),
    "gap": ([data(0, 512), data(1024, PIECE), none], "found 3584 of 4096 bytes"),
    "none-with-payload": ([chunk(0, b"x")], "an empty last chunk of type NONE"),
    "none-not-last": ([open_chunk(0)], "an empty last chunk of type NONE"),
    "unknown-type": ([chunk(3, b"x")], "content of a read of 4096 bytes at 0, found ChunkType 0x3"),
    "other-type": ([chunk(5, bytes(12))], "found BLOCK_STATUS"),
    "error-without-number": ([error_chunk(0, 0, b"")], "error 0 with a message of 0"),
    "error-too-short": ([chunk(0x8001, b"\0\0\0\5\0")], "6 to 4160 bytes of ERROR, found 5"),
    "error-too-long": ([chunk(0x8001, length=HUGE)], "found 4294967295"),
    "error-words-too-long": ([error_chunk(5, 4, b"abc")], "error 5 with a message of 4"),
    "error-offset-short": ([error_chunk(5, 0, b"", kind=0x8002)], "14 to 4160 bytes"),
    "error-offset-words": (
        [error_chunk(5, 4, b"abc", tail=bytes(8), kind=0x8002)],
        "error 5 with a message of 4",
    ),
    "error-offset-outside": (
        [error_chunk(5, 0, b"", tail=struct.pack(">Q", PIECE), kind=0x8002)],
        "an error within a read of 4096 bytes at 0, found one at 4096",
    ),
    "unknown-error-words": ([error_chunk(5, 9, b"", kind=0x9000)], "ChunkType 0x9000"),
    "after-the-last": ([data(0, PIECE), data(0, PIECE)], "the cookie of a request in flight"),
    "errors-without-end": ([error_chunk(5, 0, b"")] * 1100, "at most 1032 chunks"),
}


@pytest.mark.parametrize("name", READ_VIOLATIONS)
def test_read_violation(name):
    """And then the client is of no more use, and says so."""
    chunks, words = READ_VIOLATIONS[name]

    def script(peer: Peer) -> None:
        first = peer.request()
        for number, send in enumerate(chunks):
            done = number == len(chunks) - 1 or name == "after-the-last"
            send(peer, first.cookie, done)
        peer.hang()

    # Of a second request, so that there is something to wait for after the first is done.
    ranges = [(0, PIECE), (PIECE, PIECE)]
    with reading(script, piece_size=PIECE) as (client, server):
        with pytest.raises(errors.NBDProtocolError) as caught:
            content(client.read(ranges))
        assert words in str(caught.value)
        assert server.path in str(caught.value)
        with pytest.raises(errors.NBDDisconnected, match="an earlier request"):
            content(client.read(ranges))
        with pytest.raises(errors.NBDDisconnected, match="an earlier request"):
            client.extents()


def test_structured_reply_that_was_not_agreed_on():
    def script(peer: Peer) -> None:
        peer.data(peer.request().cookie, 0, CONTENT[:PIECE])

    with (
        reading(script, handshake={"structured": False}) as (client, _),
        pytest.raises(errors.NBDProtocolError, match="magic number of a simple reply"),
    ):
        content(client.read([(0, PIECE)]))


SIZE = 1 << 20

# Block status replies for a disk of 1 MiB.
STATUS_VIOLATIONS = {
    "other-context": ([(SIZE, 0)], CONTEXT + 1, "context 77, found 78"),
    "zero-length": ([(0, 0)], CONTEXT, "one of 0 bytes at 0"),
    "zero-length-later": ([(512, 0), (0, 3)], CONTEXT, "one of 0 bytes at 512"),
    "beyond-the-disk": ([(SIZE + 1, 0)], CONTEXT, "one of 1048577 bytes at 0"),
    "beyond-the-disk-later": ([(512, 0), (SIZE, 0)], CONTEXT, "one of 1048576 bytes at 512"),
    "one-too-many": ([(SIZE, 0), (1, 0)], CONTEXT, "one of 1 bytes at 1048576"),
    "none": ([], CONTEXT, "block status"),
}


@pytest.mark.parametrize("name", STATUS_VIOLATIONS)
def test_block_status_violation(name):
    extents, context, words = STATUS_VIOLATIONS[name]

    def script(peer: Peer) -> None:
        peer.status(peer.request().cookie, extents, context=context)
        peer.hang()

    with (
        reading(script, size=SIZE) as (client, _),
        pytest.raises(errors.NBDProtocolError, match=words),
    ):
        client.extents()


@pytest.mark.parametrize(
    ("send", "words"),
    [
        pytest.param(lambda peer, cookie: peer.chunk(cookie, 5, bytes(4)), "4 \\+ n", id="empty"),
        pytest.param(lambda peer, cookie: peer.chunk(cookie, 5, b"x"), "found 1", id="short"),
        pytest.param(lambda peer, cookie: peer.chunk(cookie, 5, bytes(13)), "found 13", id="odd"),
        pytest.param(
            lambda peer, cookie: peer.chunk(cookie, 5, length=HUGE - 3),
            "at most 16777216",
            id="huge",
        ),
        pytest.param(lambda peer, cookie: peer.chunk(cookie, 0), "found none", id="nothing"),
        pytest.param(lambda peer, cookie: peer.simple(cookie), "a simple one", id="simple"),
        pytest.param(
            lambda peer, cookie: peer.data(cookie, 0, b"x"), "found OFFSET_DATA", id="data"
        ),
        pytest.param(
            lambda peer, cookie: [
                peer.chunk(cookie, 5, struct.pack(">III", CONTEXT, 512, 0), done=False)
                for _ in range(2)
            ],
            "one block status",
            id="twice",
        ),
    ],
)
def test_block_status_chunk_violation(send, words):
    def script(peer: Peer) -> None:
        send(peer, peer.request().cookie)
        peer.hang()

    with (
        reading(script, size=SIZE) as (client, _),
        pytest.raises(errors.NBDProtocolError, match=words),
    ):
        client.extents()


def test_map_that_does_not_get_on():
    """The request begins at the edge of a block, within what is known."""

    def script(peer: Peer) -> None:
        while True:
            peer.status(peer.request().cookie, [(100, 0)])

    with (
        reading(script, size=SIZE, handshake={"blocks": (512, 512, SIZE)}) as (client, _),
        pytest.raises(errors.NBDProtocolError, match="what is beyond 100, found none"),
    ):
        client.extents()


def test_map_of_a_server_that_gets_on_too_slowly(monkeypatch):
    """Byte by byte, each reply in time."""
    # So that a machine that stands still for a second is no server that does.
    monkeypatch.setattr(nbd, "MAP_TIMEOUTS", 2)

    def script(peer: Peer) -> None:
        while True:
            peer.status(peer.request().cookie, [(1, 0)])

    started = time.monotonic()
    with (
        reading(script, size=1 << 40, timeout=4.0) as (client, _),
        pytest.raises(errors.NBDTimeout, match="the whole map"),
    ):
        client.extents()
    assert time.monotonic() - started < 30


def huge_option_reply(peer: Peer) -> None:
    peer.greet()
    peer.send(struct.pack(">QIII", 0x3E889045565A9, peer.option()[0], 0x80000001, HUGE))


def huge_chunk(kind: int):
    """A reply to the first request, whatever it is, which claims four gigabytes."""

    def script(peer: Peer) -> None:
        peer.handshake(SIZE)
        peer.chunk(peer.request().cookie, kind, bytes(8), length=HUGE - 3)
        peer.hang()

    return script


@pytest.mark.parametrize(
    ("script", "use"),
    [
        pytest.param(huge_option_reply, "connect", id="option-reply"),
        pytest.param(huge_chunk(1), "read", id="data"),
        pytest.param(huge_chunk(2), "read", id="hole"),
        pytest.param(huge_chunk(0x8001), "read", id="error"),
        pytest.param(huge_chunk(3), "read", id="unknown"),
        pytest.param(huge_chunk(5), "extents", id="status"),
    ],
)
def test_nothing_is_allocated_for_a_claim(script, use):
    with serving(script) as server:
        client = nbd.Client(server.path, timeout=5, piece_size=PIECE)
        tracemalloc.start()
        try:
            with pytest.raises(errors.NBDProtocolError):  # noqa: PT012
                client.connect()
                if use == "extents":
                    client.extents()
                content(client.read([(0, PIECE)]))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            client.close()
    assert peak < 1 << 20


# -- no answer ---------------------------------------------------------------------------------


def handshake_until(option: int):
    """A server that falls silent when this is asked."""

    def script(peer: Peer) -> None:
        peer.greet()
        while (asked := peer.option()[0]) != option:
            peer.reply(asked, nbd_peer.REP_ACK)
        peer.hang()

    return script


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(Peer.hang, id="no-greeting"),
        pytest.param(lambda peer: (peer.send(b"NBDMAG"), peer.hang()), id="half-a-greeting"),
        pytest.param(handshake_until(nbd_peer.OPT_STRUCTURED), id="structured"),
        pytest.param(handshake_until(nbd_peer.OPT_META), id="meta"),
        pytest.param(handshake_until(nbd_peer.OPT_GO), id="go"),
    ],
)
def test_silence_in_the_handshake(script):
    started = time.monotonic()
    with serving(script) as server:
        with pytest.raises(errors.NBDTimeout, match=r"Waited 0\.1 s for the handshake"):
            nbd.Client(server.path, timeout=0.1).connect()
        assert 0.1 <= time.monotonic() - started < 2


def test_no_room_in_the_queue(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        path = str(tmp_path / "socket")
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        with pytest.raises(errors.NBDConnectFailed, match="queue of connections is full"):
            nbd.Client(path, timeout=0.1).connect()


def dribble(payload: bytes):
    def script(peer: Peer) -> None:
        peer.request()
        for byte in payload:
            peer.send(bytes([byte]))
            time.sleep(0.02)
        peer.hang()

    return script


DATA_HEAD = struct.pack(">IHHQIQ", 0x668E33EF, 1, 1, 1, 8 + PIECE, 0)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(lambda peer: peer.hang(), id="nothing"),
        pytest.param(lambda peer: (peer.send(DATA_HEAD[:3]), peer.hang()), id="part-of-a-head"),
        pytest.param(lambda peer: (peer.send(DATA_HEAD + b"x"), peer.hang()), id="part-of-data"),
        pytest.param(dribble(DATA_HEAD + CONTENT[:PIECE]), id="a-byte-now-and-then"),
    ],
)
def test_silence(script):
    with reading(script, timeout=0.3) as (client, _):
        started = time.monotonic()
        with pytest.raises(errors.NBDTimeout, match=r"Waited 0\.3 s for a reply to a read"):
            content(client.read([(0, PIECE)]))
        assert 0.3 <= time.monotonic() - started < 2


def test_replies_to_all_but_the_first():
    """Progress elsewhere does not count."""

    def script(peer: Peer) -> None:
        peer.request()
        for _ in range(3):
            request = peer.request()
            end = request.offset + request.length
            peer.data(request.cookie, request.offset, CONTENT[request.offset : end])
        peer.hang()

    with (
        reading(script, timeout=0.2, piece_size=KIB) as (client, _),
        pytest.raises(errors.NBDTimeout),
    ):
        content(client.read([(0, 8 * KIB)]))


def test_slow_consumer():
    """The time between pieces is not the server's."""
    with reading(lambda peer: peer.serve(CONTENT), timeout=0.2, piece_size=KIB) as (client, _):
        pieces = client.read([(0, 8 * KIB)])
        got = bytes(next(pieces))
        time.sleep(0.4)
        assert got + content(pieces) == CONTENT[: 8 * KIB]


def test_server_that_reads_nothing():
    """What is sent fills the socket; no client sends that much, but neither may it hang."""

    def script(peer: Peer) -> None:
        never.wait(10)

    never = threading.Event()
    with serving(script) as server:
        wire = Wire(server.path)
        wire.connect(Deadline(5, "a test"))
        started = time.monotonic()
        with pytest.raises(errors.NBDTimeout):
            wire.send(bytes(8 << 20), Deadline(0.2, "a test"))
        assert 0.2 <= time.monotonic() - started < 2
        wire.close()
        never.set()


# -- the connection ends -----------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 16, 20, 27, 28, 29, 4123])
def test_disconnected(length):
    def script(peer: Peer) -> None:
        peer.request()
        peer.send((DATA_HEAD + CONTENT[:PIECE])[:length])

    with reading(script) as (client, _):
        with pytest.raises(
            errors.NBDDisconnected, match="ended during a reply to a read"
        ) as caught:
            content(client.read([(0, PIECE)]))
        assert not isinstance(caught.value, errors.NBDClosed)


def test_disconnected_between_reads():
    with reading(lambda _: None) as (client, server):
        server.stop()
        with pytest.raises(errors.NBDDisconnected):
            content(client.read([(0, PIECE)]))
        with pytest.raises(errors.NBDDisconnected):
            client.extents()


def ended_by_close(script, prepare, use):
    """How long ``use`` of a client goes on after another thread has closed it.

    :param script: sets the event when the client waits for it.
    """
    waiting = threading.Event()
    with serving(lambda peer: script(peer, waiting)) as server:
        client = nbd.Client(server.path, timeout=60)
        closed_at = []

        def close() -> None:
            assert waiting.wait(10)
            closed_at.append(time.monotonic())
            client.close()

        closer = threading.Thread(target=close)
        closer.start()
        try:
            prepare(client)
            with pytest.raises(errors.NBDClosed):
                use(client)
            ended = time.monotonic()
        finally:
            closer.join(10)
        with pytest.raises(errors.NBDDisconnected):
            use(client)
        client.close()
        return ended - closed_at[0]


def test_close_during_a_read():
    def script(peer: Peer, waiting: threading.Event) -> None:
        peer.handshake(SIZE)
        peer.request()
        peer.send(DATA_HEAD, b"some")
        waiting.set()
        peer.hang()

    def read(client: nbd.Client) -> None:
        content(client.read([(0, PIECE)]))

    assert ended_by_close(script, nbd.Client.connect, read) < 1


def test_close_during_the_handshake():
    def script(peer: Peer, waiting: threading.Event) -> None:
        peer.greet()
        waiting.set()
        peer.hang()

    assert ended_by_close(script, lambda _: None, nbd.Client.connect) < 1


def test_close_between_pieces():
    with reading(lambda peer: peer.serve(CONTENT), piece_size=KIB) as (client, _):
        pieces = client.read([(0, SIZE >> 4)])
        next(pieces)
        client.close()
        with pytest.raises(errors.NBDClosed):
            next(pieces)


def test_close_before_connect():
    client = nbd.Client("/nowhere")
    client.close()
    with pytest.raises(errors.NBDClosed):
        client.connect()
