# SPDX-License-Identifier: Apache-2.0
"""A real guest's life, asked for over RabbitMQ, and what is left when its host dies."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap.compute import api, power_state, rpc, rpcapi
from nova_snap.compute.lifecycle_api import LifecycleAPI, ServerRequest
from nova_snap.context import RequestContext
from nova_snap.db import migration
from nova_snap.db.session import Database
from nova_snap.image import glance as image_glance
from nova_snap.objects.flavor import Flavor
from nova_snap.objects.instance import Instance, InstanceFilters
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.volume import cinder
from tests.fixtures import disk_image
from tests.fixtures.deployment import Deployment
from tests.fixtures.glance import Glance
from tests.fixtures.guest.disk import guest_disk
from tests.fixtures.libvirt_lab import LibvirtLab
from tests.fixtures.mariadb import MariaDB
from tests.fixtures.rabbitmq import RabbitMQ
from tests.fixtures.service import make_context

READY = "nova-snap-guest: ready boot="
FLAVOR = Flavor("1", "m1.lab", memory_mb=192, vcpus=1, root_gb=1)


class Client:
    """The API's side, in this process."""

    def __init__(self, conf: cfg.ConfigOpts, database: Database) -> None:
        self._database = database
        self._transport = rpc.get_transport(conf)
        compute_rpcapi = rpcapi.ComputeAPI(conf, self._transport)
        images = image_glance.API(conf)
        self.life = LifecycleAPI(conf, images, compute_rpcapi)
        self.snapshots = api.API(conf, images, compute_rpcapi, cinder.API(conf))

    def close(self) -> None:
        self._transport.cleanup()

    @property
    def context(self) -> RequestContext:
        """A new request of the same user."""
        return make_context(self._database, user_id="kim", project_id="shop")

    def create(self, image_id: str) -> Instance:
        request = ServerRequest("web", image_id, FLAVOR, network="none")
        (instance,), _ = self.life.create(self.context, request)
        return instance

    def now(self, instance: Instance) -> Instance:
        return Instance.get_by_uuid(self.context, instance.uuid)

    def becomes(self, instance: Instance, vm_state: str, timeout: float = 120) -> Instance:
        """The instance, when it is that and nothing is being done to it."""

        def is_that() -> bool:
            now = self.now(instance)
            assert now.vm_state != "error" or vm_state == "error", self.reasons(instance)
            return (now.vm_state, now.task_state) == (vm_state, None)

        wait_until(is_that, f"{vm_state}", timeout)
        return self.now(instance)

    def is_gone(self, instance: Instance) -> bool:
        rows = self.snapshots.get_all(self.context, InstanceFilters())
        return instance.uuid not in [row.uuid for row in rows]

    def reasons(self, instance: Instance) -> list[str | None]:
        actions = InstanceAction.get_by_instance_uuid(self.context, instance.uuid)
        return [action.message for action in actions]

    def console(self, instance: Instance) -> str:
        return self.life.get_console_output(self.context, instance, None)

    def boots(self, instance: Instance, count: int) -> None:
        """Until the guest has booted so many times."""
        word = f"{READY}{count} "
        wait_until(lambda: word in self.console(instance), word, 120)


@pytest.fixture
def compute(
    request: pytest.FixtureRequest,
    conf: cfg.ConfigOpts,
    tmp_path: Path,
    detached_libvirt_lab: LibvirtLab,
    trusted_glance: Glance,
    rabbitmq: RabbitMQ,
    mariadb: MariaDB,
) -> Iterator[Deployment]:
    """A compute host as a process of its own; ``conf`` says where it is to be found.

    A parameter has further options of the group libvirt.
    """
    host = f"compute-{uuid.uuid4().hex[:8]}"
    database_url = mariadb.create_database(f"nova_snap_{uuid.uuid4().hex[:12]}")
    options: dict[str, dict[str, Any]] = {
        "DEFAULT": {
            "transport_url": rabbitmq.url,
            "host": host,
            "instances_path": detached_libvirt_lab.root / "made",
            "report_interval": 1,
            "service_down_time": 5,
            "shutdown_timeout": 60,
        },
        "libvirt": {
            "connection_uri": detached_libvirt_lab.uri,
            "virt_type": "qemu",
            "snapshot_socket_directory": detached_libvirt_lab.root,
            **getattr(request, "param", {}),
        },
        "glance": {"api_servers": trusted_glance.url},
        "database": {"connection": database_url.replace("%", "%%")},
    }
    conf.set_override("transport_url", rabbitmq.url)
    conf.set_override("host", host)
    conf.set_override("service_down_time", 5)
    conf.set_override("api_servers", [trusted_glance.url], "glance")
    conf.set_override("connection", database_url, "database")
    with Deployment(tmp_path, options, ["nova-snap-compute"]) as made:
        made.manage("db", "sync")
        yield made


@pytest.fixture
def client(conf: cfg.ConfigOpts, compute: Deployment) -> Iterator[Client]:
    compute.start()
    database = Database(conf)
    assert migration.current(database) == migration.head()
    made = Client(conf, database)
    yield made
    made.close()
    database.close()


@pytest.fixture
def image_id(trusted_glance: Glance) -> str:
    """An image that boots."""
    client = trusted_glance.client(user_id="kim", project_id="shop")
    record = client.images.create(
        name="guest", disk_format="raw", container_format="bare", hw_qemu_guest_agent="yes"
    )
    with guest_disk().path.open("rb") as data:
        client.images.upload(record["id"], data)
    return str(record["id"])


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 60) -> None:
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, f"{what} never came true"
        time.sleep(0.1)


def download(glance: Glance, image_id: str, path: Path) -> dict[str, Any]:
    client = glance.client(user_id="kim", project_id="shop")
    with path.open("wb") as file:
        for piece in client.images.data(image_id):
            file.write(piece)
    return dict(client.images.get(image_id))


def qemu_pid(lab: LibvirtLab, instance: Instance) -> int | None:
    """Of the guest, if it has a process."""
    with contextlib.suppress(FileNotFoundError):
        return int((lab.root / "run" / "qemu" / f"{instance.name}.pid").read_text())
    return None


def test_a_life(
    client: Client,
    image_id: str,
    detached_libvirt_lab: LibvirtLab,
    trusted_glance: Glance,
    tmp_path: Path,
) -> None:
    lab = detached_libvirt_lab
    server = client.becomes(client.create(image_id), "active")
    assert server.power_state == power_state.RUNNING
    client.boots(server, 1)

    client.life.suspend(client.context, server)
    suspended = client.becomes(server, "suspended")
    assert qemu_pid(lab, server) is None
    client.life.resume(client.context, suspended)
    server = client.becomes(server, "active")
    client.life.pause(client.context, server)
    client.life.unpause(client.context, client.becomes(server, "paused"))
    server = client.becomes(server, "active")

    snapshot = client.snapshots.snapshot(client.context, server, "snap")["id"]
    server = client.becomes(server, "active")
    record = download(trusted_glance, snapshot, tmp_path / "snap")
    assert (record["status"], record["base_image_ref"]) == ("active", image_id)
    assert (record["instance_uuid"], record["hw_qemu_guest_agent"]) == (server.uuid, "yes")
    assert disk_image.check(tmp_path / "snap", "qcow2") == ""

    client.life.stop(client.context, server)
    server = client.becomes(server, "stopped")
    assert (server.power_state, qemu_pid(lab, server)) == (power_state.SHUTDOWN, None)
    client.life.start(client.context, server)
    server = client.becomes(server, "active")

    # From the snapshot boots what was in it: a guest that has booted before.
    second = client.becomes(client.create(snapshot), "active")
    client.boots(second, 2)

    for each in (server, second):
        client.life.delete(client.context, client.now(each))
    left = [server.uuid, second.uuid]
    wait_until(lambda: client.is_gone(server) and client.is_gone(second), "the end of both")
    assert qemu_pid(lab, server) is None
    assert not [path for uuid in left for path in (lab.root / "made").glob(f"{uuid}*")]


@pytest.mark.parametrize("compute", [{"snapshot_bandwidth": 1}], indirect=True)
def test_a_delete_in_the_middle_of_a_snapshot(
    client: Client,
    image_id: str,
    detached_libvirt_lab: LibvirtLab,
    trusted_glance: Glance,
) -> None:
    server = client.becomes(client.create(image_id), "active")
    snapshot = client.snapshots.snapshot(client.context, server, "snap")["id"]
    wait_until(lambda: client.now(server).task_state == "image_uploading", "the upload")
    begin = time.monotonic()
    client.life.delete(client.context, client.now(server))
    wait_until(lambda: client.is_gone(server), "the end")
    assert time.monotonic() - begin < 30
    assert qemu_pid(detached_libvirt_lab, server) is None
    assert not (detached_libvirt_lab.root / "made" / server.uuid).exists()
    images = trusted_glance.client(user_id="kim", project_id="shop").images
    wait_until(lambda: snapshot not in [image["id"] for image in images.list()], "its end")


def test_a_host_that_dies_and_comes_back(
    client: Client,
    compute: Deployment,
    image_id: str,
    detached_libvirt_lab: LibvirtLab,
) -> None:
    lab = detached_libvirt_lab
    process = compute.services["nova-snap-compute"]
    stopped = client.becomes(client.create(image_id), "active")
    client.boots(stopped, 1)
    deleted = client.becomes(client.create(image_id), "active")

    # Killed while it waits for a guest to shut itself down.
    client.life.stop(client.context, stopped)
    wait_until(
        lambda: [
            event
            for action in InstanceAction.get_by_instance_uuid(client.context, stopped.uuid)
            for event in action.events(client.context)
            if event.event == "compute_stop_instance"
        ],
        "the beginning of the stop",
    )
    process.kill()
    assert client.now(stopped).task_state == "powering-off"

    # Down for long enough that everybody knows.
    def is_taken_for_down() -> bool:
        return "is down" in compute_refusal(client, deleted)

    wait_until(is_taken_for_down, "the host's end")
    client.life.delete(client.context, deleted)
    assert qemu_pid(lab, deleted) is not None

    compute.start()
    client.becomes(stopped, "stopped")
    wait_until(lambda: not (lab.root / "made" / deleted.uuid).exists(), "the removal")
    assert qemu_pid(lab, deleted) is None
    client.life.delete(client.context, client.now(stopped))


def compute_refusal(client: Client, instance: Instance) -> str:
    try:
        client.console(instance)
    except Exception as error:
        return str(error)
    return ""
