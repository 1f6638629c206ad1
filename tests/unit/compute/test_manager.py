# SPDX-License-Identifier: Apache-2.0
"""The compute manager, with the fake driver and an image service that can be told to fail."""

import dataclasses
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute import power_state, snapshot_kinds, task_states
from nova_snap.compute.manager import ComputeManager
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction, InstanceActionEvent
from nova_snap.objects.instance_fault import InstanceFault
from nova_snap.objects.snapshot_request import SnapshotRequest
from nova_snap.virt.driver import AdoptedDomain, SnapshotReport
from nova_snap.virt.fake import FakeDriver, snapshot_data
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import make_context, make_instance
from tests.unit.compute.manager_parts import PENDING, SIZE, SOON, ended, pending, reason, wait_until


class TestSuccess:
    def test_the_image_holds_the_data_and_the_instance_is_free(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages
    ) -> None:
        instance, image_id = pending(context, images)
        manager.snapshot_instance(context, instance.uuid, image_id)
        assert ended(context, instance).snapshot_image_id is None
        assert images.records[image_id]["status"] == "active"
        assert images.data[image_id] == snapshot_data(instance.uuid, SIZE)

    def test_the_action_tells_of_it(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages
    ) -> None:
        instance, image_id = pending(context, images)
        manager.snapshot_instance(context, instance.uuid, image_id)
        ended(context, instance)
        wait_until(
            lambda: (
                InstanceAction.get_by_instance_uuid(context, instance.uuid)[0].finish_time
                is not None
            )
        )
        (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
        (event,) = action.events(context)
        assert action.message is None
        assert (event.event, event.host, event.result) == (
            "compute_snapshot_instance",
            "compute-1",
            "Success",
        )
        assert event.details is not None
        assert event.details.startswith("fake: ")

    def test_a_guest_that_came_out_of_it_without_a_device(
        self,
        manager: ComputeManager,
        context: RequestContext,
        images: MemoryImages,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The image is good, and whoever asked for it reads what there is to see to."""
        take = manager.driver.snapshot

        def snapshot(*arguments: Any) -> SnapshotReport:
            return dataclasses.replace(take(*arguments), warnings=("Device D is gone.",))

        monkeypatch.setattr(manager.driver, "snapshot", snapshot)
        instance, image_id = pending(context, images)
        manager.snapshot_instance(context, instance.uuid, image_id)
        ended(context, instance)
        wait_until(lambda: reason_or_none(context, instance) is not None)
        assert images.records[image_id]["status"] == "active"
        assert reason(context, instance) == "Device D is gone."
        (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
        (event,) = action.events(context)
        assert event.result == "Success"
        assert event.details is not None
        assert event.details.endswith("; Device D is gone.")

    def test_the_states_on_the_way(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages
    ) -> None:
        images.go_on.clear()
        instance, image_id = pending(context, images)
        manager.snapshot_instance(context, instance.uuid, image_id)
        assert images.uploading.wait(SOON)
        now = Instance.get_by_uuid(context, instance.uuid)
        assert now.task_state == task_states.IMAGE_UPLOADING
        images.go_on.set()
        ended(context, instance)

    def test_the_power_state_is_refreshed(
        self,
        manager: ComputeManager,
        driver: FakeDriver,
        context: RequestContext,
        images: MemoryImages,
    ) -> None:
        instance, image_id = pending(context, images)
        driver.add_domain(AdoptedDomain(instance.uuid, instance.name, power_state.PAUSED, 1, 1))
        manager.snapshot_instance(context, instance.uuid, image_id)
        assert ended(context, instance).power_state == power_state.PAUSED

    @pytest.mark.parametrize("serialised", [False, True], ids=["uuid", "serialised"])
    def test_a_cast_of_another_service_is_obeyed(
        self,
        manager: ComputeManager,
        context: RequestContext,
        database: Database,
        images: MemoryImages,
        serialised: bool,
    ) -> None:
        """Nothing was claimed for it, and its project need not be the instance's."""
        instance = make_instance(context)
        image_id = images.create(context, {"name": "snap"})["id"]
        named: Any = instance.uuid
        if serialised:
            named = {"nova_object.name": "Instance", "nova_object.data": {"uuid": named}}
        foreign = make_context(database, project_id="backup-service")
        manager.snapshot_instance(foreign, named, image_id)
        wait_until(lambda: images.records[image_id]["status"] == "active")
        ended(context, instance)
        (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
        assert (action.request_id, action.project_id) == (foreign.request_id, "backup-service")

    def test_no_more_than_the_bound_run_at_once(
        self, conf: cfg.ConfigOpts, database: Database, context: RequestContext
    ) -> None:
        images = MemoryImages()
        conf.set_override("max_concurrent_snapshots", 2)
        manager = ComputeManager(conf, database, images, FakeDriver(conf, images))
        images.go_on.clear()
        asked = [pending(context, images) for _ in range(3)]
        for instance, image_id in asked:
            manager.snapshot_instance(context, instance.uuid, image_id)

        def states() -> list[str | None]:
            found = [Instance.get_by_uuid(context, instance.uuid) for instance, _ in asked]
            return [instance.task_state for instance in found]

        uploading, waiting = task_states.IMAGE_UPLOADING, task_states.IMAGE_SNAPSHOT
        wait_until(lambda: states().count(uploading) == 2)
        assert states() == [uploading, uploading, waiting]
        images.go_on.set()
        for instance, _ in asked:
            ended(context, instance)
        assert manager.stop(SOON) == 0


class TestFailure:
    @pytest.mark.parametrize("phase", ["image_snapshot", "image_pending_upload", "image_uploading"])
    def test_the_image_is_deleted_and_the_reason_is_told(
        self,
        conf: cfg.ConfigOpts,
        manager: ComputeManager,
        context: RequestContext,
        images: MemoryImages,
        phase: str,
    ) -> None:
        conf.set_override("fail_in", phase, "fake")
        instance, image_id = pending(context, images)
        manager.snapshot_instance(context, instance.uuid, image_id)
        now = ended(context, instance)
        assert now.snapshot_image_id is None
        assert images.records == {}
        said = reason(context, instance)
        assert said is not None
        assert phase in said
        fault = InstanceFault.latest_by_instance_uuids(context, [instance.uuid])[instance.uuid]
        assert (fault.code, fault.message, fault.host) == (500, said, "compute-1")
        assert fault.details is not None
        assert "SnapshotFailed" in fault.details

    def test_an_unforeseen_error_is_not_shown_to_the_user(
        self,
        manager: ComputeManager,
        context: RequestContext,
        images: MemoryImages,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        images.fail["upload"] = ZeroDivisionError("password=hunter2")
        instance, image_id = pending(context, images)
        manager.snapshot_instance(context, instance.uuid, image_id)
        ended(context, instance)
        said = reason(context, instance)
        assert said is not None
        assert "hunter2" not in said
        assert "hunter2" in caplog.text
        assert images.records == {}

    def test_an_image_that_holds_other_bytes_is_deleted(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages
    ) -> None:
        """The image service has all of it and calls it active."""
        images.fail["verify"] = exception.ImageRejected(image_id="i", reason="another sha512")
        instance, image_id = pending(context, images)
        manager.snapshot_instance(context, instance.uuid, image_id)
        ended(context, instance)
        assert images.records == {}

    def test_an_image_deleted_meanwhile_is_a_cancel(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages
    ) -> None:
        images.go_on.clear()
        instance, image_id = pending(context, images)
        manager.snapshot_instance(context, instance.uuid, image_id)
        assert images.uploading.wait(SOON)
        images.delete(context, image_id)
        images.go_on.set()
        ended(context, instance)
        assert reason(context, instance) == (
            "The image was deleted while the snapshot was being taken."
        )
        assert InstanceFault.latest_by_instance_uuids(context, [instance.uuid]) == {}

    def test_an_instance_deleted_meanwhile_leaves_no_image(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages
    ) -> None:
        images.go_on.clear()
        instance, image_id = pending(context, images)
        images.fail["upload"] = exception.InstanceNotFound(instance_id=instance.uuid)
        manager.snapshot_instance(context, instance.uuid, image_id)
        assert images.uploading.wait(SOON)
        Instance.get_by_uuid(context, instance.uuid).destroy()
        images.go_on.set()
        wait_until(lambda: images.records == {})

    def test_a_delete_that_has_begun_is_not_undone(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages
    ) -> None:
        images.go_on.clear()
        instance, image_id = pending(context, images)
        manager.snapshot_instance(context, instance.uuid, image_id)
        assert images.uploading.wait(SOON)
        images.fail["upload"] = exception.ImageServiceError(reason="lost")
        now = Instance.get_by_uuid(context, instance.uuid)
        now.task_state = task_states.DELETING
        now.save(expected_task_state=[task_states.IMAGE_UPLOADING])
        images.go_on.set()
        wait_until(lambda: images.records == {})
        wait_until(lambda: reason_or_none(context, instance) is not None)
        now.refresh()
        assert now.task_state == task_states.DELETING

    def test_a_domain_that_is_not_there(
        self,
        manager: ComputeManager,
        driver: FakeDriver,
        context: RequestContext,
        images: MemoryImages,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        instance, image_id = pending(context, images)

        def missing(instance: Instance) -> None:
            raise exception.DomainNotFound(domain=instance.name)

        monkeypatch.setattr(driver, "get_info", missing)
        manager.snapshot_instance(context, instance.uuid, image_id)
        ended(context, instance)
        assert images.records == {}
        said = reason(context, instance)
        assert said is not None
        assert instance.name in said


def reason_or_none(context: RequestContext, instance: Instance) -> str | None:
    action, *_ = InstanceAction.get_by_instance_uuid(context, instance.uuid)
    return action.message


class TestRefusal:
    """Messages that are not obeyed leave the instance as it is, and no queued image."""

    def refuse(
        self,
        manager: ComputeManager,
        context: RequestContext,
        images: MemoryImages,
        instance: Any,
    ) -> None:
        image_id = images.create(context, {"name": "snap"})["id"]
        manager.snapshot_instance(context, instance, image_id)
        assert image_id not in images.records

    @pytest.mark.parametrize("named", [str(uuid.uuid4()), "web", 7, {"nova_object.name": "Port"}])
    def test_no_instance(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages, named: Any
    ) -> None:
        self.refuse(manager, context, images, named)

    @pytest.mark.parametrize("image_id", [None, ["x"], {"a": 1}, 7, "", "../../servers"])
    def test_an_image_without_an_id(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages, image_id: Any
    ) -> None:
        images.fail = {call: AssertionError("it was asked") for call in ("get", "delete", "update")}
        instance = make_instance(context)
        manager.snapshot_instance(context, instance.uuid, image_id)
        manager.backup_instance(context, instance.uuid, image_id, "daily", 1)
        assert Instance.get_by_uuid(context, instance.uuid) == instance

    @pytest.mark.parametrize(
        "values",
        [
            pytest.param({"host": "compute-2"}, id="another-host"),
            pytest.param({"vm_state": "error"}, id="vm-state"),
            pytest.param({"task_state": "deleting"}, id="task-state"),
            pytest.param(
                {"task_state": PENDING, "snapshot_image_id": "other"}, id="pending-for-another"
            ),
            pytest.param(
                {"task_state": "image_uploading", "snapshot_image_id": "other"}, id="busy"
            ),
        ],
    )
    def test_a_state_that_forbids_it(
        self,
        manager: ComputeManager,
        context: RequestContext,
        images: MemoryImages,
        values: dict[str, Any],
    ) -> None:
        instance = make_instance(context, **values)
        self.refuse(manager, context, images, instance.uuid)
        assert Instance.get_by_uuid(context, instance.uuid) == instance
        said = reason(context, instance)
        assert said is not None
        assert said.startswith(f"Cannot 'createImage' instance {instance.uuid} while it is in ")

    def test_the_same_message_twice_gives_one_image(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages
    ) -> None:
        images.go_on.clear()
        instance, image_id = pending(context, images)
        manager.snapshot_instance(context, instance.uuid, image_id)
        assert images.uploading.wait(SOON)
        manager.snapshot_instance(context, instance.uuid, image_id)
        images.go_on.set()
        ended(context, instance)
        wait_until(lambda: SnapshotRequest.get(context, image_id) is None)
        manager.snapshot_instance(context, instance.uuid, image_id)
        assert images.records[image_id]["status"] == "active"
        assert images.data[image_id] == snapshot_data(instance.uuid, SIZE)
        assert Instance.get_by_uuid(context, instance.uuid).task_state is None
        assert reason(context, instance) is None

    def test_the_same_message_twice_at_the_same_time_gives_one_image(
        self,
        manager: ComputeManager,
        context: RequestContext,
        images: MemoryImages,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        images.go_on.clear()
        instance, image_id = pending(context, images)
        found = Instance.get_by_uuid

        def found_and_then_the_other_is_faster(*arguments: Any) -> Instance:
            seen = found(*arguments)
            monkeypatch.setattr(Instance, "get_by_uuid", found)
            manager.snapshot_instance(context, instance.uuid, image_id)
            return seen

        monkeypatch.setattr(Instance, "get_by_uuid", found_and_then_the_other_is_faster)
        manager.snapshot_instance(context, instance.uuid, image_id)
        assert images.uploading.wait(SOON)
        images.go_on.set()
        ended(context, instance)
        # The action ends a moment later, and then the journal forgets it.
        wait_until(lambda: SnapshotRequest.get(context, image_id) is None)
        assert images.data[image_id] == snapshot_data(instance.uuid, SIZE)
        assert reason(context, instance) is None


class TestRecovery:
    """What a process left that was killed, as the next start finds it."""

    LEFT = (
        task_states.IMAGE_SNAPSHOT,
        task_states.IMAGE_PENDING_UPLOAD,
        task_states.IMAGE_UPLOADING,
    )

    @pytest.fixture
    def restart(
        self, conf: cfg.ConfigOpts, database: Database, images: MemoryImages, driver: FakeDriver
    ) -> Callable[[], None]:
        conf.set_override("transport_url", "rabbit://")
        return ComputeManager(conf, database, images, driver).init_host

    @pytest.mark.parametrize("state", LEFT)
    def test_a_snapshot_that_was_interrupted(
        self,
        restart: Callable[[], None],
        context: RequestContext,
        images: MemoryImages,
        state: str,
    ) -> None:
        instance, _ = pending(context, images, task_state=state)
        (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
        cut_off = InstanceActionEvent.record(context, action, "compute_snapshot", "compute-1")
        cut_off.__enter__()
        restart()
        (event,) = action.events(context)
        assert (event.result, event.finish_time is not None) == ("Error", True)
        now = Instance.get_by_uuid(context, instance.uuid)
        assert (now.task_state, now.snapshot_image_id) == (None, None)
        assert images.records == {}
        assert reason(context, instance) == (f"The compute service was restarted during {state}.")

    def test_a_snapshot_that_was_done_but_for_the_last_step(
        self, restart: Callable[[], None], context: RequestContext, images: MemoryImages
    ) -> None:
        instance, image_id = pending(context, images, task_state=task_states.IMAGE_UPLOADING)
        images.records[image_id]["status"] = "active"
        SnapshotRequest.record(context, image_id, instance.uuid, instance.host, "createImage")
        restart()
        assert Instance.get_by_uuid(context, instance.uuid).task_state is None
        assert image_id in images.records
        assert SnapshotRequest.get(context, image_id) is None
        assert reason(context, instance) is None

    @pytest.mark.parametrize("state", snapshot_kinds.ANNOUNCED)
    def test_a_request_that_still_waits_is_left_alone(
        self, restart: Callable[[], None], context: RequestContext, images: MemoryImages, state: str
    ) -> None:
        instance, image_id = pending(context, images, task_state=state)
        restart()
        assert Instance.get_by_uuid(context, instance.uuid).task_state == state
        assert image_id in images.records

    @pytest.mark.parametrize("state", snapshot_kinds.ANNOUNCED)
    def test_a_request_whose_message_died_with_the_process_is_ended(
        self,
        conf: cfg.ConfigOpts,
        restart: Callable[[], None],
        database: Database,
        context: RequestContext,
        images: MemoryImages,
        driver: FakeDriver,
        state: str,
    ) -> None:
        conf.set_override("transport_url", "fake://")
        instance, _ = pending(context, images, task_state=state)
        ComputeManager(conf, database, images, driver).init_host()
        assert Instance.get_by_uuid(context, instance.uuid).task_state is None
        assert images.records == {}
        assert reason(context, instance) == (f"The compute service was restarted during {state}.")

    def test_a_step_after_the_instance_was_free_is_ended(
        self, restart: Callable[[], None], context: RequestContext
    ) -> None:
        """Such as a rotation: nothing in the instance tells of it."""
        instance = make_instance(context)
        ours = InstanceAction.start(context, instance.uuid, "createBackup")
        InstanceActionEvent.record(context, ours, "rotate_backups", "compute-1").__enter__()
        theirs = InstanceAction.start(context, instance.uuid, "createImage")
        InstanceActionEvent.record(context, theirs, "snapshot", "compute-2").__enter__()
        restart()
        other, one = InstanceAction.get_by_instance_uuid(context, instance.uuid)
        assert (one.message, other.message) == ("The compute service was restarted.", None)
        assert [event.result for event in one.events(context)] == ["Error"]
        assert [event.result for event in other.events(context)] == [None]

    def test_another_hosts_snapshot_is_left_alone(
        self, restart: Callable[[], None], context: RequestContext, images: MemoryImages
    ) -> None:
        state = task_states.IMAGE_UPLOADING
        instance, image_id = pending(context, images, task_state=state, host="compute-2")
        restart()
        assert Instance.get_by_uuid(context, instance.uuid).task_state == state
        assert image_id in images.records

    def test_an_image_service_that_is_down_does_not_stop_it(
        self, restart: Callable[[], None], context: RequestContext, images: MemoryImages
    ) -> None:
        instance, _ = pending(context, images, task_state=task_states.IMAGE_UPLOADING)
        images.fail["get"] = exception.ImageServiceUnavailable(endpoint="x", reason="down")
        restart()
        assert Instance.get_by_uuid(context, instance.uuid).task_state is None
