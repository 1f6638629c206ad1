# SPDX-License-Identifier: Apache-2.0
"""Watching over a snapshot."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from nova_snap import exception
from nova_snap.compute import task_states
from nova_snap.compute.monitor import SnapshotMonitor
from nova_snap.context import RequestContext
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction, InstanceActionEvent
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import make_instance
from tests.unit.compute.manager_parts import no_more_threads

MIB = 1024 * 1024
SOON = 20


class Watched:
    """A snapshot that runs, as far as anybody can see."""

    def __init__(self, context: RequestContext) -> None:
        self.context = context
        self.images = MemoryImages()
        self.image_id: str = self.images.create(context, {"name": "snap"})["id"]
        self.instance = make_instance(
            context,
            task_state=task_states.IMAGE_UPLOADING,
            snapshot_image_id=self.image_id,
        )
        self.action = InstanceAction.start(context, self.instance.uuid, "createImage")

    def now(self) -> Instance:
        return Instance.get_by_uuid(self.context, self.instance.uuid)

    def details(self) -> str | None:
        (event,) = self.action.events(self.context)
        return event.details


@pytest.fixture
def watched(context: RequestContext) -> Watched:
    return Watched(context)


@pytest.fixture
def monitor(watched: Watched) -> Iterator[SnapshotMonitor]:
    with (
        InstanceActionEvent.record(watched.context, watched.action, "snapshot", "host") as event,
        SnapshotMonitor(
            watched.context,
            watched.images,
            watched.instance.uuid,
            watched.image_id,
            event,
            seconds=0.01,
        ) as made,
    ):
        yield made


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.01)


def stopped_by(monitor: SnapshotMonitor) -> type[Exception]:
    until = time.monotonic() + SOON
    while time.monotonic() < until:
        try:
            monitor.check()
        except exception.NovaSnapError as error:
            return type(error)
        time.sleep(0.01)
    raise AssertionError("it was never stopped")


def test_the_progress_is_written(watched: Watched, monitor: SnapshotMonitor) -> None:
    monitor.progress(3 * MIB, 12 * MIB)
    wait_until(lambda: watched.now().snapshot_progress == 25)
    wait_until(lambda: watched.details() == "3 of 12 MiB sent")
    monitor.progress(12 * MIB, 12 * MIB)
    wait_until(lambda: watched.now().snapshot_progress == 100)


def test_another_snapshots_progress_is_left_alone(
    watched: Watched, monitor: SnapshotMonitor
) -> None:
    now = watched.now()
    now.snapshot_image_id = "another"
    now.save()
    monitor.progress(3 * MIB, 12 * MIB)
    wait_until(lambda: watched.details() == "3 of 12 MiB sent")
    assert watched.now().snapshot_progress is None


def test_nothing_stops_a_snapshot_that_is_wanted(
    watched: Watched, monitor: SnapshotMonitor
) -> None:
    monitor.progress(1, 2)
    wait_until(lambda: watched.now().snapshot_progress == 50)
    monitor.check()


def test_a_deleted_image_stops_it(watched: Watched, monitor: SnapshotMonitor) -> None:
    called = threading.Event()
    monitor.on_cancel(called.set)
    watched.images.delete(watched.context, watched.image_id)
    assert stopped_by(monitor) is exception.ImageNotFound
    assert called.wait(SOON)


@pytest.mark.parametrize("status", ["deleted", "pending_delete"])
def test_an_image_that_is_being_deleted_stops_it(
    watched: Watched, monitor: SnapshotMonitor, status: str
) -> None:
    watched.images.records[watched.image_id]["status"] = status
    assert stopped_by(monitor) is exception.ImageNotFound


def test_a_deleted_instance_stops_it(watched: Watched, monitor: SnapshotMonitor) -> None:
    watched.now().destroy()
    assert stopped_by(monitor) is exception.InstanceNotFound


def test_an_instance_that_is_being_deleted_stops_it(
    watched: Watched, monitor: SnapshotMonitor
) -> None:
    now = watched.now()
    now.task_state = task_states.DELETING
    now.save(expected_task_state=[task_states.IMAGE_UPLOADING])
    assert stopped_by(monitor) is exception.InstanceNotFound


@pytest.mark.parametrize("following", [None, "another"])
def test_a_reset_stops_it(
    watched: Watched, monitor: SnapshotMonitor, following: str | None
) -> None:
    """Also if the instance is the next snapshot's by then."""
    now = watched.now()
    now.snapshot_image_id = following
    now.task_state = following and task_states.IMAGE_UPLOADING
    now.save()
    assert stopped_by(monitor) is exception.SnapshotReplaced


def test_who_asks_late_is_called_at_once(watched: Watched, monitor: SnapshotMonitor) -> None:
    watched.images.delete(watched.context, watched.image_id)
    stopped_by(monitor)
    called = threading.Event()
    monitor.on_cancel(called.set)
    assert called.is_set()


def test_an_image_service_that_is_down_stops_nothing(
    watched: Watched, monitor: SnapshotMonitor
) -> None:
    watched.images.fail["get"] = exception.ImageServiceUnavailable(endpoint="x", reason="down")
    monitor.progress(1, 2)
    wait_until(lambda: watched.now().snapshot_progress == 50)
    monitor.check()


def test_one_that_gets_only_half_of_its_threads_keeps_none(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = InstanceActionEvent.begin(watched.context, watched.action, "snapshot", "host")
    monitor = SnapshotMonitor(
        watched.context,
        watched.images,
        watched.instance.uuid,
        watched.image_id,
        event,
        timeout=600,
    )
    assert monitor._timer is not None
    monitor._timer.name = "the-second"
    with (
        no_more_threads(monkeypatch, "the-second"),
        pytest.raises(RuntimeError, match="start new thread"),
        monitor,
    ):
        pass
    assert not monitor._thread.is_alive()
