# SPDX-License-Identifier: Apache-2.0
"""Requests that wait for a message that does not come."""

import datetime
import time
from collections.abc import Callable, Iterator

import pytest

from nova_snap.compute import snapshot_kinds, task_states
from nova_snap.compute.lost_requests import LostRequests
from nova_snap.compute.snapshot_kinds import Kind
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import HOST, make_context, make_instance

SOON = 20
LONG_AGO = datetime.datetime(2026, 1, 1)


@pytest.fixture
def images() -> MemoryImages:
    return MemoryImages()


@pytest.fixture
def looking(database: Database, images: MemoryImages) -> Iterator[LostRequests]:
    made = LostRequests(database, images, HOST, patience=0.5, seconds=0.01)
    made.start()
    yield made
    made.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.01)


def asked(
    context: RequestContext,
    images: MemoryImages,
    kind: Kind = snapshot_kinds.SNAPSHOT,
    host: str = HOST,
) -> tuple[Instance, str]:
    image_id: str = images.create(context, {"name": "snap"})["id"]
    instance = make_instance(
        context, host=host, task_state=kind.announced, snapshot_image_id=image_id
    )
    InstanceAction.start(context, instance.uuid, kind.action)
    return instance, image_id


def is_free(context: RequestContext, instance: Instance) -> bool:
    return Instance.get_by_uuid(context, instance.uuid).task_state is None


@pytest.mark.parametrize(
    "kind", [snapshot_kinds.SNAPSHOT, snapshot_kinds.BACKUP], ids=lambda kind: str(kind.action)
)
def test_one_is_ended_with_a_reason(
    looking: LostRequests, context: RequestContext, images: MemoryImages, kind: Kind
) -> None:
    instance, image_id = asked(context, images, kind)
    wait_until(lambda: is_free(context, instance))
    assert image_id not in images.records
    (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
    assert action.message == ("The request did not reach the compute host within 0.5 s; try again.")


def test_others_are_left_alone(
    looking: LostRequests, context: RequestContext, images: MemoryImages
) -> None:
    elsewhere, _ = asked(context, images, host="compute-2")
    running, image_id = asked(context, images)
    running.task_state = task_states.IMAGE_SNAPSHOT
    running.save(expected_task_state=[task_states.IMAGE_SNAPSHOT_PENDING])
    lost, _ = asked(context, images)
    wait_until(lambda: is_free(context, lost))
    assert not is_free(context, elsewhere)
    assert not is_free(context, running)
    assert image_id in images.records


def test_one_that_is_young_may_still_come(
    database: Database, context: RequestContext, images: MemoryImages
) -> None:
    old = make_context(database, timestamp=LONG_AGO)
    lost, _ = asked(old, images)
    young, _ = asked(context, images)
    looking = LostRequests(database, images, HOST, patience=3600, seconds=0.01)
    looking._look(context)
    assert is_free(context, lost)
    assert not is_free(context, young)


def test_an_image_service_that_is_broken_does_not_keep_the_instance(
    looking: LostRequests, context: RequestContext, images: MemoryImages
) -> None:
    images.fail["get"] = RuntimeError("broken")
    instance, _ = asked(context, images)
    wait_until(lambda: is_free(context, instance))


def test_a_database_that_fails_is_asked_again(
    database: Database,
    context: RequestContext,
    images: MemoryImages,
    looking: LostRequests,
    caplog: pytest.LogCaptureFixture,
) -> None:
    instance, _ = asked(context, images)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE instance_actions RENAME TO elsewhere")
    wait_until(lambda: "cannot be looked for now" in caplog.text)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO instance_actions")
    wait_until(lambda: is_free(context, instance))


def test_it_stops_while_it_waits(database: Database, images: MemoryImages) -> None:
    looking = LostRequests(database, images, HOST)
    looking.start()
    began = time.monotonic()
    looking.stop()
    assert time.monotonic() - began < SOON / 4
