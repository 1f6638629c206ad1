# SPDX-License-Identifier: Apache-2.0
"""The end of a snapshot that cannot go on, at its borders: see also test_manager.py."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from oslo_config import cfg
from oslo_db import exception as db_exception

from nova_snap import exception
from nova_snap.compute import recovery, task_states, vm_states
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.compute.lifecycle_manager import LifecycleManager
from nova_snap.compute.termination import Terminator
from nova_snap.context import RequestContext, get_admin_context
from nova_snap.db.session import Database
from nova_snap.objects.instance import Instance, InstanceFilters, InstanceList
from nova_snap.objects.instance_action import InstanceAction, InstanceActionEvent
from nova_snap.objects.snapshot_request import SnapshotRequest
from nova_snap.virt.fake import FakeDriver
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import HOST, make_context, make_instance

SENT = task_states.IMAGE_UPLOADING
LOST = "Its memory was lost."


@pytest.fixture
def images() -> MemoryImages:
    return MemoryImages()


def left(context: RequestContext, images: MemoryImages) -> tuple[Instance, str, InstanceAction]:
    """An instance in the middle of a snapshot."""
    image_id: str = images.create(context, {"name": "snap"})["id"]
    instance = make_instance(context, task_state=SENT, snapshot_image_id=image_id)
    return instance, image_id, InstanceAction.start(context, instance.uuid, "createImage")


def test_a_snapshot_that_ends_late_does_not_free_the_next_one(
    context: RequestContext, images: MemoryImages
) -> None:
    instance, image_id, action = left(context, images)
    following = str(uuid.uuid4())
    other = Instance.get_by_uuid(context, instance.uuid)
    other.snapshot_image_id = following
    other.save()
    error = exception.SnapshotInterrupted(host=HOST, phase=SENT, warnings=())
    recovery.give_up(context, images, instance, image_id, HOST, action, error)
    now = Instance.get_by_uuid(context, instance.uuid)
    assert (now.task_state, now.snapshot_image_id) == (SENT, following)
    assert image_id not in images.records


@pytest.mark.parametrize(
    "error",
    [
        exception.HostLost(host=HOST, phase=SENT, seconds=600),
        exception.SnapshotDropped(host=HOST, phase=SENT),
    ],
)
def test_whoever_only_misses_the_record_keeps_the_image(
    context: RequestContext, images: MemoryImages, error: Exception
) -> None:
    instance, image_id, action = left(context, images)
    images.records[image_id]["status"] = "active"
    recovery.give_up(context, images, instance, image_id, HOST, action, error)
    assert Instance.get_by_uuid(context, instance.uuid).task_state is None
    assert image_id in images.records
    (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
    assert (action.message, action.finish_time is None) == (None, False)


class Broken(FakeDriver):
    """Cannot clean up after one instance, nor remove its guest."""

    error: Exception
    instance_uuid: str

    def clean_up_after_restart(self, instance: Any) -> Sequence[str]:
        if instance.uuid == self.instance_uuid:
            raise self.error
        return super().clean_up_after_restart(instance)

    def destroy(self, instance: Any) -> None:
        if instance.uuid == self.instance_uuid:
            raise self.error
        super().destroy(instance)


@pytest.fixture
def broken(conf: cfg.ConfigOpts, images: MemoryImages) -> Broken:
    return Broken(conf, images)


@pytest.mark.parametrize("which", [0, 1])
def test_unforeseen_error_over_one_instance_holds_up_no_other(
    context: RequestContext, database: Database, images: MemoryImages, broken: Broken, which: int
) -> None:
    """Whichever of them comes first."""
    instances = [left(context, images)[0] for _ in range(2)]
    broken.error, broken.instance_uuid = RuntimeError("no such thing"), instances[which].uuid
    recovery.recover(database, images, broken, HOST, messages_survive=True)
    found = [Instance.get_by_uuid(context, each.uuid).task_state for each in instances]
    assert (found[which], found[1 - which]) == (SENT, None)


def test_host_does_not_start_without_its_database(
    context: RequestContext, database: Database, images: MemoryImages, broken: Broken
) -> None:
    instance, image_id, _action = left(context, images)
    broken.error, broken.instance_uuid = db_exception.DBConnectionError(), instance.uuid
    with pytest.raises(db_exception.DBConnectionError):
        recovery.recover(database, images, broken, HOST, messages_survive=True)
    assert image_id in images.records


@pytest.mark.parametrize("which", [0, 1])
def test_nor_does_one_over_a_build_that_was_interrupted(
    conf: cfg.ConfigOpts,
    context: RequestContext,
    database: Database,
    images: MemoryImages,
    broken: Broken,
    which: int,
) -> None:
    building = {"task_state": task_states.SPAWNING, "vm_state": vm_states.BUILDING}
    instances = [make_instance(context, **building) for _ in range(2)]
    broken.error, broken.instance_uuid = RuntimeError("no such thing"), instances[which].uuid
    manager = LifecycleManager(conf, database, images, broken, InstanceLocks())
    manager._recovery.recover()
    assert manager.stop(20) == 0
    found = [Instance.get_by_uuid(context, each.uuid).task_state for each in instances]
    assert (found[which], found[1 - which]) == (task_states.SPAWNING, None)


@pytest.mark.parametrize("which", [0, 1])
def test_nor_does_one_over_a_guest_that_is_to_be_removed(
    context: RequestContext, database: Database, images: MemoryImages, broken: Broken, which: int
) -> None:
    instances = [make_instance(context) for _ in range(2)]
    for each in instances:
        each.destroy(cleanup_pending=True)
    broken.error, broken.instance_uuid = RuntimeError("no such thing"), instances[which].uuid
    Terminator(HOST, images, broken, InstanceLocks()).clean_up(get_admin_context(database))
    pending = InstanceFilters(deleted=True, cleanup_pending=True, host=HOST)
    left_behind = InstanceList.get_by_filters(get_admin_context(database), pending)
    assert [each.uuid for each in left_behind] == [instances[which].uuid]


class OneBroken(MemoryImages):
    """Cannot be asked about one image."""

    broken: str

    def get(self, context: RequestContext, image_id: str) -> Mapping[str, Any]:
        if image_id == self.broken:
            raise RuntimeError("no such thing")
        return super().get(context, image_id)


@pytest.mark.parametrize("which", [0, 1])
def test_nor_does_one_over_an_end_that_was_not_written_down(
    conf: cfg.ConfigOpts, context: RequestContext, database: Database, which: int
) -> None:
    images, ids, instances = OneBroken(), [], []
    for _ in range(2):
        own = make_context(database)
        image_id = images.create(own, {"name": "snap"})["id"]
        images.records[image_id]["status"] = "active"
        instance = make_instance(own)
        SnapshotRequest.record(own, image_id, instance.uuid, HOST, "createImage")
        action = InstanceAction.start(own, instance.uuid, "createImage")
        InstanceActionEvent.begin(own, action, "compute_snapshot_instance", HOST)
        ids.append(image_id)
        instances.append(instance)
    images.broken = ids[which]
    recovery.recover(database, images, FakeDriver(conf, images), HOST, messages_survive=True)
    ends = []
    for each in instances:
        (action,) = InstanceAction.get_by_instance_uuid(context, each.uuid)
        ends.append((action.finish_time is not None, action.message))
    assert (ends[which], ends[1 - which]) == ((False, None), (True, None))


class Losing(FakeDriver):
    """Could not put all of the guest back."""

    def clean_up_after_restart(self, _instance: Any) -> Sequence[str]:
        return [LOST]


@pytest.mark.parametrize("status", ["active", "saving"])
def test_what_the_guest_has_lost_is_told_whether_or_not_there_is_an_image(
    conf: cfg.ConfigOpts,
    database: Database,
    context: RequestContext,
    images: MemoryImages,
    status: str,
) -> None:
    instance, image_id, _ = left(context, images)
    images.records[image_id]["status"] = status
    driver = Losing(conf, images)
    recovery.recover(database, images, driver, HOST, messages_survive=False)
    (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
    assert LOST in (action.message or "")
    assert (image_id in images.records) == (status == "active")
    assert Instance.get_by_uuid(context, instance.uuid).task_state is None
