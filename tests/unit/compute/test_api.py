# SPDX-License-Identifier: Apache-2.0
"""The compute API: what a createImage does before a host is involved."""

from typing import Any

import pytest
from oslo_config import cfg
from oslo_db import exception as db_exception

from nova_snap import exception
from nova_snap.compute import api, task_states, vm_states
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.objects.block_device import BlockDeviceMapping, BlockDeviceMappingList
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.objects.service import COMPUTE, Service
from nova_snap.objects.snapshot_request import SnapshotRequest
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import HOST, PROJECT, make_context, make_instance
from tests.fixtures.volumes import MemoryVolumes

DOWN = exception.ImageServiceUnavailable(endpoint="http://glance", reason="refused")


class Casts:
    """Takes the place of the messages: remembers them, or fails."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.fail: Exception | None = None
        self.take_up = False

    def snapshot_instance(self, ctxt: RequestContext, instance: Instance, image_id: str) -> None:
        if self.take_up:
            there = Instance.get_by_uuid(ctxt, instance.uuid)
            there.task_state = task_states.IMAGE_SNAPSHOT
            there.save(expected_task_state=[task_states.IMAGE_SNAPSHOT_PENDING])
        if self.fail is not None:
            raise self.fail
        self.sent.append((instance.uuid, image_id))

    def backup_instance(
        self,
        ctxt: RequestContext,
        instance: Instance,
        image_id: str,
        backup_type: str,
        rotation: int,
    ) -> None:
        if self.take_up:
            there = Instance.get_by_uuid(ctxt, instance.uuid)
            there.task_state = task_states.IMAGE_SNAPSHOT
            there.save(expected_task_state=[task_states.IMAGE_BACKUP])
        if self.fail is not None:
            raise self.fail
        self.sent.append((instance.uuid, f"{image_id} {backup_type} {rotation}"))


@pytest.fixture
def images() -> MemoryImages:
    return MemoryImages()


@pytest.fixture
def casts() -> Casts:
    return Casts()


@pytest.fixture
def compute(conf: cfg.ConfigOpts, images: MemoryImages, casts: Casts) -> api.API:
    return api.API(conf, images, casts, MemoryVolumes())  # type: ignore[arg-type]


def as_it_was(context: RequestContext, instance: Instance) -> bool:
    now = Instance.get_by_uuid(context, instance.uuid)
    return (now.task_state, now.snapshot_image_id) == (None, None)


def test_a_snapshot_is_recorded_claimed_and_asked_for(
    compute: api.API, context: RequestContext, images: MemoryImages, casts: Casts
) -> None:
    instance = make_instance(context)
    image = compute.snapshot(context, instance, "snap", {"color": "red"})
    record = images.records[image["id"]]
    assert (record["name"], record["status"], record["color"], record["visibility"]) == (
        "snap",
        "queued",
        "red",
        "private",
    )
    assert (record["image_location"], record["image_state"], record["owner_id"]) == (
        "snapshot",
        "available",
        instance.project_id,
    )
    now = Instance.get_by_uuid(context, instance.uuid)
    assert now.task_state == task_states.IMAGE_SNAPSHOT_PENDING
    assert now.snapshot_image_id == image["id"]
    assert casts.sent == [(instance.uuid, image["id"])]
    (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
    assert (action.action, action.request_id, action.finish_time) == (
        "createImage",
        context.request_id,
        None,
    )


@pytest.mark.parametrize("vm_state", vm_states.ALLOW_SNAPSHOT)
def test_states_that_allow_it(
    compute: api.API, context: RequestContext, casts: Casts, vm_state: str
) -> None:
    instance = make_instance(context, vm_state=vm_state)
    compute.snapshot(context, instance, "snap")
    assert len(casts.sent) == 1


@pytest.mark.parametrize(
    ("state", "said"),
    [
        *(
            pytest.param({"vm_state": state}, f"vm_state {state}", id=state)
            for state in vm_states.ALL
            if state not in vm_states.ALLOW_SNAPSHOT
        ),
        *(
            pytest.param({"task_state": state}, f"task_state {state}", id=state)
            for state in task_states.ALL
        ),
        pytest.param({"launched_at": None}, "launched_at None", id="never-launched"),
    ],
)
def test_states_that_forbid_it(
    compute: api.API,
    context: RequestContext,
    images: MemoryImages,
    casts: Casts,
    state: dict[str, Any],
    said: str,
) -> None:
    instance = make_instance(context, **state)
    with pytest.raises(exception.InstanceInvalidState) as caught:
        compute.snapshot(context, instance, "snap")
    assert str(caught.value) == (
        f"Cannot 'createImage' instance {instance.uuid} while it is in {said}"
    )
    assert (images.records, casts.sent) == ({}, [])


def test_the_loser_of_a_race_leaves_nothing(
    compute: api.API, context: RequestContext, images: MemoryImages, casts: Casts
) -> None:
    """Both read the instance before either has claimed it."""
    instance = make_instance(context)
    late = Instance.get_by_uuid(context, instance.uuid)
    image = compute.snapshot(context, instance, "first")
    with pytest.raises(exception.InstanceInvalidState, match="image_snapshot_pending"):
        compute.snapshot(context, late, "second")
    assert images.records.keys() == {image["id"]}
    assert len(casts.sent) == 1


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("create", DOWN),
        ("create", exception.ImageForbidden(image_id=None, reason="no")),
        ("add_member", DOWN),
    ],
)
def test_an_image_service_that_fails_changes_nothing(
    compute: api.API,
    context: RequestContext,
    database: Database,
    images: MemoryImages,
    casts: Casts,
    method: str,
    error: Exception,
) -> None:
    instance = make_instance(context)
    images.fail[method] = error
    admin = make_context(database, project_id="admins", is_admin=True)
    with pytest.raises(type(error)):
        compute.snapshot(admin, instance, "snap")
    assert (images.records, casts.sent) == ({}, [])
    assert as_it_was(context, instance)


def test_a_message_that_is_not_taken_changes_nothing(
    compute: api.API, context: RequestContext, images: MemoryImages, casts: Casts
) -> None:
    instance = make_instance(context)
    casts.fail = exception.MessagingUnavailable(host="compute-1", reason="no queue")
    with pytest.raises(exception.MessagingUnavailable):
        compute.snapshot(context, instance, "snap")
    assert images.records == {}
    assert as_it_was(context, instance)
    (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
    assert action.message is not None
    assert "cannot be reached" in action.message


def test_a_message_that_arrived_although_sending_failed_counts(
    compute: api.API, context: RequestContext, images: MemoryImages, casts: Casts
) -> None:
    instance = make_instance(context)
    casts.fail = exception.MessagingUnavailable(host="compute-1", reason="connection lost")
    casts.take_up = True
    image = compute.snapshot(context, instance, "snap")
    assert image["id"] in images.records
    now = Instance.get_by_uuid(context, instance.uuid)
    assert now.task_state == task_states.IMAGE_SNAPSHOT


def test_an_image_that_cannot_be_deleted_does_not_hide_the_reason(
    compute: api.API,
    context: RequestContext,
    images: MemoryImages,
    casts: Casts,
    caplog: pytest.LogCaptureFixture,
) -> None:
    instance = make_instance(context)
    casts.fail = exception.MessagingUnavailable(host="compute-1", reason="no queue")
    images.fail["delete"] = DOWN
    with pytest.raises(exception.MessagingUnavailable):
        compute.snapshot(context, instance, "snap")
    (image_id,) = images.records
    assert f"Image {image_id} is left behind" in caplog.text


def test_an_admins_snapshot_is_shared_with_the_owner(
    compute: api.API, context: RequestContext, database: Database, images: MemoryImages
) -> None:
    instance = make_instance(context)
    admin = make_context(database, project_id="admins", is_admin=True)
    image = compute.snapshot(admin, instance, "snap")
    assert images.records[image["id"]]["visibility"] == "shared"
    assert images.members == {image["id"]: [PROJECT]}


class TestJournal:
    """Every image that a host is to fill is written down before it is made."""

    def test_of_a_request_that_is_with_its_host(
        self, compute: api.API, context: RequestContext
    ) -> None:
        instance = make_instance(context)
        image = compute.snapshot(context, instance, "snap")
        found = SnapshotRequest.get(context, image["id"])
        assert found is not None
        assert (found.instance_uuid, found.host, found.action, found.phase) == (
            instance.uuid,
            HOST,
            "createImage",
            "asked",
        )

    def test_of_an_image_that_may_have_been_made(
        self, compute: api.API, context: RequestContext, images: MemoryImages
    ) -> None:
        images.fail["create"] = DOWN
        with pytest.raises(exception.ImageServiceUnavailable):
            compute.snapshot(context, make_instance(context), "snap")
        assert len(SnapshotRequest.get_unchanged(context, -1)) == 1

    def test_of_an_image_that_cannot_be_deleted(
        self, compute: api.API, context: RequestContext, images: MemoryImages, casts: Casts
    ) -> None:
        casts.fail = exception.MessagingUnavailable(host="compute-1", reason="no queue")
        images.fail["delete"] = DOWN
        with pytest.raises(exception.MessagingUnavailable):
            compute.snapshot(context, make_instance(context), "snap")
        (found,) = SnapshotRequest.get_unchanged(context, -1)
        assert {found.image_id} == images.records.keys()

    @pytest.mark.parametrize("failing", ["create", "send"])
    def test_nothing_is_left_of_one_that_left_nothing(
        self,
        compute: api.API,
        context: RequestContext,
        images: MemoryImages,
        casts: Casts,
        failing: str,
    ) -> None:
        if failing == "create":
            images.fail["create"] = exception.ImageForbidden(image_id=None, reason="no")
        else:
            casts.fail = exception.MessagingUnavailable(host="compute-1", reason="no queue")
        with pytest.raises(exception.NovaSnapError):
            compute.snapshot(context, make_instance(context), "snap")
        assert images.records == {}
        assert SnapshotRequest.get_unchanged(context, -1) == []


class TestDatabaseAway:
    """The client is told soon, and what may be left stands in the journal."""

    @pytest.mark.parametrize(("owner", "method"), [(Instance, "save"), (InstanceAction, "start")])
    def test_it_is_tried_once_only(
        self,
        compute: api.API,
        context: RequestContext,
        images: MemoryImages,
        casts: Casts,
        monkeypatch: pytest.MonkeyPatch,
        owner: type,
        method: str,
    ) -> None:
        instance = make_instance(context)
        tried = []

        def away(*_arguments: object, **_more: object) -> None:
            tried.append(method)
            raise db_exception.DBConnectionError

        monkeypatch.setattr(owner, method, away)
        monkeypatch.setattr(SnapshotRequest, "forget", away)
        with pytest.raises(db_exception.DBConnectionError):
            compute.snapshot(context, instance, "snap")
        assert tried == [method]
        assert images.records == {}
        assert casts.sent == []
        assert len(SnapshotRequest.get_unchanged(context, -1)) == 1


class TestHostDown:
    def test_it_is_refused_where_the_operator_says_so(
        self,
        compute: api.API,
        conf: cfg.ConfigOpts,
        context: RequestContext,
        images: MemoryImages,
        casts: Casts,
    ) -> None:
        conf.set_override("snapshot_on_down_host", "refuse")
        instance = make_instance(context)
        service = Service.register(context, HOST, COMPUTE, "topic")
        service.forced_down = True
        service.save(context)
        with pytest.raises(exception.HostDown) as caught:
            compute.snapshot(context, instance, "snap")
        assert caught.value.for_user() == (
            f"Cannot 'createImage' instance {instance.uuid} while its compute host is down; "
            "try again later."
        )
        with pytest.raises(exception.HostDown, match="createBackup"):
            compute.backup(context, instance, "b", "daily", 1)
        assert (images.records, casts.sent) == ({}, [])
        assert as_it_was(context, instance)
        service.forced_down = False
        service.save(context)
        compute.snapshot(context, instance, "snap")
        assert len(casts.sent) == 1

    def test_it_is_accepted_otherwise(
        self, compute: api.API, context: RequestContext, casts: Casts
    ) -> None:
        service = Service.register(context, HOST, COMPUTE, "topic")
        service.forced_down = True
        service.save(context)
        compute.snapshot(context, make_instance(context), "snap")
        assert len(casts.sent) == 1


@pytest.mark.parametrize(
    ("mappings", "image_ref", "expected"),
    [
        pytest.param([("image", "local", 0)], "i", False, id="image"),
        pytest.param([("volume", "volume", 0)], None, True, id="volume"),
        pytest.param([("image", "volume", 0)], "i", True, id="volume-made-from-image"),
        pytest.param([("image", "local", 0), ("volume", "volume", -1)], "i", False, id="data"),
        pytest.param([("volume", "volume", None)], None, True, id="no-root-but-a-volume"),
        pytest.param([], "i", False, id="no-disks"),
    ],
)
def test_is_volume_backed_instance(
    compute: api.API,
    context: RequestContext,
    mappings: list[tuple[str, str, int | None]],
    image_ref: str | None,
    expected: bool,
) -> None:
    instance = make_instance(context, image_ref=image_ref)
    bdms = BlockDeviceMappingList(
        [
            BlockDeviceMapping(source, destination, boot_index=index)
            for source, destination, index in mappings
        ]
    )
    assert compute.is_volume_backed_instance(context, instance, bdms) is expected


class TestBackup:
    def test_it_is_recorded_claimed_and_asked_for(
        self, compute: api.API, context: RequestContext, images: MemoryImages, casts: Casts
    ) -> None:
        instance = make_instance(context)
        image = compute.backup(context, instance, "b", "daily", 7, {"color": "red"})
        record = images.records[image["id"]]
        assert (record["image_type"], record["backup_type"], record["color"]) == (
            "backup",
            "daily",
            "red",
        )
        now = Instance.get_by_uuid(context, instance.uuid)
        assert (now.task_state, now.snapshot_image_id) == (task_states.IMAGE_BACKUP, image["id"])
        assert casts.sent == [(instance.uuid, f"{image['id']} daily 7")]
        (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
        assert (action.action, action.finish_time) == ("createBackup", None)

    def test_of_a_backup_and_a_snapshot_at_the_same_time_one_is_taken(
        self, compute: api.API, context: RequestContext, images: MemoryImages, casts: Casts
    ) -> None:
        instance = make_instance(context)
        late = Instance.get_by_uuid(context, instance.uuid)
        image = compute.snapshot(context, instance, "first")
        with pytest.raises(exception.InstanceInvalidState) as caught:
            compute.backup(context, late, "second", "daily", 1)
        assert str(caught.value) == (
            f"Cannot 'createBackup' instance {instance.uuid} while it is in "
            "task_state image_snapshot_pending"
        )
        assert images.records.keys() == {image["id"]}
        assert len(casts.sent) == 1

    def test_a_message_that_is_not_taken_changes_nothing(
        self, compute: api.API, context: RequestContext, images: MemoryImages, casts: Casts
    ) -> None:
        instance = make_instance(context)
        casts.fail = exception.MessagingUnavailable(host="compute-1", reason="no queue")
        with pytest.raises(exception.MessagingUnavailable):
            compute.backup(context, instance, "b", "daily", 1)
        assert images.records == {}
        assert as_it_was(context, instance)

    def test_a_message_that_arrived_although_sending_failed_counts(
        self, compute: api.API, context: RequestContext, images: MemoryImages, casts: Casts
    ) -> None:
        instance = make_instance(context)
        casts.fail = exception.MessagingUnavailable(host="compute-1", reason="connection lost")
        casts.take_up = True
        image = compute.backup(context, instance, "b", "daily", 1)
        assert image["id"] in images.records
