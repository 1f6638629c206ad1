# SPDX-License-Identifier: Apache-2.0
"""The reaper at its borders: what it must leave alone, and for how long."""

import datetime
import uuid
from collections.abc import Callable

import pytest
from oslo_config import cfg
from oslo_utils import timeutils

from nova_snap import exception
from nova_snap.compute import task_states
from nova_snap.compute.reaper import Reaper
from nova_snap.context import RequestContext, get_admin_context
from nova_snap.db import models
from nova_snap.db.session import Database
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.objects.service import COMPUTE, Service
from nova_snap.objects.snapshot_request import RUNNING, SnapshotRequest
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import HOST, make_instance

ELSEWHERE = "compute-2"
SENT = task_states.IMAGE_UPLOADING
DAY = 24 * 3600.0


@pytest.fixture
def images() -> MemoryImages:
    return MemoryImages()


@pytest.fixture
def admin(database: Database) -> RequestContext:
    return get_admin_context(database)


def request(
    context: RequestContext, images: MemoryImages, host: str, task_state: str | None
) -> tuple[Instance, str]:
    """A request with its image, its record in the journal, and its action."""
    image_id = str(uuid.uuid4())
    instance = make_instance(context, host=host, snapshot_image_id=image_id, task_state=task_state)
    SnapshotRequest.record(context, image_id, instance.uuid, host, "createImage")
    images.create(context, {"name": "snap", "id": image_id})
    InstanceAction.start(context, instance.uuid, "createImage")
    return instance, image_id


def age(database: Database, seconds: float, *columns: str) -> None:
    """Let these columns of the journal be so old, and the actions."""
    past = timeutils.utcnow() - datetime.timedelta(seconds=seconds)
    with database.writer() as session:
        session.query(models.SnapshotRequest).update(dict.fromkeys(columns, past))
        session.query(models.InstanceAction).update({"start_time": past, "updated_at": past})


def unseen(database: Database, seconds: float) -> None:
    """Nobody has reported for so long."""
    past = timeutils.utcnow() - datetime.timedelta(seconds=seconds)
    with database.writer() as session:
        signs = dict.fromkeys(("last_seen_up", "updated_at", "created_at"), past)
        session.query(models.Service).update(signs)


def state(context: RequestContext, instance: Instance) -> tuple[str | None, str | None]:
    now = Instance.get_by_uuid(context, instance.uuid)
    return now.task_state, now.snapshot_image_id


class TestHostsThatAreDown:
    def test_what_had_become_an_image_is_one(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
    ) -> None:
        """The host died between the last byte and its record."""
        Service.register(context, ELSEWHERE, COMPUTE, "topic")
        instance, image_id = request(context, images, ELSEWHERE, SENT)
        images.records[image_id]["status"] = "active"
        unseen(database, DAY)
        Reaper(conf, images).end_lost(admin)
        assert state(context, instance) == (None, None)
        assert image_id in images.records
        (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
        assert (action.message, action.finish_time is None) == (None, False)

    @pytest.mark.parametrize(
        ("pending", "down", "seconds", "ended"),
        [
            (600, 60, 300, False),
            (600, 60, 700, True),
            (60, 600, 300, False),
            (60, 600, 700, True),
        ],
    )
    def test_the_longer_of_two_timeouts_counts(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
        pending: int,
        down: int,
        seconds: float,
        ended: bool,
    ) -> None:
        conf.set_override("snapshot_pending_timeout", pending)
        conf.set_override("service_down_time", down)
        Service.register(context, ELSEWHERE, COMPUTE, "topic")
        instance, _ = request(context, images, ELSEWHERE, SENT)
        unseen(database, seconds)
        Reaper(conf, images).end_lost(admin)
        assert (state(context, instance)[0] is None) == ended


class EndsMeanwhile:
    """What is in hand: when it is asked, the snapshot has just ended, and the next has begun."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self._begin = begin

    def __contains__(self, _image_id: object) -> bool:
        self._begin()
        return False


def test_the_next_snapshot_is_not_ended_for_the_one_before_it(
    conf: cfg.ConfigOpts, context: RequestContext, admin: RequestContext, images: MemoryImages
) -> None:
    instance, _ = request(context, images, HOST, SENT)
    following = str(uuid.uuid4())

    def begin() -> None:
        other = Instance.get_by_uuid(context, instance.uuid)
        other.snapshot_image_id = following
        other.save()
        SnapshotRequest.record(context, following, instance.uuid, HOST, "createImage")
        images.create(context, {"name": "next", "id": following})

    Reaper(conf, images, HOST, EndsMeanwhile(begin)).end_dropped(admin)
    assert state(context, instance) == (SENT, following)
    assert following in images.records


class TestOrphans:
    def test_what_this_process_works_for_is_nobodys_orphan(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
    ) -> None:
        """Its instance does not know of it yet, or no more."""
        _, image_id = request(context, images, HOST, None)
        age(database, DAY, "phase_since")
        Reaper(conf, images, HOST, {image_id}).delete_orphans(admin)
        assert image_id in images.records
        Reaper(conf, images, HOST).delete_orphans(admin)
        assert images.records == {}

    @pytest.mark.parametrize("taken_by", ["delete", "reset"])
    @pytest.mark.parametrize(
        ("seen", "taken", "ended"),
        [(0, 0, False), (0, DAY, True), (DAY, 0, True)],
        ids=["just-taken", "hangs", "host-is-down"],
    )
    def test_a_host_that_has_to_cancel_has_time_to_say_why(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
        taken_by: str,
        seen: float,
        taken: float,
        ended: bool,
    ) -> None:
        """Its snapshot has run for longer than what nobody looks after is left alone."""
        Service.register(context, ELSEWHERE, COMPUTE, "topic")
        unseen(database, seen)
        instance, image_id = request(context, images, ELSEWHERE, SENT)
        SnapshotRequest.advance(context, image_id, instance.uuid, ELSEWHERE, "createImage", RUNNING)
        age(database, DAY, "phase_since")
        if taken_by == "reset":
            instance.end_snapshot()
        else:
            instance.task_state = task_states.DELETING
        instance.save()
        past = timeutils.utcnow() - datetime.timedelta(seconds=taken)
        with database.writer() as session:
            session.query(models.Instance).update({"updated_at": past})
        Reaper(conf, images, HOST).delete_orphans(admin)
        (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
        assert (action.finish_time is not None) == ended
        assert (image_id in images.records) == (not ended)

    def test_one_process_has_a_case_for_itself_for_a_time(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
    ) -> None:
        _, image_id = request(context, images, HOST, None)
        age(database, DAY, "phase_since")
        images.fail["get"] = exception.ImageServiceUnavailable(endpoint="g", reason="down")
        Reaper(conf, images).delete_orphans(admin)
        del images.fail["get"]
        # The first one may be at it still: it takes a while to delete an image.
        Reaper(conf, images).delete_orphans(admin)
        assert image_id in images.records

    @pytest.mark.parametrize(("days", "forgotten"), [(6, False), (8, True)])
    def test_what_cannot_be_deleted_is_looked_for_for_a_week(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
        days: int,
        forgotten: bool,
    ) -> None:
        _, image_id = request(context, images, HOST, None)
        age(database, days * DAY, "phase_since", "created_at")
        images.fail["delete"] = exception.ImageForbidden(image_id=image_id, reason="no")
        Reaper(conf, images).delete_orphans(admin)
        assert (SnapshotRequest.get(context, image_id) is None) == forgotten
