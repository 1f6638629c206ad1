# SPDX-License-Identifier: Apache-2.0
"""The end of a snapshot that cannot go on, at its borders: see also test_manager.py."""

import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from oslo_config import cfg
from oslo_db import exception as db_exception

from nova_snap import exception
from nova_snap.compute import recovery, task_states
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.virt.fake import FakeDriver
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import HOST, make_instance

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
    """Cannot clean up after one instance."""

    error: Exception
    instance_uuid: str

    def clean_up_after_restart(self, instance: Any) -> Sequence[str]:
        if instance.uuid == self.instance_uuid:
            raise self.error
        return super().clean_up_after_restart(instance)


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
