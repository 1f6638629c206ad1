# SPDX-License-Identifier: Apache-2.0
"""What nobody else ends: requests that wait, hosts that went down, images that nobody fills."""

import concurrent.futures
import datetime
import time
import uuid
from collections.abc import Callable, Container

import pytest
from oslo_config import cfg
from oslo_db import exception as db_exception

from nova_snap import exception
from nova_snap.compute import snapshot_kinds, task_states
from nova_snap.compute.in_hand import InHand
from nova_snap.compute.reaper import TAKEN_UP, Reaper
from nova_snap.compute.snapshot_kinds import Kind
from nova_snap.context import RequestContext, get_admin_context
from nova_snap.db import models
from nova_snap.db.session import Database
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction, InstanceActionEvent
from nova_snap.objects.instance_fault import InstanceFault
from nova_snap.objects.service import COMPUTE, Service
from nova_snap.objects.snapshot_request import SnapshotRequest
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import HOST, make_context, make_instance, table_away

SOON = 20
LONG_AGO = datetime.datetime(2026, 1, 1)
ELSEWHERE = "compute-2"


@pytest.fixture
def images() -> MemoryImages:
    return MemoryImages()


@pytest.fixture
def admin(database: Database) -> RequestContext:
    return get_admin_context(database)


@pytest.fixture
def make(conf: cfg.ConfigOpts, images: MemoryImages) -> Callable[..., Reaper]:
    def made(host: str | None = None, in_hand: Container[str] = ()) -> Reaper:
        return Reaper(conf, images, host, in_hand)

    return made


def asked(
    context: RequestContext,
    images: MemoryImages,
    kind: Kind = snapshot_kinds.SNAPSHOT,
    host: str = ELSEWHERE,
    **values: object,
) -> tuple[Instance, str]:
    """A request as the API leaves it."""
    image_id = str(uuid.uuid4())
    given = {"task_state": kind.announced, **values}
    instance = make_instance(context, host=host, snapshot_image_id=image_id, **given)
    SnapshotRequest.record(context, image_id, instance.uuid, host, kind.action)
    images.create(context, {"name": "snap", "id": image_id})
    InstanceAction.start(context, instance.uuid, kind.action)
    return instance, image_id


def long_ago(database: Database) -> None:
    """Everything that there is was written down then."""
    with database.writer() as session:
        session.query(models.SnapshotRequest).update({"phase_since": LONG_AGO})
        session.query(models.Service).update(
            {"last_seen_up": LONG_AGO, "updated_at": LONG_AGO, "created_at": LONG_AGO}
        )
        session.query(models.InstanceAction).update(
            {"start_time": LONG_AGO, "updated_at": LONG_AGO}
        )
        session.query(models.Instance).update({"updated_at": LONG_AGO})


def now(context: RequestContext, instance: Instance) -> Instance:
    return Instance.get_by_uuid(context, instance.uuid)


def is_free(context: RequestContext, instance: Instance) -> bool:
    return now(context, instance).task_state is None


def said(context: RequestContext, instance: Instance) -> str | None:
    (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
    return action.message


class TestOverdue:
    @pytest.mark.parametrize(
        "kind", [snapshot_kinds.SNAPSHOT, snapshot_kinds.BACKUP], ids=lambda kind: str(kind.action)
    )
    def test_one_is_ended_with_a_reason_whatever_host_it_is_for(
        self,
        make: Callable[..., Reaper],
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
        kind: Kind,
    ) -> None:
        instance, image_id = asked(context, images, kind)
        long_ago(database)
        make().end_overdue(admin)
        assert is_free(context, instance)
        assert image_id not in images.records
        reason = "The request did not reach the compute host within 600 s; try again."
        assert said(context, instance) == reason
        fault = InstanceFault.latest_by_instance_uuids(context, [instance.uuid])[instance.uuid]
        assert fault.message == reason
        assert SnapshotRequest.get(context, image_id) is None

    def test_one_without_a_journal_is_as_old_as_its_action(
        self,
        make: Callable[..., Reaper],
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
    ) -> None:
        old, old_image = asked(make_context(database, timestamp=LONG_AGO), images)
        young, young_image = asked(context, images)
        for image_id in (old_image, young_image):
            SnapshotRequest.forget(context, image_id)
        make().end_overdue(admin)
        assert is_free(context, old)
        assert not is_free(context, young)

    def test_others_are_left_alone(
        self,
        conf: cfg.ConfigOpts,
        make: Callable[..., Reaper],
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
    ) -> None:
        running, _ = asked(context, images, task_state=task_states.IMAGE_SNAPSHOT)
        waiting, _ = asked(context, images)
        long_ago(database)
        conf.set_override("snapshot_pending_timeout", 0)
        make().end_overdue(admin)
        assert not is_free(context, waiting)
        conf.clear_override("snapshot_pending_timeout")
        young, _ = asked(context, images)
        make().end_overdue(admin)
        assert [is_free(context, one) for one in (running, waiting, young)] == [False, True, False]

    def test_of_many_that_look_one_ends_it(
        self,
        make: Callable[..., Reaper],
        database: Database,
        context: RequestContext,
        images: MemoryImages,
    ) -> None:
        instance, _ = asked(context, images)
        long_ago(database)
        reaper = make()
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda _: reaper.end_overdue(get_admin_context(database)), range(6)))
        assert is_free(context, instance)
        with database.reader() as session:
            assert session.query(models.InstanceFault).count() == 1

    def test_an_image_service_that_is_broken_keeps_the_image_but_not_the_instance(
        self,
        make: Callable[..., Reaper],
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
    ) -> None:
        instance, image_id = asked(context, images)
        long_ago(database)
        images.fail["get"] = exception.ImageServiceUnavailable(endpoint="g", reason="down")
        make().end_overdue(admin)
        assert is_free(context, instance)
        assert SnapshotRequest.get(context, image_id) is not None


class TestLost:
    """Snapshots on a host that went down."""

    def test_they_are_ended(
        self,
        make: Callable[..., Reaper],
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
    ) -> None:
        Service.register(context, ELSEWHERE, COMPUTE, "topic")
        left = [asked(context, images, task_state=state) for state in TAKEN_UP]
        (action,) = InstanceAction.get_by_instance_uuid(context, left[0][0].uuid)
        InstanceActionEvent.begin(context, action, "compute_snapshot_instance", ELSEWHERE)
        make().end_lost(admin)
        assert not any(is_free(context, instance) for instance, _ in left)
        long_ago(database)
        make().end_lost(admin)
        assert images.records == {}
        for (instance, _), state in zip(left, TAKEN_UP, strict=True):
            assert is_free(context, instance)
            assert said(context, instance) == (
                f"The compute host is down since {state}, and was not back within 600 s."
            )
        assert [event.result for event in action.events(context)] == ["Error"]

    def test_at_once_where_somebody_says_that_it_is_down(
        self,
        make: Callable[..., Reaper],
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
    ) -> None:
        service = Service.register(context, ELSEWHERE, COMPUTE, "topic")
        instance, _ = asked(context, images, task_state=task_states.IMAGE_UPLOADING)
        service.forced_down = True
        service.save(context)
        make().end_lost(admin)
        assert is_free(context, instance)

    def test_not_one_of_the_host_that_looks(
        self,
        make: Callable[..., Reaper],
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
    ) -> None:
        """It knows better what it does: its reports may be what does not get through."""
        Service.register(context, HOST, COMPUTE, "topic")
        instance, _ = asked(context, images, host=HOST, task_state=task_states.IMAGE_UPLOADING)
        long_ago(database)
        make(HOST).end_lost(admin)
        assert not is_free(context, instance)


class SlowImages(MemoryImages):
    """:ivar meanwhile: what happens while the first image is asked for."""

    meanwhile: Callable[[], None] | None = None

    def _enter(self, method: str) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        super()._enter(method)


class TestOldList:
    """The first of a list takes long to end, and the others are not what they were."""

    @pytest.fixture
    def images(self) -> SlowImages:
        return SlowImages()

    @staticmethod
    def two(
        context: RequestContext, database: Database, images: SlowImages
    ) -> tuple[Service, Instance, Instance]:
        """A host that is down, and its snapshots in the order in which they are ended."""
        service = Service.register(context, ELSEWHERE, COMPUTE, "topic")
        state = task_states.IMAGE_SNAPSHOT
        later, _ = asked(context, images, task_state=state)
        first, _ = asked(context, images, task_state=state)
        long_ago(database)
        return service, first, later

    def test_a_request_that_came_after_it_is_left_alone(
        self,
        make: Callable[..., Reaper],
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: SlowImages,
    ) -> None:
        _, first, later = self.two(context, database, images)
        again = make_context(database)
        new_image = str(uuid.uuid4())

        def end_and_ask_again() -> None:
            """As the host's next start does, and then a user."""
            found = now(again, later)
            (action,) = InstanceAction.get_by_instance_uuid(again, later.uuid)
            action.finish(again, "restarted")
            found.end_snapshot()
            found.save()
            InstanceAction.start(again, later.uuid, "createImage")
            found.task_state, found.snapshot_image_id = task_states.IMAGE_SNAPSHOT, new_image
            found.save(expected_task_state=[None])

        images.meanwhile = end_and_ask_again
        make().end_lost(admin)
        assert is_free(context, first)
        assert now(context, later).snapshot_image_id == new_image
        newest, _ = InstanceAction.get_by_instance_uuid(context, later.uuid)
        assert newest.finish_time is None
        assert InstanceFault.latest_by_instance_uuids(context, [later.uuid]) == {}

    def test_a_host_that_is_back_keeps_what_it_works_on(
        self,
        make: Callable[..., Reaper],
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: SlowImages,
    ) -> None:
        service, first, later = self.two(context, database, images)
        images.meanwhile = lambda: service.report(admin)
        make().end_lost(admin)
        assert is_free(context, first)
        assert not is_free(context, later)
        assert now(context, later).snapshot_image_id in images.records


class TestDatabaseAway:
    """Who could not report for as long is not down, and whom nobody could ask is not lost."""

    @pytest.mark.parametrize("state", [task_states.IMAGE_UPLOADING, "image_snapshot_pending"])
    def test_hosts_have_time_to_report(
        self,
        conf: cfg.ConfigOpts,
        make: Callable[..., Reaper],
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
        state: str,
    ) -> None:
        conf.set_override("service_down_time", 1)
        Service.register(context, ELSEWHERE, COMPUTE, "topic")
        instance, _ = asked(context, images, task_state=state)
        long_ago(database)
        reaper = make()
        look = reaper.end_lost if state in TAKEN_UP else reaper.end_overdue
        with table_away(database, "instances"), pytest.raises(db_exception.DBError):
            look(admin)
        look(admin)
        assert not is_free(context, instance)
        until = time.monotonic() + SOON
        while not is_free(context, instance):
            assert time.monotonic() < until
            time.sleep(0.1)
            look(admin)


class TestDropped:
    def test_what_no_thread_works_on_is_ended(
        self,
        make: Callable[..., Reaper],
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
    ) -> None:
        state = task_states.IMAGE_UPLOADING
        in_hand = InHand()
        dropped, _ = asked(context, images, host=HOST, task_state=state)
        running, image_id = asked(context, images, host=HOST, task_state=state)
        elsewhere, _ = asked(context, images, task_state=state)
        in_hand.enter(image_id)
        in_hand.enter(image_id)
        in_hand.leave(image_id)
        reaper = make(HOST, in_hand)
        reaper.end_dropped(admin)
        assert is_free(context, dropped)
        assert said(context, dropped) == (
            "The snapshot was lost on its compute host during image_uploading; try again."
        )
        assert not is_free(context, running)
        assert not is_free(context, elsewhere)
        in_hand.leave(image_id)
        reaper.end_dropped(admin)
        assert is_free(context, running)

    def test_what_had_become_an_image_is_one(
        self,
        make: Callable[..., Reaper],
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
    ) -> None:
        """The database was away when its end was to be written down."""
        instance, image_id = asked(
            context, images, host=HOST, task_state=task_states.IMAGE_UPLOADING
        )
        images.records[image_id]["status"] = "active"
        make(HOST, InHand()).end_dropped(admin)
        assert is_free(context, instance)
        assert image_id in images.records
        assert said(context, instance) is None
        assert SnapshotRequest.get(context, image_id) is None
        assert InstanceFault.latest_by_instance_uuids(context, [instance.uuid]) == {}

    def test_what_the_driver_gave_up_is_no_image_although_it_is_active(
        self,
        make: Callable[..., Reaper],
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
    ) -> None:
        instance, image_id = asked(
            context, images, host=HOST, task_state=task_states.IMAGE_UPLOADING
        )
        images.records[image_id]["status"] = "active"
        SnapshotRequest.give_up(context, image_id)
        make(HOST, InHand()).end_dropped(admin)
        assert is_free(context, instance)
        assert images.records == {}
        assert said(context, instance) is not None

    def test_a_thread_that_hangs_does_not_keep_the_instance(
        self,
        conf: cfg.ConfigOpts,
        make: Callable[..., Reaper],
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
    ) -> None:
        """It was cancelled long ago, and has not ended; one that waits for its place may wait."""
        state, action = task_states.IMAGE_SNAPSHOT, "createImage"
        stuck, stuck_image = asked(context, images, host=HOST, task_state=state)
        waits, waits_image = asked(context, images, host=HOST, task_state=state)
        SnapshotRequest.advance(context, stuck_image, stuck.uuid, HOST, action, "running")
        SnapshotRequest.advance(context, waits_image, waits.uuid, HOST, action, "queued")
        reaper = make(HOST, {stuck_image, waits_image})
        reaper.end_dropped(admin)
        assert not is_free(context, stuck)
        long_ago(database)
        conf.set_override("snapshot_timeout", 0)
        make(HOST, {stuck_image, waits_image}).end_dropped(admin)
        assert not is_free(context, stuck)
        reaper.end_dropped(admin)
        assert [is_free(context, stuck), is_free(context, waits)] == [True, False]
        assert said(context, stuck) == (
            "The snapshot did not end within 43200 s and was cancelled."
        )


class TestOrphans:
    def test_an_image_whose_api_process_died_before_the_claim(
        self,
        make: Callable[..., Reaper],
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
    ) -> None:
        instance, image_id = asked(context, images, task_state=None)
        instance.snapshot_image_id = None
        instance.save()
        make().delete_orphans(admin)
        assert image_id in images.records
        long_ago(database)
        make().delete_orphans(admin)
        assert images.records == {}
        assert SnapshotRequest.get(context, image_id) is None

    @pytest.mark.parametrize("state", task_states.SNAPSHOT_STATES)
    def test_an_image_that_its_instance_knows_of_stays(
        self,
        make: Callable[..., Reaper],
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
        state: str,
    ) -> None:
        _, image_id = asked(context, images, task_state=state)
        long_ago(database)
        make().delete_orphans(admin)
        assert image_id in images.records

    def test_an_image_that_is_whole_stays_and_is_forgotten(
        self,
        make: Callable[..., Reaper],
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
    ) -> None:
        _, image_id = asked(context, images, task_state=None)
        images.records[image_id]["status"] = "active"
        long_ago(database)
        make().delete_orphans(admin)
        assert image_id in images.records
        assert SnapshotRequest.get(context, image_id) is None

    def test_one_that_was_given_up_goes_although_it_is_whole(
        self,
        make: Callable[..., Reaper],
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
    ) -> None:
        """Its first deletion failed; other bytes than the guest's may be in it."""
        _, image_id = asked(context, images, task_state=None)
        images.records[image_id]["status"] = "active"
        SnapshotRequest.give_up(context, image_id)
        long_ago(database)
        make().delete_orphans(admin)
        assert images.records == {}
        assert SnapshotRequest.get(context, image_id) is None

    def test_an_image_service_that_is_down_is_asked_again(
        self,
        make: Callable[..., Reaper],
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
    ) -> None:
        instance, image_id = asked(context, images, task_state=None)
        instance.destroy()
        long_ago(database)
        images.fail["get"] = exception.ImageServiceUnavailable(endpoint="g", reason="down")
        make().delete_orphans(admin)
        del images.fail["get"]
        with database.writer() as session:
            session.query(models.SnapshotRequest).update({"reaped_until": LONG_AGO})
        make().delete_orphans(admin)
        assert images.records == {}
        assert SnapshotRequest.get(context, image_id) is None

    def test_what_cannot_be_deleted_is_not_looked_for_for_ever(
        self,
        make: Callable[..., Reaper],
        database: Database,
        context: RequestContext,
        admin: RequestContext,
        images: MemoryImages,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        _, image_id = asked(context, images, task_state=None)
        long_ago(database)
        with database.writer() as session:
            session.query(models.SnapshotRequest).update({"created_at": LONG_AGO})
        images.fail["delete"] = exception.ImageForbidden(image_id=image_id, reason="no")
        make().delete_orphans(admin)
        assert SnapshotRequest.get(context, image_id) is None
        assert f"Image {image_id} is looked for no more" in caplog.text


def test_it_looks_by_itself(
    conf: cfg.ConfigOpts,
    make: Callable[..., Reaper],
    database: Database,
    context: RequestContext,
    images: MemoryImages,
) -> None:
    conf.set_override("snapshot_pending_timeout", 1)
    instance, _ = asked(context, images)
    thread = make(HOST).periodic(database)
    thread.start()
    until = time.monotonic() + SOON
    while not is_free(context, instance):
        assert time.monotonic() < until, "nobody has ended it"
        time.sleep(0.02)
    thread.stop()
