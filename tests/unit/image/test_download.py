# SPDX-License-Identifier: Apache-2.0
"""Downloads from an image service that breaks off, lies, or holds other data than it says."""

import contextlib
import hashlib
import http.server
import json
import threading
import time
import uuid

import pytest

from nova_snap import exception
from nova_snap.image import glance

IMAGE = str(uuid.uuid4())
DATA = bytes(200_000) + b"some data" * 30_000 + bytes(200_000)


class Service(http.server.ThreadingHTTPServer):
    """Serves one image.

    :ivar record: of the image.
    :ivar body: what is sent.
    :ivar break_next: how many of the next downloads break in the middle.
    :ivar trickle: what of a download is sent a byte at a time: its headers, its data, the body of a
        refusal.
    :ivar ended: set when that is to end.
    :ivar announced: the Content-Length of a download, if not that of the body.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = DATA
        self.record = {
            "id": IMAGE,
            "status": "active",
            "size": len(DATA),
            "os_hash_algo": "sha512",
            "os_hash_value": hashlib.sha512(DATA).hexdigest(),
            "checksum": hashlib.md5(DATA, usedforsecurity=False).hexdigest(),
        }
        self.break_next = 0
        self.downloads = 0
        self.status = 200
        self.trickle = None
        self.ended = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if not self.path.endswith("/file"):
            # The client asks what an image looks like, first.
            schema = {"name": "image", "properties": {}}
            answer = schema if "/schemas/" in self.path else self.server.record
            self._answer(200, "application/json", json.dumps(answer).encode())
            return
        self.server.downloads += 1
        if self.server.trickle is not None:
            self._trickle(self.server.trickle)
            return
        if self.server.break_next:
            self.server.break_next -= 1
            self._start(200, "application/octet-stream", len(self.server.body))
            self.wfile.write(self.server.body[: len(self.server.body) // 2])
            return
        self._answer(self.server.status, "application/octet-stream", self.server.body)

    def _answer(self, status, content_type, body):
        self._start(status, content_type, len(body))
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def _trickle(self, what):
        if what == "headers":
            sent = b"HTTP/1.1 200 OK\r\nX-Long: "
        else:
            sent = b"HTTP/1.1 %d -\r\nContent-Length: 1000000\r\n\r\n" % (
                200 if what == "data" else 403
            )
        with contextlib.suppress(ConnectionError):
            self.wfile.write(sent)
            while not self.server.ended.wait(0.05):
                self.wfile.write(b"x")

    def _start(self, status, content_type, length):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *args):
        pass


class Scene:
    def __init__(self, conf, context, service, path):
        conf.set_override("api_servers", [service.url], "glance")
        conf.set_override("retry_interval", 0.0, "glance")
        self.api, self.context, self.service, self.path = glance.API(conf), context, service, path
        self.checks = 0

    def check(self):
        self.checks += 1

    def download(self, check=None):
        with self.path.open("w+b") as file:
            return self.api.download(self.context, IMAGE, file, check or self.check)


@pytest.fixture
def scene(conf, context, tmp_path):
    with Service() as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield Scene(conf, context, service, tmp_path / "image")
        service.shutdown()
        thread.join(10)


def test_every_byte_comes(scene):
    assert scene.download() == len(DATA)
    assert scene.path.read_bytes() == DATA
    # It can be stopped at each piece.
    assert scene.checks > 5


def test_image_that_ends_in_zeroes_has_its_length(scene):
    scene.service.body = bytes(1_000_000)
    scene.service.record = {"id": IMAGE, "status": "active", "size": 1_000_000}
    assert scene.download() == 1_000_000
    assert scene.path.read_bytes() == bytes(1_000_000)
    # What is zero takes no room.
    assert scene.path.stat().st_blocks * 512 < 100_000


@pytest.mark.parametrize("breaks", [1, 3])
def test_broken_download_begins_again(scene, conf, breaks):
    conf.set_override("num_retries", 3, "glance")
    scene.service.break_next = breaks
    assert scene.download() == len(DATA)
    assert scene.path.read_bytes() == DATA
    assert scene.service.downloads == breaks + 1


def test_download_that_breaks_every_time(scene, conf):
    conf.set_override("num_retries", 2, "glance")
    scene.service.break_next = 100
    with pytest.raises(exception.ImageServiceUnavailable):
        scene.download()
    assert scene.service.downloads == 3


def test_data_that_are_cut_off_without_a_word(scene, conf):
    """As by a proxy in the way that ends the answer properly."""
    conf.set_override("num_retries", 1, "glance")
    scene.service.body = DATA[:-1]
    with pytest.raises(exception.ImageServiceUnavailable, match="ended after"):
        scene.download()


@pytest.mark.parametrize("without", [(), ("os_hash_value",), ("os_hash_algo",)])
def test_other_data(scene, without):
    """By the strong hash where there is one, else by the old checksum."""
    scene.service.body = b"x" + DATA[1:]
    for name in without:
        del scene.service.record[name]
    with pytest.raises(exception.ImageCorrupt, match="md5" if without else "sha512"):
        scene.download()
    assert scene.service.downloads == 1


def test_more_data_than_the_image_has(scene):
    """Whoever runs the image service must not fill the host's disk."""
    scene.service.body = DATA * 20
    with pytest.raises(exception.ImageCorrupt, match="more than its"):
        scene.download()
    assert scene.path.stat().st_size <= len(DATA)


def test_hash_that_nobody_knows(scene):
    scene.service.record.update(os_hash_algo="sha9000", os_hash_value="00")
    assert scene.download() == len(DATA)
    del scene.service.record["checksum"]
    assert scene.download() == len(DATA)


def test_image_without_data(scene):
    scene.service.status, scene.service.body = 204, b""
    with pytest.raises(exception.ImageCorrupt, match="there are none"):
        scene.download()


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, exception.ImageNotFound), (403, exception.ImageForbidden),
     (503, exception.ImageServiceUnavailable)],
)  # fmt: skip
def test_refusals(scene, conf, status, error):
    conf.set_override("num_retries", 0, "glance")
    scene.service.status = status
    with pytest.raises(error):
        scene.download()


def test_it_can_be_stopped(scene):
    class Stop(Exception):
        pass

    def check():
        scene.check()
        if scene.checks == 3:
            raise Stop

    with pytest.raises(Stop):
        scene.download(check)
    assert scene.service.downloads == 1


def test_full_disk_is_no_fault_of_the_image_service(scene):
    with open("/dev/full", "w+b", buffering=0) as file, pytest.raises(OSError, match=r"\d"):
        scene.api.download(scene.context, IMAGE, Full(file), scene.check)
    assert scene.service.downloads == 1


class Full:
    """A file whose disk is full."""

    def __init__(self, file):
        self._file = file

    def __getattr__(self, name):
        return getattr(self._file, name)

    def truncate(self, size=0):
        return size


class TestTrickles:
    """A service that sends a byte now and then is not silent for as long as a timeout."""

    @pytest.fixture(params=["headers", "data", "refusal"])
    def trickle(self, request, scene, conf):
        conf.set_override("num_retries", 0, "glance")
        scene.service.trickle = request.param
        yield request.param
        scene.service.ended.set()

    def test_whoever_has_enough_is_heard(self, scene, conf, trickle):
        class Stop(Exception):
            pass

        conf.set_override("timeout", 30, "glance")

        def check():
            scene.checks += 1
            if scene.checks == 4:
                raise Stop

        began = time.monotonic()
        with pytest.raises(Stop):
            scene.download(check)
        assert time.monotonic() - began < 5

    def test_the_time_before_the_data_has_a_bound(self, scene, conf, trickle):
        conf.set_override("timeout", 1, "glance")
        began = time.monotonic()

        def check():
            if time.monotonic() - began > 3:
                raise TimeoutError

        # Data may take as long as the caller lets them.
        error = TimeoutError if trickle == "data" else exception.ImageServiceUnavailable
        with pytest.raises(error):
            scene.download(check)
        assert time.monotonic() - began < 6
