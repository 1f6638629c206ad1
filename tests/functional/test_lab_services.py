# SPDX-License-Identifier: Apache-2.0
"""The laboratory's Glance, message broker and databases work, and come back from a crash."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import glanceclient.exc
import kombu.connection
import pytest
import requests
import sqlalchemy

from tests.fixtures.cache import REPOSITORY
from tests.fixtures.commands import run
from tests.fixtures.glance import Glance
from tests.fixtures.guest.disk import guest_disk
from tests.fixtures.mariadb import MariaDB
from tests.fixtures.postgresql import PostgreSQL
from tests.fixtures.rabbitmq import RabbitMQ
from tests.fixtures.service_process import ServiceFailed, ServiceProcess, free_port
from tests.fixtures.warden import runs


@pytest.fixture(scope="module")
def disk_qcow2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("upload") / "disk.qcow2"
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", guest_disk().path, path)
    return path


@pytest.mark.parametrize("which", ["glance", "trusted_glance"])
def test_image_comes_back_as_it_went(
    which: str, disk_qcow2: Path, request: pytest.FixtureRequest
) -> None:
    client = request.getfixturevalue(which).client("user-1", "project-1")
    content = disk_qcow2.read_bytes()
    image = client.images.create(name="disk", disk_format="qcow2", container_format="bare")
    assert image["status"] == "queued"
    with disk_qcow2.open("rb") as data:
        client.images.upload(image["id"], data)
    image = client.images.get(image["id"])
    assert (image["status"], image["size"]) == ("active", len(content))
    assert image["virtual_size"] == guest_disk().size
    assert image["os_hash_value"] == hashlib.sha512(content).hexdigest()
    assert b"".join(client.images.data(image["id"])) == content


def test_raw_image_with_a_partition_table_is_accepted(glance: Glance) -> None:
    """Glance takes it for GPT and looks into its MBR, which has to be a proper one."""
    client = glance.client()
    image = client.images.create(name="raw", disk_format="raw", container_format="bare")
    with guest_disk().path.open("rb") as disk:
        content = bytearray(disk.read(1 << 20))
    _upload(glance, image["id"], bytes(content))
    assert client.images.get(image["id"])["status"] == "active"

    image = client.images.create(name="raw", disk_format="raw", container_format="bare")
    content[446] = 0x42  # neither bootable nor not
    with pytest.raises(requests.HTTPError, match="415"):
        _upload(glance, image["id"], bytes(content))
    assert client.images.get(image["id"])["status"] == "queued"


def _upload(glance: Glance, image_id: str, content: bytes) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    url = f"{glance.url}/v2/images/{image_id}/file"
    requests.put(url, data=content, headers=headers, timeout=60).raise_for_status()


def test_trusted_glance_keeps_projects_apart(trusted_glance: Glance) -> None:
    owner, other = (trusted_glance.client(f"user-{n}", f"project-{n}") for n in (1, 2))
    image = owner.images.create(name="mine", visibility="private")
    assert image["owner"] == "project-1"
    with pytest.raises(glanceclient.exc.HTTPNotFound):
        other.images.get(image["id"])
    admin = trusted_glance.client("root", "project-3", "admin")
    shared = admin.images.create(name="shared", visibility="shared")
    admin.image_members.create(shared["id"], "project-2")
    assert other.images.get(shared["id"])["owner"] == "project-3"
    assert requests.get(f"{trusted_glance.url}/v2/images", timeout=10).status_code == 401


def test_glance_pauses_and_comes_back_from_a_crash(tmp_path: Path) -> None:
    with Glance(tmp_path / "glance", extra_config="[DEFAULT]\nimage_size_cap = 1000\n") as glance:
        image = glance.client().images.create(
            name="kept", disk_format="raw", container_format="bare"
        )
        with pytest.raises(requests.HTTPError, match="413"):
            _upload(glance, image["id"], bytes(1001))
        glance.service.pause()
        with pytest.raises(requests.Timeout):
            requests.get(glance.url, timeout=0.5)
        glance.service.resume()
        assert requests.get(glance.url, timeout=30).status_code == 300
        url = glance.url
        glance.service.kill()
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=5)
        glance.start()
        assert glance.url == url
        assert glance.client().images.get(image["id"])["name"] == "kept"


def test_glance_serves_outside_pytest(tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "tests.fixtures.glance", "--data-dir", str(tmp_path / "glance"),
            "--port", str(port)]  # fmt: skip
    with _process(argv) as process:
        assert process.stdout is not None
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        assert requests.get(f"http://127.0.0.1:{port}/v2/images", timeout=10).json()["images"] == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/", timeout=5)


@contextlib.contextmanager
def _process(argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_glance_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    broken = Glance(tmp_path / "glance", extra_config="[DEFAULT]\nenabled_backends = store:none\n")
    with pytest.raises(ServiceFailed, match="none"):
        broken.start()


@pytest.mark.parametrize("server_type", [MariaDB, PostgreSQL], ids=["mariadb", "postgresql"])
def test_database_keeps_its_data_over_a_crash(
    server_type: type[MariaDB | PostgreSQL], request: pytest.FixtureRequest
) -> None:
    server: Any = request.getfixturevalue(server_type.name)
    engine = sqlalchemy.create_engine(server.create_database("lab_test"))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE t (a VARCHAR(20))"))
        connection.execute(sqlalchemy.text("INSERT INTO t VALUES ('snap \u2713')"))
    engine.dispose()
    server.kill()
    server.start()
    with engine.begin() as connection:
        rows = connection.execute(sqlalchemy.text("SELECT a FROM t")).all()
    engine.dispose()
    assert [tuple(row) for row in rows] == [("snap \u2713",)]
    # Made anew, it is empty.
    engine = sqlalchemy.create_engine(server.create_database("lab_test"))
    assert sqlalchemy.inspect(engine).get_table_names() == []
    engine.dispose()


def _connect(url: str) -> Any:
    return kombu.connection.Connection(url)  # type: ignore[no-untyped-call]


def test_broker_delivers_and_keeps_durable_messages_over_a_crash(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.url.replace("rabbit://", "amqp://") + "/"
    with _connect(url) as connection:
        queue = connection.SimpleQueue("lab-test")
        queue.put({"instance": "one"})
        queue.put({"instance": "two"})
        message = queue.get(timeout=10)
        assert message.payload == {"instance": "one"}
        message.ack()
        queue.close()
    rabbitmq.restart()
    with _connect(url) as connection:
        queue = connection.SimpleQueue("lab-test")
        message = queue.get(timeout=10)
        assert message.payload == {"instance": "two"}
        message.ack()
        queue.close()
    assert rabbitmq.ctl("list_queues", "name", "messages").splitlines()[1:] == ["lab-test\t0"]


def test_stopped_service_is_gone_with_its_children(tmp_path: Path) -> None:
    """Also one that is paused, and one that ignores the signal."""
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 60 & echo $$ $! > {pids}; wait"
    service = ServiceProcess("stubborn", ["sh", "-c", script], tmp_path / "log")
    service.start()
    service.wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"), 10)
    service.pause()
    service.stop(timeout=0.2)
    assert not service.running
    for pid in pids.read_text().split():
        deadline = time.monotonic() + 10
        while runs(int(pid)):
            assert time.monotonic() < deadline, f"process {pid} is still there"
            time.sleep(0.02)


CHILD = """
import sys, time
from pathlib import Path
from tests.fixtures.service_process import ServiceProcess
from tests.fixtures.warden import Warden
ServiceProcess.warden = Warden()
service = ServiceProcess("server", ["sh", "-c", "sleep 600 & echo $! > pid; wait"],
                         Path(sys.argv[1], "log"), cwd=Path(sys.argv[1]))
service.start()
service.wait_until(lambda: Path(sys.argv[1], "pid").read_text(), 10)
print(service.pid, flush=True)
time.sleep(600)
"""


def test_service_is_gone_when_the_tests_were_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, tmp_path]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        pids = [int(child.stdout.readline()), int((tmp_path / "pid").read_text())]
        assert all(runs(pid) for pid in pids)
        child.kill()
    deadline = time.monotonic() + 10
    while any(runs(pid) for pid in pids):
        assert time.monotonic() < deadline, f"of {pids}, some are still there"
        time.sleep(0.02)
