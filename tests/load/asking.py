# SPDX-License-Identifier: Apache-2.0
"""An HTTP client for very many requests at once: a connection each, and what became of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MICROVERSION = "2.96"
CONFLICT, BUSY = 409, 503


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    :ivar status: 0 if there was no whole answer; ``error`` says why.
    :ivar seconds: from before the connection to the last byte.
    :ivar ended: when that was, in seconds since the epoch.
    """

    status: int
    seconds: float
    ended: float
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    error: str = ""

    @property
    def accepted(self) -> bool:
        return self.status == 202

    @property
    def request_id(self) -> str:
        return self.headers.get("x-openstack-request-id", "")

    @property
    def reason(self) -> str:
        """What a refusal says; empty if it says nothing."""
        if not isinstance(self.body, dict) or len(self.body) != 1:
            return ""
        (said,) = self.body.values()
        return str(said.get("message", "")) if isinstance(said, dict) else ""

    @property
    def refused(self) -> bool:
        """Whether it was refused in words: the server has a snapshot under way, or the API is
        busy. See ``waited`` for whether the latter can be."""
        return self.status in (CONFLICT, BUSY) and bool(self.reason)

    def waited(self, seconds: float) -> bool:
        """Whether it is a 503 that came as late as one may.

        :param seconds: of ``[api] queue_timeout``.
        """
        return self.status == BUSY and bool(self.reason) and self.seconds >= seconds


class Asker:
    """The API at a port of this host.

    :param timeout: seconds for an answer.
    """

    def __init__(self, port: int, timeout: float) -> None:
        self._port = port
        self._timeout = timeout

    async def get(self, path: str, token: str) -> Answer:
        return await self.ask("GET", path, token)

    async def post(self, path: str, token: str, body: object) -> Answer:
        return await self.ask("POST", path, token, body)

    async def ask(self, method: str, path: str, token: str, body: object = None) -> Answer:
        """Send a request on a connection of its own. Never raises."""
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} /v2.1{path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n"
            f"X-Auth-Token: {token}\r\nOpenStack-API-Version: compute {MICROVERSION}\r\n"
            "Content-Type: application/json\r\nAccept: application/json\r\n"
            f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        )
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                data = await self._exchange(head.encode() + content)
        except (OSError, TimeoutError) as error:
            said = f"{type(error).__name__}: {error}"
            return Answer(0, time.perf_counter() - began, time.time(), error=said)
        return _parse(data, time.perf_counter() - began)

    async def _exchange(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(request)
            return await reader.read()
        finally:
            writer.close()


def _parse(data: bytes, seconds: float) -> Answer:
    head, separator, content = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    if not separator or int(headers.get("content-length", -1)) != len(content):
        said = f"{len(data)} bytes are no whole answer: {data[:200]!r}"
        return Answer(0, seconds, time.time(), headers, error=said)
    body = None
    if content and headers.get("content-type", "").startswith("application/json"):
        body = json.loads(content)
    return Answer(int(first.split()[1]), seconds, time.time(), headers, body)
