# SPDX-License-Identifier: Apache-2.0
"""What is left of a volume-backed server's snapshot, if the process that ends it dies, too."""

from collections.abc import Callable

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute import volume_set
from nova_snap.compute.volume_leftovers import VolumeLeftovers
from nova_snap.context import RequestContext, get_admin_context
from nova_snap.db.session import Database
from nova_snap.objects.block_device import BlockDeviceMapping
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.objects.snapshot_request import SnapshotRequest
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import make_instance
from tests.fixtures.volumes import MemoryVolumes
from tests.unit.compute.manager_parts import PENDING

VOLUME = "22222222-2222-2222-2222-222222222222"


class Watched(MemoryVolumes):
    """:ivar on_delete: called before a snapshot is deleted."""

    on_delete: Callable[[], None] = staticmethod(lambda: None)

    def delete_snapshot(self, context: RequestContext, snapshot_id: str) -> None:
        self.on_delete()
        super().delete_snapshot(context, snapshot_id)


class Lab:
    """A snapshot whose API process died when the volume's was made."""

    def __init__(self, conf: cfg.ConfigOpts, database: Database, context: RequestContext) -> None:
        self.admin = get_admin_context(database)
        self.images, self.volumes = MemoryImages(), Watched()
        self.leftovers = VolumeLeftovers(conf, self.images, self.volumes)
        self.image_id: str = self.images.create(context, {"name": "snap"})["id"]
        disks = [
            BlockDeviceMapping(
                "volume", "volume", device_name="/dev/vda", boot_index=0, volume_id=VOLUME
            )
        ]
        self.instance = make_instance(
            context, disks, image_ref=None, task_state=PENDING, snapshot_image_id=self.image_id
        )
        SnapshotRequest.record(context, self.image_id, self.instance.uuid, None, "createImage")
        self.action = InstanceAction.start(context, self.instance.uuid, "createImage")
        self.volumes.create_snapshot_force(context, VOLUME, "s", None, self.image_id, 1)

    def now(self) -> Instance:
        return Instance.get_by_uuid(self.admin, self.instance.uuid)


@pytest.fixture
def lab(conf: cfg.ConfigOpts, database: Database, context: RequestContext) -> Lab:
    return Lab(conf, database, context)


def test_whoever_dies_while_it_deletes_leaves_it_to_the_next(lab: Lab) -> None:
    """In any other task_state it is ended by those who know nothing of volumes."""
    seen: list[str | None] = []
    lab.volumes.on_delete = lambda: seen.append(lab.now().task_state)
    lab.leftovers.end_all(lab.admin)
    assert seen
    assert set(seen) == {PENDING}
    assert lab.volumes.snapshots == {}
    assert lab.images.records == {}
    assert (lab.now().task_state, lab.now().snapshot_image_id) == (None, None)


def test_the_next_request_is_not_taken_over(lab: Lab) -> None:
    """Another process was faster, and the server's owner has asked again."""

    def ask_again() -> None:
        there = lab.now()
        there.snapshot_image_id = "another"
        there.save()

    lab.volumes.on_delete = ask_again
    lab.leftovers.end_all(lab.admin)
    assert (lab.now().task_state, lab.now().snapshot_image_id) == (PENDING, "another")
    (action,) = InstanceAction.get_by_instance_uuid(lab.admin, lab.instance.uuid)
    assert action.finish_time is None


def test_what_is_not_deleted_yet_is_named(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The process may end before the thread that goes on with it."""
    monkeypatch.setattr(volume_set, "_MOMENT_SECONDS", 0.1)
    lab.volumes.fail["delete_snapshot"] = exception.InvalidVolume(reason="it is being made")
    lab.leftovers.end_all(lab.admin)
    assert lab.now().task_state is None
    said = f"The snapshots of {VOLUME} with nova_snap_image_id={lab.image_id} are not deleted yet"
    assert said in caplog.text
    lab.volumes.fail.clear()
