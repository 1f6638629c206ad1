# SPDX-License-Identifier: Apache-2.0
"""Snapshots whose instance is reset, deleted or ended from elsewhere while they run."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute import recovery, task_states
from nova_snap.compute.manager import ComputeManager
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.objects.snapshot_request import SnapshotRequest
from nova_snap.virt.driver import SnapshotReport
from nova_snap.virt.fake import FakeDriver, snapshot_data
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import HOST, make_context
from tests.unit.compute.manager_parts import PENDING, SIZE, SOON, pending, wait_until

SENT = task_states.IMAGE_UPLOADING
RESET = "The instance's state was reset before the snapshot was done."


def reset(context: RequestContext, instance: Instance) -> None:
    """What os-resetState does."""
    now = Instance.get_by_uuid(context, instance.uuid)
    now.end_snapshot()
    now.save()


class Endless(FakeDriver):
    """Sends the first image for as long as it may; then there is no end to it but a cancel.

    :ivar sending: set when that has begun.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.sending = threading.Event()

    def snapshot(
        self,
        context: Any,
        instance: Any,
        image_id: str,
        update_task_state: Any,
        monitor: Any = None,
        further_images: Any = None,
    ) -> SnapshotReport:
        def update(task_state: str, **expected: str) -> None:
            update_task_state(task_state, **expected)
            if task_state != SENT or self.sending.is_set():
                return
            self.sending.set()
            until = time.monotonic() + SOON
            while time.monotonic() < until:
                monitor.check()
                time.sleep(0.01)

        return super().snapshot(context, instance, image_id, update, monitor, further_images)


def test_a_reset_ends_what_is_sent_and_the_next_request_waits_only_for_that(
    conf: cfg.ConfigOpts, database: Database, context: RequestContext, images: MemoryImages
) -> None:
    conf.set_override("snapshot_size", SIZE, "fake")
    driver = Endless(conf, images)
    manager = ComputeManager(conf, database, images, driver)
    instance, old_image = pending(context, images)
    SnapshotRequest.record(context, old_image, instance.uuid, HOST, "createImage")
    manager.snapshot_instance(context, instance.uuid, old_image)
    assert driver.sending.wait(SOON)
    reset(context, instance)

    again = make_context(database)
    new_image = images.create(again, {"name": "again"})["id"]
    now = Instance.get_by_uuid(again, instance.uuid)
    now.task_state, now.snapshot_image_id = PENDING, new_image
    now.save(expected_task_state=[None])
    InstanceAction.start(again, instance.uuid, "createImage")
    manager.snapshot_instance(again, instance.uuid, new_image)
    assert manager.stop(SOON) == 0
    second, first = InstanceAction.get_by_instance_uuid(context, instance.uuid)
    assert (first.finish_time is not None, first.message) == (True, RESET)
    assert (second.finish_time is not None, second.message) == (True, None)
    assert list(images.records) == [new_image]
    assert images.data[new_image] == snapshot_data(instance.uuid, SIZE)
    assert SnapshotRequest.get_all(context) == []
    assert Instance.get_by_uuid(context, instance.uuid).task_state is None


Meanwhile = Callable[[RequestContext, Instance, MemoryImages], None]


class Interrupted(FakeDriver):
    """Has sent all of the image when something happens."""

    meanwhile: Callable[[Any], None]

    def snapshot(self, context: Any, instance: Any, *others: Any) -> SnapshotReport:
        report = super().snapshot(context, instance, *others)
        self.meanwhile(instance)
        return report


@pytest.fixture
def take(
    conf: cfg.ConfigOpts, database: Database, context: RequestContext, images: MemoryImages
) -> Callable[[Meanwhile], tuple[str, InstanceAction]]:
    """Take a snapshot of which that is done in the last moment."""

    def do(meanwhile: Meanwhile) -> tuple[str, InstanceAction]:
        driver = Interrupted(conf, images)
        driver.meanwhile = lambda instance: meanwhile(context, instance, images)
        manager = ComputeManager(conf, database, images, driver)
        instance, image_id = pending(context, images)
        SnapshotRequest.record(context, image_id, instance.uuid, HOST, "createImage")
        manager.snapshot_instance(context, instance.uuid, image_id)
        wait_until(lambda: SnapshotRequest.get(context, image_id) is None)
        assert manager.stop(SOON) == 0
        (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
        return image_id, action

    return do


def being_deleted(context: RequestContext, instance: Instance, _images: MemoryImages) -> None:
    now = Instance.get_by_uuid(context, instance.uuid)
    now.task_state = task_states.DELETING
    now.save()


def gone(context: RequestContext, instance: Instance, _images: MemoryImages) -> None:
    Instance.get_by_uuid(context, instance.uuid).destroy()


@pytest.mark.parametrize(
    "meanwhile", [lambda context, instance, _: reset(context, instance), being_deleted, gone]
)
def test_a_whole_image_goes_too_in_the_last_moment(
    take: Callable[[Meanwhile], tuple[str, InstanceAction]],
    images: MemoryImages,
    meanwhile: Meanwhile,
) -> None:
    _, action = take(meanwhile)
    assert images.records == {}
    assert action.finish_time is not None
    assert action.message is not None


def test_one_that_was_found_whole_from_elsewhere_stays(
    take: Callable[[Meanwhile], tuple[str, InstanceAction]], images: MemoryImages
) -> None:
    """Another process took the host for lost, and has ended the snapshot well."""

    def end_it(context: RequestContext, instance: Instance, images: MemoryImages) -> None:
        now = Instance.get_by_uuid(context, instance.uuid)
        (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
        error = exception.HostLost(host=HOST, phase=SENT, seconds=600)
        recovery.give_up(context, images, now, now.snapshot_image_id, HOST, action, error)

    image_id, action = take(end_it)
    assert images.records[image_id]["status"] == "active"
    assert (action.finish_time is not None, action.message) == (True, None)
