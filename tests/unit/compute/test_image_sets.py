# SPDX-License-Identifier: Apache-2.0
"""Images of one instant: made together, active together, gone together."""

from collections.abc import Callable
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute import image_properties, image_sets, recovery, task_states
from nova_snap.compute.backup import Rotation, rotate_backups
from nova_snap.compute.manager import ComputeManager
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.objects.snapshot_request import SnapshotRequest
from nova_snap.virt.driver import NoMonitor
from nova_snap.virt.fake import FakeDriver, snapshot_data
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import make_instance
from tests.unit.compute.manager_parts import SIZE, SOON, ended, pending, reason, wait_until

DISKS = ["vdb", "vdc"]
DOWN = exception.ImageServiceUnavailable(endpoint="http://10.0.0.1", reason="refused")


@pytest.fixture
def three_disks(conf: cfg.ConfigOpts) -> None:
    conf.set_override("snapshot_disks", 3, "fake")


def further(images: MemoryImages, root_id: str) -> dict[str, dict[str, Any]]:
    """The other images of a set, by disk."""
    return {
        record["nova_snap_disk"]: record
        for record in images.records.values()
        if record.get("nova_snap_set") == root_id and record["id"] != root_id
    }


class TestRecords:
    """What is made of the root disk's image for the others."""

    @pytest.fixture
    def instance(self, context: RequestContext) -> Instance:
        metadata = {"image_hw_disk_bus": "virtio", "image_os_distro": "debian"}
        return make_instance(context, system_metadata=metadata)

    def make(
        self, context: RequestContext, images: MemoryImages, instance: Instance, **values: Any
    ) -> tuple[str, dict[str, dict[str, Any]], list[str]]:
        meta = {
            "name": "nightly",
            "visibility": "private",
            "min_ram": 512,
            "min_disk": 10,
            "properties": {
                "instance_uuid": instance.uuid,
                "image_type": "backup",
                "backup_type": "daily",
                "user_id": "kim",
                "ticket": "4711",
                "hw_disk_bus": "virtio",
                "os_distro": "debian",
                "base_image_ref": "base",
                "owner_user_name": "Kim",
            },
            **values,
        }
        root_id: str = images.create(context, meta)["id"]
        watched: list[str] = []
        made = image_sets.FurtherImages(context, images, instance, root_id, watched.append)
        assert made.create("vda", DISKS) == watched
        return root_id, further(images, root_id), watched

    def test_all_are_tied_together(
        self, context: RequestContext, images: MemoryImages, instance: Instance
    ) -> None:
        root_id, others, watched = self.make(context, images, instance)
        assert list(others) == DISKS
        assert [record["id"] for record in others.values()] == watched
        root = images.records[root_id]
        assert (root["nova_snap_set"], root["nova_snap_disk"]) == (root_id, "vda")
        assert {record["status"] for record in others.values()} == {"queued"}

    def test_they_are_found_like_the_first_and_nobody_boots_from_them(
        self, context: RequestContext, images: MemoryImages, instance: Instance
    ) -> None:
        _, others, _ = self.make(context, images, instance)
        record = others["vdb"]
        assert record["name"] == "nightly (vdb)"
        kept = {
            "instance_uuid": instance.uuid,
            "image_type": "backup",
            "backup_type": "daily",
            "user_id": "kim",
            "ticket": "4711",
            "owner_user_name": "Kim",
        }
        assert {key: record[key] for key in kept} == kept
        for key in ("hw_disk_bus", "os_distro", "base_image_ref", "min_ram", "min_disk"):
            assert key not in record

    def test_a_name_that_is_as_long_as_may_be(
        self, context: RequestContext, images: MemoryImages, instance: Instance
    ) -> None:
        _, others, _ = self.make(context, images, instance, name="n" * 255)
        assert others["vdb"]["name"] == "n" * 249 + " (vdb)"

    def test_an_image_of_another_project_is_shared_with_the_owner_of_the_instance(
        self, context: RequestContext, images: MemoryImages, instance: Instance
    ) -> None:
        root_id, others, _ = self.make(context, images, instance, visibility="shared")
        ids = {record["id"] for record in others.values()}
        assert images.members == {each: [instance.project_id] for each in ids}
        assert {images.records[each]["visibility"] for each in ids} == {"shared"}
        assert root_id not in images.members

    def test_the_owner_is_that_of_the_first(
        self, context: RequestContext, instance: Instance
    ) -> None:
        """Also where somebody else asks, who then has to be an administrator."""
        root = {"id": "root", "name": "snap", "owner": "another"}
        made = image_properties.build_further(root, instance, "vdb", context)
        assert made["owner"] == "another"
        root["owner"] = context.project_id
        assert "owner" not in image_properties.build_further(root, instance, "vdb", context)

    def test_what_was_made_before_an_error_is_found(
        self,
        context: RequestContext,
        images: MemoryImages,
        instance: Instance,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        root_id: str = images.create(context, {"name": "snap"})["id"]
        create, tries = images.create, iter([True, False])

        def once(*arguments: Any) -> Any:
            if not next(tries):
                raise exception.ImageTooLarge(reason="quota")
            return create(*arguments)

        monkeypatch.setattr(images, "create", once)
        made = image_sets.FurtherImages(context, images, instance, root_id, lambda _: None)
        with pytest.raises(exception.ImageTooLarge):
            made.create("vda", DISKS)
        recovery.delete_images(images, context, root_id)
        assert images.records == {}


@pytest.mark.usefixtures("three_disks")
class TestSnapshot:
    def test_every_disk_becomes_an_image(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages
    ) -> None:
        instance, image_id = pending(context, images)
        manager.snapshot_instance(context, instance.uuid, image_id)
        ended(context, instance)
        others = further(images, image_id)
        assert list(others) == DISKS
        assert {record["status"] for record in images.records.values()} == {"active"}
        assert images.data[image_id] == snapshot_data(instance.uuid, SIZE)
        for disk, record in others.items():
            assert images.data[record["id"]] == snapshot_data(f"{instance.uuid} {disk}", SIZE)

    def test_the_action_tells_of_all(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages
    ) -> None:
        instance, image_id = pending(context, images)
        manager.snapshot_instance(context, instance.uuid, image_id)
        ended(context, instance)
        (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
        wait_until(lambda: action.events(context)[0].finish_time is not None)
        (event,) = action.events(context)
        listed = [f"{disk} {each['id']}" for disk, each in further(images, image_id).items()]
        assert event.details is not None
        assert event.details.endswith("; 3 images: " + ", ".join([f"vda {image_id}", *listed]))

    def test_the_image_that_was_asked_for_is_the_last(
        self,
        manager: ComputeManager,
        context: RequestContext,
        images: MemoryImages,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Whoever waits for it has all of them."""
        update, sent = images.update, []

        def noting(*arguments: Any, **named: Any) -> Any:
            done = update(*arguments, **named)
            sent.append(arguments[1])
            return done

        monkeypatch.setattr(images, "update", noting)
        instance, image_id = pending(context, images)
        manager.snapshot_instance(context, instance.uuid, image_id)
        ended(context, instance)
        others = further(images, image_id)
        assert sent == [*(others[disk]["id"] for disk in DISKS), image_id]

    def test_the_progress_is_of_all(
        self, manager: ComputeManager, context: RequestContext, images: MemoryImages
    ) -> None:
        told: list[tuple[int, int]] = []

        class Monitor(NoMonitor):
            def progress(self, done: int, total: int) -> None:
                told.append((done, total))

        instance, image_id = pending(context, images)
        made = image_sets.FurtherImages(context, images, instance, image_id, lambda _: None)
        report = manager.driver.snapshot(
            context, instance, image_id, lambda *_, **__: None, Monitor(), made
        )
        assert told == [(SIZE, 3 * SIZE), (2 * SIZE, 3 * SIZE), (3 * SIZE, 3 * SIZE)]
        assert report.uploaded_bytes == 3 * SIZE

    @pytest.mark.parametrize(
        "method", ["create", "set_properties", "upload"], ids=["no-record", "no-tie", "no-upload"]
    )
    def test_a_failure_leaves_none(
        self,
        manager: ComputeManager,
        context: RequestContext,
        images: MemoryImages,
        method: str,
    ) -> None:
        instance, image_id = pending(context, images)
        images.fail[method] = DOWN
        manager.snapshot_instance(context, instance.uuid, image_id)
        ended(context, instance)
        assert images.records == {}
        said = reason(context, instance)
        assert said is not None
        assert "10.0.0.1" not in said

    @pytest.mark.parametrize("disk", ["vda", *DISKS])
    def test_deleting_any_of_them_is_a_cancel(
        self,
        manager: ComputeManager,
        context: RequestContext,
        images: MemoryImages,
        caplog: pytest.LogCaptureFixture,
        disk: str,
    ) -> None:
        caplog.set_level("INFO")
        images.go_on.clear()
        instance, image_id = pending(context, images)
        manager.snapshot_instance(context, instance.uuid, image_id)
        assert images.uploading.wait(SOON)
        deleted = image_id if disk == "vda" else further(images, image_id)[disk]["id"]
        images.delete(context, deleted)
        # Not only by whoever sends it, whose turn may not have come.
        wait_until(lambda: "is cancelled: " in caplog.text)
        images.go_on.set()
        ended(context, instance)
        assert images.records == {}
        assert reason(context, instance) == (
            "The image was deleted while the snapshot was being taken."
        )


class TestRestart:
    """What a process left that was killed in the middle of a set."""

    @pytest.fixture
    def left(self, context: RequestContext, images: MemoryImages) -> tuple[Instance, str]:
        instance, root_id = pending(context, images, task_state=task_states.IMAGE_UPLOADING)
        made = image_sets.FurtherImages(context, images, instance, root_id, lambda _: None)
        first, _ = made.create("vda", DISKS)
        images.records[first]["status"] = "active"
        return instance, root_id

    @pytest.fixture
    def restart(
        self, conf: cfg.ConfigOpts, database: Database, images: MemoryImages, driver: FakeDriver
    ) -> Callable[[], None]:
        return ComputeManager(conf, database, images, driver).init_host

    def test_deletes_all(
        self,
        restart: Callable[[], None],
        context: RequestContext,
        images: MemoryImages,
        left: tuple[Instance, str],
    ) -> None:
        other = images.create(context, {"name": "another"})["id"]
        restart()
        assert images.records.keys() == {other}
        assert Instance.get_by_uuid(context, left[0].uuid).task_state is None

    def test_deletes_the_others_of_one_that_is_gone(
        self,
        restart: Callable[[], None],
        context: RequestContext,
        images: MemoryImages,
        left: tuple[Instance, str],
    ) -> None:
        images.delete(context, left[1])
        restart()
        assert images.records == {}

    def test_keeps_a_set_that_is_whole(
        self,
        restart: Callable[[], None],
        context: RequestContext,
        images: MemoryImages,
        left: tuple[Instance, str],
    ) -> None:
        for record in images.records.values():
            record["status"] = "active"
        restart()
        assert len(images.records) == 3
        assert reason(context, left[0]) is None

    def test_one_that_cannot_be_deleted_keeps_the_first(
        self, context: RequestContext, images: MemoryImages, left: tuple[Instance, str]
    ) -> None:
        """By which it is found the next time."""
        root_id = left[1]
        kept = further(images, root_id)["vdb"]["id"]
        images.fail[f"delete {kept}"] = DOWN
        recovery.delete_images(images, context, root_id, recovery.INCOMPLETE)
        assert images.records.keys() == {root_id, kept}
        del images.fail[f"delete {kept}"]
        recovery.delete_images(images, context, root_id, recovery.INCOMPLETE)
        assert images.records == {}

    @pytest.mark.parametrize("deleted", [False, True], ids=["first-left", "first-deleted"])
    @pytest.mark.parametrize("fails", ["get", "get_all"])
    def test_where_the_others_cannot_be_looked_for_all_is_tried_again(
        self,
        context: RequestContext,
        images: MemoryImages,
        left: tuple[Instance, str],
        fails: str,
        deleted: bool,
    ) -> None:
        """None of them is found by anything but the first and its request."""
        instance, root_id = left
        SnapshotRequest.record(context, root_id, instance.uuid, instance.host, "createImage")
        if deleted:
            images.delete(context, root_id)
        before = dict(images.records)
        images.fail[fails] = DOWN
        recovery.delete_images(images, context, root_id, recovery.INCOMPLETE)
        assert images.records == before
        assert SnapshotRequest.get(context, root_id) is not None
        images.fail.clear()
        recovery.delete_images(images, context, root_id, recovery.INCOMPLETE)
        assert images.records == {}
        assert SnapshotRequest.get(context, root_id) is None

    def test_the_first_stays_if_nobody_can_tell_that_the_others_are_gone(
        self,
        context: RequestContext,
        images: MemoryImages,
        left: tuple[Instance, str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        root_id = left[1]
        delete = images.delete

        def delete_and_fail(context: RequestContext, image_id: str) -> None:
            images.fail["get_all"] = DOWN
            delete(context, image_id)

        monkeypatch.setattr(images, "delete", delete_and_fail)
        recovery.delete_images(images, context, root_id, recovery.INCOMPLETE)
        assert images.records.keys() == {root_id}

    def test_where_the_users_token_is_not_enough_the_services_own_is(
        self,
        context: RequestContext,
        images: MemoryImages,
        left: tuple[Instance, str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        user = RequestContext(user_id="kim", project_id=context.project_id, overwrite=False)
        user.db = context.db

        def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
            def called(caller: RequestContext, *arguments: Any) -> Any:
                if not caller.is_admin:
                    raise exception.ImageForbidden(image_id="-", reason="the token has expired")
                return method(caller, *arguments)

            return called

        for name in ("get", "get_all", "delete"):
            monkeypatch.setattr(images, name, guarded(getattr(images, name)))
        recovery.delete_images(images, user, left[1], recovery.INCOMPLETE)
        assert images.records == {}

    def test_an_image_service_that_ignores_the_filter_loses_nothing(
        self,
        context: RequestContext,
        images: MemoryImages,
        left: tuple[Instance, str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        other = images.create(context, {"name": "another"})["id"]
        monkeypatch.setattr(images, "get_all", lambda *_: list(images.records.values()))
        recovery.delete_images(images, context, left[1])
        assert images.records.keys() == {other}


class TestRotation:
    """Sets count and go as one backup."""

    def backup(
        self, context: RequestContext, images: MemoryImages, hour: int, disks: list[str]
    ) -> str:
        properties = {"image_type": "backup", "backup_type": "daily", "instance_uuid": "i"}
        instance = make_instance(context)
        root_id: str = images.create(context, {"name": f"b{hour}", "properties": properties})["id"]
        made = image_sets.FurtherImages(context, images, instance, root_id, lambda _: None)
        if disks:
            made.create("vda", disks)
        for record in images.records.values():
            if record.get("created_at", "") > "2026-01-02" or record["status"] == "queued":
                record.update(status="active", created_at=f"2026-01-01T{hour:02}:00:00Z")
        return root_id

    def names(self, images: MemoryImages) -> list[str]:
        return sorted(record["name"] for record in images.records.values())

    def test_whole_sets_go(self, context: RequestContext, images: MemoryImages) -> None:
        for hour, disks in enumerate([DISKS, [], DISKS, DISKS]):
            newest = self.backup(context, images, hour, disks)
        rotated = rotate_backups(context, images, "i", newest, Rotation("daily", 2))
        assert self.names(images) == ["b2", "b2 (vdb)", "b2 (vdc)", "b3", "b3 (vdb)", "b3 (vdc)"]
        assert str(rotated) == "backups deleted: 2"

    def test_nothing_of_a_set_that_is_kept_goes(
        self, context: RequestContext, images: MemoryImages
    ) -> None:
        newest = self.backup(context, images, 0, DISKS)
        assert not rotate_backups(context, images, "i", newest, Rotation("daily", 1)).deleted
        assert len(images.records) == 3
        rotate_backups(context, images, "i", newest, Rotation("daily", 0))
        assert images.records == {}

    def test_what_cannot_be_deleted_is_tried_again_the_next_time(
        self, context: RequestContext, images: MemoryImages
    ) -> None:
        oldest = self.backup(context, images, 0, DISKS)
        newest = self.backup(context, images, 1, DISKS)
        kept = further(images, oldest)["vdc"]["id"]
        images.fail[f"delete {kept}"] = DOWN
        rotated = rotate_backups(context, images, "i", newest, Rotation("daily", 1))
        assert list(rotated.left) == [kept]
        assert self.names(images) == ["b0", "b0 (vdc)", "b1", "b1 (vdb)", "b1 (vdc)"]
        images.fail.clear()
        rotate_backups(context, images, "i", newest, Rotation("daily", 1))
        assert self.names(images) == ["b1", "b1 (vdb)", "b1 (vdc)"]


def test_a_set_is_not_inherited(context: RequestContext) -> None:
    """A server that is made from an image of a set is in none: its images are not to be deleted
    with the others."""
    metadata = {"image_nova_snap_set": "root", "image_nova_snap_disk": "vda"}
    instance = make_instance(context, system_metadata=metadata)
    record = image_properties.build(context, instance, "snap", "snapshot", {}, ())
    assert not {"nova_snap_set", "nova_snap_disk"} & record["properties"].keys()


@pytest.mark.parametrize("name", ["nova_snap_set", "nova_snap_disk"])
def test_a_set_is_not_the_users_to_choose(context: RequestContext, name: str) -> None:
    with pytest.raises(exception.InvalidImageProperty, match=f"{name} cannot be set"):
        image_properties.build(context, make_instance(context), "s", "snapshot", {name: "x"}, ())
