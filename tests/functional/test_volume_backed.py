# SPDX-License-Identifier: Apache-2.0
"""Snapshots of volume-backed servers, from the API to the host and back, over messages."""

import datetime
from typing import Any

import pytest
from oslo_config import cfg
from oslo_utils import timeutils

from nova_snap import exception
from nova_snap.compute import rpc, rpcapi, task_states, volume_manager
from nova_snap.compute.volume_snapshots import EVENT
from nova_snap.context import RequestContext
from nova_snap.objects.block_device import BlockDeviceMapping
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import CREATE_IMAGE, InstanceAction
from nova_snap.virt.driver import InstanceLike
from tests.fixtures.service import HOST, make_instance
from tests.functional.compute_parts import Cloud, compute_host, wait_until

__all__ = ["compute_host"]

VOLUME = "22222222-2222-2222-2222-222222222222"
IMAGE = "33333333-3333-3333-3333-333333333333"
OTHER_IMAGE = "33333333-3333-3333-3333-333333333334"
PATIENT = 3600.0


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host looks for what is left more often than anybody would want."""
    monkeypatch.setattr(volume_manager, "_LOOK_SECONDS", 0.1)


@pytest.fixture
def server(cloud: Cloud) -> Instance:
    """One whose root disk is a volume, and whose guest has an agent."""
    agent = {"image_hw_qemu_guest_agent": "yes", "image_os_require_quiesce": "yes"}
    made = add(cloud, "volume", "volume", volume_id=VOLUME, system_metadata=agent)
    cloud.volumes.add(VOLUME)
    return made


def add(
    cloud: Cloud, source: str, destination: str, volume_id: str | None, **values: Any
) -> Instance:
    disk = BlockDeviceMapping(source, destination, boot_index=0, volume_id=volume_id)
    return make_instance(cloud.context, [disk], image_ref=None, **values)


def test_the_guest_is_frozen_while_the_snapshots_are_made(
    cloud: Cloud, server: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen: list[bool] = []
    create = cloud.volumes.create_snapshot_force

    def watched(*args: Any, **kwargs: Any) -> Any:
        frozen.append(cloud.driver.is_frozen(server.uuid))
        return create(*args, **kwargs)

    monkeypatch.setattr(cloud.volumes, "create_snapshot_force", watched)
    image = cloud.snapshots.snapshot_volume_backed(cloud.new_context(), server, "snap")
    assert frozen == [True]
    assert not cloud.driver.is_frozen(server.uuid)
    assert cloud.images.records[image["id"]]["status"] == "active"
    assert cloud.now(server).task_state is None
    action = cloud.action(server, CREATE_IMAGE)
    assert cloud.steps(action) == [(EVENT, HOST, "Success")]


def test_a_guest_that_cannot_be_frozen(cloud: Cloud, server: Instance) -> None:
    server.system_metadata = {"image_os_require_quiesce": "yes"}
    server.save()
    with pytest.raises(exception.QuiesceUnsupported, match="hw_qemu_guest_agent is not set"):
        cloud.snapshots.snapshot_volume_backed(cloud.new_context(), server, "snap")
    assert cloud.volumes.snapshots == {}
    assert cloud.now(server).task_state is None


def test_a_driver_that_fails_to_freeze(
    cloud: Cloud, server: Instance, conf: cfg.ConfigOpts
) -> None:
    conf.set_override("fail_in", "quiesce", "fake")
    with pytest.raises(exception.QuiesceFailed) as caught:
        cloud.snapshots.snapshot_volume_backed(cloud.new_context(), server, "snap")
    assert "fail_in" not in caught.value.for_user()
    assert cloud.now(server).task_state is None


class TestMessages:
    """What a host does with those that are not for it, come late, or come again."""

    @pytest.fixture
    def hosts(self, cloud: Cloud, conf: cfg.ConfigOpts) -> rpcapi.ComputeAPI:
        return rpcapi.ComputeAPI(conf, rpc.get_transport(conf))

    def test_nothing_that_is_not_announced_is_frozen(
        self, cloud: Cloud, server: Instance, hosts: rpcapi.ComputeAPI
    ) -> None:
        said = f"no snapshot to image {IMAGE} is being taken"
        with pytest.raises(exception.QuiesceFailed, match=said):
            hosts.quiesce_instance(cloud.new_context(), server, IMAGE)
        assert not cloud.driver.is_frozen(server.uuid)

    def test_a_thaw_of_another_snapshot(
        self, cloud: Cloud, server: Instance, hosts: rpcapi.ComputeAPI
    ) -> None:
        cloud.write(server, task_state=task_states.IMAGE_SNAPSHOT_PENDING, snapshot_image_id=IMAGE)
        hosts.quiesce_instance(cloud.new_context(), server, IMAGE)
        with pytest.raises(exception.QuiesceFailed, match="thawed before"):
            hosts.unquiesce_instance(cloud.new_context(), server, OTHER_IMAGE)
        assert cloud.driver.is_frozen(server.uuid)
        hosts.abandon_quiesce(cloud.new_context(), server, IMAGE)
        wait_until(lambda: not cloud.driver.is_frozen(server.uuid))

    def test_a_stop_thaws(self, cloud: Cloud, server: Instance, hosts: rpcapi.ComputeAPI) -> None:
        cloud.write(server, task_state=task_states.IMAGE_SNAPSHOT_PENDING, snapshot_image_id=IMAGE)
        hosts.quiesce_instance(cloud.new_context(), server, IMAGE)
        cloud.volume_manager.stop()
        assert not cloud.driver.is_frozen(server.uuid)

    def test_a_host_of_an_older_version(
        self,
        cloud: Cloud,
        server: Instance,
        hosts: rpcapi.ComputeAPI,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for endpoint in (cloud.manager, cloud.lifecycle, cloud.volume_manager):
            monkeypatch.setattr(endpoint.target, "version", "1.1")
        with pytest.raises(exception.QuiesceUnsupported, match="older version"):
            hosts.quiesce_instance(cloud.new_context(), server, IMAGE)


class TestAnAPIThatDied:
    """What it leaves: a claimed instance, an image in status queued, volume snapshots."""

    @pytest.fixture
    def left(self, cloud: Cloud, server: Instance) -> str:
        """An image's id."""
        image_id = str(cloud.images.create(cloud.context, {"name": "snap"})["id"])
        cloud.volumes.create_snapshot_force(
            cloud.context, VOLUME, "snapshot for snap", None, image_id, 5
        )
        cloud.volumes.create_snapshot_force(cloud.context, VOLUME, "another's", None, "other", 5)
        cloud.write(
            server, task_state=task_states.IMAGE_SNAPSHOT_PENDING, snapshot_image_id=image_id
        )
        return image_id

    def ask(self, cloud: Cloud, server: Instance, seconds_ago: float) -> InstanceAction:
        context = cloud.new_context()
        context.timestamp = timeutils.utcnow() - datetime.timedelta(seconds=seconds_ago)
        return InstanceAction.start(context, server.uuid, CREATE_IMAGE)

    def test_all_of_it_is_put_right(self, cloud: Cloud, server: Instance, left: str) -> None:
        self.ask(cloud, server, PATIENT)
        cloud.free(server)
        assert left not in cloud.images.records
        assert list(cloud.volumes.names.values())[1] == "another's"
        assert [made.image_id for made in cloud.volumes.snapshots.values()] == ["other"]
        action = cloud.action(server, CREATE_IMAGE)
        assert action.message is not None
        assert action.message.startswith("The snapshot was not ended within")

    def test_not_as_long_as_it_may_live(self, cloud: Cloud, server: Instance, left: str) -> None:
        self.ask(cloud, server, 0)
        looks = cloud.volumes.calls.count("snapshots_for_image")
        cloud.volume_manager.leftovers.end_overdue(cloud.context)
        assert cloud.now(server).task_state == task_states.IMAGE_SNAPSHOT_PENDING
        assert cloud.volumes.calls.count("snapshots_for_image") == looks
        assert len(cloud.volumes.snapshots) == 2

    def test_an_image_that_is_whole_stays(self, cloud: Cloud, server: Instance, left: str) -> None:
        cloud.images.records[left]["status"] = "active"
        self.ask(cloud, server, PATIENT)
        cloud.free(server)
        assert cloud.action(server, CREATE_IMAGE).message is None
        assert cloud.images.records[left]["status"] == "active"
        assert len(cloud.volumes.snapshots) == 2

    def test_the_image_service_is_down(self, cloud: Cloud, server: Instance, left: str) -> None:
        """Nobody knows whether the image is whole: it is left for the next time."""
        down = exception.ImageServiceUnavailable(endpoint="http://glance", reason="refused")
        cloud.images.fail["get"] = down
        self.ask(cloud, server, PATIENT)
        cloud.volume_manager.leftovers.end_overdue(cloud.context)
        assert cloud.now(server).task_state == task_states.IMAGE_SNAPSHOT_PENDING
        assert len(cloud.volumes.snapshots) == 2
        del cloud.images.fail["get"]
        cloud.free(server)
        assert len(cloud.volumes.snapshots) == 1

    def test_a_server_with_a_local_root_disk_is_not_ours(
        self, cloud: Cloud, context: RequestContext
    ) -> None:
        local = add(cloud, "image", "local", None)
        cloud.write(local, task_state=task_states.IMAGE_SNAPSHOT_PENDING, snapshot_image_id=IMAGE)
        self.ask(cloud, local, PATIENT)
        cloud.volume_manager.leftovers.end_overdue(cloud.context)
        assert cloud.now(local).task_state == task_states.IMAGE_SNAPSHOT_PENDING

    def test_the_process_was_both(self, cloud: Cloud, server: Instance, left: str) -> None:
        """With messages inside of a process, its restart ends every request."""
        self.ask(cloud, server, 0)
        cloud.volume_manager.leftovers.end_all(cloud.context)
        cloud.free(server)
        assert left not in cloud.images.records
        assert [made.image_id for made in cloud.volumes.snapshots.values()] == ["other"]


def test_the_protocol_of_drivers(cloud: Cloud, server: Instance) -> None:
    """A driver that has not frozen anything says so."""
    known: InstanceLike = server
    assert cloud.driver.unquiesce(known.uuid, "i") is False
