# SPDX-License-Identifier: Apache-2.0
"""What a client may send over HTTP, and how long he may take for it.

cheroot reads the requests. It has no bound on most of what it reads, and it understands what a
proxy in front of it may understand otherwise: whoever gets two servers to disagree on where a
request ends gets one of his own past the first of them. Here is what it is made to refuse, with a
reference to RFC 9112 where that asks for it.
"""

import io
import re
import socket
import time
from typing import Any, Final

from cheroot import errors as cheroot_errors
from cheroot import makefile, server
from oslo_context import context as oslo_context
from oslo_log import log

from nova_snap.api import errors
from nova_snap.api.text import shorten

LOG = log.getLogger(__name__)

MAX_HEADER_BYTES: Final = 64 << 10
"""Of the request line and the headers together."""
MAX_HEADERS: Final = 100
MAX_CHUNK_LINE: Final = 1024

# What is left of a refused request is read for so long and so far, so that the client is still
# there when the answer comes: a socket that is closed before takes the answer with it.
_LINGER_SECONDS: Final = 1.0
_LINGER_BYTES: Final = 1 << 20

_CRLF: Final = b"\r\n"
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NO_VALUE: Final = re.compile(rb"[\0\r\n]")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,8}")
# Others that come twice are lists (RFC 9110, 5.3). Of two of these, two servers may take another.
_SINGLE: Final = {
    b"Authorization", b"Content-Length", b"Content-Type", b"Host", b"Transfer-Encoding",
    b"X-Auth-Token", b"X-Service-Token",
}  # fmt: skip


class BodyTooLarge(Exception):
    """A chunked body has more bytes than it may have."""


class HeaderReader(server.HeaderReader):
    """Reads the headers of a request, strictly."""

    def __call__(self, rfile: Any, hdict: dict[bytes, bytes] | None = None) -> dict[bytes, bytes]:
        """:raises ValueError: with what is wrong."""
        found: dict[bytes, bytes] = {} if hdict is None else hdict
        for _ in range(MAX_HEADERS + 1):
            line = rfile.readline()
            if line == _CRLF:
                return found
            name, value = _field(line)
            # A proxy that strips X-Forwarded-For may let X_Forwarded_For pass, and WSGI has one
            # name for both.
            if b"_" in name:
                continue
            if name in found:
                if name in _SINGLE:
                    raise ValueError(f"The header {name.decode()} is there more than once.")
                value = found[name] + b", " + value
            found[name] = value
        raise cheroot_errors.MaxSizeExceeded


def _field(line: bytes) -> tuple[bytes, bytes]:
    """A line of the headers. No space before the colon (5.1), and no folded lines (5.2)."""
    name, colon, value = line.removesuffix(_CRLF).partition(b":")
    if not line.endswith(_CRLF) or not colon or not _NAME.fullmatch(name):
        raise ValueError("A header is malformed.")
    value = value.strip(b" \t")
    if _NO_VALUE.search(value):
        raise ValueError("A header has a character in it that it must not have.")
    return name.title(), value


class Request(server.HTTPRequest):
    """A request of which there is only one reading."""

    header_reader = HeaderReader()

    def read_request_line(self) -> bool:
        if not super().read_request_line():  # type: ignore[no-untyped-call]
            return False
        if not _NAME.fullmatch(self.method):
            self.simple_response("400 Bad Request", "The method has a character that it must not.")
            return False
        return True

    def read_request_headers(self) -> bool:
        if not super().read_request_headers():  # type: ignore[no-untyped-call]
            return False
        reason = self._ambiguity()
        if reason is not None:
            self.simple_response("400 Bad Request", reason)
        return reason is None

    def _ambiguity(self) -> str | None:
        """Why nobody can be sure where the request ends (6.1, 6.3)."""
        length = self.inheaders.get(b"Content-Length")
        coding = self.inheaders.get(b"Transfer-Encoding")
        if length is not None and not _LENGTH.fullmatch(length):
            return "The header Content-Length is no number."
        if coding is None:
            return None
        if length is not None:
            return "Content-Length and Transfer-Encoding exclude each other."
        if self.request_protocol != b"HTTP/1.1":
            return "Transfer-Encoding is of HTTP/1.1."
        if coding.lower() != b"chunked":
            return "The only Transfer-Encoding that is known is chunked."
        return None

    def respond(self) -> None:
        # It was used if the client was told to go on.
        self.conn.wfile.paced.deadline = None
        if self.chunked_read:
            self._respond_to_chunks()
        else:
            super().respond()

    def _respond_to_chunks(self) -> None:
        # Read whole: it is short. So the end of the request is found whatever becomes of it.
        try:
            body = read_chunked(self.conn.rfile, self.server.body_limit)
        except BodyTooLarge:
            limit = self.server.body_limit
            self.simple_response(
                "413", f"Request is too large: at most {limit} bytes are accepted."
            )
            return
        except ValueError as error:
            self.simple_response("400", f"Malformed request body: {error}")
            return
        self.chunked_read = False
        del self.inheaders[b"Transfer-Encoding"]
        self.inheaders[b"Content-Length"] = str(len(body)).encode()
        self.rfile = io.BytesIO(body)
        self.server.gateway(self).respond()
        if self.ready:
            self.ensure_headers_sent()
        if self.chunked_write:
            self.conn.wfile.write(b"0\r\n\r\n")

    def send_headers(self) -> None:
        # cheroot would read on, however long the body is said to be, to keep the connection.
        if getattr(self.rfile, "remaining", 0):
            self.close_connection = True
            self.conn.unread = True
        super().send_headers()

    def simple_response(self, status: str, msg: str = "") -> None:
        """A refusal before any application is asked, in Nova's shape; the connection ends."""
        code = int(str(status).split(" ", 1)[0])
        if code == 413 and not self.ready:
            code, msg = 431, "The headers are too large, or there are too many of them."
        request_id = oslo_context.generate_request_id()
        LOG.info(
            "A request of %s is refused with %d: %s [%s]",
            self.conn.remote_addr, code, shorten(msg), request_id,
        )  # fmt: skip
        response = errors.fault(code, msg or "The request cannot be served.")
        response.headers["X-OpenStack-Request-Id"] = request_id
        response.headers["Connection"] = "close"
        lines = [f"{self.server.protocol} {response.status}"]
        lines += [f"{name}: {value}" for name, value in response.headerlist]
        self.close_connection = self.conn.unread = self.sent_headers = True
        try:
            self.conn.wfile.write("\r\n".join([*lines, "", ""]).encode() + response.body)
        except OSError as error:
            LOG.debug("The client did not wait for the answer: %s", error)


def read_chunked(rfile: Any, limit: int) -> bytes:
    """A body in chunks, to the end of its trailers (7.1).

    :param limit: bytes that it may have.
    :raises BodyTooLarge:
    :raises ValueError: with what is wrong.
    """
    body = bytearray()
    while size := _chunk_size(rfile):
        if len(body) + size > limit:
            raise BodyTooLarge
        body += _exactly(rfile, size)
        if _exactly(rfile, len(_CRLF)) != _CRLF:
            raise ValueError("a chunk is longer than it was said to be.")
    for _ in range(MAX_HEADERS):
        if _chunk_line(rfile) == b"":
            return bytes(body)
    raise ValueError("it has too many trailers.")


def _chunk_size(rfile: Any) -> int:
    size = _chunk_line(rfile).partition(b";")[0].rstrip(b" \t")
    if not _CHUNK_SIZE.fullmatch(size):
        raise ValueError("the size of a chunk is no number.")
    return int(size, 16)


def _chunk_line(rfile: Any) -> bytes:
    line: bytes = rfile.readline(MAX_CHUNK_LINE)
    if not line.endswith(_CRLF):
        raise ValueError("a line in it does not end, or is too long.")
    return line.removesuffix(_CRLF)


def _exactly(rfile: Any, size: int) -> bytes:
    data: bytes = rfile.read(size)
    if len(data) < size:
        raise ValueError("it ends before its last chunk.")
    return data


class _Paced(socket.SocketIO):
    """One direction of a connection, each use of which is bounded as a whole.

    :ivar deadline: on the monotonic clock.
    :ivar step: seconds that each read and each write may take.
    """

    deadline: float | None = None
    step: float = 60

    def readinto(self, buffer: Any, /) -> int | None:
        self._hurry()
        return super().readinto(buffer)

    def write(self, data: Any, /) -> int | None:
        self._hurry()
        return super().write(data)

    def _hurry(self) -> None:
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                # The words that cheroot knows a timeout by.
                raise TimeoutError("timed out")
            self._sock.settimeout(min(self.step, left))  # type: ignore[attr-defined]


class _Reader(makefile.StreamReader):
    def __init__(self, sock: socket.socket, mode: str, size: int) -> None:
        self.paced = _Paced(sock, mode)  # type: ignore[arg-type]
        makefile.io.BufferedReader.__init__(self, self.paced, size)  # type: ignore[attr-defined]
        self.bytes_read = 0


class _Writer(makefile.StreamWriter):
    def __init__(self, sock: socket.socket, mode: str, size: int) -> None:
        self.paced = _Paced(sock, mode)  # type: ignore[arg-type]
        makefile.BufferedWriter.__init__(self, self.paced, size)
        self.bytes_written = 0

    seconds: float = 60

    def write(self, data: bytes) -> int:  # type: ignore[override]
        # An answer may be late; from its first byte on the client has as long as for a request.
        if self.paced.deadline is None:
            self.paced.deadline = time.monotonic() + self.seconds
        written: int = super().write(data)  # type: ignore[no-untyped-call]
        return written


def _make_file(sock: socket.socket, mode: str, size: int) -> Any:
    return (_Reader if "r" in mode else _Writer)(sock, mode, size)


class Connection(server.HTTPConnection):
    """A connection whose client is waited for, but not for ever.

    :ivar unread: the client has sent, or is sending, what nobody will read.
    """

    RequestHandlerClass = Request

    def __init__(self, owner: Any, sock: socket.socket, _makefile: Any = None) -> None:
        super().__init__(owner, sock, _make_file)
        self.unread = False
        self.wfile.seconds = owner.request_timeout
        self.rfile.paced.step = self.wfile.paced.step = owner.timeout

    def communicate(self) -> bool:
        self.rfile.paced.deadline = time.monotonic() + self.server.request_timeout
        self.wfile.paced.deadline = None
        again: bool = super().communicate()  # type: ignore[no-untyped-call]
        return again

    def _close_kernel_socket(self) -> None:
        if self.unread:
            self._linger()
        super()._close_kernel_socket()  # type: ignore[misc]

    def _linger(self) -> None:
        until, left = time.monotonic() + _LINGER_SECONDS, _LINGER_BYTES
        try:
            self.socket.shutdown(socket.SHUT_WR)
            while left > 0 and (seconds := until - time.monotonic()) > 0:
                self.socket.settimeout(seconds)
                data = self.socket.recv(65536)
                if not data:
                    return
                left -= len(data)
        except OSError as error:
            LOG.debug("The client is gone: %s", error)
