# SPDX-License-Identifier: Apache-2.0
"""The image service's client, and an image service that answers anything over HTTP."""

import hashlib
import io
import json
import random
import socketserver
import threading
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Final

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.image import glance
from tests.fuzz import mutation, parts
from tests.fuzz.target import Finding, Target

_ID: Final = "11111111-1111-1111-1111-111111111111"
_DATA: Final = b"what the image holds" * 50
_SHA512: Final = hashlib.sha512(_DATA).hexdigest()
_RECORD: Final = {
    "id": _ID,
    "name": "snap",
    "status": "active",
    "size": len(_DATA),
    "os_hash_algo": "sha512",
    "os_hash_value": _SHA512,
    "checksum": None,
    "disk_format": "raw",
    "container_format": "bare",
    "created_at": "2026-01-01T00:00:00Z",
}
_SCHEMA: Final = {
    "name": "image",
    "properties": {"id": {"type": "string"}, "name": {"type": ["null", "string"]}},
    "additionalProperties": {"type": "string"},
}
_HEADERS: Final = {"Content-Type": "application/json"}


def _answer(body: Any, status: int = 200) -> dict[str, Any]:
    return {"status": status, "headers": dict(_HEADERS), "json": body}


_ANSWERS: Final = {
    "record": _answer(_RECORD),
    "list": _answer({"images": [_RECORD], "schema": "/v2/schemas/images"}),
    "schema": _answer(_SCHEMA),
    "create": _answer({**_RECORD, "status": "queued"}, 201),
    "patch": _answer(_RECORD),
    "data": {"status": 200, "headers": {}, "raw": _DATA.decode()},
    "upload": {"status": 204, "headers": {}, "raw": ""},
    "delete": {"status": 204, "headers": {}, "raw": ""},
    "locations": _answer({}),
    "members": _answer({"member_id": "other", "status": "pending"}),
    "tasks": _answer({"tasks": [{"message": "it failed"}]}),
}
_STATUSES: Final = (*(200, 201, 204, 206, 300, 301, 302, 304, 400, 401, 403, 404, 405, 409, 410),
                    *(413, 418, 429, 499, 500, 501, 502, 503, 504, 599, 999))  # fmt: skip
_NASTY_HEADERS: Final = {
    "Content-Length": ("0", "1", "-1", "x", "99999"),
    "Content-Type": ("text/html", "application/json; charset=x", "", "application/octet-stream"),
    "Content-Encoding": ("gzip", "deflate", "br", "x"),
    "Transfer-Encoding": ("chunked", "x"),
    "Location": ("http://127.0.0.1:1/", "/v2/images", "file:///etc/passwd", "//", "x" * 9000),
    "Retry-After": ("99999", "x"),
    "OpenStack-image-store-ids": ("\xff",),
}
_CALLS: Final = (
    *("get", "get_all", "create", "set_properties", "update", "upload", "download", "delete"),
    *("add_location", "add_member"),
)


class Handler(socketserver.StreamRequestHandler):
    """Reads a request and says what it is told to."""

    server: "Server"
    timeout = 5

    def handle(self) -> None:
        line = self.rfile.readline(65536).decode("latin-1").split()
        if len(line) < 2:
            return
        length, chunked = 0, False
        while header := self.rfile.readline(65536).strip().lower():
            length = int(header[15:]) if header.startswith(b"content-length:") else length
            chunked |= header.startswith(b"transfer-encoding:")
        self._swallow(length, chunked)
        self.wfile.write(self.server.answer(line[0], line[1]))

    def _swallow(self, length: int, chunked: bool) -> None:
        while chunked and (size := int(self.rfile.readline().strip() or b"0", 16)):
            self.rfile.read(size + 2)
        if chunked:
            self.rfile.readline()
        self.rfile.read(length)


class Server(socketserver.ThreadingTCPServer):
    """An image service. :ivar answers: by the kind of request."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Any] = {}

    def answer(self, method: str, path: str) -> bytes:
        given = self.answers.get(_kind(method, path))
        if not isinstance(given, dict):
            return b""
        body = str(given.get("raw", "")).encode(errors="replace")
        if "json" in given:
            body = mutation.to_text(given["json"]).encode()
        headers = given.get("headers")
        headers = dict(headers) if isinstance(headers, dict) else {}
        headers.setdefault("Content-Length", str(len(body)))
        lines = [f"HTTP/1.1 {given.get('status', 200)} X", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join(lines).encode("latin-1", errors="replace") + b"\r\n\r\n" + body

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client went away, as it may."""


def _kind(method: str, path: str) -> str:
    path = path.partition("?")[0]
    for part, kind in (("/schemas/", "schema"), ("/locations", "locations"), ("/tasks", "tasks"),
                       ("/members", "members")):  # fmt: skip
        if part in path:
            return kind
    if path.endswith("/file"):
        return "data" if method == "GET" else "upload"
    if path == "/v2/images":
        return "create" if method == "POST" else "list"
    return {"GET": "record", "PATCH": "patch", "DELETE": "delete"}.get(method, "record")


class Glance(Target):
    bound = 60.0

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._server = Server()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        conf = parts.configuration(directory)
        host, port = self._server.server_address[:2]
        conf.set_override("api_servers", [f"http://{host!s}:{port}"], "glance")
        conf.set_override("num_retries", 1, "glance")
        conf.set_override("timeout", 1, "glance")
        conf.set_override("auth_strategy", "noauth2", "api")
        self._api = glance.API(conf)
        self._context = RequestContext(user_id="u", project_id="p", roles=["member"])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def seeds(self) -> Sequence[bytes]:
        return [json.dumps({"call": name, "answers": _ANSWERS}).encode() for name in _CALLS]

    def mutate(self, data: bytes, other: bytes, dice: random.Random) -> bytes:
        given, donor = json.loads(data), json.loads(other)
        # Of those answers that the call is given, mostly.
        name = dice.choice(("record", _USED.get(given["call"], "record"), *_ANSWERS))
        answer = given["answers"].get(name)
        kind = dice.randrange(8)
        if not isinstance(answer, dict) or kind == 0:
            given["answers"][name] = mutation.of_json(answer, donor["answers"], dice)
        elif kind == 1:
            answer["status"] = dice.choice(_STATUSES)
        elif kind == 2 and isinstance(answer.get("headers"), dict):
            header = dice.choice(list(_NASTY_HEADERS))
            answer["headers"][header] = dice.choice(_NASTY_HEADERS[header])
        elif kind == 3:
            answer.pop("json", None)
            answer["raw"] = dice.choice(("", "<html>", "null", "{", "\xff", _DATA.decode()[:-1]))
        elif "json" in answer:
            answer["json"] = mutation.of_json(answer["json"], donor["answers"], dice)
        if dice.random() < 0.1:
            given["call"] = dice.choice(_CALLS)
        return json.dumps(given).encode()

    def run(self, data: bytes) -> Hashable:
        given = json.loads(data)
        self._server.answers = given["answers"]
        try:
            found = self._ask(given["call"])
        except exception.NovaSnapError as error:
            if not str(error) or not error.for_user():
                raise Finding("an error that says nothing", repr(error)) from error
            return given["call"], type(error).__name__, str(error)[:10]
        return given["call"], type(found).__name__

    def _ask(self, name: str) -> object:
        api, context = self._api, self._context
        if name == "get":
            return _checked(api.get(context, _ID))
        if name == "get_all":
            return [_checked(record) for record in api.get_all(context, {"status": "active"})]
        if name == "create":
            return _checked(api.create(context, {"name": "x", "properties": {"a": "b"}}))
        if name == "set_properties":
            return _checked(api.set_properties(context, _ID, {"a": "b"}))
        if name == "update":
            return _checked(api.update(context, _ID, {"name": "x"}))
        if name == "upload":
            return _checked(api.update(context, _ID, {}, io.BytesIO(_DATA), len(_DATA)))
        if name == "add_location":
            return _checked(api.add_location(context, _ID, "rbd://f/p/i/snap", {}))
        if name == "add_member":
            return api.add_member(context, _ID, "other")  # type: ignore[func-returns-value]
        if name == "download":
            target = io.BytesIO()
            length = api.download(context, _ID, target, lambda: None)
            if len(target.getvalue()) != length:
                raise Finding("a download has another length than it says")
            return length
        return api.delete(context, _ID)  # type: ignore[func-returns-value]


_USED: Final = {
    "get_all": "list",
    "create": "create",
    "set_properties": "patch",
    "update": "patch",
    "upload": "upload",
    "download": "data",
    "delete": "delete",
    "add_location": "locations",
    "add_member": "members",
}


def _checked(record: Any) -> object:
    """What everybody relies on in a record."""
    if not isinstance(record, dict) or not isinstance(record.get("status"), str):
        raise Finding("a record without a status is believed", repr(record)[:200])
    return record["status"]


TARGET = Glance
