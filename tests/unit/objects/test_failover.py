# SPDX-License-Identifier: Apache-2.0
"""A database whose connection is lost: what was written counts once, whether its answer came."""

import contextlib
import uuid
from collections.abc import Callable, Iterator

import pytest
from oslo_config import cfg
from oslo_db import exception as db_exception
from sqlalchemy import orm

from nova_snap import exception
from nova_snap.compute import task_states
from nova_snap.db import migration
from nova_snap.db.session import Database
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction, InstanceActionEvent
from tests.fixtures.service import make_context, make_instance

PENDING = task_states.IMAGE_SNAPSHOT_PENDING


class LosesConnections(Database):
    """:ivar lose: when the next transaction's connection is lost: before or after its commit.
    :ivar error: of the next transaction, before it begins.
    :ivar meanwhile: what others do before it is tried again.
    """

    lose = ""
    error: Exception | None = None
    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    @contextlib.contextmanager
    def writer(self) -> Iterator[orm.Session]:
        when, self.lose = self.lose, ""
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
            with super().writer() as session:
                yield session
                if when == "before":
                    raise db_exception.DBConnectionError
            if when == "after":
                raise db_exception.DBConnectionError
        except (db_exception.DBConnectionError, db_exception.DBDeadlock):
            self.meanwhile()
            raise


@pytest.fixture
def database(conf: cfg.ConfigOpts) -> Iterator[LosesConnections]:
    made = LosesConnections(conf)
    migration.sync(made)
    yield made
    made.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_claim_is_made_once(database: LosesConnections, when: str) -> None:
    context = make_context(database)
    instance = make_instance(context)
    image_id = str(uuid.uuid4())
    instance.task_state, instance.snapshot_image_id = PENDING, image_id
    database.lose = when
    instance.save(expected_task_state=[None])
    now = Instance.get_by_uuid(context, instance.uuid)
    assert (now.task_state, now.snapshot_image_id) == (PENDING, image_id)


def test_another_ones_claim_is_not_taken_for_ours(database: LosesConnections) -> None:
    context = make_context(database)
    instance = make_instance(context)
    theirs = Instance.get_by_uuid(context, instance.uuid)
    theirs.task_state, theirs.snapshot_image_id = PENDING, str(uuid.uuid4())
    database.meanwhile = lambda: theirs.save(expected_task_state=[None])
    instance.task_state, instance.snapshot_image_id = PENDING, str(uuid.uuid4())
    database.lose = "before"
    with pytest.raises(exception.UnexpectedTaskState):
        instance.save(expected_task_state=[None])
    now = Instance.get_by_uuid(context, instance.uuid)
    assert now.snapshot_image_id == theirs.snapshot_image_id


@pytest.mark.parametrize(
    "error", [db_exception.DBDeadlock(), db_exception.DBConnectionError()], ids=["deadlock", "away"]
)
def test_who_has_written_nothing_has_not_won(database: LosesConnections, error: Exception) -> None:
    """Of two that want the same step, and whose changes are alike, one is first."""
    context = make_context(database)
    instance = make_instance(context)
    theirs = Instance.get_by_uuid(context, instance.uuid)
    theirs.task_state = instance.task_state = task_states.POWERING_OFF
    theirs.save(expected_task_state=[None])
    database.error = error
    with pytest.raises(exception.UnexpectedTaskState):
        instance.save(expected_task_state=[None])


def test_an_answer_that_is_lost_is_remembered_over_a_deadlock(database: LosesConnections) -> None:
    context = make_context(database)
    instance = make_instance(context)
    instance.task_state = task_states.POWERING_OFF
    database.lose = "after"

    def deadlock_once() -> None:
        database.meanwhile = lambda: None
        database.error = db_exception.DBDeadlock()

    database.meanwhile = deadlock_once
    instance.save(expected_task_state=[None])
    assert Instance.get_by_uuid(context, instance.uuid).task_state == task_states.POWERING_OFF


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_action_ends(database: LosesConnections, when: str) -> None:
    context = make_context(database)
    instance = make_instance(context)
    action = InstanceAction.start(context, instance.uuid, "createImage")
    database.lose = when
    action.finish(context, "why")
    (found,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
    assert found.message == "why"


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_action_and_its_step_begin_once(database: LosesConnections, when: str) -> None:
    context = make_context(database)
    instance = make_instance(context)
    database.lose = when
    action = InstanceAction.start(context, instance.uuid, "createImage")
    database.lose = when
    event = InstanceActionEvent.begin(context, action, "compute_snapshot_instance", "host")
    (found,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
    assert (found.id, [event]) == (action.id, action.events(context))


def test_a_step_that_is_done_again_is_another_one(database: LosesConnections) -> None:
    context = make_context(database)
    instance = make_instance(context)
    action = InstanceAction.start(context, instance.uuid, "createImage")
    first = InstanceActionEvent.begin(context, action, "compute_snapshot_instance", "host")
    first.succeed(context, None)
    database.lose = "before"
    second = InstanceActionEvent.begin(context, action, "compute_snapshot_instance", "host")
    assert second.id != first.id


def test_progress_that_comes_late_is_not_the_last_word(database: LosesConnections) -> None:
    context = make_context(database)
    instance = make_instance(context)
    action = InstanceAction.start(context, instance.uuid, "createImage")
    event = InstanceActionEvent.begin(context, action, "compute_snapshot_instance", "host")
    event.succeed(context, "how it was done")
    event.note(context, "1 of 2 MiB sent")
    assert [each.details for each in action.events(context)] == ["how it was done"]
