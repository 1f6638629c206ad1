# SPDX-License-Identifier: Apache-2.0
"""Snapshots whose end is written down, or whose image is deleted, later than it should be."""

import datetime

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute import task_states
from nova_snap.compute.manager import ComputeManager
from nova_snap.compute.reaper import Reaper
from nova_snap.context import RequestContext, get_admin_context
from nova_snap.db import models
from nova_snap.db.session import Database
from nova_snap.objects import snapshot_request
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.objects.snapshot_request import SnapshotRequest
from nova_snap.virt.fake import FakeDriver
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import make_instance
from tests.unit.compute.manager_parts import ended, pending, reason, wait_until

LONG_AGO = datetime.datetime(2026, 1, 1)
AWAY = exception.ImageServiceUnavailable(endpoint="http://10.0.0.1", reason="away")


def look_later(conf: cfg.ConfigOpts, database: Database, images: MemoryImages) -> None:
    """What an API process does a while after the last thing was written down."""
    with database.writer() as session:
        session.query(models.SnapshotRequest).update(
            {"phase_since": LONG_AGO, "reaped_until": None}
        )
    Reaper(conf, images).delete_orphans(get_admin_context(database))


class TestGivenUp:
    """An image that the image service calls active and that the driver has given up."""

    def phase(self, context: RequestContext, image_id: str) -> str | None:
        request = SnapshotRequest.get(context, image_id)
        return None if request is None else request.phase

    @pytest.fixture
    def left(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages
    ) -> tuple[str, str]:
        """An instance and such an image, which could not be deleted at once."""
        images.fail["verify"] = exception.ImageRejected(image_id="i", reason="another sha512")
        images.fail["delete"] = AWAY
        instance, image_id = pending(context, images)
        manager.snapshot_instance(context, instance.uuid, image_id)
        ended(context, instance)
        wait_until(lambda: self.phase(context, image_id) == snapshot_request.GIVEN_UP)
        assert images.records[image_id]["status"] == "active"
        images.fail.clear()
        return instance.uuid, image_id

    def test_it_is_deleted_later(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        context: RequestContext,
        images: MemoryImages,
        left: tuple[str, str],
    ) -> None:
        look_later(conf, database, images)
        assert images.records == {}
        assert SnapshotRequest.get(context, left[1]) is None

    def test_a_start_does_not_take_it_for_good(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        context: RequestContext,
        images: MemoryImages,
        driver: FakeDriver,
    ) -> None:
        """The process died between that note and the end."""
        conf.set_override("transport_url", "rabbit://")
        instance, image_id = pending(context, images, task_state="image_uploading")
        images.records[image_id]["status"] = "active"
        SnapshotRequest.record(context, image_id, instance.uuid, instance.host, "createImage")
        SnapshotRequest.give_up(context, image_id)
        ComputeManager(conf, database, images, driver).init_host()
        assert images.records == {}
        assert reason(context, ended(context, instance)) == (
            "The compute service was restarted during image_uploading."
        )


class TestDeletedBeforeItIsTakenUp:
    """The instance is deleted while the message is on its way."""

    @pytest.mark.parametrize("gone", [False, True], ids=["being-deleted", "gone"])
    def test_no_image_is_left_and_the_action_says_why(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages, gone: bool
    ) -> None:
        instance, image_id = pending(context, images)
        SnapshotRequest.record(context, image_id, instance.uuid, instance.host, "createImage")
        instance.task_state = task_states.DELETING
        instance.save()
        if gone:
            instance.destroy()
        manager.snapshot_instance(context, instance.uuid, image_id)
        assert images.records == {}
        assert SnapshotRequest.get(context, image_id) is None
        said = reason(context, instance)
        assert said is not None
        assert ("could not be found" if gone else "task_state deleting") in said

    def test_of_what_nobody_has_written_down_nothing_is_said(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages
    ) -> None:
        """A message of another service."""
        instance = make_instance(context)
        instance.destroy()
        image_id = images.create(context, {"name": "snap"})["id"]
        manager.snapshot_instance(context, instance.uuid, image_id)
        assert images.records == {}
        assert InstanceAction.get_by_instance_uuid(context, instance.uuid) == []
