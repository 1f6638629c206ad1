# SPDX-License-Identifier: Apache-2.0
"""Requests as data that can be damaged, and what must be true of every answer."""

import io
import json
import random
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from tests.fuzz import mutation
from tests.fuzz.parts import LogWatch
from tests.fuzz.target import Finding

# What a client has no business to read.
_INTERNALS: Final = re.compile(
    r'Traceback|File "|sqlite|sqlalchemy|SELECT |UPDATE |/dev/shm|site-packages|\.py\b|nova_snap\.'
)
_LONGEST_FAULT: Final = 4096
_REQUEST_ID: Final = re.compile(r"req-[0-9a-f-]{36}\Z")
_METHODS: Final = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "X" * 300)
_HEADERS: Final = {
    "OpenStack-API-Version": (
        *("compute 2.1", "compute 2.35", "compute 2.45", "compute 2.96", "compute latest"),
        *("compute 2.97", "compute 1.1", "compute", "", "volume 3.0", "compute 2." + "9" * 5000),
        *("compute 2.1, compute 2.2", "compute\t2.1", "compute 2.1\xa0", "\xff", "compute 2.-1"),
    ),
    "X-OpenStack-Nova-API-Version": ("2.3", "latest", "x", "2.1\x00"),
    "Content-Type": (
        *("application/json", "application/xml", "", "text/plain; charset=utf-16", "\xff"),
        *("application/json; charset=\xff", "multipart/form-data", "x" * 9000),
        "application/x-www-form-urlencoded",
    ),
    "X-OpenStack-Request-ID": ("req-" + "0" * 36, "req-x\r\nX-Evil: 1", "\xff" * 300, ""),
    "X-Auth-Token": ("", ":", "a:b:c", "\xff", "admin", "x" * 9000, "admin:\x00"),
    "X-Project-Id": ("other", "\xff", ""),
    "Forwarded": ("for=\xff;proto=x;host=\x00", "for=192.0.2.1"),
    "X-Forwarded-Proto": ("https", "\xff"),
    "X-Forwarded-Host": ("evil.example.org", "a b", "\xff"),
    "Host": ("", "[", "[::1", "a:b:c", "\xff", "x" * 9000),
    "Origin": ("http://evil.example.org", "null", "\xff"),
    "Accept": ("application/xml", "*/*;q=x", "\xff"),
    "Range": ("bytes=0-", "\xff"),
    "If-None-Match": ("*", "\xff"),
    "Content-Encoding": ("gzip", "\xff"),
}  # fmt: skip
_LENGTHS: Final = (None, "", "0", "1", "-1", "99999999", "x", "9" * 30, "1 2", "0x10")

Call = dict[str, Any]


def call(method: str, path: str, body: Any = None, query: str = "", **headers: str) -> Call:
    """A request.

    :param path: with characters from 0 to 255, each one byte.
    :param body: what becomes JSON.
    :param headers: with ``_`` for ``-``.
    """
    given = {key.replace("_", "-"): value for key, value in headers.items()}
    made: Call = {"method": method, "path": path, "query": query, "headers": given}
    if body is not None:
        made["json"] = body
    return made


def pack(made: Call) -> bytes:
    return json.dumps(made).encode()


def mutate(data: bytes, other: bytes, dice: random.Random) -> bytes:
    """A request that differs in one or two places."""
    made, donor = json.loads(data), json.loads(other)
    for _ in range(dice.choice((1, 1, 2))):
        _change(made, donor, dice)
    return pack(made)


def _change(made: Call, donor: Call, dice: random.Random) -> None:
    kind = dice.randrange(13)
    if kind < 5 and "json" in made:
        made["json"] = mutation.of_json(made["json"], donor.get("json", {}), dice)
    elif kind == 5 and ("json" in made or "raw" in made):
        raw = body_of(made)
        made.pop("json", None)
        made["raw"] = mutation.of_bytes(raw, body_of(donor), dice).decode("latin-1")
    elif kind == 6:
        name = dice.choice(list(_HEADERS))
        made["headers"][name] = dice.choice(_HEADERS[name])
    elif kind == 7:
        pairs = [pair for pair in made["query"].split("&") if pair]
        value = quote(str(mutation.evil_value(dice)).encode(errors="replace")[:2000])
        name = dice.choice((*_NAMES, *(pair.partition("=")[0] for pair in pairs)))
        made["query"] = "&".join([*pairs, f"{name}={value}"][-5:])
    elif kind == 8:
        raw = mutation.of_bytes(made["query"].encode("latin-1"), b"%00%ff=&;", dice)
        made["query"] = raw.decode("latin-1")
    elif kind == 9:
        parts = made["path"].split("/")
        parts[dice.randrange(len(parts))] = _path_part(dice)
        made["path"] = "/".join(parts)
    elif kind == 10:
        made["method"] = dice.choice(_METHODS)
    elif kind == 11:
        made["length"] = dice.choice(_LENGTHS)
        made["chunked"] = dice.random() < 0.5
    else:
        made["path"], made["method"] = donor["path"], donor["method"]


_NAMES: Final = (
    *("limit", "marker", "sort_key", "sort_dir", "name", "status", "changes-since", "all_tenants"),
    *("changes-before", "deleted", "host", "image", "flavor", "ip", "minDisk", "type", "is_public"),
    *("uuid", "project_id", "user_id", "vm_state", "task_state", "reserved", "binary", "tags"),
    *("hypervisor_hostname_pattern", "with_servers", "server", "locked", "property-x", ""),
)


def _path_part(dice: random.Random) -> str:
    text = str(mutation.evil_value(dice))[:9000].encode(errors="replace")
    return dice.choice((text, b"..", b".", b"%2e%2e", b"\xff", b"\0", b"")).decode("latin-1")


def body_of(made: Call) -> bytes:
    if "raw" in made:
        return str(made["raw"]).encode("latin-1", errors="replace")
    return mutation.to_text(made["json"]).encode() if "json" in made else b""


def environ_of(made: Call) -> dict[str, Any]:
    """As a server makes it, whatever a client has sent."""
    body = body_of(made)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": made["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(made["path"]).decode("latin-1")
        if "%" in made["path"] and made["path"].isascii() else made["path"],
        "QUERY_STRING": made["query"],
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "8774",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.7",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }  # fmt: skip
    if body:
        environ |= {"CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/json"}
    if made.get("chunked"):
        environ |= {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
        environ.pop("CONTENT_LENGTH", None)
    if "length" in made:
        environ.pop("CONTENT_LENGTH", None)
        if made["length"] is not None:
            environ["CONTENT_LENGTH"] = made["length"]
    for name, value in made["headers"].items():
        key = name.upper().replace("-", "_")
        environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
    return environ


class Answer:
    """What an application answered."""

    def __init__(self, app: Any, environ: dict[str, Any]) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        pieces = app(environ, self._start)
        try:
            self.body = b"".join(pieces)
        finally:
            getattr(pieces, "close", lambda: None)()

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        self.status = int(status.split()[0])
        self.headers = headers

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


def check(made: Call, answer: Answer, log: LogWatch, allowed: frozenset[int]) -> None:
    """What must be true of every answer.

    :param allowed: codes above 499 that may be.
    """
    for problem, detail in _problems(made, answer, log, allowed):
        raise Finding(problem, detail)


def _problems(
    made: Call, answer: Answer, log: LogWatch, allowed: frozenset[int]
) -> Iterator[tuple[str, str]]:
    text = answer.body.decode(errors="replace")
    request_id = answer.header("x-openstack-request-id")
    for logged, error in log.tracebacks:
        if logged is None or logged != request_id:
            yield "a traceback without the request's id", repr(error)
        # As if it had been raised: where it comes from tells findings apart.
        raise error
    if answer.status >= 500 and answer.status not in allowed:
        yield f"an answer {answer.status}", text[:300]
    if request_id is None or not _REQUEST_ID.match(request_id):
        yield "an answer without a request id", repr(request_id)
    for name, value in answer.headers:
        if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", name + value):
            yield "a control character in a header", repr((name, value))[:300]
    kind = (answer.header("content-type") or "").partition(";")[0]
    if kind == "application/json":
        try:
            json.loads(answer.body)
        except ValueError:
            if made["method"] != "HEAD":
                yield "a body that is not JSON", text[:300]
    if answer.status >= 400:
        if len(answer.body) > _LONGEST_FAULT:
            yield "a fault that is too long", text[:300]
        # A client may be told what he has sent himself, and nothing else.
        sent = json.dumps(made)
        if any(found.group() not in sent for found in _INTERNALS.finditer(text)):
            yield "internals in a fault", text[:300]
