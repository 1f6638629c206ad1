# SPDX-License-Identifier: Apache-2.0
"""Snapshots whose end is written down, or whose image is deleted, later than it should be."""

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute import task_states
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.compute.lifecycle_manager import LifecycleManager
from nova_snap.compute.manager import ComputeManager
from nova_snap.compute.reaper import Reaper
from nova_snap.compute.termination import Terminator
from nova_snap.context import RequestContext, get_admin_context
from nova_snap.db import models
from nova_snap.db.session import Database
from nova_snap.objects import instance_action, snapshot_request
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction, InstanceActionEvent
from nova_snap.objects.snapshot_request import SnapshotRequest
from nova_snap.virt.fake import FakeDriver
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import HOST, make_context, make_instance, table_away
from tests.unit.compute.manager_parts import SOON, ended, pending, reason, wait_until

LONG_AGO = datetime.datetime(2026, 1, 1)
AWAY = exception.ImageServiceUnavailable(endpoint="http://10.0.0.1", reason="away")


def look_later(conf: cfg.ConfigOpts, database: Database, images: MemoryImages) -> None:
    """What an API process does a while after the last thing was written down."""
    with database.writer() as session:
        session.query(models.SnapshotRequest).update(
            {"phase_since": LONG_AGO, "reaped_until": None}
        )
        session.query(models.InstanceAction).update({"updated_at": LONG_AGO})
    Reaper(conf, images).delete_orphans(get_admin_context(database))


def recorded(
    context: RequestContext,
    images: MemoryImages,
    name: str = instance_action.CREATE_IMAGE,
    **values: Any,
) -> tuple[Instance, str, InstanceAction]:
    """A request of the API's, whose instance is free by now; its action has no end."""
    image_id = images.create(context, {"name": "snap"})["id"]
    instance = make_instance(context, **values)
    SnapshotRequest.record(context, image_id, instance.uuid, HOST, name)
    return instance, image_id, InstanceAction.start(context, instance.uuid, name)


def of(context: RequestContext, instance: Instance) -> tuple[bool, str | None, list[str | None]]:
    """Whether its action has an end, what it says, and the results of its steps, newest first."""
    (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
    results = [event.result for event in action.events(context)]
    return action.finish_time is not None, action.message, results


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

    @pytest.mark.parametrize("given_up", [True, False], ids=["given-up", "whole"])
    @pytest.mark.parametrize("gone", [False, True], ids=["being-deleted", "gone"])
    def test_nor_does_the_end_of_its_server(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        context: RequestContext,
        images: MemoryImages,
        driver: FakeDriver,
        gone: bool,
        given_up: bool,
    ) -> None:
        """The process died before it could delete the image, and then the server is deleted."""
        instance, image_id = pending(context, images, task_state=task_states.DELETING)
        images.records[image_id]["status"] = "active"
        SnapshotRequest.record(context, image_id, instance.uuid, instance.host, "createImage")
        if given_up:
            SnapshotRequest.give_up(context, image_id)
        locks = InstanceLocks()
        if gone:
            instance.destroy(cleanup_pending=True)
            Terminator(HOST, images, driver, locks).clean_up(get_admin_context(database))
        else:
            manager = LifecycleManager(conf, database, images, driver, locks)
            manager._recovery.recover()
            assert manager.stop(SOON) == 0
        assert (image_id in images.records) == (not given_up)
        assert SnapshotRequest.get(context, image_id) is None


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


class TestUntold:
    """The instance is free, and the database went away before the action had its end."""

    @pytest.fixture
    def good(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        context: RequestContext,
        images: MemoryImages,
        driver: FakeDriver,
    ) -> tuple[Instance, str]:
        """An instance, and its snapshot that went well."""
        conf.set_override("transport_url", "rabbit://")
        manager = ComputeManager(conf, database, images, driver)
        images.go_on.clear()
        instance, image_id = pending(context, images)
        SnapshotRequest.record(context, image_id, instance.uuid, HOST, "createImage")
        manager.snapshot_instance(context, instance.uuid, image_id)
        assert images.uploading.wait(SOON)
        with table_away(database, "instance_actions_events"):
            images.go_on.set()
            ended(context, instance)
            assert manager.stop(SOON) == 0
        assert of(context, instance) == (False, None, [None])
        return instance, image_id

    @pytest.fixture
    def restart(
        self, conf: cfg.ConfigOpts, database: Database, images: MemoryImages, driver: FakeDriver
    ) -> Iterator[Callable[[], None]]:
        manager = ComputeManager(conf, database, images, driver)
        yield manager.init_host
        assert manager.stop(SOON) == 0

    def test_any_process_says_later_that_it_went_well(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        context: RequestContext,
        images: MemoryImages,
        good: tuple[Instance, str],
    ) -> None:
        instance, image_id = good
        look_later(conf, database, images)
        assert of(context, instance) == (True, None, ["Success"])
        assert images.records[image_id]["status"] == "active"
        assert SnapshotRequest.get(context, image_id) is None

    def test_so_does_the_next_start(
        self,
        context: RequestContext,
        good: tuple[Instance, str],
        restart: Callable[[], None],
    ) -> None:
        restart()
        assert of(context, good[0]) == (True, None, ["Success"])
        assert SnapshotRequest.get(context, good[1]) is None

    def test_a_start_without_an_image_service_leaves_it_for_later(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        context: RequestContext,
        images: MemoryImages,
        good: tuple[Instance, str],
        restart: Callable[[], None],
    ) -> None:
        images.fail["get"] = AWAY
        restart()
        look_later(conf, database, images)
        assert of(context, good[0]) == (False, None, [None])
        images.fail.clear()
        look_later(conf, database, images)
        assert of(context, good[0]) == (True, None, ["Success"])

    def test_a_host_that_only_rotates_has_its_time(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        context: RequestContext,
        images: MemoryImages,
    ) -> None:
        instance, image_id, _ = recorded(context, images)
        images.records[image_id]["status"] = "active"
        with database.writer() as session:
            session.query(models.SnapshotRequest).update({"phase_since": LONG_AGO})
        Reaper(conf, images).delete_orphans(get_admin_context(database))
        assert of(context, instance) == (False, None, [])
        assert SnapshotRequest.get(context, image_id) is not None

    @pytest.mark.parametrize("begun", [False, True], ids=["not-begun", "begun"])
    def test_a_backup_says_that_it_has_not_rotated(
        self,
        context: RequestContext,
        images: MemoryImages,
        restart: Callable[[], None],
        begun: bool,
    ) -> None:
        instance, image_id, action = recorded(context, images, instance_action.CREATE_BACKUP)
        images.records[image_id]["status"] = "active"
        InstanceActionEvent.begin(context, action, "compute_backup_instance", HOST)
        if begun:
            InstanceActionEvent.begin(context, action, "rotate_backups", HOST)
        restart()
        said = "The backup is done, but older ones were not rotated."
        assert of(context, instance) == (True, said, ["Error", "Success"][not begun :])

    def test_a_backup_that_has_rotated_went_well_though_its_image_is_gone(
        self, context: RequestContext, images: MemoryImages, restart: Callable[[], None]
    ) -> None:
        instance, image_id, action = recorded(context, images, instance_action.CREATE_BACKUP)
        for event in ("compute_backup_instance", "rotate_backups"):
            InstanceActionEvent.begin(context, action, event, HOST).succeed(context, None)
        images.delete(context, image_id)
        restart()
        assert of(context, instance) == (True, None, ["Success", "Success"])
        assert SnapshotRequest.get(context, image_id) is None

    def test_one_that_nobody_took_up_before_its_instance_was_gone_says_so(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        context: RequestContext,
        images: MemoryImages,
    ) -> None:
        """Its host was down, and a delete takes effect at once then."""
        instance, image_id, _ = recorded(context, images)
        instance.destroy()
        look_later(conf, database, images)
        has_end, said, _ = of(context, instance)
        assert has_end
        assert said is not None
        assert said.startswith("The request did not reach the compute host within ")
        assert images.records == {}
        assert SnapshotRequest.get(context, image_id) is None

    def test_the_action_of_another_request_is_left_alone(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        context: RequestContext,
        images: MemoryImages,
    ) -> None:
        """The API process died before it had claimed the instance."""
        image_id = images.create(context, {"name": "snap"})["id"]
        instance = make_instance(context)
        SnapshotRequest.record(context, image_id, instance.uuid, HOST, "createImage")
        InstanceAction.start(make_context(database), instance.uuid, "createImage")
        look_later(conf, database, images)
        assert of(context, instance) == (False, None, [])
        assert images.records == {}

    def test_a_step_without_an_end_ends_as_well_as_its_image(
        self, context: RequestContext, images: MemoryImages, restart: Callable[[], None]
    ) -> None:
        """The process died between the last byte and the end."""
        instance, image_id = pending(context, images, task_state=task_states.IMAGE_UPLOADING)
        images.records[image_id]["status"] = "active"
        (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
        InstanceActionEvent.begin(context, action, "compute_snapshot_instance", HOST)
        restart()
        assert of(context, ended(context, instance)) == (True, None, ["Success"])
