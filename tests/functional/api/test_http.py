# SPDX-License-Identifier: Apache-2.0
"""What is sent to the API's own port, byte for byte, by clients that mean no good."""

import contextlib
import http.client
import json
import logging
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap import conf as nova_conf
from nova_snap.cmd import http as nova_http
from nova_snap.cmd.api_server import APIServer
from tests.functional.api import service as svc
from tests.functional.api.service import Service

SOON = 20
LIMIT = 114688
BODY = b'{"createImage": {"name": "snap"}}'
ACTION = f"/v2.1/servers/{svc.ACTIVE}/action"
HEAD = f"POST {ACTION} HTTP/1.1\r\nHost: h\r\nX-Auth-Token: {svc.TOKEN}\r\n".encode()
JSON = HEAD + b"Content-Type: application/json\r\n"
SIZED = JSON + b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = JSON + b"Transfer-Encoding: chunked\r\n"
GET = b"GET /v2.1/servers HTTP/1.1\r\nHost: h\r\nX-Auth-Token: " + svc.TOKEN.encode() + b"\r\n"
# What somebody would like to have taken for a request of its own.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"


class Server:
    """The server that nova-snap-api has, before whichever application is there at the time."""

    def __init__(self, **options: int) -> None:
        self.app: Any = None
        conf = cfg.ConfigOpts()
        nova_conf.register_opts(conf)
        conf([], project="nova_snap", default_config_files=[])
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        conf.set_override("osapi_compute_listen_port", self.port)
        for name, value in {"threads": 2, **options}.items():
            conf.set_override(name, value, "api")
        self._server = APIServer(conf, lambda *asked: self.app(*asked))
        self._server.start()

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


@pytest.fixture
def port(server: Server, service: Service) -> int:
    """Where the application listens."""
    server.app = service.app
    return server.port


class Answers:
    """Everything that the server had to say until it closed the connection."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.codes = [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]
        head, _, rest = data.partition(b"\r\n\r\n")
        self.headers = head.decode().lower()
        self.body = rest

    @property
    def message(self) -> str:
        ((fault),) = json.loads(self.body).values()
        assert fault["code"] == self.codes[0]
        return str(fault["message"])


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=SOON)


def receive(client: socket.socket) -> Answers:
    return Answers(b"".join(iter(lambda: client.recv(65536), b"")))


def send(port: int, *pieces: bytes) -> Answers:
    with connect(port) as client:
        for piece in pieces:
            client.sendall(piece)
        client.shutdown(socket.SHUT_WR)
        return receive(client)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class TestGood:
    """What must go on to work."""

    def test_body_of_known_length(self, port: int, service: Service) -> None:
        assert send(port, SIZED, b"\r\n", BODY).codes == [202]
        assert len(service.casts.sent) == 1

    @pytest.mark.parametrize(
        "end", [b"0\r\n\r\n", b"0;x=y\r\nX-Sum: 1\r\n\r\n", b"000\r\n\r\n"], ids=repr
    )
    def test_chunks_and_another_request_after_them(
        self, port: int, service: Service, end: bytes
    ) -> None:
        pieces = [CHUNKED, b"\r\n", chunk(BODY[:5]), chunk(BODY[5:]), end]
        answers = send(port, *pieces, GET + b"\r\n")
        assert answers.codes == [202, 200]
        assert len(service.casts.sent) == 1

    def test_client_that_waits_to_be_told_to_go_on(self, port: int) -> None:
        with connect(port) as client:
            client.sendall(SIZED + b"Expect: 100-continue\r\nConnection: close\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 100 Continue")
            client.sendall(BODY)
            assert receive(client).codes == [202]

    def test_body_of_just_the_length_that_is_allowed(self, port: int) -> None:
        body = BODY.ljust(LIMIT)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SOON)
        for chunked in (False, True):
            connection.request(
                "POST", f"/v2.1/servers/{svc.STOPPED if chunked else svc.ACTIVE}/action",
                iter([body]) if chunked else body,
                {"X-Auth-Token": svc.TOKEN, "Content-Type": "application/json"},
                encode_chunked=chunked,
            )  # fmt: skip
            response = connection.getresponse()
            response.read()
            assert response.status == 202
        connection.close()

    def test_answers_that_are_asked_for_one_after_the_other(self, port: int) -> None:
        assert send(port, *[GET + b"\r\n"] * 5).codes == [200] * 5


class TestSizes:
    def test_body_that_is_said_to_be_too_large(self, port: int, service: Service) -> None:
        """It is refused by what is said, without a look at it."""
        with connect(port) as client:
            client.sendall(JSON + b"Content-Length: 100000000000\r\n\r\n" + b" " * 300000)
            answers = receive(client)
        assert answers.codes == [413]
        assert f"at most {LIMIT} bytes" in answers.message
        assert service.casts.sent == []

    @pytest.mark.parametrize("path", ["/healthcheck", "/metrics", "/", "/v2.1/servers"])
    def test_body_that_nobody_asks_for_is_not_read(self, port: int, path: str) -> None:
        """By any route, with a token or without: the connection ends instead."""
        with connect(port) as client:
            client.sendall(
                f"GET {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000000\r\n\r\n".encode()
            )
            began = time.monotonic()
            assert len(receive(client).codes) == 1
        assert time.monotonic() - began < 10

    @pytest.mark.parametrize(
        "start",
        [
            # All at once, as it says, and in small pieces.
            [b"fffffffff\r\n", b" " * 300000],
            [b"7fffffff\r\n", b" " * 300000],
            [chunk(b" " * 1000)] * 200,
        ],
        ids=["9 digits", "2 GiB", "pieces"],
    )
    def test_chunks_that_are_too_large(
        self, port: int, service: Service, start: list[bytes]
    ) -> None:
        with connect(port) as client:
            client.sendall(CHUNKED + b"\r\n" + b"".join(start))
            answers = receive(client)
        assert answers.codes in ([413], [400])
        if answers.codes == [413]:
            assert f"at most {LIMIT} bytes" in answers.message
        assert service.casts.sent == []

    @pytest.mark.parametrize(
        ("head", "code"),
        [
            (b"GET /" + b"a" * 70000, 414),
            (GET + b"X: " + b"a" * 70000, 431),
            (GET + b"X: a\r\n" * 101, 431),
            (GET + b"X: %s\r\n" % (b"a" * 1000) * 70, 431),
            (CHUNKED + b"\r\n1;" + b"x" * 2000, 400),
            (CHUNKED + b"\r\n0\r\n" + b"X: y\r\n" * 101, 400),
        ],
        ids=["path", "header", "headers", "all headers", "chunk line", "trailers"],
    )
    def test_what_has_no_end(self, port: int, head: bytes, code: int) -> None:
        with connect(port) as client:
            client.sendall(head + b"\r\n" if head.endswith(b"\r\n") else head)
            answers = receive(client)
        assert answers.codes == [code]
        assert answers.message

    def test_memory_that_headers_take_is_bounded(self, port: int) -> None:
        """The server stops to read, and the client finds out."""
        sent = 0
        with connect(port) as client, contextlib.suppress(OSError):
            client.sendall(GET)
            for _ in range(2000):
                client.sendall(b"X: " + b"a" * 65536)
                sent += 65536
        assert sent < 64 << 20


AMBIGUOUS = {
    "two lengths": SIZED + b"Content-Length: 0\r\n",
    "two equal lengths": SIZED + b"Content-Length: %d\r\n" % len(BODY),
    "list of lengths": JSON + b"Content-Length: 0, 0\r\n",
    "negative length": JSON + b"Content-Length: -1\r\n",
    "signed length": JSON + b"Content-Length: +%d\r\n" % len(BODY),
    "length with underscores": JSON + b"Content-Length: 3_3\r\n",
    "length in other digits": JSON + "Content-Length: ٣\r\n".encode(),
    "hexadecimal length": JSON + b"Content-Length: 0x21\r\n",
    "empty length": JSON + b"Content-Length:\r\n",
    "length and coding": SIZED + b"Transfer-Encoding: chunked\r\n",
    "coding and length": CHUNKED + b"Content-Length: %d\r\n" % len(BODY),
    "coding twice": CHUNKED + b"Transfer-Encoding: chunked\r\n",
    "coding twice in one": JSON + b"Transfer-Encoding: chunked, chunked\r\n",
    "chunked not last": JSON + b"Transfer-Encoding: chunked, identity\r\n",
    "unknown coding": JSON + b"Transfer-Encoding: xchunked\r\n",
    "gzip": JSON + b"Transfer-Encoding: gzip, chunked\r\n",
    "coding of 1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Connection: Keep-Alive\r\n",
    "space before the colon": JSON + b"Transfer-Encoding : chunked\r\n",
    "tab before the colon": JSON + b"Transfer-Encoding\t: chunked\r\n",
    "folded": JSON + b"X: y\r\n Transfer-Encoding: chunked\r\n",
    "line feed only": JSON + b"X: y\nTransfer-Encoding: chunked\r\n",
    "carriage return": JSON + b"X: y\rTransfer-Encoding: chunked\r\n",
    "nul": JSON + b"X: y\0\r\n",
    "no name": JSON + b": chunked\r\n",
    "no colon": JSON + b"Transfer-Encoding\r\n",
    "two tokens": SIZED + b"X-Auth-Token: admin:p\r\n",
    "two service tokens": SIZED + b"X-Service-Token: a\r\nX-Service-Token: b\r\n",
    "two hosts": SIZED + b"Host: other\r\n",
}


class TestSmuggling:
    """Of a request that a proxy may understand otherwise, there is only the refusal."""

    @pytest.mark.parametrize("head", AMBIGUOUS.values(), ids=AMBIGUOUS)
    def test_request_with_two_readings(self, port: int, service: Service, head: bytes) -> None:
        answers = send(port, head, b"\r\n", chunk(BODY), b"0\r\n\r\n", SMUGGLED)
        assert answers.codes in ([400], [501])
        assert answers.message
        assert "connection: close" in answers.headers
        assert re.search("x-openstack-request-id: req-", answers.headers)
        assert service.casts.sent == []

    @pytest.mark.parametrize(
        "body",
        [
            chunk(BODY) + b"-1\r\n\r\n",
            chunk(BODY) + b"\r\n\r\n",
            b"0x21\r\n" + BODY + b"\r\n0\r\n\r\n",
            b"+21\r\n" + BODY + b"\r\n0\r\n\r\n",
            b"2_1\r\n" + BODY + b"\r\n0\r\n\r\n",
            b"21\n" + BODY + b"\r\n0\r\n\r\n",
            b"20\r\n" + BODY + b"\r\n0\r\n\r\n",
            b"21\r\n" + BODY + b"0\r\n\r\n",
            b"zz\r\n" + BODY + b"\r\n0\r\n\r\n",
        ],
        ids=repr,
    )
    def test_chunks_with_two_readings(self, port: int, service: Service, body: bytes) -> None:
        answers = send(port, CHUNKED, b"\r\n", body, SMUGGLED)
        assert answers.codes == [400]
        assert "Malformed request body" in answers.message
        assert service.casts.sent == []

    @pytest.mark.parametrize("head", [SIZED, CHUNKED], ids=["sized", "chunked"])
    def test_body_of_a_request_that_is_refused_is_no_request(self, port: int, head: bytes) -> None:
        """What is in it is not looked at, whoever refuses it, and when."""
        head = re.sub(rb"X-Auth-Token: .*\r\n", b"", head)
        body = SMUGGLED.ljust(len(BODY))
        if head.startswith(CHUNKED[:4]) and b"chunked" in head:
            body = chunk(body) + b"0\r\n\r\n"
        answers = send(port, head, b"\r\n", body)
        assert answers.codes == [401]
        assert b"smuggled" not in answers.data

    def test_header_with_an_underscore_is_nobody_elses(self, port: int, service: Service) -> None:
        """WSGI would have one name for both."""
        head = re.sub(rb"X-Auth-Token", b"X_Auth_Token", GET)
        assert send(port, head, b"\r\n").codes == [401]
        head = GET.replace(b"Host: h", b"Host: h\r\nX_Forwarded_Host: evil")
        service.conf.set_override("enable_proxy_headers_parsing", True, "oslo_middleware")
        assert b"evil" not in send(port, head, b"\r\n").data

    def test_nobody_is_believed_to_be_a_proxy(self, port: int, service: Service) -> None:
        head = GET.replace(b"Host: h", b"Host: h\r\nX-Forwarded-Host: evil\r\nForwarded: host=evil")
        assert b"evil" not in send(port, head, b"\r\n").data
        service.conf.set_override("enable_proxy_headers_parsing", True, "oslo_middleware")
        assert b"evil" in send(port, head, b"\r\n").data

    @pytest.mark.parametrize(
        "line",
        [
            b"GET http://evil/v2.1/servers HTTP/1.1",
            b"GET //evil/v2.1/servers HTTP/1.1",
            b"CONNECT evil:80 HTTP/1.1",
            b"GET /v2.1/servers HTTP/9.9",
            b"GET /v2.1/servers",
            b"get /v2.1/servers HTTP/1.1",
            b"GET  /v2.1/servers HTTP/1.1",
            b"\x16\x03\x01\x02\x00\x01\x00",
        ],
        ids=repr,
    )
    def test_line_that_is_no_request(self, port: int, line: bytes) -> None:
        answers = send(port, line, b"\r\nHost: h\r\n\r\n")
        assert len(answers.codes) == 1
        assert 400 <= answers.codes[0] <= 505

    @pytest.mark.parametrize("method", [b"X\r2026\x1b[2J", b"G\xc4T", b"GET:"], ids=repr)
    def test_method_that_is_none(self, port: int, method: bytes) -> None:
        """It would stand in the log as it is."""
        answers = send(port, method, b" /v2.1/ HTTP/1.1\r\nHost: h\r\n\r\n")
        assert answers.codes == [400]
        assert "The method has a character" in answers.message


@pytest.fixture(scope="module")
def hasty() -> Iterator[Server]:
    made = Server(request_timeout=1)
    yield made
    made.stop()


class TestSlowness:
    @pytest.fixture
    def port(self, hasty: Server, service: Service) -> int:
        hasty.app = service.app
        return hasty.port

    @pytest.mark.parametrize("start", [GET, JSON + b"Content-Length: 1000\r\n\r\n",
                                       CHUNKED + b"\r\n3e8\r\n"],
                             ids=["headers", "body", "chunk"])  # fmt: skip
    def test_byte_after_byte(self, port: int, start: bytes) -> None:
        """Each comes in time, and they keep a thread all the same."""
        began = time.monotonic()
        with connect(port) as client:
            client.sendall(start)
            client.settimeout(0.1)
            received = b""
            while time.monotonic() - began < SOON:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    client.sendall(b"X")
                try:
                    received = client.recv(65536)
                    break
                except TimeoutError:
                    continue
        assert time.monotonic() - began < 5
        assert Answers(received).codes in ([408], [400])

    def test_threads_are_soon_there_for_others(self, port: int) -> None:
        with contextlib.ExitStack() as slow:
            for _ in range(6):
                slow.enter_context(connect(port)).sendall(GET)
            began = time.monotonic()
            assert send(port, GET, b"\r\n").codes == [200]
        # Three rounds of two threads, each of which has to linger as well.
        assert time.monotonic() - began < 12

    def test_client_that_takes_nothing(self, port: int, service: Service) -> None:
        """An answer that does not fit into the buffers in between."""
        service.casts.console = "x" * (16 << 20)
        body = json.dumps({"os-getConsoleOutput": {}}).encode()
        head = re.sub(rb"Content-Length: .*", b"Content-Length: %d\r" % len(body), SIZED)
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                client = stack.enter_context(connect(port))
                client.sendall(head + b"\r\n" + body)
            began = time.monotonic()
            assert send(port, GET, b"\r\n").codes == [200]
        assert time.monotonic() - began < 10


def test_refusal_is_logged_with_its_request_id(port: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, nova_http.__name__):
        answers = send(port, AMBIGUOUS["two lengths"], b"\r\n")
    (request_id,) = re.findall("x-openstack-request-id: (req-[0-9a-f-]+)", answers.headers)
    (line,) = [line for line in caplog.messages if request_id in line]
    assert "Content-Length is there more than once" in line
