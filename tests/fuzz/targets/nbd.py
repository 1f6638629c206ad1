# SPDX-License-Identifier: Apache-2.0
"""The NBD client, and a server that says anything: cut, damaged, silent, or without an end."""

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path

from nova_snap.stream import errors, nbd
from tests.fuzz import mutation
from tests.fuzz.target import Finding, Target
from tests.unit.stream.nbd_peer import Peer, Server
from tests.unit.stream.test_nbd_fuzz import CONTENT, EXTENTS, PIECE, SIZE, Recorder

_TIMEOUT = 0.2
# Connecting, the map (ten times the timeout) and each read up to its timeout.
_LONGEST = 20.0
_HANG_UP, _SILENT, _ENDLESS = range(3)
_OPTION_REPLY = struct.Struct(">QIII")
_CHUNK = struct.Struct(">IHHQI")
_GO, _STRUCTURED, _ACK = 7, 8, 1

_Script = Callable[[Peer], None]


class NBD(Target):
    bound = 60.0

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._path = directory / "socket"

    def seeds(self) -> Sequence[bytes]:
        found = []
        for how in ({}, {"blocks": (1, 4096, 1 << 20)}, {"structured": False}, {"one_piece": True}):
            said = self._record(how)
            found += [bytes([_HANG_UP]) + said, bytes([_SILENT]) + said]
        return [*found, bytes([_ENDLESS]) + said, bytes([_ENDLESS]) + said[:200]]

    def _record(self, how: dict[str, object]) -> bytes:
        """All that a good server says to a client that reads everything."""
        said: list[bytes] = []
        done = threading.Event()

        def script(peer: Peer) -> None:
            recorder = Recorder(peer.socket)
            try:
                recorder.handshake(SIZE, **how)  # type: ignore[arg-type]
                if how.get("structured", True):
                    recorder.serve(CONTENT, EXTENTS)
                _serve_simply(recorder)
            finally:
                said.append(recorder.said)
                done.set()

        found = self._with(script, lambda: b"".join(map(bytes, _everything(str(self._path)))))
        if found != CONTENT or not done.wait(10):
            raise AssertionError("what is to be damaged does not work")
        return said[0]

    def mutate(self, data: bytes, other: bytes, dice: random.Random) -> bytes:
        end = dice.choice((_SILENT, _ENDLESS)) if dice.random() < 0.03 else _HANG_UP
        return bytes([end]) + mutation.of_bytes(data[1:], other[1:], dice)

    def run(self, data: bytes) -> Hashable:
        end, said = data[:1], data[1:]
        started = time.monotonic()
        found: bytes | None = None
        try:
            found = self._with(_replay(said, end), lambda: _use(str(self._path)))
            outcome: Hashable = len(found)
        except errors.NBDError as error:
            if not str(error) or not error.for_user() or len(str(error)) > 5000:
                raise Finding("an error that says nothing, or too much", repr(error)) from error
            words = getattr(error, "expected", "") or getattr(error, "what", "")
            outcome = type(error).__name__, "".join(c for c in words if not c.isdigit())[:40]
        if time.monotonic() - started > _LONGEST:
            raise Finding("the client takes longer than all its timeouts")
        if found is not None:
            _check_content(found, said)
        return outcome

    def _with(self, script: _Script, act: Callable[[], bytes]) -> bytes:
        """Do something while a server is there."""
        self._path.unlink(missing_ok=True)
        server = Server(self._path, script)
        try:
            return act()
        finally:
            server.stop()


def _replay(said: bytes, end: bytes) -> _Script:
    def script(peer: Peer) -> None:
        peer.send(said)
        if end == bytes([_HANG_UP]):
            peer.socket.shutdown(socket.SHUT_WR)
        while end == bytes([_ENDLESS]):
            peer.send(said[-64:] * 100 or b"\0")
        peer.hang()

    return script


def _serve_simply(peer: Peer) -> None:
    while True:
        request = peer.request()
        end = request.offset + request.length
        peer.simple(request.cookie, content=CONTENT[request.offset : end])


def _everything(path: str) -> Iterator[memoryview]:
    with nbd.Client(path, timeout=_TIMEOUT, piece_size=PIECE, depth=4) as client:
        extents = client.extents()
        if sum(extent.length for extent in extents) != client.size:
            raise Finding("a map that does not cover the disk is believed", str(client.size))
        yield from client.read([(0, min(client.size, SIZE))])


def _use(path: str) -> bytes:
    """What a client reads; each of its pieces is valid until the next one."""
    found = bytearray()
    for piece in _everything(path):
        found += piece
    return bytes(found)


def _check_content(found: bytes, said: bytes) -> None:
    """Every byte was sent for the place where it is."""
    sent = _sent(said)
    if sent is None:
        return
    for order in (sent, sent[::-1]):
        expected = bytearray(len(found))
        for start, content in order:
            end = min(start + len(content), len(found))
            if start < end:
                expected[start:end] = content[: end - start]
        if expected == found:
            return
    for place in range(len(found)):
        values = [content[place - at] for at, content in sent if at <= place < at + len(content)]
        if found[place] not in values:
            raise Finding("bytes that were not sent", f"at {place}")


def _sent(said: bytes) -> list[tuple[int, bytes]] | None:
    """Offsets and contents of all data chunks and holes, written from the protocol's description
    and apart from the client; ``None`` if replies are not structured."""
    at, structured = 18, False
    while at + _OPTION_REPLY.size <= len(said):
        _magic, option, kind, length = _OPTION_REPLY.unpack_from(said, at)
        at += _OPTION_REPLY.size + length
        structured |= option == _STRUCTURED and kind == _ACK
        if option == _GO and kind == _ACK:
            break
    if not structured:
        return None
    found = []
    while at + _CHUNK.size <= len(said):
        magic, _flags, kind, _cookie, length = _CHUNK.unpack_from(said, at)
        if magic == 0x67446698:
            at += 16
            continue
        at += _CHUNK.size
        payload = said[at : at + length]
        if kind == 1 and len(payload) > 8:
            found.append((int.from_bytes(payload[:8], "big"), payload[8:]))
        elif kind == 2 and len(payload) == 12:
            zeroes = min(int.from_bytes(payload[8:], "big"), SIZE)
            found.append((int.from_bytes(payload[:8], "big"), bytes(zeroes)))
        at += length
    return found


TARGET = NBD
