# SPDX-License-Identifier: Apache-2.0
"""An NBD server that does wrong when told to: a small disk on a unix socket.

What it is made of, and what a good server says, is in :mod:`tests.unit.stream.nbd_peer`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tests.unit.stream import nbd_peer
from tests.unit.stream.nbd_peer import Gone, Peer, Request

BLOCK: Final = 65536
_LONGEST: Final = 0xFFFF0000
"""That an extent can be."""
Extents = Sequence[tuple[int, int]]
"""(length, flags) each; 0 is data, 3 a hole that reads as zeroes."""

Fault = Callable[["Conversation"], None]


class Conversation:
    """One client and the disk. The methods do right; a fault calls some of them, and not others.

    :ivar content: of the disk.
    :ivar extents: what the server says of it.
    """

    def __init__(self, peer: Peer, content: bytes, extents: Extents) -> None:
        self.peer = peer
        self.content = content
        self.extents = extents

    def handshake(self, size: int | None = None) -> None:
        """:param size: to claim instead of the true one."""
        self.peer.handshake(len(self.content) if size is None else size)

    def serve(self) -> None:
        """Answer for as long as somebody asks."""
        while True:
            self.answer(self.peer.request())

    def answer(self, request: Request) -> None:
        if request.command == nbd_peer.BLOCK_STATUS:
            self.peer.status(request.cookie, self.extents)
        elif request.offset + request.length > len(self.content):
            self.peer.error(request.cookie, 22, b"beyond the end of the disk")
        else:
            self.peer.data(request.cookie, request.offset, self.piece(request))

    def piece(self, request: Request) -> bytes:
        return self.content[request.offset : request.offset + request.length]

    def next(self, command: int, nth: int = 1) -> Request:
        """Answer all that comes before the ``nth`` request of this kind, and return that."""
        while True:
            request = self.peer.request()
            if request.command == command:
                nth -= 1
                if nth == 0:
                    return request
            self.answer(request)


# -- what can go wrong -------------------------------------------------------------------------


def _refuse(kind: int) -> Fault:
    def fault(talk: Conversation) -> None:
        talk.peer.greet()
        while True:
            number, _ = talk.peer.option()
            if number in (nbd_peer.OPT_STRUCTURED, nbd_peer.OPT_META):
                talk.peer.reply(number, nbd_peer.REP_ACK)
            else:
                talk.peer.reply(number, kind, b"it was told to refuse")

    return fault


def _silent(talk: Conversation) -> None:
    talk.peer.hang()


def _stalls_in_the_handshake(talk: Conversation) -> None:
    talk.peer.greet()
    talk.peer.hang()


def _ends_in_the_handshake(talk: Conversation) -> None:
    talk.peer.send(b"NBDMAGIC", b"IHA")


def _on(command: int, wrong: Callable[[Conversation, Request], None], nth: int = 1) -> Fault:
    """After a good beginning, at the ``nth`` request of a kind; what follows is right again."""

    def fault(talk: Conversation) -> None:
        talk.handshake()
        wrong(talk, talk.next(command, nth))
        talk.serve()

    return fault


def _read(wrong: Callable[[Conversation, Request], None]) -> Fault:
    # The second: something of the disk was sent to the image service by then.
    return _on(nbd_peer.READ, wrong, nth=2)


def _map(extents: Extents) -> Fault:
    return _on(nbd_peer.BLOCK_STATUS, lambda talk, ask: talk.peer.status(ask.cookie, extents))


def _hang(talk: Conversation, _request: Request) -> None:
    talk.peer.hang()


def _hang_up(_talk: Conversation, _request: Request) -> None:
    raise Gone


def _half(talk: Conversation, request: Request) -> None:
    """A chunk that announces all of its bytes, and half of them."""
    piece = struct.pack(">Q", request.offset) + talk.piece(request)
    talk.peer.chunk(request.cookie, nbd_peer.DATA, piece[: len(piece) // 2], length=len(piece))


def _half_and_hang(talk: Conversation, request: Request) -> None:
    _half(talk, request)
    talk.peer.hang()


def _half_and_hang_up(talk: Conversation, request: Request) -> None:
    _half(talk, request)
    raise Gone


def _short(talk: Conversation, request: Request) -> None:
    """Less than was asked for, as a whole reply."""
    piece = talk.piece(request)
    talk.peer.data(request.cookie, request.offset, piece[: len(piece) // 2])


def _overlapping(talk: Conversation, request: Request) -> None:
    piece = talk.piece(request)
    half = len(piece) // 2
    talk.peer.data(request.cookie, request.offset, piece[: half + 512], done=False)
    talk.peer.data(request.cookie, request.offset + half, piece[half:])


def _elsewhere(talk: Conversation, request: Request) -> None:
    talk.peer.data(request.cookie, request.offset + request.length, talk.piece(request))


def _other_handle(talk: Conversation, request: Request) -> None:
    talk.peer.data(request.cookie ^ 0xFFFF, request.offset, talk.piece(request))


def _error(talk: Conversation, request: Request) -> None:
    """Half of it, then an error."""
    piece = talk.piece(request)
    talk.peer.data(request.cookie, request.offset, piece[: len(piece) // 2], done=False)
    talk.peer.error(request.cookie, 5, b"the disk is broken")


def _of_size(size: int) -> Fault:
    def fault(talk: Conversation) -> None:
        talk.extents = [(size, 0)] if 0 < size <= _LONGEST else []
        talk.handshake(size)
        talk.serve()

    return fault


def disk_faults(size: int) -> Mapping[str, Fault]:
    """Everything that it can do wrong with a disk of ``size`` bytes, by name."""
    return {
        "no-such-export": _refuse(nbd_peer.REP_UNKNOWN),
        "export-forbidden": _refuse(nbd_peer.REP_POLICY),
        "wants-tls": _refuse(nbd_peer.REP_TLS),
        "shutting-down": _refuse(nbd_peer.REP_SHUTDOWN),
        "silent": _silent,
        "stalls-in-the-handshake": _stalls_in_the_handshake,
        "ends-in-the-handshake": _ends_in_the_handshake,
        "stalls-at-the-map": _on(nbd_peer.BLOCK_STATUS, _hang),
        "ends-at-the-map": _on(nbd_peer.BLOCK_STATUS, _hang_up),
        "stalls-at-a-read": _read(_hang),
        "stalls-in-a-chunk": _read(_half_and_hang),
        "ends-at-a-read": _read(_hang_up),
        "ends-in-a-chunk": _read(_half_and_hang_up),
        "error-in-a-reply": _read(_error),
        "short-reply": _read(_short),
        "overlapping-chunks": _read(_overlapping),
        "chunk-elsewhere": _read(_elsewhere),
        "other-handle": _read(_other_handle),
        "map-of-nothing": _map([]),
        "zero-length-extent": _map([(BLOCK, 0), (0, 0), (size - BLOCK, 0)]),
        "extents-beyond-the-end": _map([(size, 0), (BLOCK, 0)]),
        "extent-too-long": _map([(BLOCK, 0), (size, 0)]),
        "size-too-small": _of_size(size // 2),
        "size-zero": _of_size(0),
        "size-too-large": _of_size(2 * size),
        "size-absurd": _of_size(1 << 62),
    }


class NBDStandIn:
    """Serves one disk to any number of clients, until :meth:`stop`.

    :param path: of the socket; made here.
    :param fault: what it does wrong, such as one of :func:`disk_faults`; ``None`` for nothing.
    """

    def __init__(
        self, path: str, content: bytes, fault: Fault | None = None, extents: Extents | None = None
    ) -> None:
        self.path = path
        self._content = content
        self._extents = extents or [(len(content), 0)]
        self._fault = fault
        self._connections: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(8)
        threading.Thread(target=self._accept, name="nbd-stand-in", daemon=True).start()

    def stop(self) -> None:
        """Hang up on everybody."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            connections = list(self._connections)
        for each in connections:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        talk = Conversation(Peer(connection), self._content, self._extents)
        with connection, contextlib.suppress(Gone):
            if self._fault is not None:
                self._fault(talk)
            else:
                talk.handshake()
                talk.serve()
