# SPDX-License-Identifier: Apache-2.0
"""The server's side of an NBD conversation, which says whatever a test tells it to.

Written from the protocol's specification and apart from the client: it shares no constants with it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

READ, WRITE, DISC, BLOCK_STATUS = 0, 1, 2, 7
OPT_ABORT, OPT_GO, OPT_STRUCTURED, OPT_META = 2, 7, 8, 10
REP_ACK, REP_INFO, REP_META = 1, 3, 4
REP_UNSUP, REP_POLICY, REP_TLS, REP_UNKNOWN, REP_SHUTDOWN = (
    0x80000000 + number for number in (1, 2, 5, 6, 7)
)
NONE, DATA, HOLE, STATUS, ERROR, ERROR_OFFSET = 0, 1, 2, 5, 0x8001, 0x8002
CONTEXT = 77
# Of an export: it has flags, is read-only, and may be read over several connections.
FLAGS = 0x103
FLAG_SEND_DF = 0x80
# Of a command: in one piece.
FLAG_DF = 4

Script = Callable[["Peer"], None]


class Gone(Exception):
    """The client has closed the connection."""


class Request(NamedTuple):
    flags: int
    command: int
    cookie: int
    offset: int
    length: int


class Peer:
    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.options: list[tuple[int, bytes]] = []
        self.requests: list[Request] = []
        # Whether the client is bound to ask for replies in one piece.
        self.one_piece = False

    # -- bytes

    def send(self, *parts: bytes) -> None:
        try:
            self.socket.sendall(b"".join(parts))
        except OSError as error:
            raise Gone from error

    def receive(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            try:
                more = self.socket.recv(length - len(data))
            except OSError as error:
                raise Gone from error
            if not more:
                raise Gone
            data += more
        return data

    def hang(self) -> None:
        """Say nothing more, until the client goes."""
        while True:
            self.receive(1)

    @property
    def has_input(self) -> bool:
        return bool(select.select([self.socket], [], [], 0)[0])

    # -- handshake

    def greet(self, flags: int = 3) -> int:
        """:returns: the client's flags."""
        self.send(b"NBDMAGIC", b"IHAVEOPT", struct.pack(">H", flags))
        return int.from_bytes(self.receive(4))

    def option(self) -> tuple[int, bytes]:
        magic, number, length = struct.unpack(">8sII", self.receive(16))
        assert magic == b"IHAVEOPT"
        found = number, self.receive(length)
        self.options.append(found)
        return found

    def reply(self, option: int, kind: int, body: bytes = b"") -> None:
        self.send(struct.pack(">QIII", 0x3E889045565A9, option, kind, len(body)), body)

    def handshake(
        self,
        size: int,
        *,
        structured: bool = True,
        context: bool = True,
        blocks: tuple[int, int, int] | None = None,
        one_piece: bool = False,
    ) -> None:
        """A whole one, as a server with these abilities does it."""
        self.greet()
        self.one_piece = one_piece and structured and context
        flags = FLAGS | (FLAG_SEND_DF if one_piece and structured else 0)
        while True:
            number, _ = self.option()
            if number == OPT_STRUCTURED and structured:
                self.reply(number, REP_ACK)
            elif number == OPT_META and structured:
                if context:
                    body = struct.pack(">I", CONTEXT) + b"base:allocation"
                    self.reply(number, REP_META, body)
                self.reply(number, REP_ACK)
            elif number == OPT_GO:
                self.reply(number, REP_INFO, export_info(size, flags))
                if blocks:
                    self.reply(number, REP_INFO, struct.pack(">HIII", 3, *blocks))
                self.reply(number, REP_ACK)
                return
            else:
                self.reply(number, REP_UNSUP, b"never heard of it")

    # -- transmission

    def request(self) -> Request:
        magic, *rest = struct.unpack(">IHHQQI", self.receive(28))
        assert magic == 0x25609513
        found = Request(*rest)
        assert found.command in (READ, DISC, BLOCK_STATUS), "the client never writes"
        asked_for = FLAG_DF if found.command == READ and self.one_piece else 0
        assert found.flags == asked_for, "only flags that were offered"
        self.requests.append(found)
        if found.command == DISC:
            raise Gone
        return found

    def chunk(
        self, cookie: int, kind: int, payload: bytes = b"", *, done: bool = True, length: int = -1
    ) -> None:
        """:param length: to claim instead of the true one."""
        claimed = len(payload) if length < 0 else length
        self.send(struct.pack(">IHHQI", 0x668E33EF, done, kind, cookie, claimed), payload)

    def data(self, cookie: int, offset: int, content: bytes, *, done: bool = True) -> None:
        self.chunk(cookie, DATA, struct.pack(">Q", offset) + content, done=done)

    def hole(self, cookie: int, offset: int, length: int, *, done: bool = True) -> None:
        self.chunk(cookie, HOLE, struct.pack(">QI", offset, length), done=done)

    def status(
        self, cookie: int, extents: Sequence[tuple[int, int]], *, context: int = CONTEXT
    ) -> None:
        """:param extents: (length, flags) each."""
        body = b"".join(struct.pack(">II", *extent) for extent in extents)
        self.chunk(cookie, STATUS, struct.pack(">I", context) + body)

    def error(self, cookie: int, code: int, words: bytes = b"", *, done: bool = True) -> None:
        self.chunk(cookie, ERROR, struct.pack(">IH", code, len(words)) + words, done=done)

    def simple(self, cookie: int, code: int = 0, content: bytes = b"") -> None:
        self.send(struct.pack(">IIQ", 0x67446698, code, cookie), content)

    def serve(self, content: bytes, extents: Sequence[tuple[int, int]] | None = None) -> None:
        """Answer all requests as a good server does, until the client goes."""
        while True:
            request = self.request()
            if request.command == READ:
                end = request.offset + request.length
                self.data(request.cookie, request.offset, content[request.offset : end])
            else:
                assert request.offset == 0, "answered whole the first time"
                self.status(request.cookie, extents or [(len(content), 0)])


def export_info(size: int, flags: int = FLAGS) -> bytes:
    return struct.pack(">HQH", 0, size, flags)


class Server:
    """Plays a script to the one client that connects."""

    def __init__(self, path: Path, script: Script) -> None:
        self.path = str(path)
        self.peer: Peer | None = None
        self._script = script
        self._failure: BaseException | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(1)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        with connection:
            self.peer = Peer(connection)
            try:
                self._script(self.peer)
            except Gone:
                pass
            except BaseException as failure:
                self._failure = failure

    def stop(self) -> None:
        """:raises AssertionError: if the script found fault with the client."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        if self.peer:
            with contextlib.suppress(OSError):
                self.peer.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._listener.close()
        if self._failure:
            raise self._failure


@contextlib.contextmanager
def serving(script: Script) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="ns-nbd-") as directory:
        server = Server(Path(directory) / "socket", script)
        try:
            yield server
        finally:
            server.stop()
