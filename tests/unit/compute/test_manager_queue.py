# SPDX-License-Identifier: Apache-2.0
"""Snapshots that wait for their place, take too long, or are stopped."""

import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute import parking, snapshot_kinds, task_states
from nova_snap.compute.manager import ComputeManager
from nova_snap.compute.snapshot_queue import EVENT
from nova_snap.context import RequestContext, get_admin_context
from nova_snap.db.session import Database
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction, InstanceActionEvent
from nova_snap.objects.snapshot_request import SnapshotRequest, SnapshotTotal
from nova_snap.virt.fake import FakeDriver, snapshot_data
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import make_context
from tests.unit.compute.manager_parts import (
    PENDING,
    SIZE,
    SOON,
    ended,
    no_more_threads,
    pending,
    reason,
    wait_until,
)

LONG = 600


class Casts:
    """Takes the place of the broker: keeps the messages, or fails."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.fail: Exception | None = None

    def snapshot_instance(self, ctxt: RequestContext, instance: Instance, image_id: str) -> None:
        self._send(ctxt, instance.uuid, image_id)

    def backup_instance(
        self,
        ctxt: RequestContext,
        instance: Instance,
        image_id: str,
        backup_type: str,
        rotation: int,
    ) -> None:
        self._send(ctxt, instance.uuid, image_id, backup_type, rotation)

    def _send(self, *message: Any) -> None:
        if self.fail is not None:
            raise self.fail
        self.sent.append(message)


@dataclasses.dataclass
class Busy:
    """A manager whose only place is taken, by a snapshot that takes very long."""

    manager: ComputeManager
    first: Instance
    first_image: str


@pytest.fixture
def casts() -> Casts:
    return Casts()


@pytest.fixture
def busy(
    conf: cfg.ConfigOpts,
    database: Database,
    images: MemoryImages,
    driver: FakeDriver,
    casts: Casts,
    context: RequestContext,
) -> Iterator[Busy]:
    conf.set_override("max_concurrent_snapshots", 1)
    conf.set_override("transport_url", "rabbit://")
    conf.set_override("snapshot_delay", LONG, "fake")
    manager = ComputeManager(conf, database, images, driver, compute_rpcapi=casts)  # type: ignore[arg-type]
    first, image_id = pending(context, images)
    manager.snapshot_instance(context, first.uuid, image_id)
    wait_until(lambda: bool(events(context, first)))
    yield Busy(manager, first, image_id)
    assert manager.stop(0) == 0


def events(context: RequestContext, instance: Instance) -> list[InstanceActionEvent]:
    (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
    return action.events(context)


def queued(context: RequestContext, instance: Instance) -> InstanceActionEvent:
    (event,) = [event for event in events(context, instance) if event.event == EVENT]
    return event


class TestQueue:
    def test_who_waits_sees_its_position(
        self,
        conf: cfg.ConfigOpts,
        busy: Busy,
        context: RequestContext,
        images: MemoryImages,
        database: Database,
    ) -> None:
        asked = [pending(context, images) for _ in range(2)]
        other = pending(context, images, project_id="other")
        for instance, image_id in (*asked, other):
            busy.manager.snapshot_instance(context, instance.uuid, image_id)
        # The other project has nothing running.
        assert queued(context, other[0]).details == "queued: position 1 on this host"
        admin = get_admin_context(database)
        busy.manager._queue.look(admin)
        told = [queued(context, instance).details for instance, _ in asked]
        assert told == ["queued: position 2 on this host", "queued: position 3 on this host"]
        assert sorted(SnapshotRequest.count_by_phase(context)) == [
            ("compute-1", "createImage", "queued", 3),
            ("compute-1", "createImage", "running", 1),
        ]
        conf.set_override("snapshot_delay", 0, "fake")
        images.delete(context, busy.first_image)
        for instance, image_id in (*asked, other):
            ended(admin, instance)
            assert images.data[image_id] == snapshot_data(instance.uuid, SIZE)
        event = queued(context, other[0])
        assert event.result == "Success"
        assert (event.details or "").startswith("waited ")
        wait_until(lambda: SnapshotRequest.count_by_phase(context) == [])

    @pytest.mark.parametrize("gone", ["image", "instance"])
    def test_one_that_nobody_wants_any_more_leaves_the_queue(
        self,
        busy: Busy,
        context: RequestContext,
        images: MemoryImages,
        database: Database,
        gone: str,
    ) -> None:
        instance, image_id = pending(context, images)
        busy.manager.snapshot_instance(context, instance.uuid, image_id)
        admin = get_admin_context(database)
        busy.manager._queue.look(admin)
        assert busy.manager._queue._queue.waiting() == [image_id]
        if gone == "image":
            images.delete(context, image_id)
        else:
            Instance.get_by_uuid(context, instance.uuid).destroy()
        busy.manager._queue.look(admin)
        assert busy.manager._queue._queue.waiting() == []
        assert image_id not in images.records
        assert reason(context, instance) is not None
        if gone == "image":
            assert Instance.get_by_uuid(context, instance.uuid).task_state is None


class TestReset:
    def test_a_request_whose_claim_was_reset_lets_the_next_one_be(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        images: MemoryImages,
        driver: FakeDriver,
        context: RequestContext,
    ) -> None:
        """An administrator resets the state of an instance that waits for its place, and its owner
        asks again: both requests are in the queue, and the claim is the second one's."""
        conf.set_override("max_concurrent_snapshots", 1)
        manager = ComputeManager(conf, database, images, driver)
        images.go_on.clear()
        running, image_id = pending(context, images)
        manager.snapshot_instance(context, running.uuid, image_id)
        assert images.uploading.wait(SOON)
        instance, old_image = pending(context, images)
        manager.snapshot_instance(context, instance.uuid, old_image)
        reset = Instance.get_by_uuid(context, instance.uuid)
        reset.end_snapshot()
        reset.save()

        again = make_context(database)
        new_image = images.create(again, {"name": "again"})["id"]
        reset.task_state, reset.snapshot_image_id = PENDING, new_image
        reset.save(expected_task_state=[None])
        InstanceAction.start(again, instance.uuid, "createImage")
        manager.snapshot_instance(again, instance.uuid, new_image)
        images.go_on.set()
        ended(context, instance)
        assert manager.stop(SOON) == 0
        second, first = InstanceAction.get_by_instance_uuid(context, instance.uuid)
        assert (second.finish_time is not None, second.message) == (True, None)
        assert first.message == "The instance's state was reset before the snapshot was done."
        assert old_image not in images.records
        assert images.records[new_image]["status"] == "active"


class TestWithoutThreads:
    def test_a_request_waits_until_there_are_some_again(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        images: MemoryImages,
        driver: FakeDriver,
        context: RequestContext,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        manager = ComputeManager(conf, database, images, driver)
        instance, image_id = pending(context, images)
        with no_more_threads(monkeypatch, "snapshot"):
            manager.snapshot_instance(context, instance.uuid, image_id)
        assert queued(context, instance).details == "queued: position 1 on this host"
        assert image_id in manager._in_hand
        manager._queue.look(get_admin_context(database))
        ended(context, instance)
        assert images.records[image_id]["status"] == "active"
        assert manager.stop(SOON) == 0


class TestStop:
    def test_what_waits_goes_back_to_where_it_came_from(
        self, busy: Busy, context: RequestContext, images: MemoryImages, casts: Casts
    ) -> None:
        one, one_image = pending(context, images)
        two, two_image = pending(context, images, task_state=task_states.IMAGE_BACKUP)
        busy.manager.snapshot_instance(context, one.uuid, one_image)
        busy.manager.backup_instance(context, two.uuid, two_image, "daily", 7)
        busy.manager.park()
        (first_context, *first), (_, *second) = casts.sent
        assert first == [one.uuid, one_image]
        assert second == [two.uuid, two_image, "daily", 7]
        assert first_context.request_id == context.request_id
        for instance, state in ((one, snapshot_kinds.SNAPSHOT), (two, snapshot_kinds.BACKUP)):
            now = Instance.get_by_uuid(context, instance.uuid)
            assert now.task_state == state.announced
            assert queued(context, instance).details == "the compute service was stopped"
        assert {one_image, two_image} < images.records.keys()

    def test_what_runs_is_cancelled_when_its_time_is_over(
        self, busy: Busy, context: RequestContext, images: MemoryImages
    ) -> None:
        began = time.monotonic()
        assert busy.manager.stop(0.1) == 0
        assert time.monotonic() - began < SOON / 2
        first = busy.first
        assert Instance.get_by_uuid(context, first.uuid).task_state is None
        assert reason(context, first) == (
            "The compute service was stopped before the snapshot was done; try again."
        )
        assert images.records == {}
        (total,) = SnapshotTotal.get_all(context)
        assert (total.outcome, total.count) == ("ServiceStopping", 1)

    def test_a_broker_that_cannot_be_reached_ends_them_with_a_reason(
        self, busy: Busy, context: RequestContext, images: MemoryImages, casts: Casts
    ) -> None:
        asked = [pending(context, images) for _ in range(2)]
        for instance, image_id in asked:
            busy.manager.snapshot_instance(context, instance.uuid, image_id)
        casts.fail = exception.MessagingUnavailable(host="compute-1", reason="no route")
        busy.manager.park()
        for instance, image_id in asked:
            assert Instance.get_by_uuid(context, instance.uuid).task_state is None
            assert reason(context, instance) == exception.ServiceStopping().for_user()
            assert image_id not in images.records

    def test_messages_of_one_process_end_with_a_reason(
        self, context: RequestContext, images: MemoryImages
    ) -> None:
        failed: list[tuple[Any, Exception]] = []
        made = parking.Parking("compute-1", None, lambda *given: failed.append(given))
        made.park(["a", "b"], SOON)  # type: ignore[list-item]
        assert [request for request, _ in failed] == ["a", "b"]
        assert {type(error) for _, error in failed} == {exception.ServiceStopping}

    def test_what_there_is_no_time_for_is_left_to_the_next_start(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        failed: list[Any] = []

        def slow(request: Any, error: Exception) -> None:
            failed.append(request)
            threading.Event().wait(0.1)

        parking.Parking("compute-1", None, slow).park(["a", "b", "c"], 0.05)  # type: ignore[list-item]
        assert failed == ["a"]
        assert "2 requests that wait are left" in caplog.text


class TestTimeout:
    def test_a_snapshot_that_takes_too_long_is_cancelled(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        images: MemoryImages,
        driver: FakeDriver,
        context: RequestContext,
    ) -> None:
        conf.set_override("snapshot_timeout", 1)
        conf.set_override("snapshot_delay", LONG, "fake")
        manager = ComputeManager(conf, database, images, driver)
        instance, image_id = pending(context, images)
        manager.snapshot_instance(context, instance.uuid, image_id)
        ended(context, instance)
        assert reason(context, instance) == "The snapshot did not end within 1 s and was cancelled."
        assert images.records == {}
        assert manager.stop(SOON) == 0
        (total,) = SnapshotTotal.get_all(context)
        assert total.outcome == "SnapshotTimeout"
