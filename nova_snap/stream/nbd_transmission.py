# SPDX-License-Identifier: Apache-2.0
"""After the handshake: requests out, replies in, matched by their cookies."""

from collections.abc import Iterable

from nova_snap.stream import errors
from nova_snap.stream import nbd_protocol as proto
from nova_snap.stream.nbd_protocol import ChunkType
from nova_snap.stream.nbd_requests import Request
from nova_snap.stream.nbd_wire import Deadline, Wire

MAX_ERROR_LENGTH = proto.MAX_STRING + 64


class Transmission:
    """Replies may come in any order, and their chunks mixed with those of others.

    Whatever but an error reply of the server goes wrong makes the connection unusable: it is
    closed, and each later call raises ``NBDDisconnected``.
    """

    def __init__(self, wire: Wire, structured: bool) -> None:
        self._wire = wire
        self._structured = structured
        self._in_flight: dict[int, Request] = {}
        self._last_cookie = 0
        self._failure: errors.NBDError | None = None

    @property
    def idle(self) -> bool:
        return not self._in_flight

    def submit(self, requests: Iterable[Request], deadline: Deadline) -> None:
        """Send requests, all of them with one system call."""
        self._check()
        packed = bytearray()
        for request in requests:
            self._last_cookie += 1
            request.cookie = self._last_cookie
            self._in_flight[request.cookie] = request
            packed += request.pack()
        try:
            self._wire.send(packed, deadline)
        except errors.NBDError as error:
            self._give_up(error)
            raise

    def wait(self, request: Request, deadline: Deadline) -> None:
        """Take in replies until this request has its own.

        :raises NBDServerError: if that is an error. The connection can still be used.
        :raises NBDProtocolError, NBDTimeout, NBDDisconnected: as the names say.
        """
        while not request.done:
            self._receive(deadline)
        if request.error:
            raise request.error

    def drain(self, deadline: Deadline) -> None:
        """Take in the replies to all requests in flight, and forget them."""
        while self._in_flight:
            self._receive(deadline)

    def _receive(self, deadline: Deadline) -> None:
        """Take in one message."""
        self._check()
        try:
            head = self._wire.receive(proto.SIMPLE_REPLY.size, deadline)
            (magic,) = proto.U32.unpack_from(head)
            if magic == proto.STRUCTURED_REPLY_MAGIC and self._structured:
                self._take_chunk(head, deadline)
            elif magic == proto.SIMPLE_REPLY_MAGIC:
                self._take_simple(head, deadline)
            else:
                kind = "a structured" if self._structured else "a simple"
                raise self._broken(f"the magic number of {kind} reply", f"{magic:#x}")
        except errors.NBDError as error:
            self._give_up(error)
            raise

    def _take_simple(self, head: bytearray, deadline: Deadline) -> None:
        _, code, cookie = proto.SIMPLE_REPLY.unpack(head)
        request = self._find(cookie)
        # With structured replies, a simple one can only tell of an error. The protocol does not
        # allow even that in reply to a read, but there is no doubt about what it means.
        if code:
            request.fail(self._wire, code)
        elif self._structured:
            raise self._broken(f"a structured reply to a {request}", "a simple one")
        else:
            request.take_all(self._wire, deadline)
        self._finish(request)

    def _take_chunk(self, head: bytearray, deadline: Deadline) -> None:
        (length,) = proto.U32.unpack(self._wire.receive(proto.U32.size, deadline))
        _, flags, kind, cookie = proto.STRUCTURED_REPLY.unpack(head)
        chunk = proto.Chunk(flags, kind, cookie, length)
        request = self._find(cookie)
        request.count_chunk(self._wire)
        if chunk.type & proto.ERROR_CHUNK:
            self._take_error(chunk, request, deadline)
        elif chunk.type != ChunkType.NONE:
            request.take_chunk(chunk, self._wire, deadline)
        elif chunk.length or not chunk.done:
            raise self._broken(
                "an empty last chunk of type NONE",
                f"one of {chunk.length} bytes with flags {chunk.flags:#x}",
            )
        if chunk.done:
            self._finish(request)

    def _take_error(self, chunk: proto.Chunk, request: Request, deadline: Deadline) -> None:
        """An error chunk, of a type that is known or not: they all begin alike."""
        name = proto.name_of(ChunkType, chunk.type)
        tail = proto.U64.size if chunk.type == ChunkType.ERROR_OFFSET else 0
        least = proto.ERROR_HEAD.size + tail
        if not least <= chunk.length <= MAX_ERROR_LENGTH:
            raise self._broken(f"{least} to {MAX_ERROR_LENGTH} bytes of {name}", f"{chunk.length}")
        payload = self._wire.receive(chunk.length, deadline)
        code, length = proto.ERROR_HEAD.unpack_from(payload)
        if not code or least + length > chunk.length:
            raise self._broken(
                f"an error number and a message within {chunk.length} bytes of {name}",
                f"error {code} with a message of {length}",
            )
        message_end = proto.ERROR_HEAD.size + length
        offset = None
        if tail:
            (offset,) = proto.U64.unpack_from(payload, message_end)
            if not request.offset <= offset < request.offset + request.length:
                raise self._broken(f"an error within a {request}", f"one at {offset}")
        words = proto.text(payload[proto.ERROR_HEAD.size : message_end])
        request.fail(self._wire, code, offset, words)

    def _find(self, cookie: int) -> Request:
        try:
            return self._in_flight[cookie]
        except KeyError:
            raise self._broken("the cookie of a request in flight", f"{cookie:#x}") from None

    def _finish(self, request: Request) -> None:
        if not request.error and (missing := request.missing()):
            raise self._broken(f"the whole of a {request}", missing)
        del self._in_flight[request.cookie]
        request.done = True

    def _check(self) -> None:
        if self._failure:
            raise errors.NBDDisconnected(
                server=self._wire.path, what="an earlier request"
            ) from self._failure

    def _give_up(self, error: errors.NBDError) -> None:
        if not self._wire.closed:
            self._failure = error
        self._wire.close()

    def _broken(self, expected: str, found: str) -> errors.NBDProtocolError:
        return errors.NBDProtocolError(server=self._wire.path, expected=expected, found=found)
