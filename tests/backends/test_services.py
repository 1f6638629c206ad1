# SPDX-License-Identifier: Apache-2.0
"""The Ceph, the Glance and the Cinder of these tests are what they are said to be."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.fixtures import rbd_disk
from tests.fixtures.cache import REPOSITORY
from tests.fixtures.ceph import Ceph
from tests.fixtures.cinder import Cinder
from tests.fixtures.cinder_client import CinderRefused, NotReached
from tests.fixtures.commands import CommandFailed
from tests.fixtures.glance import Glance
from tests.fixtures.guest.disk import guest_disk
from tests.fixtures.keystone import Keystone
from tests.fixtures.libvirt_lab import LibvirtLab
from tests.fixtures.warden import runs

MIB = 1 << 20
GIB = 1 << 30


@pytest.fixture
def pool(ceph: Ceph) -> str:
    return ceph.pool("services")


def upload(glance: Glance, content: bytes) -> Any:
    client = glance.client()
    image = client.images.create(name="disk", disk_format="raw", container_format="bare")
    client.images.upload(image["id"], io.BytesIO(content))
    return client.images.get(image["id"])


@pytest.mark.short
def test_image_of_glance_is_an_image_in_ceph(rbd_glance: Glance, ceph: Ceph) -> None:
    content = os.urandom(9 * MIB + 512)
    image = upload(rbd_glance, content)
    name = f"{Glance.POOL}/{image['id']}"
    assert image["locations"][0]["url"] == f"rbd://{ceph.fsid}/{name}/snap"
    with rbd_disk.rbd_view(ceph, f"{name}@snap") as view:
        assert view.path.read_bytes() == content
    rbd_glance.client().images.delete(image["id"])
    assert image["id"] not in ceph.images(Glance.POOL)


@pytest.mark.short
def test_guest_on_a_volume_of_cinder(
    libvirt_lab: LibvirtLab, cinder: Cinder, ceph: Ceph, pool: str
) -> None:
    """It boots from it; Cinder's snapshot is of one instant, without what is written later."""
    client = cinder.client("guest")
    volume = client.create_volume(1)
    assert rbd_disk.virtual_size(ceph, cinder.image(volume)) == GIB
    disk = rbd_disk.fill_volume(ceph, cinder.image(volume), guest_disk(), volume)
    other = rbd_disk.RbdDisk(ceph, f"{pool}/ephemeral")
    ceph.rbd("create", "--size", "8M", other.image)
    rbd_disk.write_pattern(ceph, other.image, 0, MIB, 0x41)
    guest = libvirt_lab.define_guest("volume", disk, devices_xml=other.xml("vdb"))
    guest.start()
    guest.wait_ready()
    assert guest.run("cat /sys/block/vda/serial") == volume[:20]
    client.attach(volume, guest.uuid)
    guest.start_writer()
    before = guest.counter()
    snapshot = client.create_snapshot(volume)
    after = guest.counter()
    name = cinder.snapshot_image(volume, snapshot)
    with rbd_disk.rbd_view(ceph, name) as view:
        content = view.sha256()
        # From here the view is not what it was: its journal is replayed.
        assert view.fsck().damage == ""
        state = view.writer_state()
        assert state.problems == ()
        assert before <= state.counter <= after
    guest.stop_writer()
    assert guest.counter() > state.counter
    assert rbd_disk.content_sha256(ceph, name) == content
    assert guest.run("head -c 4 /dev/vdb") == "AAAA"
    guest.destroy()
    client.delete_volume(volume)
    assert ceph.images(Cinder.POOL).count(f"volume-{volume}") == 0


@pytest.mark.short
def test_cinder_keeps_to_its_quota(cinder: Cinder, ceph: Ceph) -> None:
    client = cinder.client("quota")
    volume = client.create_volume(1)
    client.set_quota(snapshots=1)
    snapshot = client.create_snapshot(volume)
    with pytest.raises(CinderRefused) as refused:
        client.create_snapshot(volume)
    assert refused.value.status == requests.codes.request_entity_too_large
    assert ceph.snapshots(cinder.image(volume)) == [f"snapshot-{snapshot}"]
    client.delete_snapshot(snapshot)
    assert ceph.snapshots(cinder.image(volume)) == []
    client.delete_volume(volume)


def test_volume_in_an_error(cinder: Cinder) -> None:
    client = cinder.client("error")
    volume = client.create_volume(1)
    client.set_volume_status(volume, "error")
    with pytest.raises(NotReached, match=f"volume {volume} is not in-use but error"):
        client.wait_volume(volume, "in-use")
    with pytest.raises(CinderRefused):
        client.create_snapshot(volume)
    client.delete_volume(volume)


def test_volume_of_a_type(cinder: Cinder) -> None:
    client = cinder.client("types")
    client.create_type("fast", volume_backend_name="rbd")
    volume = client.create_volume(1, volume_type="fast")
    assert client.volume(volume)["volume_type"] == "fast"
    client.delete_volume(volume)


def test_snapshot_that_ceph_cannot_take(cinder: Cinder, ceph: Ceph) -> None:
    """It ends in an error, and once Ceph is back, so is Cinder."""
    client = cinder.client("down")
    volume = client.create_volume(1)
    ceph.stop_osd()
    try:
        with pytest.raises(NotReached, match="is not available but error"):
            client.create_snapshot(volume)
    finally:
        ceph.start_osd()
    client.create_snapshot(volume)
    client.delete_volume(volume)


def test_cinder_with_keystone(
    start_cinder: Callable[..., Cinder], keystone: Keystone, ceph: Ceph
) -> None:
    """A member sees his project's volumes, and nobody sees any without a token."""
    cinder = start_cinder(keystone=keystone)
    client = cinder.client("shop")
    volume = client.create_volume(1)
    people = keystone.directory.cast()
    urls = {
        person: f"{cinder.url}/{person.project_id}/volumes"
        for person in (people.member, people.stranger)
    }
    seen = {}
    for person, url in urls.items():
        token = keystone.directory.token(person)
        answer = requests.get(url, headers={"X-Auth-Token": token}, timeout=30)
        seen[person] = [entry["id"] for entry in answer.json()["volumes"]]
    assert seen == {people.member: [volume], people.stranger: []}
    answer = requests.get(urls[people.member], timeout=30)
    assert answer.status_code == requests.codes.unauthorized
    client.delete_volume(volume)


@pytest.mark.parametrize("roles", ["member", "member,service"])
def test_who_may_add_a_location(rbd_glance: Glance, ceph: Ceph, tmp_path: Path, roles: str) -> None:
    """By the API for it a service may; by a PATCH, as before 2.17, the owner of the image may."""
    content = os.urandom(MIB)
    (tmp_path / "content").write_bytes(content)
    made = ceph.pool(Glance.POOL) + f"/made-{uuid.uuid4()}"
    ceph.rbd("import", "--no-progress", tmp_path / "content", made)
    ceph.rbd("snap", "create", f"{made}@snap")
    ceph.rbd("snap", "protect", f"{made}@snap")
    url = f"rbd://{ceph.fsid}/{made}/snap"
    client = rbd_glance.client()
    image = client.images.create(name="disk", disk_format="raw", container_format="bare")
    answer = requests.post(
        f"{rbd_glance.url}/v2/images/{image['id']}/locations",
        json={"url": url, "validation_data": {}},
        headers=rbd_glance.identity_headers("lab", "lab", roles),
        timeout=30,
    )
    if roles == "member":
        assert answer.status_code == requests.codes.forbidden
        client.images.add_location(image["id"], url, {})
    else:
        assert answer.status_code == requests.codes.accepted
    deadline = time.monotonic() + 30
    while client.images.get(image["id"])["status"] != "active":
        assert time.monotonic() < deadline, client.images.get(image["id"])
        time.sleep(0.1)
    assert b"".join(client.images.data(image["id"])) == content
    client.images.delete(image["id"])
    assert made.partition("/")[2] not in ceph.images(Glance.POOL)


def test_ceph_whose_osd_was_killed_has_its_data(ceph: Ceph, pool: str) -> None:
    image = f"{pool}/kept"
    ceph.rbd("create", "--size", "8M", image)
    rbd_disk.write_pattern(ceph, image, MIB, MIB, 0x5A)
    ceph.kill_osd()
    try:
        with pytest.raises(CommandFailed, match="not done within 2 s"):
            ceph.rbd("create", "--size", "8M", f"{pool}/new", timeout=2)
    finally:
        ceph.start_osd()
    content = bytes(MIB) + b"\x5a" * MIB + bytes(6 * MIB)
    assert rbd_disk.content_sha256(ceph, image) == hashlib.sha256(content).hexdigest()
    ceph.rbd("rm", "--no-progress", image)


def test_ceph_is_mended_whatever_was_done_to_it(ceph: Ceph, pool: str) -> None:
    ceph.stop_monitor()
    with pytest.raises(CommandFailed, match="not done within 2 s"):
        ceph.rbd("ls", pool, timeout=2)
    ceph.pause_osd()
    ceph.mend()
    ceph.rbd("create", "--size", "8M", f"{pool}/mended")
    ceph.rbd("rm", "--no-progress", f"{pool}/mended")


def test_user_of_ceph_sees_his_pools_alone(ceph: Ceph, pool: str) -> None:
    ceph.pool("foreign")
    user = ceph.user("tester", pool)
    assert ceph.rbd("--id", user.name, "ls", pool) == ceph.rbd("ls", pool)
    with pytest.raises(CommandFailed, match="Operation not permitted"):
        ceph.rbd("--id", user.name, "ls", "foreign")


CHILD = """
import signal, sys, time
from tests.fixtures.ceph import Ceph
# Tests that run in the background of a shell ignore it, and so would this.
signal.signal(signal.SIGINT, signal.default_int_handler)
with Ceph() as ceph:
    print(ceph.directory, *(daemon.pid for daemon in ceph._daemons.values()), flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ceph_ends_with_whoever_started_it(ceph: Ceph, number: signal.Signals) -> None:
    """It runs beside another one, and nothing is left of it after an interrupt or a kill."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        directory, *pids = child.stdout.readline().split()
        assert [runs(int(pid)) for pid in pids] == [True] * 3
        child.send_signal(number)
        child.wait(60)
    deadline = time.monotonic() + 30
    while Path(directory).exists() or any(runs(int(pid)) for pid in pids):
        assert time.monotonic() < deadline, f"of {directory} and {pids}, some are still there"
        time.sleep(0.1)
    assert ceph.command("status")["osdmap"]["num_up_osds"] == 1
