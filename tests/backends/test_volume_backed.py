# SPDX-License-Identifier: Apache-2.0
"""Snapshots of servers that boot from a volume: a real Cinder, whose volumes are in a real Ceph."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nova_snap.compute import task_states
from nova_snap.virt.libvirt.snapshot import held, workdir
from tests.backends.volume_parts import (
    AGENT,
    PROJECT,
    REQUIRED,
    USER,
    Dying,
    Server,
    VolumeWorld,
    is_thawed,
    make_server,
    volume_world,
)
from tests.fixtures import rbd_disk
from tests.fixtures.cinder import Cinder
from tests.fixtures.libvirt_lab import LibvirtLab

__all__ = ["volume_world"]

MIB = 1 << 20
SOON = 30


@pytest.fixture(scope="module")
def server(_session_lab: LibvirtLab, cinder: Cinder) -> Iterator[Server]:
    made = make_server(_session_lab, cinder, "volumes")
    made.guest.start_writer()
    yield made
    made.guest.remove()
    for volume in made.volumes:
        cinder.client(PROJECT, USER).delete_volume(volume)


def wait_until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, f"{what} never came true"
        time.sleep(0.1)


def fill_data(server: Server, letter: str) -> None:
    """Have the guest fill the first MiB of its second disk."""
    server.guest.run(
        f"tr '\\0' {letter} < /dev/zero | head -c {MIB} | dd of=/dev/vdb bs=8k conv=fsync 2>&1"
    )


@pytest.mark.short
def test_both_volumes_at_one_instant(world: VolumeWorld, server: Server) -> None:
    """The file system is clean, which only a frozen one is while its guest writes; what was written
    before is there; the guest goes on."""
    world.adopt(server, REQUIRED)
    server.guest.run("echo marked > /data/marker && sync")
    fill_data(server, "A")
    before = server.guest.counter()
    response = world.create_image(server, purpose="nightly")
    assert response.status_int == 202, response.text
    fill_data(server, "B")

    image = world.images_client.images.get(response.json["image_id"])
    assert (image.status, image.size) == ("active", 0)
    assert (image.disk_format, image.container_format) == ("raw", "bare")
    assert (image.bdm_v2, image.root_device_name) == ("True", "/dev/vda")
    assert (image.purpose, image.image_type) == ("nightly", "snapshot")
    snapshots = world.snapshots_of(image)
    assert list(snapshots) == ["/dev/vda", "/dev/vdb"]
    for snapshot_id in snapshots.values():
        snapshot = world.client.snapshot(snapshot_id)
        assert (snapshot["status"], snapshot["name"]) == ("available", "snapshot for nightly")

    root = world.cinder.snapshot_image(server.root, snapshots["/dev/vda"])
    with rbd_disk.rbd_view(world.cinder.ceph, root) as view:
        assert view.fsck().state == "clean"
        assert view.read_file("/data/marker") == b"marked\n"
    data = world.cinder.snapshot_image(server.data, snapshots["/dev/vdb"])
    with rbd_disk.rbd_view(world.cinder.ceph, data) as view:
        assert view.read(0, MIB) == b"A" * MIB
        assert view.read(MIB, MIB) == bytes(MIB)

    world.assert_free(server)
    wait_until(lambda: server.guest.counter() > before, "a guest that writes on")
    action = world.action(server)
    assert (action.action, action.message) == ("createImage", None)
    shown = world.request("GET", f"/servers/{server.guest.uuid}").json["server"]
    attached = [each["id"] for each in shown["os-extended-volumes:volumes_attached"]]
    assert attached == [server.root, server.data]
    assert shown["image"] == ""


def test_without_an_agent_it_is_as_after_a_power_cut(world: VolumeWorld, server: Server) -> None:
    world.adopt(server, {})
    response = world.create_image(server)
    assert response.status_int == 202, response.text
    image = world.images_client.images.get(response.json["image_id"])
    root = world.cinder.snapshot_image(server.root, world.snapshots_of(image)["/dev/vda"])
    with rbd_disk.rbd_view(world.cinder.ceph, root) as view:
        assert view.fsck().state != "clean"
    (event,) = world.action(server).events(world.context)
    assert event.details is not None
    assert event.details.startswith("volumes, not quiesced")


def test_a_guest_that_is_off(cinder: Cinder, world: VolumeWorld) -> None:
    """Every byte of its volumes."""
    server = make_server(world.lab, cinder, "volumes-off", start=False)
    rbd_disk.write_pattern(cinder.ceph, cinder.image(server.data), 5 * MIB, MIB, 0x5A)
    world.adopt(server, REQUIRED)
    response = world.create_image(server)
    assert response.status_int == 202, response.text
    image = world.images_client.images.get(response.json["image_id"])
    made = world.snapshots_of(image)
    for volume, device in ((server.root, "/dev/vda"), (server.data, "/dev/vdb")):
        expected = rbd_disk.content_sha256(cinder.ceph, cinder.image(volume))
        snapshot = cinder.snapshot_image(volume, made[device])
        assert rbd_disk.content_sha256(cinder.ceph, snapshot) == expected
    # To delete the image is not to delete the volumes' snapshots, as with Nova.
    world.images_client.images.delete(image.id)
    for snapshot_id in made.values():
        assert world.client.snapshot(snapshot_id)["status"] == "available"
    server.guest.remove()
    for volume in server.volumes:
        world.client.delete_volume(volume)


def test_a_backup_is_refused(world: VolumeWorld, server: Server) -> None:
    world.adopt(server, AGENT)
    body = {"createBackup": {"name": "b", "backup_type": "daily", "rotation": 1}}
    response = world.request("POST", f"/servers/{server.guest.uuid}/action", body)
    assert response.status_int == 400
    assert "backups of volume-backed instances" in response.json["badRequest"]["message"]


class TestRefusedByCinder:
    def test_over_the_number_of_snapshots(self, world: VolumeWorld, server: Server) -> None:
        world.adopt(server, REQUIRED)
        world.client.set_quota(snapshots=1)
        response = world.create_image(server)
        assert response.status_int == 403
        assert "2 are needed" in response.json["forbidden"]["message"]
        world.assert_nothing_left(server)

    def test_the_second_volume_is_over_the_quota(self, world: VolumeWorld, server: Server) -> None:
        """Of gigabytes, which only Cinder itself counts: the first snapshot is deleted again."""
        world.adopt(server, REQUIRED)
        used = world.client.quota()["gigabytes"]["in_use"]
        world.client.set_quota(gigabytes=used + 1)
        response = world.create_image(server)
        assert response.status_int == 403
        assert "VolumeSizeExceedsAvailableQuota" in response.text or "quota" in response.text
        world.assert_nothing_left(server)
        message = world.action(server).message
        assert message is not None
        assert message.startswith("The volume service refused a snapshot")

    def test_a_volume_in_error(self, world: VolumeWorld, server: Server) -> None:
        world.adopt(server, REQUIRED)
        world.client.set_volume_status(server.data, "error")
        try:
            response = world.create_image(server)
        finally:
            world.client.set_volume_status(server.data, "in-use")
        assert response.status_int == 400
        assert f"{server.data} is in status error" in response.json["badRequest"]["message"]
        world.assert_nothing_left(server)


class TestCinderIsDown:
    def test_nobody_answers(self, world: VolumeWorld, server: Server) -> None:
        world.adopt(server, REQUIRED)
        world.conf.set_override("timeout", 1, "cinder")
        world.conf.set_override("http_retries", 1, "cinder")
        api = world.cinder.service("api")
        api.pause()
        try:
            begun = time.monotonic()
            response = world.create_image(server)
        finally:
            api.resume()
        assert response.status_int == 503
        assert world.cinder.base_url not in response.text
        assert time.monotonic() - begun < 20
        world.assert_nothing_left(server)

    def test_the_snapshots_are_not_made(self, world: VolumeWorld, server: Server) -> None:
        """The guest does not wait for them for longer than it is said to."""
        world.adopt(server, REQUIRED)
        world.conf.set_override("snapshot_timeout", 2, "cinder")
        world.build()
        volume = world.cinder.service("volume")
        volume.pause()
        try:
            response = world.create_image(server)
            assert response.status_int == 503
            assert "within 2 s" in response.json["serviceUnavailable"]["message"]
            assert world.images() == []
            world.assert_free(server)
        finally:
            volume.resume()
        # What was still being made could not be deleted, and is when it can be.
        wait_until(
            lambda: not any(map(world.client.snapshots, server.volumes)), "the end of the snapshots"
        )


@contextlib.contextmanager
def hanging_agent(server: Server) -> Iterator[None]:
    server.guest.run("killall -STOP qemu-ga")
    try:
        yield
    finally:
        server.guest.run("killall -CONT qemu-ga")
        server.guest.wait_agent()


class TestAnAgentThatHangs:
    def test_where_a_quiesce_is_required(self, world: VolumeWorld, server: Server) -> None:
        world.adopt(server, REQUIRED)
        with hanging_agent(server):
            response = world.create_image(server)
            assert response.status_int == 409
            assert "could not be quiesced" in response.json["conflictingRequest"]["message"]
        wait_until(lambda: is_thawed(server), "a guest that is thawed")
        world.assert_nothing_left(server)

    def test_where_it_is_not(self, world: VolumeWorld, server: Server) -> None:
        world.adopt(server, AGENT)
        with hanging_agent(server):
            response = world.create_image(server)
        assert response.status_int == 202, response.text
        wait_until(lambda: is_thawed(server), "a guest that is thawed")
        world.assert_free(server)


def test_the_image_is_deleted_meanwhile(
    world: VolumeWorld, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image service then refuses what is to be written into it."""
    world.adopt(server, REQUIRED)
    update = world.image_api.update

    def delete_first(context: Any, image_id: str, *args: Any) -> Any:
        world.images_client.images.delete(image_id)
        return update(context, image_id, *args)

    monkeypatch.setattr(world.image_api, "update", delete_first)
    response = world.create_image(server)
    assert response.status_int == 404
    world.assert_nothing_left(server)


def test_an_api_that_dies_in_the_middle(world: VolumeWorld, server: Server) -> None:
    """The host thaws the guest; all else is put right by whoever looks after what is left."""
    world.adopt(server, REQUIRED)
    world.conf.set_override("quiesce_timeout", 4, "libvirt")
    world.volume_api = Dying(world.volume_api)
    world.build()
    with pytest.raises(SystemExit):
        world.create_image(server)
    assert not is_thawed(server)
    begun = time.monotonic()
    wait_until(lambda: is_thawed(server), "a guest that is thawed")
    assert time.monotonic() - begun < 10
    server.guest.run("echo alive > /data/alive && sync")
    assert world.instance(server).task_state == task_states.IMAGE_SNAPSHOT_PENDING
    assert len(world.client.snapshots(server.root)) == 1

    world.volume_manager.leftovers.end_all(world.context.elevated())
    world.assert_nothing_left(server)
    message = world.action(server).message
    assert message is not None
    assert message.startswith("The snapshot was not ended")


def test_a_compute_service_that_stops_thaws_the_guest(world: VolumeWorld, server: Server) -> None:
    instance = world.adopt(server, REQUIRED)
    world.driver.quiesce(instance, "some-image")
    assert not is_thawed(server)
    world.driver.close()
    assert is_thawed(server)
    world.assert_thawed(server)


def test_a_compute_service_that_is_killed(world: VolumeWorld, server: Server) -> None:
    """Its journal says that the guest may be frozen: the next start thaws it."""
    left = workdir.create(str(world.snapshots), server.guest.uuid, world.conf.host)
    left.note(
        domain=server.guest.name, domain_uuid=server.guest.uuid, method=held.METHOD, frozen=True
    )
    server.guest.agent("guest-fsfreeze-freeze")
    # The lock goes with the process.
    os.close(left._lock)
    world.driver.init_host()
    assert is_thawed(server)
    world.assert_thawed(server)
