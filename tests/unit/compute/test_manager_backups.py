# SPDX-License-Identifier: Apache-2.0
"""Backups and notifications of the compute manager."""

from collections.abc import Iterator
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute import task_states
from nova_snap.compute.manager import ComputeManager
from nova_snap.compute.notifications import Phase
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.objects.instance_fault import InstanceFault
from nova_snap.virt.fake import FakeDriver, snapshot_data
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import make_instance
from tests.unit.compute.manager_parts import SIZE, SOON, ended, pending, reason, wait_until


class TestBackup:
    def backups(
        self, context: RequestContext, images: MemoryImages, instance: Instance, count: int
    ) -> list[str]:
        """Older ones, the oldest first."""
        made = []
        for hour in range(count):
            image_id = images.create(context, {"name": f"b{hour}"})["id"]
            images.records[image_id].update(
                status="active",
                created_at=f"2026-01-01T{hour:02}:00:00Z",
                image_type="backup",
                backup_type="daily",
                instance_uuid=instance.uuid,
            )
            made.append(image_id)
        return made

    def asked(self, context: RequestContext, images: MemoryImages) -> tuple[Instance, str]:
        """An instance as the API leaves it."""
        record = {
            "name": "backup",
            "properties": {"image_type": "backup", "backup_type": "daily"},
        }
        image_id: str = images.create(context, record)["id"]
        instance = make_instance(
            context, task_state=task_states.IMAGE_BACKUP, snapshot_image_id=image_id
        )
        images.records[image_id]["instance_uuid"] = instance.uuid
        InstanceAction.start(context, instance.uuid, "createBackup")
        return instance, image_id

    def finished(self, context: RequestContext, instance: Instance) -> InstanceAction:
        def newest() -> InstanceAction:
            return InstanceAction.get_by_instance_uuid(context, instance.uuid)[0]

        wait_until(lambda: newest().finish_time is not None)
        return newest()

    def test_the_oldest_goes(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages
    ) -> None:
        instance, image_id = self.asked(context, images)
        older = self.backups(context, images, instance, 2)
        manager.backup_instance(context, instance.uuid, image_id, "daily", 2)
        action = self.finished(context, instance)
        assert images.records.keys() == {image_id, older[1]}
        assert images.data[image_id] == snapshot_data(instance.uuid, SIZE)
        assert ended(context, instance).snapshot_image_id is None
        assert (action.action, action.message) == ("createBackup", None)
        events = [(each.event, each.result, each.details) for each in action.events(context)]
        assert events == [
            ("rotate_backups", "Success", "backups deleted: 1"),
            (
                "compute_backup_instance",
                "Success",
                "fake: compute_driver is the fake driver",
            ),
        ]

    def test_a_cast_of_another_service_is_obeyed(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages
    ) -> None:
        """Nothing was claimed for it."""
        instance = make_instance(context)
        older = self.backups(context, images, instance, 1)
        (image_id,) = self.backups(context, images, instance, 1)
        images.records[image_id].update(status="queued", created_at="2026-01-02T00:00:00Z")
        named = {"nova_object.name": "Instance", "nova_object.data": {"uuid": instance.uuid}}
        manager.backup_instance(context, named, image_id, "daily", 1)
        wait_until(lambda: bool(InstanceAction.get_by_instance_uuid(context, instance.uuid)))
        action = self.finished(context, instance)
        assert (action.action, action.message) == ("createBackup", None)
        assert older[0] not in images.records
        assert images.records[image_id]["status"] == "active"

    def test_rotation_0_leaves_none(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages
    ) -> None:
        instance, image_id = self.asked(context, images)
        self.backups(context, images, instance, 2)
        manager.backup_instance(context, instance.uuid, image_id, "daily", 0)
        assert self.finished(context, instance).message is None
        assert images.records == {}

    def test_a_backup_that_fails_takes_none_with_it(
        self,
        conf: cfg.ConfigOpts,
        manager: ComputeManager,
        context: RequestContext,
        images: MemoryImages,
    ) -> None:
        conf.set_override("fail_in", "image_uploading", "fake")
        instance, image_id = self.asked(context, images)
        older = self.backups(context, images, instance, 3)
        manager.backup_instance(context, instance.uuid, image_id, "daily", 1)
        ended(context, instance)
        assert images.records.keys() == set(older)
        said = reason(context, instance)
        assert said is not None
        assert "image_uploading" in said

    def test_a_rotation_that_cannot_be_is_told_and_the_backup_stays(
        self,
        manager: ComputeManager,
        context: RequestContext,
        images: MemoryImages,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        images.fail["get_all"] = exception.ImageServiceUnavailable(endpoint="x", reason="down")
        instance, image_id = self.asked(context, images)
        manager.backup_instance(context, instance.uuid, image_id, "daily", 1)
        action = self.finished(context, instance)
        assert images.records[image_id]["status"] == "active"
        assert action.message == (
            "The backup is done, but older ones were not rotated: "
            "The image service cannot be reached; try again later."
        )
        assert action.events(context)[0].result == "Error"
        assert ended(context, instance).task_state is None
        assert InstanceFault.latest_by_instance_uuids(context, [instance.uuid]) == {}
        assert f"to image {image_id} is done, but older ones were not rotated" in caplog.text

    def test_it_waits_for_the_same_places_as_snapshots(
        self, conf: cfg.ConfigOpts, database: Database, context: RequestContext
    ) -> None:
        images = MemoryImages()
        conf.set_override("max_concurrent_snapshots", 1)
        manager = ComputeManager(conf, database, images, FakeDriver(conf, images))
        images.go_on.clear()
        first, first_image = pending(context, images)
        manager.snapshot_instance(context, first.uuid, first_image)
        assert images.uploading.wait(SOON)
        second, second_image = self.asked(context, images)
        manager.backup_instance(context, second.uuid, second_image, "daily", 1)
        # It was taken up, and has no place.
        waiting = Instance.get_by_uuid(context, second.uuid)
        assert waiting.task_state == task_states.IMAGE_SNAPSHOT
        (action,) = InstanceAction.get_by_instance_uuid(context, second.uuid)
        (queued,) = action.events(context)
        assert (queued.event, queued.details, queued.result) == (
            "compute_queue_snapshot",
            "queued: position 1 on this host",
            None,
        )
        images.go_on.set()
        ended(context, first)
        assert self.finished(context, second).message is None
        assert manager.stop(SOON) == 0

    @pytest.mark.parametrize(("backup_type", "rotation"), [("daily", -1), (7, 1), ("daily", "1")])
    def test_a_message_that_makes_no_sense(
        self,
        manager: ComputeManager,
        context: RequestContext,
        images: MemoryImages,
        backup_type: Any,
        rotation: Any,
    ) -> None:
        instance = make_instance(context)
        older = self.backups(context, images, instance, 1)
        image_id = images.create(context, {"name": "backup"})["id"]
        manager.backup_instance(context, instance.uuid, image_id, backup_type, rotation)
        assert images.records.keys() == set(older)
        assert ended(context, instance) == instance


class Told:
    """Takes the place of the notifications: remembers them."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str | None, str | None]] = []
        self.closed = False

    def snapshot(
        self,
        context: RequestContext,
        instance: Instance,
        image_id: str,
        phase: Phase,
        error: Exception | None = None,
    ) -> None:
        name = None if error is None else type(error).__name__
        self.events.append((phase.value, image_id, instance.task_state, name))

    def close(self, timeout: float) -> None:
        self.closed = True


class TestNotifications:
    @pytest.fixture
    def told(self) -> Told:
        return Told()

    @pytest.fixture
    def manager(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        images: MemoryImages,
        driver: FakeDriver,
        told: Told,
    ) -> Iterator[ComputeManager]:
        made = ComputeManager(conf, database, images, driver, told)
        made.init_host()
        yield made
        assert made.stop(SOON) == 0
        assert told.closed

    def test_of_one_that_went_well(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages, told: Told
    ) -> None:
        instance, image_id = pending(context, images)
        manager.snapshot_instance(context, instance.uuid, image_id)
        wait_until(lambda: len(told.events) == 2)
        assert told.events == [
            ("start", image_id, "image_snapshot", None),
            ("end", image_id, None, None),
        ]

    def test_of_one_that_failed(
        self,
        conf: cfg.ConfigOpts,
        manager: ComputeManager,
        context: RequestContext,
        images: MemoryImages,
        told: Told,
    ) -> None:
        conf.set_override("fail_in", "image_pending_upload", "fake")
        instance, image_id = pending(context, images)
        manager.snapshot_instance(context, instance.uuid, image_id)
        ended(context, instance)
        assert told.events == [
            ("start", image_id, "image_snapshot", None),
            ("error", image_id, "image_pending_upload", "SnapshotFailed"),
        ]
