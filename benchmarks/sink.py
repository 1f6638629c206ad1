# SPDX-License-Identifier: Apache-2.0
"""Stands in for Glance where its speed and its disk do not matter: it takes data and forgets it.

As much of version 2 of the Image API as a snapshot uses.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

SCHEMA = {
    "name": "image",
    "properties": {},
    "additionalProperties": {"type": ["null", "string", "integer", "boolean"]},
}
PATHS = re.compile(r"/v2/images/([0-9a-f-]{36})(/file)?$")
PIECE = 1 << 20


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.images: dict[str, dict[str, Any]] = {}


class Sink:
    """A context manager. :ivar url: the endpoint."""

    def __init__(self) -> None:
        self._server = _Server()
        self._thread = threading.Thread(target=self._server.serve_forever, name="sink", daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def image(self, image_id: str) -> dict[str, Any]:
        """The record of an image."""
        return self._server.images[image_id]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        if self.path == "/v2/schemas/image":
            return self._answer(200, SCHEMA)
        found = self._find()
        return self._answer(200, found) if found else self._answer(404)

    def do_POST(self) -> None:
        record = {**json.loads(self._body()), "status": "queued", "size": None}
        self.server.images[record["id"]] = record
        self._answer(201, record)

    def do_PATCH(self) -> None:
        found = self._find()
        changes = json.loads(self._body())
        if found is None:
            return self._answer(404)
        for change in changes:
            found[change["path"].lstrip("/")] = change.get("value")
        return self._answer(200, found)

    def do_PUT(self) -> None:
        found = self._find()
        if found is None:
            self.close_connection = True
            return self._answer(404)
        found["status"] = "saving"
        found["os_hash_value"], found["size"] = self._discard()
        found["os_hash_algo"] = "sha512"
        found["status"] = "active"
        return self._answer(204)

    def do_DELETE(self) -> None:
        if self._find() is None:
            return self._answer(404)
        del self.server.images[self.path.rpartition("/")[2]]
        return self._answer(204)

    def _find(self) -> dict[str, Any] | None:
        match = PATHS.fullmatch(self.path)
        return self.server.images.get(match[1]) if match else None

    def _discard(self) -> tuple[str, int]:
        """:returns: the data's hash and its length."""
        digest = hashlib.sha512()
        left = size = int(self.headers["Content-Length"])
        buffer = memoryview(bytearray(PIECE))
        while left:
            count = self.rfile.readinto(buffer[: min(left, PIECE)])
            if not count:
                raise ConnectionError(f"the upload ended {left} bytes too early")
            digest.update(buffer[:count])
            left -= count
        return digest.hexdigest(), size

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _answer(self, code: int, body: object = None) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(code)
        if code != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing is logged."""
