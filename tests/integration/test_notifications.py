# SPDX-License-Identifier: Apache-2.0
"""Notifications over RabbitMQ, and with a broker that is not there."""

import queue
import time
import uuid
from collections.abc import Iterator
from typing import Any

import oslo_messaging
import pytest
from oslo_config import cfg

from nova_snap.compute import notifications, task_states
from nova_snap.compute.manager import ComputeManager
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.objects.instance import Instance
from nova_snap.virt.fake import FakeDriver
from tests.fixtures.images import MemoryImages
from tests.fixtures.rabbitmq import RabbitMQ
from tests.fixtures.service import make_instance
from tests.fixtures.service_process import free_port

SOON = 30


class Reader:
    """Somebody's service that listens to notifications."""

    def __init__(self, conf: cfg.ConfigOpts, topics: list[str]) -> None:
        self.read: queue.Queue[tuple[str, str, dict[str, Any]]] = queue.Queue()
        self._server = oslo_messaging.get_notification_listener(
            oslo_messaging.get_notification_transport(conf),
            [oslo_messaging.Target(topic=topic) for topic in topics],
            [self],
        )
        self._server.start()

    def info(
        self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any
    ) -> None:
        self.read.put(("INFO", event_type, payload))

    def error(
        self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any
    ) -> None:
        self.read.put(("ERROR", event_type, payload))

    def take(self, count: int) -> list[tuple[str, str, dict[str, Any]]]:
        return [self.read.get(timeout=SOON) for _ in range(count)]

    def close(self) -> None:
        self._server.stop()
        self._server.wait()


@pytest.fixture
def images() -> MemoryImages:
    return MemoryImages()


@pytest.fixture
def url(rabbitmq: RabbitMQ) -> str:
    return rabbitmq.url


@pytest.fixture
def manager(
    conf: cfg.ConfigOpts, url: str, database: Database, images: MemoryImages
) -> Iterator[ComputeManager]:
    oslo_messaging.get_notification_transport(conf)  # registers its options
    group = "oslo_messaging_notifications"
    # Topics that no other test has used: what nobody has read stays.
    topics = [f"versioned_{uuid.uuid4().hex[:8]}"]
    conf.set_override("driver", ["messagingv2"], group)
    conf.set_override("transport_url", url, group)
    conf.set_override("topics", [f"plain_{uuid.uuid4().hex[:8]}"], group)
    conf.set_override("versioned_notifications_topics", topics, "notifications")
    conf.set_override("notification_format", "both", "notifications")
    made = ComputeManager(
        conf, database, images, FakeDriver(conf, images), notifications.make(conf)
    )
    made.init_host()
    yield made
    assert made.stop(SOON) == 0


def take_snapshot(
    manager: ComputeManager, context: RequestContext, images: MemoryImages, *, backup: bool = False
) -> tuple[Instance, str]:
    """A snapshot, or backup, that has ended: of what, and to which image."""
    image_id: str = images.create(context, {"name": "snap"})["id"]
    state = task_states.IMAGE_BACKUP if backup else task_states.IMAGE_SNAPSHOT_PENDING
    instance = make_instance(context, task_state=state, snapshot_image_id=image_id)
    began = time.monotonic()
    if backup:
        manager.backup_instance(context, instance.uuid, image_id, "daily", 1)
    else:
        manager.snapshot_instance(context, instance.uuid, image_id)
    while Instance.get_by_uuid(context, instance.uuid).task_state is not None:
        assert time.monotonic() < began + SOON
        time.sleep(0.02)
    return instance, image_id


@pytest.fixture
def versioned(conf: cfg.ConfigOpts, manager: ComputeManager) -> Iterator[Reader]:
    made = Reader(conf, conf.notifications.versioned_notifications_topics)
    yield made
    made.close()


@pytest.fixture
def plain(conf: cfg.ConfigOpts, manager: ComputeManager) -> Iterator[Reader]:
    made = Reader(conf, conf.oslo_messaging_notifications.topics)
    yield made
    made.close()


@pytest.mark.parametrize("backup", [False, True], ids=["snapshot", "backup"])
def test_who_listens_is_told(
    manager: ComputeManager,
    versioned: Reader,
    plain: Reader,
    context: RequestContext,
    images: MemoryImages,
    backup: bool,
) -> None:
    instance, image_id = take_snapshot(manager, context, images, backup=backup)
    told = versioned.take(2)
    assert [each[:2] for each in told] == [
        ("INFO", "instance.snapshot.start"),
        ("INFO", "instance.snapshot.end"),
    ]
    for _, _, payload in told:
        assert payload["nova_object.name"] == "InstanceActionSnapshotPayload"
        data = payload["nova_object.data"]
        assert (data["uuid"], data["snapshot_image_id"]) == (instance.uuid, image_id)
        assert data["request_id"] == context.request_id
    assert [each[1] for each in plain.take(2)] == [
        "compute.instance.snapshot.start",
        "compute.instance.snapshot.end",
    ]


def test_who_listens_is_told_why_it_failed(
    conf: cfg.ConfigOpts,
    manager: ComputeManager,
    versioned: Reader,
    context: RequestContext,
    images: MemoryImages,
) -> None:
    conf.set_override("fail_in", "image_uploading", "fake")
    take_snapshot(manager, context, images)
    start, error = versioned.take(2)
    assert start[1] == "instance.snapshot.start"
    assert error[:2] == ("ERROR", "instance.snapshot.error")
    fault = error[2]["nova_object.data"]["fault"]["nova_object.data"]
    assert fault["exception"] == "SnapshotFailed"
    assert "image_uploading" in fault["exception_message"]


class TestNoBroker:
    @pytest.fixture
    def url(self) -> str:
        return f"rabbit://guest:guest@127.0.0.1:{free_port()}/"

    def test_a_snapshot_does_not_wait_for_it(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages
    ) -> None:
        began = time.monotonic()
        _, image_id = take_snapshot(manager, context, images)
        assert images.records[image_id]["status"] == "active"
        assert manager.stop(SOON) == 0
        # Its connections are tried again for as long as the process lives; a stop is bounded.
        assert time.monotonic() - began < 15
