# SPDX-License-Identifier: Apache-2.0
"""createImage of a volume-backed instance: what is done, in which order, and what is left."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute import api, task_states, vm_states, volume_set, volume_snapshots
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.objects.block_device import BlockDeviceMapping
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.objects.snapshot_request import SnapshotRequest
from nova_snap.volume.model import SnapshotLimits
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import HOST, make_context, make_instance
from tests.fixtures.volumes import MemoryVolumes

ROOT = "22222222-2222-2222-2222-222222222222"
DATA = "33333333-3333-3333-3333-333333333333"
AGENT = {"image_hw_qemu_guest_agent": "yes"}
REQUIRED = {**AGENT, "image_os_require_quiesce": "yes"}
DOWN = exception.VolumeServiceUnavailable(endpoint="http://cinder", reason="refused")
IMAGES_DOWN = exception.ImageServiceUnavailable(endpoint="http://glance", reason="refused")
NO_AGENT = exception.QuiesceUnsupported(domain="instance-00000001", reason="no agent")
DEAD_AGENT = exception.QuiesceFailed(instance_uuid="i", reason="the agent is dead")
NO_ANSWER = exception.MessagingUnavailable(host=HOST, reason="no answer")


class Host:
    """The instance's host: keeps a list of what it, and the volume service, did."""

    def __init__(self, volumes: MemoryVolumes) -> None:
        self.calls = volumes.calls
        self.fail: dict[str, Exception] = {}
        self.frozen = False
        self.on_quiesce: Callable[[], None] = lambda: None

    def quiesce_instance(self, ctxt: RequestContext, instance: Instance, image_id: str) -> None:
        there = Instance.get_by_uuid(ctxt, instance.uuid)
        assert there.task_state == task_states.IMAGE_SNAPSHOT_PENDING
        assert there.snapshot_image_id == image_id
        self.on_quiesce()
        self._enter("quiesce")
        self.frozen = True

    def unquiesce_instance(self, ctxt: RequestContext, instance: Instance, image_id: str) -> None:
        self.frozen = False
        self._enter("unquiesce")

    def abandon_quiesce(self, ctxt: RequestContext, instance: Instance, image_id: str) -> None:
        self.frozen = False
        self._enter("abandon")

    def _enter(self, method: str) -> None:
        self.calls.append(method)
        if method in self.fail:
            raise self.fail[method]


class Lab:
    """An instance with two volumes and a swap disk, and all that its snapshot needs."""

    def __init__(self, conf: cfg.ConfigOpts, context: RequestContext) -> None:
        self.context = context
        self.images = MemoryImages()
        self.volumes = MemoryVolumes()
        self.volumes.add(ROOT, description="root of web")
        self.volumes.add(DATA)
        self.host = Host(self.volumes)
        self.api = api.API(conf, self.images, self.host, self.volumes)  # type: ignore[arg-type]
        self.instance = self.add()

    def add(self, **values: Any) -> Instance:
        disks = [
            BlockDeviceMapping(
                "volume", "volume", device_name="/dev/vda", boot_index=0, volume_id=ROOT
            ),
            BlockDeviceMapping(
                "blank", "local", device_name="/dev/vdb", guest_format="swap", boot_index=-1
            ),
            BlockDeviceMapping(
                "volume", "volume", device_name="/dev/vdc", boot_index=-1, volume_id=DATA
            ),
        ]
        given = {"image_ref": None, "system_metadata": AGENT, **values}
        return make_instance(self.context, disks, **given)

    def take(self, **values: Any) -> dict[str, Any]:
        image = self.api.snapshot_volume_backed(self.context, self.instance, "snap", **values)
        return self.images.records[image["id"]]

    def fails(self, error: type[exception.NovaSnapError], words: str | None = None) -> None:
        """The request does, and nothing is left of it."""
        with pytest.raises(error, match=words):
            self.take()
        assert self.images.records == {}
        assert self.volumes.snapshots == {}
        assert not self.host.frozen
        self.is_free()

    def is_free(self) -> None:
        there = Instance.get_by_uuid(self.context, self.instance.uuid)
        assert (there.task_state, there.snapshot_image_id) == (None, None)
        # Of an image of which nobody knows whether it was made, the journal still knows.
        if "create" not in self.images.fail:
            assert list(SnapshotRequest.count_by_phase(self.context)) == []

    def action(self) -> InstanceAction:
        (action,) = InstanceAction.get_by_instance_uuid(self.context, self.instance.uuid)
        assert action.finish_time is not None
        return action

    def change(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self.instance, name, value)
        self.instance.save()


@pytest.fixture
def lab(conf: cfg.ConfigOpts, context: RequestContext) -> Lab:
    return Lab(conf, context)


class TestDone:
    def test_the_image_lists_the_snapshots_and_has_no_data(self, lab: Lab) -> None:
        image = lab.take(extra_properties={"purpose": "test", "bdm_v2": "no"})
        assert (image["status"], image["size"]) == ("active", 0)
        assert (image["disk_format"], image["container_format"]) == ("raw", "bare")
        assert (image["bdm_v2"], image["root_device_name"]) == ("True", "/dev/vda")
        assert (image["purpose"], image["image_type"]) == ("test", "snapshot")
        assert image["instance_uuid"] == lab.instance.uuid
        disks = json.loads(image["block_device_mapping"])
        assert [disk["device_name"] for disk in disks] == ["/dev/vdb", "/dev/vda", "/dev/vdc"]
        by_id = lab.volumes.snapshots
        assert [by_id[disk["snapshot_id"]].volume_id for disk in disks[1:]] == [ROOT, DATA]
        lab.is_free()

    def test_the_order(self, lab: Lab) -> None:
        lab.take()
        assert list(dict.fromkeys(lab.volumes.calls)) == [
            "get_snapshot_limits",
            "get_volume",
            "quiesce",
            "create_snapshot_force",
            f"create_snapshot_force {ROOT}",
            f"create_snapshot_force {DATA}",
            "get_snapshot",
            "unquiesce",
        ]

    def test_it_is_thawed_when_no_snapshot_is_being_made(self, lab: Lab) -> None:
        lab.volumes.looks = 3
        lab.take()
        assert lab.volumes.calls.count("get_snapshot") == 2 * 4
        assert lab.volumes.calls[-1] == "unquiesce"
        assert {made.status for made in lab.volumes.snapshots.values()} == {"available"}

    def test_the_snapshots_are_named_after_the_image(self, lab: Lab) -> None:
        lab.take()
        assert set(lab.volumes.names.values()) == {"snapshot for snap"}
        lab.api.snapshot_volume_backed(lab.context, lab.instance, "n" * 255)
        assert max(map(len, lab.volumes.names.values())) == 255

    def test_what_is_recorded(self, lab: Lab) -> None:
        lab.take()
        action = lab.action()
        assert (action.action, action.message) == ("createImage", None)
        (event,) = action.events(lab.context)
        assert (event.event, event.result) == (volume_snapshots.EVENT, "Success")
        assert event.details == "volumes, quiesced: snapshots snapshot-1, snapshot-2"

    @pytest.mark.parametrize("vm_state", [vm_states.STOPPED, vm_states.PAUSED, vm_states.SUSPENDED])
    def test_only_an_active_instance_is_quiesced(self, lab: Lab, vm_state: str) -> None:
        lab.change(vm_state=vm_state, system_metadata=REQUIRED)
        lab.take()
        assert "quiesce" not in lab.volumes.calls

    def test_the_root_volume_knows_the_image_that_it_was_made_from(self, lab: Lab) -> None:
        lab.change(system_metadata={})
        properties = {
            "hw_qemu_guest_agent": "yes",
            "hw_disk_bus": "scsi",
            "image_id": "i",
            "checksum": "c",
            "min_disk": "7",
        }
        lab.volumes.add(ROOT, image_properties=properties)
        image = lab.take()
        assert "quiesce" in lab.volumes.calls
        assert (image["hw_disk_bus"], image["min_disk"]) == ("scsi", 7)
        assert "checksum" not in image
        assert "image_id" not in image

    def test_without_a_limit(self, lab: Lab) -> None:
        lab.volumes.limits = SnapshotLimits(-1, 1000)
        lab.take()


class TestQuiesceThatFails:
    @pytest.mark.parametrize("error", [NO_AGENT, DEAD_AGENT, NO_ANSWER], ids=lambda e: str(e)[:20])
    def test_it_goes_on_where_that_is_not_required(self, lab: Lab, error: Exception) -> None:
        lab.host.fail["quiesce"] = error
        assert lab.take()["status"] == "active"
        assert lab.action().events(lab.context)[0].details.startswith("volumes, not quiesced")
        # Whoever refused to freeze it has nothing to thaw.
        assert ("abandon" in lab.volumes.calls) == (error is not NO_AGENT)

    @pytest.mark.parametrize("error", [NO_AGENT, DEAD_AGENT, NO_ANSWER], ids=lambda e: str(e)[:20])
    def test_it_fails_where_that_is_required(self, lab: Lab, error: Exception) -> None:
        lab.change(system_metadata=REQUIRED)
        lab.host.fail["quiesce"] = error
        lab.fails(type(error))
        assert "create_snapshot_force" not in lab.volumes.calls
        assert lab.action().message == error.for_user()  # type: ignore[attr-defined]

    def test_a_guest_that_was_thawed_too_early(self, lab: Lab) -> None:
        lab.host.fail["unquiesce"] = DEAD_AGENT
        assert lab.take()["status"] == "active"
        assert lab.action().events(lab.context)[0].details.startswith("volumes, not quiesced")

    def test_a_guest_that_was_thawed_too_early_and_must_not_be(self, lab: Lab) -> None:
        lab.change(system_metadata=REQUIRED)
        lab.host.fail["unquiesce"] = DEAD_AGENT
        lab.fails(exception.QuiesceFailed)


class TestRefused:
    def test_over_quota_before_anything_is_done(self, lab: Lab) -> None:
        lab.volumes.limits = SnapshotLimits(10, 9)
        lab.fails(exception.VolumeSnapshotQuotaExceeded, "2 are needed.*9 of 10")
        assert lab.volumes.calls == ["get_snapshot_limits"]
        assert InstanceAction.get_by_instance_uuid(lab.context, lab.instance.uuid) == []

    def test_exactly_the_quota_is_fine(self, lab: Lab) -> None:
        lab.volumes.limits = SnapshotLimits(10, 8)
        lab.take()

    def test_a_volume_in_error(self, lab: Lab) -> None:
        lab.volumes.add(DATA, status="error_extending")
        lab.fails(exception.InvalidVolume, f"{DATA} is in status error_extending")
        assert "quiesce" not in lab.volumes.calls

    def test_a_volume_that_is_gone(self, lab: Lab) -> None:
        del lab.volumes.volumes[DATA]
        lab.fails(exception.InvalidVolume, f"{DATA} could not be found")

    def test_a_volume_that_is_somebody_elses_by_now(self, lab: Lab) -> None:
        lab.volumes.add(DATA, attached_to=("another",))
        lab.fails(exception.InvalidVolume, "attached to another server")
        lab.volumes.add(DATA, attached_to=("another", lab.instance.uuid))
        lab.take()

    def test_the_volume_service_is_down(self, lab: Lab) -> None:
        lab.volumes.fail["get_snapshot_limits"] = DOWN
        lab.fails(exception.VolumeServiceUnavailable)

    def test_the_state(self, lab: Lab) -> None:
        lab.change(vm_state=vm_states.ERROR)
        lab.fails(exception.InstanceInvalidState)
        assert lab.volumes.calls == []

    def test_of_two_requests_the_second_is_refused(self, lab: Lab, database: Database) -> None:
        seen: list[str] = []

        def another() -> None:
            context = make_context(database)
            stale = Instance.get_by_uuid(context, lab.instance.uuid)
            stale.task_state = None
            with pytest.raises(exception.InstanceInvalidState, match="image_snapshot_pending"):
                lab.api.snapshot_volume_backed(context, stale, "second")
            seen.append("refused")

        lab.host.on_quiesce = another
        image = lab.take()
        assert seen == ["refused"]
        assert list(lab.images.records) == [image["id"]]
        assert len(lab.volumes.snapshots) == 2


class TestFailures:
    @pytest.mark.parametrize(
        ("method", "error"),
        [
            (f"create_snapshot_force {ROOT}", DOWN),
            (f"create_snapshot_force {DATA}", exception.InvalidVolume(reason="no")),
            (f"create_snapshot_force {DATA}", exception.VolumeQuotaExceeded(reason="1 GiB")),
            ("create_snapshot_force", RuntimeError("a mistake")),
        ],
        ids=lambda value: str(value)[:32],
    )
    def test_a_snapshot_that_is_refused(self, lab: Lab, method: str, error: Exception) -> None:
        lab.volumes.fail[method] = error
        with pytest.raises(type(error)):
            lab.take()
        assert (lab.images.records, lab.volumes.snapshots) == ({}, {})
        assert not lab.host.frozen
        lab.is_free()
        said = lab.action().message
        if isinstance(error, RuntimeError):
            assert said == "An unexpected error occurred."
        else:
            assert said == error.for_user()  # type: ignore[attr-defined]

    def test_the_guest_is_thawed_before_the_snapshots_are_deleted(self, lab: Lab) -> None:
        lab.volumes.fail[f"create_snapshot_force {DATA}"] = DOWN
        lab.fails(exception.VolumeServiceUnavailable)
        calls = lab.volumes.calls
        assert calls.index("abandon") < calls.index("delete_snapshot")

    def test_a_snapshot_whose_answer_was_lost_is_found_and_deleted(self, lab: Lab) -> None:
        lab.volumes.lose_answers = True
        lab.fails(exception.VolumeServiceUnavailable)
        assert "snapshots_for_image" in lab.volumes.calls

    def test_a_snapshot_that_ends_in_error(self, lab: Lab) -> None:
        lab.volumes.end = "error"
        lab.fails(exception.VolumeSnapshotFailed, "in status error")

    def test_snapshots_that_take_too_long(
        self, lab: Lab, conf: cfg.ConfigOpts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(volume_set, "_MOMENT_SECONDS", 0.3)
        conf.set_override("snapshot_timeout", 1, "cinder")
        lab.api = api.API(conf, lab.images, lab.host, lab.volumes)  # type: ignore[arg-type]
        lab.volumes.looks = 1000
        with pytest.raises(exception.VolumeSnapshotTimeout, match="within 1 s"):
            lab.take()
        assert lab.images.records == {}
        assert not lab.host.frozen
        lab.is_free()
        # They cannot be deleted as long as they are being made.
        assert len(lab.volumes.snapshots) == 2
        lab.volumes.finish()
        until = time.monotonic() + 10
        while lab.volumes.snapshots:
            assert time.monotonic() < until
            time.sleep(0.01)

    def test_the_volume_service_goes_away_for_a_moment(self, lab: Lab) -> None:
        lab.volumes.unanswered = 3
        assert lab.take()["status"] == "active"

    @pytest.mark.parametrize("method", ["create", "update", "upload"])
    def test_the_image_service_fails(self, lab: Lab, method: str) -> None:
        lab.images.fail[method] = IMAGES_DOWN
        lab.fails(exception.ImageServiceUnavailable)

    def test_the_instance_is_deleted_meanwhile(self, lab: Lab, database: Database) -> None:
        def delete() -> None:
            there = Instance.get_by_uuid(make_context(database), lab.instance.uuid)
            there.destroy()
            lab.images.records.clear()

        lab.host.on_quiesce = delete
        with pytest.raises(exception.ImageNotFound):
            lab.take()
        assert lab.volumes.snapshots == {}
        assert not lab.host.frozen

    def test_a_host_that_does_not_hear_of_it_does_not_matter(self, lab: Lab) -> None:
        lab.host.fail["abandon"] = NO_ANSWER
        lab.volumes.fail["create_snapshot_force"] = DOWN
        lab.fails(exception.VolumeServiceUnavailable)
