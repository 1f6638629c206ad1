# SPDX-License-Identifier: Apache-2.0
"""Messages over RabbitMQ, between the API's side, another service and a compute host."""

import pathlib
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator

import oslo_messaging
import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute import rpc, rpcapi, task_states
from nova_snap.compute.heartbeat import Heartbeat
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.compute.lifecycle_manager import LifecycleManager
from nova_snap.compute.manager import ComputeManager
from nova_snap.compute.service import ComputeService
from nova_snap.compute.volume_manager import VolumeManager
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.image import glance as image_glance
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.virt.fake import FakeDriver, snapshot_data
from nova_snap.volume import cinder
from tests.fixtures.glance import Glance
from tests.fixtures.rabbitmq import RabbitMQ
from tests.fixtures.service import PROJECT, USER, make_instance

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "cast_snapshot.py"
SOON = 30
SIZE = 200_000
IMAGE_ID = str(uuid.uuid4())


@pytest.fixture
def transport(conf: cfg.ConfigOpts, rabbitmq: RabbitMQ) -> Iterator[oslo_messaging.Transport]:
    conf.set_override("transport_url", rabbitmq.url)
    made = rpc.get_transport(conf)
    yield made
    made.cleanup()


@pytest.fixture
def images(conf: cfg.ConfigOpts, trusted_glance: Glance) -> image_glance.API:
    conf.set_override("api_servers", [trusted_glance.url], "glance")
    return image_glance.API(conf)


@pytest.fixture
def host(conf: cfg.ConfigOpts) -> str:
    """A name that no other test has used: queues outlive a test."""
    name = f"compute-{uuid.uuid4().hex[:8]}"
    conf.set_override("host", name)
    return name


@pytest.fixture
def compute_host(
    conf: cfg.ConfigOpts,
    host: str,
    database: Database,
    transport: oslo_messaging.Transport,
    images: image_glance.API,
) -> Iterator[str]:
    """A compute host that listens; its name."""
    conf.set_override("snapshot_size", SIZE, "fake")
    manager = ComputeManager(conf, database, images, FakeDriver(conf, images))
    lifecycle = LifecycleManager(conf, database, images, manager.driver, InstanceLocks())
    heartbeat = Heartbeat(conf, database, manager.driver)
    volumes = VolumeManager(conf, database, images, cinder.API(conf), manager.driver)
    service = ComputeService(conf, transport, manager, lifecycle, heartbeat, volumes)
    service.start()
    yield host
    assert service.stop() == 0


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.05)


def is_free(context: RequestContext, instance: Instance) -> bool:
    return Instance.get_by_uuid(context, instance.uuid).task_state is None


def data(glance: Glance, image_id: str) -> bytes:
    client = glance.client(user_id=USER, project_id=PROJECT)
    return b"".join(client.images.data(image_id))


def test_a_cast_becomes_an_image(
    conf: cfg.ConfigOpts,
    compute_host: str,
    transport: oslo_messaging.Transport,
    context: RequestContext,
    images: image_glance.API,
    trusted_glance: Glance,
) -> None:
    image_id = images.create(context, {"name": "snap"})["id"]
    instance = make_instance(
        context,
        host=compute_host,
        task_state=task_states.IMAGE_SNAPSHOT_PENDING,
        snapshot_image_id=image_id,
    )
    rpcapi.ComputeAPI(conf, transport).snapshot_instance(context, instance, image_id)
    wait_until(lambda: is_free(context, instance))
    assert data(trusted_glance, image_id) == snapshot_data(instance.uuid, SIZE)
    action = InstanceAction.get_by_request_id(context, instance.uuid, context.request_id)
    assert action is not None
    assert action.user_id == context.user_id


def test_a_cast_becomes_a_backup_and_the_older_one_goes(
    conf: cfg.ConfigOpts,
    compute_host: str,
    transport: oslo_messaging.Transport,
    context: RequestContext,
    images: image_glance.API,
    trusted_glance: Glance,
) -> None:
    instance = make_instance(context, host=compute_host)
    properties = {"image_type": "backup", "backup_type": "daily", "instance_uuid": instance.uuid}
    made = []
    for _ in range(2):
        image_id = images.create(context, {"name": "b", "properties": properties})["id"]
        made.append(image_id)
        instance.task_state = task_states.IMAGE_BACKUP
        instance.snapshot_image_id = image_id
        instance.save(expected_task_state=[None])
        rpcapi.ComputeAPI(conf, transport).backup_instance(context, instance, image_id, "daily", 1)
        wait_until(lambda: is_free(context, instance))
        instance.refresh()
    older, newer = made
    wait_until(lambda: [each["id"] for each in images.get_all(context, properties)] == [newer])
    assert data(trusted_glance, newer) == snapshot_data(instance.uuid, SIZE)
    with pytest.raises(exception.ImageNotFound):
        images.get(context, older)


@pytest.fixture
def volume_server(context: RequestContext, compute_host: str) -> Instance:
    """A server that an API takes a snapshot of, to image :data:`IMAGE_ID`."""
    return make_instance(
        context,
        host=compute_host,
        task_state=task_states.IMAGE_SNAPSHOT_PENDING,
        snapshot_image_id=IMAGE_ID,
        system_metadata={"image_hw_qemu_guest_agent": "yes"},
    )


def test_a_guest_is_frozen_and_thawed(
    conf: cfg.ConfigOpts,
    transport: oslo_messaging.Transport,
    context: RequestContext,
    volume_server: Instance,
) -> None:
    hosts = rpcapi.ComputeAPI(conf, transport)
    hosts.quiesce_instance(context, volume_server, IMAGE_ID)
    hosts.unquiesce_instance(context, volume_server, IMAGE_ID)
    with pytest.raises(exception.QuiesceFailed, match="thawed before"):
        hosts.unquiesce_instance(context, volume_server, IMAGE_ID)
    other = str(uuid.uuid4())
    with pytest.raises(exception.QuiesceFailed, match=f"no snapshot to image {other}"):
        hosts.quiesce_instance(context, volume_server, other)


def test_a_host_of_an_older_version_cannot_freeze(
    conf: cfg.ConfigOpts,
    transport: oslo_messaging.Transport,
    context: RequestContext,
    volume_server: Instance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for endpoint in (ComputeManager, LifecycleManager, VolumeManager):
        monkeypatch.setattr(endpoint.target, "version", "1.1")
    with pytest.raises(exception.QuiesceUnsupported, match="older version"):
        rpcapi.ComputeAPI(conf, transport).quiesce_instance(context, volume_server, IMAGE_ID)


def test_a_host_that_never_listened_is_told_at_once(
    conf: cfg.ConfigOpts,
    host: str,
    transport: oslo_messaging.Transport,
    context: RequestContext,
) -> None:
    instance = make_instance(context, host=host)
    with pytest.raises(exception.MessagingUnavailable, match=host):
        rpcapi.ComputeAPI(conf, transport).snapshot_instance(context, instance, "image")


def test_an_instance_without_a_host(
    conf: cfg.ConfigOpts, transport: oslo_messaging.Transport, context: RequestContext
) -> None:
    instance = make_instance(context, host=None)
    with pytest.raises(exception.InstanceNotReady, match=instance.uuid):
        rpcapi.ComputeAPI(conf, transport).snapshot_instance(context, instance, "image")


def test_no_other_method_can_be_called(
    conf: cfg.ConfigOpts,
    compute_host: str,
    transport: oslo_messaging.Transport,
    context: RequestContext,
) -> None:
    """The manager has more public methods than those that are for messages."""
    client = oslo_messaging.get_rpc_client(
        transport, rpc.target(conf), serializer=rpc.RequestContextSerializer()
    )
    remote = client.prepare(server=compute_host, timeout=SOON)
    for method, arguments in [("init_host", {}), ("stop", {"timeout": 0})]:
        with pytest.raises(oslo_messaging.RemoteError, match="NoSuchMethod"):
            remote.call(context, method, **arguments)


@pytest.mark.parametrize("other_version", ["1.7", "2.0"])
def test_a_version_that_is_not_ours_is_refused(
    conf: cfg.ConfigOpts,
    compute_host: str,
    transport: oslo_messaging.Transport,
    context: RequestContext,
    other_version: str,
) -> None:
    client = oslo_messaging.get_rpc_client(
        transport, rpc.target(conf), serializer=rpc.RequestContextSerializer()
    )
    remote = client.prepare(server=compute_host, timeout=SOON, version=other_version)
    with pytest.raises(oslo_messaging.RemoteError, match="UnsupportedVersion"):
        remote.call(context, "snapshot_instance", instance="i", image_id="m")


class TestExample:
    """examples/cast_snapshot.py, run as another service would."""

    def run(
        self, rabbitmq: RabbitMQ, glance: Glance, host: str, instance: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                sys.executable,
                EXAMPLE,
                *("--transport-url", rabbitmq.url, "--image-endpoint", glance.url),
                *("--project", PROJECT, "--user", USER, "--host", host),
                *("--instance", instance, "--name", f"nightly-{instance}", "--wait", str(SOON)),
            ],
            capture_output=True,
            text=True,
            timeout=3 * SOON,
        )

    def test_the_snapshot_is_taken(
        self,
        compute_host: str,
        rabbitmq: RabbitMQ,
        trusted_glance: Glance,
        context: RequestContext,
    ) -> None:
        instance = make_instance(context, host=compute_host)
        done = self.run(rabbitmq, trusted_glance, compute_host, instance.uuid)
        assert done.returncode == 0, done.stderr
        first, last = done.stdout.splitlines()
        _, image_id, _, request_id = first.split()
        assert last == "status active"
        assert data(trusted_glance, image_id) == snapshot_data(instance.uuid, SIZE)
        action = InstanceAction.get_by_request_id(context, instance.uuid, request_id)
        assert action is not None
        assert (action.project_id, action.user_id) == (PROJECT, USER)

    def test_an_unknown_instance_leaves_no_image(
        self, compute_host: str, rabbitmq: RabbitMQ, trusted_glance: Glance
    ) -> None:
        done = self.run(rabbitmq, trusted_glance, compute_host, str(uuid.uuid4()))
        assert done.returncode == 1
        assert "deleted" in done.stdout

    def test_an_unknown_host_leaves_no_image(
        self, rabbitmq: RabbitMQ, trusted_glance: Glance, host: str
    ) -> None:
        instance = str(uuid.uuid4())
        done = self.run(rabbitmq, trusted_glance, host, instance)
        assert done.returncode == 1
        assert "was not taken" in done.stderr
        client = trusted_glance.client(user_id=USER, project_id=PROJECT)
        assert list(client.images.list(filters={"name": f"nightly-{instance}"})) == []
