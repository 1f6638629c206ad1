# SPDX-License-Identifier: Apache-2.0
"""The HTTP server of the API: who has to wait, and for whom."""

import contextlib
import io
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import webob
from oslo_config import cfg

from nova_snap.api import overload
from nova_snap.cmd import all as nova_snap_all
from nova_snap.cmd import api_server, gateway
from nova_snap.cmd.api_server import APIServer

SOON = 30
THREADS = 2
WAITING = 20
IDLE = 10
REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"


class Application:
    """Answers when it may."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.may.set()
        self.waited: dict[str, float] = {}
        self.closed: set[bool] = set()
        self.seconds = 0.0

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        self.waited[environ["PATH_INFO"]] = environ[overload.WAITED]
        self.closed.add(environ[overload.CLOSED])
        assert self.may.wait(SOON)
        time.sleep(0 if environ[overload.CLOSED] else self.seconds)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def server(
    conf: cfg.ConfigOpts, application: Application, monkeypatch: pytest.MonkeyPatch
) -> Iterator[APIServer]:
    monkeypatch.setattr(api_server, "WAITING", WAITING)
    monkeypatch.setattr(api_server, "IDLE", IDLE)
    conf.set_override("threads", THREADS, "api")
    made = made_from(conf, application)
    made.start()
    yield made
    application.may.set()
    made.stop()


def made_from(conf: cfg.ConfigOpts, application: Application) -> APIServer:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free: int = probe.getsockname()[1]
    conf.set_override("osapi_compute_listen_port", free)
    conf.set_override("graceful_shutdown_timeout", 1)
    return APIServer(conf, application)


@pytest.fixture
def port(server: APIServer, conf: cfg.ConfigOpts) -> int:
    """Where it listens."""
    listening: int = conf.osapi_compute_listen_port
    return listening


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=SOON)


def answer(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_who_says_nothing_keeps_nobody_waiting(port: int) -> None:
    with contextlib.ExitStack() as silent:
        for _ in range(3 * THREADS):
            silent.enter_context(connect(port))
        with connect(port) as client:
            client.settimeout(5)
            client.sendall(REQUEST)
            assert answer(client).endswith(b"ok")


def test_a_connection_serves_more_than_one_request(port: int) -> None:
    with connect(port) as client:
        for _ in range(2):
            client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            received = b""
            while not received.endswith(b"ok"):
                piece = client.recv(65536)
                assert piece, f"it hung up after {received!r}"
                received += piece
            assert received.startswith(b"HTTP/1.1 200 OK")


def test_more_requests_than_it_may_have_files_for(port: int, application: Application) -> None:
    """All are answered, and those for whom there is no room yet are not accepted before."""
    application.may.clear()
    before = files()
    count = 100
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(port)) for _ in range(count)]
        for client in clients:
            client.sendall(REQUEST)
        deadline = time.monotonic() + SOON
        while files() - before - count < WAITING + THREADS:
            assert time.monotonic() < deadline, "they are not accepted"
            time.sleep(0.05)
        # Nothing says that no more will be.
        time.sleep(0.5)
        accepted = files() - before - count
        application.may.set()
        answers = [answer(client) for client in clients]
    assert accepted <= THREADS + WAITING + IDLE + 1
    assert all(each.startswith(b"HTTP/1.1 200 OK") and each.endswith(b"ok") for each in answers)


@pytest.fixture
def narrow(
    conf: cfg.ConfigOpts, application: Application, monkeypatch: pytest.MonkeyPatch
) -> Iterator[int]:
    """The port of a server with one thread, and room for one that waits."""
    monkeypatch.setattr(api_server, "WAITING", 1)
    conf.set_override("threads", 1, "api")
    conf.set_override("timeout", 2, "api")
    made = made_from(conf, application)
    made.start()
    yield conf.osapi_compute_listen_port
    application.may.set()
    made.stop()


def test_for_whom_there_is_no_room_is_told_so(narrow: int, application: Application) -> None:
    application.may.clear()
    with contextlib.ExitStack() as stack:
        served, *others = [stack.enter_context(connect(narrow)) for _ in range(6)]
        served.sendall(REQUEST)
        wait_until(lambda: application.waited)
        for client in others:
            client.sendall(REQUEST)
        waits, *refused = others
        began = time.monotonic()
        for client in refused:
            response = webob.Response.from_file(io.BytesIO(answer(client)))
            assert response.status_int == 503
            assert "no room" in json.loads(response.body)["serviceUnavailable"]["message"]
            assert response.headers["Retry-After"] == "10"
            assert response.headers["Connection"] == "close"
            assert response.headers["X-OpenStack-Request-Id"].startswith("req-")
        assert time.monotonic() - began < SOON / 2
        application.may.set()
        assert answer(served).endswith(b"ok")
        assert answer(waits).endswith(b"ok")


def test_a_silent_connection_is_closed_unless_its_request_has_come(
    conf: cfg.ConfigOpts, application: Application
) -> None:
    """It may have come while the thread that looks after connections waited for room."""
    server: Any = made_from(conf, application)._server
    with contextlib.ExitStack() as stack:
        server.prepare()
        stack.callback(server.stop)
        port: int = conf.osapi_compute_listen_port
        silent, client = stack.enter_context(connect(port)), stack.enter_context(connect(port))
        client.sendall(REQUEST)
        for _ in range(2):
            accepted = server._connections._from_server_socket(server.socket)
            server.process_conn(accepted)
            accepted.last_used -= 100
        server._connections._expire(time.time() - 50)
        found = [each for _, each in server._connections._selector.connections]
        assert len(found) == 2
        assert server in found
        assert client.getsockname()[1] in [getattr(each, "remote_port", None) for each in found]
        assert answer(silent) == b""


def test_who_hangs_up_before_his_turn_is_not_served(
    port: int, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "PATIENCE", 0.2)
    application.may.clear()
    with contextlib.ExitStack() as stack:
        busy = [stack.enter_context(connect(port)) for _ in range(THREADS)]
        for client in busy:
            client.sendall(REQUEST)
        wait_until(lambda: application.waited)
        with connect(port) as impatient:
            impatient.sendall(REQUEST.replace(b"GET /", b"GET /gone"))
        patient = stack.enter_context(connect(port))
        patient.sendall(REQUEST.replace(b"GET /", b"GET /stayed"))
        time.sleep(0.5)
        application.may.set()
        assert answer(patient).endswith(b"ok")
    assert "/gone" not in application.waited
    assert application.waited["/stayed"] >= 0.4


class Host:
    """The compute half of nova-snap-all.

    :ivar granted: seconds that it was given to stop.
    """

    granted: float | None = None

    def stop(self, timeout: float) -> int:
        self.granted = timeout
        return 0


def test_a_request_that_hangs_does_not_keep_the_host_from_stopping(
    server: APIServer, port: int, application: Application
) -> None:
    application.may.clear()
    host: Any = Host()
    with connect(port) as client:
        client.sendall(REQUEST)
        wait_until(lambda: application.waited)
        began = time.monotonic()
        left = nova_snap_all.stop_both(server, host, 1)
        took = time.monotonic() - began
    assert took < SOON / 3
    assert 0 < host.granted <= 0.5
    # So the process is ended, and does not wait for the thread.
    assert left == 1


def test_a_stop_has_a_bound_though_many_wait(
    server: APIServer, port: int, application: Application
) -> None:
    """Each of them would take as long as the stop may."""
    application.seconds = 1.0
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(port)) for _ in range(WAITING)]
        for client in clients:
            client.sendall(REQUEST)
        wait_until(lambda: application.waited)
        began = time.monotonic()
        server.stop()
        took = time.monotonic() - began
    assert took < WAITING / THREADS * application.seconds / 2
    assert application.closed == {True, False}
