# SPDX-License-Identifier: Apache-2.0
"""An image service that is away while many instances are gone through: it is asked once."""

import datetime
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute import image_pass, recovery, task_states
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.compute.lifecycle_manager import LifecycleManager
from nova_snap.compute.reaper import Reaper
from nova_snap.compute.termination import Terminator
from nova_snap.compute.volume_leftovers import VolumeLeftovers
from nova_snap.context import RequestContext, get_admin_context
from nova_snap.db import models
from nova_snap.db.session import Database
from nova_snap.objects.block_device import BlockDeviceMapping
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.objects.service import COMPUTE, Service
from nova_snap.objects.snapshot_request import SnapshotRequest
from nova_snap.virt.fake import FakeDriver
from nova_snap.volume import cinder
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import HOST, LOCAL_ROOT, make_instance

LONG_AGO = datetime.datetime(2026, 1, 1)
HOW_MANY = 4
ELSEWHERE = "compute-2"


class AwayImages(MemoryImages):
    """Does not answer while it is ``away``.

    :ivar asked: how often somebody has found that out.
    :ivar undeletable: images whose store is broken; ``told`` says how often that was found out.
    """

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error or exception.ImageServiceUnavailable(endpoint="g", reason="away")
        self.away = False
        self.asked = 0
        self.undeletable: list[str] = []
        self.told = 0

    def delete(self, context: RequestContext, image_id: str) -> None:
        if image_id in self.undeletable:
            self.told += 1
            raise self.error
        super().delete(context, image_id)

    def _enter(self, method: str) -> None:
        if self.away:
            self.asked += 1
            raise self.error
        super()._enter(method)


@pytest.fixture
def images() -> AwayImages:
    return AwayImages()


@pytest.fixture
def admin(database: Database) -> RequestContext:
    return get_admin_context(database)


Left = list[tuple[Instance, str]]


def leave(context: RequestContext, images: AwayImages, state: str, **values: Any) -> Left:
    """Snapshots that nobody works on, and then the image service is away."""
    made = []
    for _ in range(HOW_MANY):
        image_id = str(uuid.uuid4())
        given = {"task_state": state, "snapshot_image_id": image_id, **values}
        instance = make_instance(context, **given)
        SnapshotRequest.record(context, image_id, instance.uuid, instance.host, "createImage")
        images.create(context, {"name": "snap", "id": image_id})
        InstanceAction.start(context, instance.uuid, "createImage")
        made.append((instance, image_id))
    images.away = True
    return made


def long_ago(database: Database) -> None:
    with database.writer() as session:
        session.query(models.SnapshotRequest).update({"phase_since": LONG_AGO})
        seen = {"last_seen_up": LONG_AGO, "updated_at": LONG_AGO, "created_at": LONG_AGO}
        session.query(models.Service).update(seen)
        session.query(models.InstanceAction).update({"start_time": LONG_AGO})


def assert_ended(context: RequestContext, left: Left) -> None:
    """Free and with a reason; the images are yet to be looked for."""
    for instance, image_id in left:
        assert Instance.get_by_uuid(context, instance.uuid).task_state is None
        (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
        assert action.finish_time is not None
        assert action.message is not None
        assert SnapshotRequest.get(context, image_id) is not None


@pytest.mark.parametrize(
    "error",
    [
        exception.ImageServiceUnavailable(endpoint="g", reason="away"),
        exception.IdentityServiceUnavailable(reason="away"),
    ],
    ids=["Glance", "Keystone"],
)
def test_a_start_is_not_held_up_by_it(
    conf: cfg.ConfigOpts,
    database: Database,
    context: RequestContext,
    admin: RequestContext,
    images: AwayImages,
    error: Exception,
) -> None:
    """What was left is deleted when it is back, and what is whole stays."""
    images.error = error
    left = leave(context, images, task_states.IMAGE_UPLOADING)
    whole = left[-1][1]
    images.records[whole]["status"] = "active"
    driver = FakeDriver(conf, images)
    recovery.recover(database, images, driver, HOST, messages_survive=True)
    assert images.asked == 1
    assert_ended(context, left)

    long_ago(database)
    Reaper(conf, images).delete_orphans(admin)
    assert images.asked == 2
    assert all(SnapshotRequest.get(context, image_id) is not None for _, image_id in left)
    images.away = False
    with database.writer() as session:
        session.query(models.SnapshotRequest).update({"reaped_until": LONG_AGO})
    Reaper(conf, images).delete_orphans(admin)
    assert list(images.records) == [whole]
    assert SnapshotRequest.get_all(context) == []


Look = Callable[[Reaper, RequestContext], None]


@pytest.mark.parametrize(
    ("look", "state", "host"),
    [
        (Reaper.end_overdue, task_states.IMAGE_SNAPSHOT_PENDING, ELSEWHERE),
        (Reaper.end_lost, task_states.IMAGE_UPLOADING, ELSEWHERE),
        (Reaper.end_dropped, task_states.IMAGE_UPLOADING, HOST),
    ],
    ids=["end_overdue", "end_lost", "end_dropped"],
)
def test_no_look_for_what_is_left_is(
    conf: cfg.ConfigOpts,
    database: Database,
    context: RequestContext,
    admin: RequestContext,
    images: AwayImages,
    look: Look,
    state: str,
    host: str,
) -> None:
    Service.register(context, ELSEWHERE, COMPUTE, "topic")
    left = leave(context, images, state, host=host)
    long_ago(database)
    look(Reaper(conf, images, HOST), admin)
    assert images.asked == 1
    assert_ended(context, left)


def test_nor_are_volume_backed_servers(
    conf: cfg.ConfigOpts,
    database: Database,
    context: RequestContext,
    admin: RequestContext,
    images: AwayImages,
) -> None:
    """They are left for the next time: their snapshots in Cinder may be an image's."""
    root = BlockDeviceMapping("volume", "volume", boot_index=0, volume_id=str(uuid.uuid4()))
    state = task_states.IMAGE_SNAPSHOT_PENDING
    left = leave(context, images, state, disks=[root])
    long_ago(database)
    VolumeLeftovers(conf, images, cinder.API(conf)).end_overdue(admin)
    assert images.asked == 1
    for instance, _ in left:
        assert Instance.get_by_uuid(context, instance.uuid).task_state == state


def test_nor_are_instances_that_are_deleted(
    conf: cfg.ConfigOpts,
    database: Database,
    context: RequestContext,
    admin: RequestContext,
    images: AwayImages,
) -> None:
    left = leave(context, images, task_states.DELETING, disks=[LOCAL_ROOT])
    locks, driver = InstanceLocks(), FakeDriver(conf, images)
    manager = LifecycleManager(conf, database, images, driver, locks)
    manager._recovery.recover()
    assert images.asked == 1
    assert manager.stop(20) == 0
    images.away = False
    for instance, _ in leave(context, images, task_states.IMAGE_UPLOADING):
        instance.destroy(cleanup_pending=True)
    Terminator(HOST, images, driver, locks).clean_up(admin)
    assert images.asked == 2
    assert all(SnapshotRequest.get(context, image_id) is not None for _, image_id in left)


@pytest.mark.parametrize("which", [0, HOW_MANY - 1])
def test_one_that_deletes_nothing_still_says_what_is_whole(
    conf: cfg.ConfigOpts,
    database: Database,
    context: RequestContext,
    images: AwayImages,
    which: int,
) -> None:
    """Whichever of them comes first."""
    left = leave(context, images, task_states.IMAGE_UPLOADING)
    images.away = False
    instance, whole = left.pop(which)
    images.records[whole]["status"] = "active"
    images.undeletable = [image_id for _, image_id in left]
    driver = FakeDriver(conf, images)
    recovery.recover(database, images, driver, HOST, messages_survive=True)
    assert images.told == 1
    (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
    assert (action.finish_time is not None, action.message) == (True, None)
    assert SnapshotRequest.get(context, whole) is None
    assert_ended(context, left)


def test_an_image_that_cannot_be_deleted_keeps_no_other(
    conf: cfg.ConfigOpts,
    database: Database,
    context: RequestContext,
    admin: RequestContext,
    images: AwayImages,
) -> None:
    """Later passes begin with the others."""
    (_, first), *_ = leave(context, images, task_states.IMAGE_UPLOADING)
    images.away, images.undeletable = False, [first]
    recovery.recover(database, images, FakeDriver(conf, images), HOST, messages_survive=True)
    long_ago(database)
    with database.writer() as session:
        session.query(models.InstanceAction).update({"updated_at": LONG_AGO})
    for _ in range(2):
        Reaper(conf, images).delete_orphans(admin)
    assert list(images.records) == [first]


def test_one_that_answers_with_an_error_is_asked_again(
    context: RequestContext, images: AwayImages
) -> None:
    refused = exception.ImageForbidden(image_id="i", reason="no")
    one = image_pass.ImagePass(images)
    images.fail["get_all"] = refused
    record: Mapping[str, Any] = images.create(context, {"name": "snap"})
    for _ in range(2):
        with pytest.raises(exception.ImageForbidden):
            one.get_all(context, {})
    assert one.get(context, record["id"]) == record
    assert not one.away
