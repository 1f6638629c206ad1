# SPDX-License-Identifier: Apache-2.0
"""An image service of which each test says what it does."""

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    server: "Peer"
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        self.close_connection = True
        self.server.requests.append((f"{self.command} {self.path}", dict(self.headers)))
        with contextlib.suppress(OSError):
            self.server.do(self)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815 - http.server's names

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def take(self) -> bytes:
        """The request's body, of which the length was announced."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def start(self, status: int, **headers: object) -> None:
        """Send status and headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def answer(self, status: int, content: Any) -> None:
        """Send a whole answer."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.start(status, Content_Type="application/json", Content_Length=len(body))
        self.wfile.write(body)

    def pour(self, piece: bytes, pause: float = 0.0) -> None:
        """Send the same again and again, until somebody ends it."""
        while not self.server.closed.wait(pause):
            self.wfile.write(piece)
            self.server.poured += len(piece)


class Peer(http.server.ThreadingHTTPServer):
    """A context manager.

    :ivar do: what it does with a request.
    :ivar requests: what it was asked, and the headers.
    :ivar poured: bytes that :meth:`Handler.pour` sent.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.do: Callable[[Handler], None] = lambda handler: handler.answer(404, {})
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.closed = threading.Event()
        self.poured = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def running() -> Iterator[Peer]:
    """One that serves."""
    with Peer() as peer:
        thread = threading.Thread(target=peer.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield peer
        finally:
            peer.closed.set()
            peer.shutdown()
            thread.join(10)
