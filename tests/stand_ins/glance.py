# SPDX-License-Identifier: Apache-2.0
"""An image service that does wrong when told to: version 2 of the Image API, in memory, over HTTP.

It speaks as much of it as nova_snap and its clients ask for. Where it is told nothing it does
right. ``python -m tests.stand_ins.glance --help`` starts one to be tried by hand.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import io
import json
import socket
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, Self

from tests.stand_ins import faults
from tests.stand_ins.faults import Fault
from tests.stand_ins.image_store import SCHEMA, Refused, Store

_PIECE: Final = 65536
_LONGEST: Final = 120.0
"""Seconds that a stall lasts when nobody ends it."""


class GlanceStandIn(contextlib.AbstractContextManager["GlanceStandIn"]):
    """The server, as a context manager.

    :ivar images: what it keeps.
    :ivar requests: what it was asked, such as ``PUT images/<id>/file``.
    """

    def __init__(self, port: int = 0) -> None:
        self.images = Store()
        self.rules = faults.Rules()
        self.requests: list[str] = []
        self.ended = threading.Event()
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def inject(
        self, method: str, path: str, fault: Fault, nth: int = 1, times: int | None = None
    ) -> faults.Rule:
        """Do wrong from now on: see :class:`tests.stand_ins.faults.Rule`."""
        return self.rules.add(faults.Rule(method, path, fault, nth, times))

    def heal(self) -> None:
        """Do right from now on, and let go of what is stalled."""
        self.rules.clear()
        self.ended.set()
        self.ended = threading.Event()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Refuse connections."""
        self._stop()
        try:
            yield
        finally:
            self._start()

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _start(self) -> None:
        self._server = _Server(("127.0.0.1", self.port), self)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="glance-stand-in", daemon=True
        )
        self._thread.start()

    def _stop(self) -> None:
        self.heal()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], stand_in: GlanceStandIn) -> None:
        self.stand_in = stand_in
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes is no news."""


class _Gone(Exception):
    """The connection ends here."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_args: Any) -> None:
        """The requests are kept by the stand-in."""

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        path = path.removeprefix("/v2/").strip("/")
        stand_in = self.server.stand_in
        stand_in.requests.append(f"{self.command} {path}")
        fault = stand_in.rules.find(self.command, path)
        try:
            body = self._read_body(fault, path)
            status, answer = self._do(fault, path, query, body)
            self._answer(fault, status, answer)
        except (_Gone, OSError):
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    # -- reading ---------------------------------------------------------------------------

    def _read_body(self, fault: Fault | None, path: str) -> bytes:
        stalls = isinstance(fault, faults.Stall) and fault.where == "body"
        stops = fault.after if stalls or isinstance(fault, faults.HangUp) else None
        data = bytearray()
        with self._saving(path):
            for piece in self._pieces(stops):
                data += piece
                if stops is not None and len(data) >= stops:
                    break
            if stalls:
                self._wait()
            if stops is not None:
                raise _Gone
        return bytes(data)

    @contextlib.contextmanager
    def _saving(self, path: str) -> Iterator[None]:
        """An image whose data are being read is ``saving``, and ``queued`` if that breaks off."""
        images = self.server.stand_in.images
        image_id = path.split("/")[1] if path.endswith("/file") and self.command == "PUT" else ""
        record = images.records.get(image_id)
        if record is None or record["status"] != "queued":
            yield
            return
        record["status"] = "saving"
        try:
            yield
        finally:
            record["status"] = "queued"

    def _pieces(self, stops: int | None) -> Iterator[bytes]:
        if stops == 0:
            return
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            piece = self.rfile.read(min(_PIECE, left))
            if not piece:
                raise _Gone
            left -= len(piece)
            yield piece

    # -- doing -----------------------------------------------------------------------------

    def _do(self, fault: Fault | None, path: str, query: str, body: bytes) -> tuple[int, Any]:
        if isinstance(fault, faults.Refuse):
            return fault.status, {"message": fault.text}
        images = self.server.stand_in.images
        if isinstance(fault, faults.Answer):
            return fault.status, fault.body
        with images.lock:
            if isinstance(fault, faults.Pretend) and self.command in ("PUT", "DELETE"):
                return 204, None
            try:
                status, answer = self._route(path.split("/"), query, body)
            except Refused as error:
                return error.status, {"message": str(error)}
            named = path.split("/")[1] if "/" in path else ""
            image_id = answer.get("id", named) if isinstance(answer, dict) else named
            if isinstance(fault, faults.Spoil) and image_id in images.records:
                images.records[image_id].update(fault.record)
                answer = dict(images.records[image_id]) if isinstance(answer, dict) else answer
            if isinstance(fault, faults.Vanish) and image_id in images.records:
                images.delete(image_id)
            if isinstance(fault, faults.Lie) and isinstance(answer, dict):
                answer = {**answer, **fault.says}
            return status, json.loads(json.dumps(answer)) if isinstance(answer, dict) else answer

    def _route(self, path: list[str], query: str, body: bytes) -> tuple[int, Any]:
        images = self.server.stand_in.images
        match [self.command, *path]:
            case ["GET", "schemas", *_]:
                return 200, SCHEMA
            case ["POST", "images"]:
                return 201, images.create(json.loads(body))
            case ["GET", "images"]:
                wanted = dict(urllib.parse.parse_qsl(query))
                return 200, {"images": images.find(wanted), "schema": "/v2/schemas/images"}
            case ["GET", "images", image_id]:
                return 200, images.record(image_id)
            case ["PATCH", "images", image_id]:
                return 200, images.patch(image_id, json.loads(body))
            case ["DELETE", "images", image_id]:
                images.delete(image_id)
                return 204, None
            case ["PUT", "images", image_id, "file"]:
                if images.record(image_id)["status"] != "queued":
                    raise Refused(409, "Image status transition not allowed")
                images.keep(image_id, body)
                return 204, None
            case ["GET", "images", image_id, "file"]:
                return (
                    (200, images.data[image_id]) if images.record(image_id)["size"] else (204, b"")
                )
            case ["POST", "images", image_id, "members"]:
                images.record(image_id)
                return 200, {"image_id": image_id, "status": "pending", **json.loads(body)}
        raise Refused(404, "The resource could not be found.")

    # -- answering -------------------------------------------------------------------------

    def _answer(self, fault: Fault | None, status: int, answer: Any) -> None:
        if isinstance(fault, faults.Stall) and fault.where == "headers":
            self._wait()
        content = answer if isinstance(answer, bytes) else b""
        kind = "application/octet-stream"
        if isinstance(answer, dict):
            content, kind = json.dumps(answer).encode(), "application/json"
        if isinstance(fault, faults.Answer):
            kind = fault.content_type
        if fault == faults.Truncate(announced=False):
            content = content[: len(content) // 2]
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
        self._end_headers(fault)
        half = content[: len(content) // 2]
        if isinstance(fault, faults.Stall) and fault.where == "answer":
            self.wfile.write(half)
            self._wait()
        if fault == faults.Truncate():
            self.wfile.write(half)
            raise _Gone
        if isinstance(fault, faults.Trickle):
            self._trickle(content, fault.pause)
        elif status != 204:
            self.wfile.write(content)

    def _end_headers(self, fault: Fault | None) -> None:
        if not isinstance(fault, faults.Trickle) or not fault.headers:
            self.end_headers()
            return
        written, self.wfile = self.wfile, io.BytesIO()
        self.end_headers()
        headers, self.wfile = self.wfile.getvalue(), written
        self._trickle(headers, fault.pause)

    def _trickle(self, content: bytes, pause: float) -> None:
        for number in range(len(content)):
            self.wfile.write(content[number : number + 1])
            if self.server.stand_in.ended.wait(pause):
                raise _Gone

    def _wait(self) -> None:
        self.server.stand_in.ended.wait(_LONGEST)
        raise _Gone


def _rule(text: str) -> faults.Rule:
    try:
        return faults.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main() -> int:
    """Serve until it is interrupted."""
    parser = argparse.ArgumentParser(prog="tests.stand_ins.glance", description=__doc__)
    parser.add_argument("--port", type=int, default=9292, help="of the loopback interface (9292)")
    parser.add_argument(
        "fault",
        nargs="*",
        type=_rule,
        help="such as 'PUT images/*/file refuse 503 times=2'; see doc/testing.md",
    )
    options = parser.parse_args()
    with GlanceStandIn(options.port) as stand_in:
        for rule in options.fault:
            stand_in.rules.add(rule)
        print(f"listens at {stand_in.url}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
