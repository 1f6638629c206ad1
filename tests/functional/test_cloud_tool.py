# SPDX-License-Identifier: Apache-2.0
"""tools/cloud, but for the cloud itself: what it refuses, what it says of one, what it clears."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.fixtures.cache import REPOSITORY
from tests.fixtures.service_process import free_port
from tools._common import processes
from tools._common.home import ROOTS, Home

VARIABLES = ("NOVA_SNAP_PORT", "KEYSTONE_PORT", "GLANCE_PORT")
SLEEP = "import time; time.sleep(300)"


class Sandbox:
    """A repository with nothing in it but the tool, which can install nothing."""

    def __init__(self, repository: Path) -> None:
        self.home = Home("cloud", repository)
        for package in ("_common", "_cloud"):
            shutil.copytree(REPOSITORY / "tools" / package, repository / "tools" / package)
        shutil.copy(REPOSITORY / "tools/cloud", repository / "tools")
        (repository / "tools/install-deps").write_text("#!/bin/sh\necho would install $1\nexit 3\n")
        (repository / "tools/install-deps").chmod(0o755)
        self.ports = {name: str(free_port()) for name in VARIABLES}

    def run(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.home.repository / "tools/cloud", *options],
            env={**os.environ, **self.ports, **environment}, cwd="/",
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def up(self, *services: dict[str, str], root: Path | None = None) -> None:
        """Let it look as if a cloud of these services was up."""
        self.home.make()
        notes = {"services": [{"log": "/its/log", **service} for service in services]}
        record = {"roots": [str(root)] if root else [], "kept": True, "notes": notes}
        (self.home.path / "cloud.json").write_text(json.dumps(record))


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    repository = tmp_path / "a repository"
    (repository / "tools").mkdir(parents=True)
    return Sandbox(repository)


@pytest.fixture
def compute(sandbox: Sandbox, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the marks of the cloud's nova-snap-compute."""
    program = tmp_path / "nova-snap-compute"
    program.write_text(SLEEP)
    process = subprocess.Popen(
        [sys.executable, program], env={**os.environ, processes.MARK: str(sandbox.home.path)}
    )
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()
        yield made


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthcheck" else 503)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """A server whose ``/healthcheck`` is well, and nothing else."""
    server = HTTPServer(("127.0.0.1", 0), Healthy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(30)
    server.server_close()


def test_help_tells_all_options_and_variables(sandbox: Sandbox) -> None:
    done = sandbox.run("--help")
    assert done.returncode == 0
    for word in ("--up", "--down", "--status", *VARIABLES, "NOVA_SNAP_LAB_CACHE"):
        assert word in done.stdout


@pytest.mark.parametrize("options", [(), ("--nonsense",), ("--up", "--down")])
def test_options_that_make_no_sense(sandbox: Sandbox, options: tuple[str, ...]) -> None:
    done = sandbox.run(*options)
    assert (done.returncode, done.stdout) == (2, "")
    assert " ".join(options) in done.stderr


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_taken_port(sandbox: Sandbox, listener: socket.socket, variable: str) -> None:
    port = listener.getsockname()[1]
    done = sandbox.run("--up", **{variable: str(port)})
    assert (done.returncode, done.stdout) == (1, "")
    assert f"port {port} of 127.0.0.1: Address already in use. Set {variable} to" in done.stderr
    assert "tools/cloud" in done.stderr
    assert not sandbox.home.path.exists()


def test_what_is_missing_is_installed_only_after_that(sandbox: Sandbox) -> None:
    done = sandbox.run("--up")
    assert (done.returncode, done.stdout) == (3, "would install cloud\n")


def test_where_nothing_is_up(sandbox: Sandbox) -> None:
    done = sandbox.run("--down")
    assert (done.returncode, done.stdout, done.stderr) == (0, "No cloud is up.\n", "")
    done = sandbox.run("--status")
    assert (done.returncode, done.stdout, done.stderr) == (1, "No cloud is up.\n", "")


def test_the_state_of_what_serves(
    sandbox: Sandbox, compute: subprocess.Popen[bytes], listener: socket.socket, url: str
) -> None:
    sandbox.up(
        {"name": "glance", "address": f"{url}/healthcheck"},
        {"name": "rabbitmq", "address": f"127.0.0.1:{listener.getsockname()[1]}"},
        {"name": "nova-snap-compute", "program": "nova-snap-compute"},
    )
    done = sandbox.run("--status")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(" serves ") == 3
    assert str(sandbox.home.clouds) in done.stdout
    # A proxy of this shell is none of the cloud's business.
    assert sandbox.run("--status", http_proxy="http://127.0.0.1:1").returncode == 0


def test_the_state_of_what_does_not_serve(sandbox: Sandbox, url: str) -> None:
    sandbox.up(
        {"name": "glance", "address": f"{url}/elsewhere"},
        {"name": "rabbitmq", "address": f"127.0.0.1:{free_port()}"},
        {"name": "nova-snap-compute", "program": "nova-snap-compute"},
    )
    done = sandbox.run("--status")
    assert done.returncode == 1
    assert done.stdout.count("DOES NOT SERVE") == 3


def test_a_cloud_stays_until_it_is_ended(
    sandbox: Sandbox, compute: subprocess.Popen[bytes]
) -> None:
    root = Path(tempfile.mkdtemp(prefix="ns-", dir=ROOTS))
    sandbox.up(root=root)
    done = sandbox.run("--up")
    assert done.returncode == 1
    assert "a cloud is up already" in done.stderr
    assert str(sandbox.home.clouds) in done.stderr
    assert compute.poll() is None

    done = sandbox.run("--down")
    assert (done.returncode, done.stdout, done.stderr) == (0, "The cloud is down.\n", "")
    assert compute.wait(5) == -signal.SIGTERM
    assert not root.exists()
    assert not sandbox.home.path.exists()


def test_what_a_killed_run_has_left_is_cleared_away(sandbox: Sandbox) -> None:
    sandbox.home.make()
    done = sandbox.run("--up")
    assert done.stdout.startswith("Cleared away what a cloud that was killed had left.\n")
    assert not sandbox.home.path.exists()
