# SPDX-License-Identifier: Apache-2.0
"""The commands as they are installed, run as an operator runs them."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import uuid

import pytest
import requests

from nova_snap.db import migration

BIN = pathlib.Path(sys.executable).parent
SOON = 60


@pytest.fixture
def config(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "nova-snap.conf"
    path.write_text(
        "[DEFAULT]\n"
        f"state_path = {tmp_path}/state\n"
        "compute_driver = fake.FakeDriver\n"
        "host = compute-1\n"
        f"osapi_compute_listen_port = {free_port()}\n"
        "graceful_shutdown_timeout = 5\n"
        "[glance]\n"
        "api_servers = http://127.0.0.1:9\n"
        "num_retries = 0\n"
    )
    return path


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def run(command: str, config: pathlib.Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / command, "--config-file", config, *words],
        capture_output=True,
        text=True,
        timeout=SOON,
    )


def manage(config: pathlib.Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run("nova-snap-manage", config, *words)


class TestManage:
    def test_the_database_is_made(self, config: pathlib.Path) -> None:
        before = manage(config, "db", "version")
        assert before.stdout == "none: run 'nova-snap-manage db sync'\n"
        made = manage(config, "db", "sync")
        assert (made.returncode, made.stdout) == (0, f"database version {migration.head()}\n")
        after = manage(config, "db", "version")
        assert after.stdout == f"{migration.head()}\n"

    def test_a_domain_that_is_not_there(self, config: pathlib.Path) -> None:
        manage(config, "db", "sync")
        done = manage(config, "instance", "adopt", "--domain", "nobody")
        assert done.returncode == 1
        assert "nobody: Domain nobody is not defined on this host." in done.stderr

    def test_no_domains_at_all(self, config: pathlib.Path) -> None:
        manage(config, "db", "sync")
        done = manage(config, "instance", "adopt", "--all", "--project", "p", "--user", "u")
        assert (done.returncode, done.stdout) == (0, "there are no domains on this host\n")

    def test_an_empty_list_has_its_headings(self, config: pathlib.Path) -> None:
        manage(config, "db", "sync")
        done = manage(config, "instance", "list", "--host", "compute-1")
        assert done.returncode == 0
        assert done.stdout.split() == [
            "uuid",
            "domain",
            "host",
            "project",
            "vm_state",
            "power",
            "task_state",
        ]

    def test_forgetting_what_is_not_there(self, config: pathlib.Path) -> None:
        manage(config, "db", "sync")
        unknown = str(uuid.uuid4())
        done = manage(config, "instance", "forget", unknown)
        assert done.returncode == 1
        assert f"Instance {unknown} could not be found." in done.stderr

    def test_a_uuid_that_is_none(self, config: pathlib.Path) -> None:
        done = manage(config, "instance", "forget", "web")
        assert done.returncode == 2
        assert "'web' is not a uuid" in done.stderr

    @pytest.mark.parametrize("words", [[], ["db"], ["instance", "adopt"], ["moon"]])
    def test_half_a_command_shows_the_usage(self, config: pathlib.Path, words: list[str]) -> None:
        done = manage(config, *words)
        assert done.returncode == 2
        assert "usage: nova-snap-manage" in done.stderr

    def test_a_configuration_that_cannot_be_used(self, config: pathlib.Path) -> None:
        config.write_text("[DEFAULT]\nmax_concurrent_snapshots = many\n")
        done = run("nova-snap-all", config)
        assert done.returncode == 2
        assert done.stderr.startswith("configuration: ")
        assert "max_concurrent_snapshots" in done.stderr
        assert "Traceback" not in done.stderr


class TestStatus:
    def test_before_and_after_the_sync(self, config: pathlib.Path) -> None:
        before = run("nova-snap-status", config, "upgrade", "check")
        assert before.returncode == 2
        assert "nova-snap-manage db sync" in before.stdout
        manage(config, "db", "sync")
        after = run("nova-snap-status", config, "upgrade", "check")
        assert (after.returncode, "Success" in after.stdout) == (0, True)

    @pytest.mark.parametrize(
        ("own", "code"),
        [
            ("", 1),
            ("[service_user]\nauth_type = password\n", 0),
            ("[service_user]\nauth_type = password\nsend_service_user_token = false\n", 1),
        ],
    )
    def test_with_keystone_the_service_should_be_somebody(
        self, config: pathlib.Path, own: str, code: int
    ) -> None:
        manage(config, "db", "sync")
        config.write_text(f"{config.read_text()}[api]\nauth_strategy = keystone\n{own}")
        done = run("nova-snap-status", config, "upgrade", "check")
        assert done.returncode == code, done.stdout
        assert ("longer than its user's token" in " ".join(done.stdout.split())) == (code == 1)


class TestDescription:
    def test_the_api_is_described(self, config: pathlib.Path) -> None:
        done = manage(config, "api", "openapi", "--microversion", "2.35")
        assert done.returncode == 0, done.stderr
        described = json.loads(done.stdout)
        assert (described["openapi"], described["info"]["version"]) == ("3.1.0", "2.35")
        assert "/v2.1/images" in described["paths"]
        newest = json.loads(manage(config, "api", "openapi").stdout)
        assert newest["info"]["version"] == "2.96"
        assert "/v2.1/images" not in newest["paths"]

    @pytest.mark.parametrize("version", ["2.0", "2.97", "nonsense"])
    def test_a_version_that_there_is_not(self, config: pathlib.Path, version: str) -> None:
        done = manage(config, "api", "openapi", "--microversion", version)
        assert done.returncode == 2
        assert version in done.stderr
        assert "Traceback" not in done.stderr


class TestAll:
    def test_it_serves_and_ends_when_it_is_told(self, config: pathlib.Path) -> None:
        port = int(config.read_text().split("listen_port = ")[1].split()[0])
        log = config.with_suffix(".log")
        with (
            log.open("w") as output,
            subprocess.Popen(
                [BIN / "nova-snap-all", "--config-file", config], stdout=output, stderr=output
            ) as process,
        ):
            try:
                answer = wait_for(f"http://127.0.0.1:{port}/v2.1/servers", process)
                assert answer.json() == {"servers": []}
                process.send_signal(signal.SIGTERM)
                assert process.wait(SOON) == 0, log.read_text()
            finally:
                process.kill()

    def test_a_port_that_is_taken(self, config: pathlib.Path) -> None:
        port = int(config.read_text().split("listen_port = ")[1].split()[0])
        with socket.socket() as other:
            other.bind(("127.0.0.1", port))
            other.listen()
            done = run("nova-snap-api", config)
        assert done.returncode == 1
        assert str(port) in done.stderr
        assert "Traceback" not in done.stderr


class TestWSGI:
    def test_the_application_is_built_from_the_environment(self, config: pathlib.Path) -> None:
        manage(config, "db", "sync")
        # Housekeeping begins with the first request: a thread of before would not survive a fork.
        program = (
            "import threading\n"
            "from nova_snap.wsgi.api import application\n"
            "from webob import Request\n"
            "def keeps_house():\n"
            "    return 'housekeeping' in [thread.name for thread in threading.enumerate()]\n"
            "print(keeps_house())\n"
            "request = Request.blank('/v2.1/servers', headers={'X-Auth-Token': 'u:p'})\n"
            "print(request.get_response(application).json)\n"
            "print(keeps_house())\n"
        )
        with config.open("a") as file:
            file.write("[DEFAULT]\ntransport_url = fake://\n")
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "OS_NOVA_SNAP_CONFIG_FILES": str(config)},
            capture_output=True,
            text=True,
            timeout=SOON,
        )
        assert done.stdout == "False\n{'servers': []}\nTrue\n", done.stderr


def wait_for(url: str, process: subprocess.Popen[bytes]) -> requests.Response:
    until = time.monotonic() + SOON
    while True:
        assert process.poll() is None, "it has ended"
        assert time.monotonic() < until, f"no answer from {url}"
        try:
            return requests.get(url, headers={"X-Auth-Token": "u:p"}, timeout=SOON)
        except requests.ConnectionError:
            time.sleep(0.05)
