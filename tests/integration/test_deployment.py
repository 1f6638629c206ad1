# SPDX-License-Identifier: Apache-2.0
"""The main job whole: a real guest becomes a real image, through processes of their own."""

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import disk_image
from tests.fixtures.deployment import CommandRefused, Deployment
from tests.fixtures.domain_xml import NovaMetadata, nova_metadata_xml
from tests.fixtures.glance import Glance
from tests.fixtures.lab_guest import Guest
from tests.fixtures.libvirt_lab import LibvirtLab

PLACES = {
    "one-process": (["nova-snap-all"], None, None),
    "rabbitmq-mariadb": (["nova-snap-compute", "nova-snap-api"], "rabbitmq", "mariadb"),
    "rabbitmq-postgresql": (["nova-snap-compute", "nova-snap-api"], "rabbitmq", "postgresql"),
}


@pytest.fixture(params=PLACES)
def deployment(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    detached_libvirt_lab: LibvirtLab,
    trusted_glance: Glance,
) -> Iterator[Deployment]:
    commands, broker, server = PLACES[request.param]
    options: dict[str, dict[str, Any]] = {
        "DEFAULT": {},
        "libvirt": {
            "connection_uri": detached_libvirt_lab.uri,
            "virt_type": "qemu",
            # pytest's directories are too long for a socket.
            "snapshot_socket_directory": detached_libvirt_lab.root,
        },
        "glance": {"api_servers": trusted_glance.url},
    }
    if broker:
        options["DEFAULT"]["transport_url"] = request.getfixturevalue(broker).url
        # Queues outlive a test, and so do the messages in them.
        options["DEFAULT"]["host"] = f"compute-{uuid.uuid4().hex[:8]}"
    if server:
        name = f"nova_snap_{uuid.uuid4().hex[:12]}"
        url = request.getfixturevalue(server).create_database(name)
        options["database"] = {"connection": url.replace("%", "%%")}
    with Deployment(tmp_path, options, commands) as made:
        made.manage("db", "sync")
        yield made


@pytest.fixture
def guest(detached_libvirt_lab: LibvirtLab) -> Guest:
    """A running guest that Nova has made."""
    metadata = NovaMetadata(
        name="web",
        flavor="m1.tiny",
        memory_mib=192,
        disk_gib=1,
        swap_mib=0,
        ephemeral_gib=0,
        vcpus=1,
        user_id="kim",
        user_name="Kim",
        project_id="shop",
        project_name="Shop",
        image_id=str(uuid.uuid4()),
    )
    disk = detached_libvirt_lab.make_disk("qcow2-backed")
    made = detached_libvirt_lab.define_guest(
        "instance-00000001", disk, metadata_xml=nova_metadata_xml(metadata)
    )
    made.start()
    made.wait_ready()
    return made


def download(glance: Glance, image_id: str, path: Path) -> dict[str, Any]:
    client = glance.client(user_id="kim", project_id="shop")
    record = dict(client.images.get(image_id))
    with path.open("wb") as file:
        for piece in client.images.data(image_id):
            file.write(piece)
    return record


def test_a_snapshot_of_a_running_guest_and_of_the_same_shut_off(
    deployment: Deployment,
    guest: Guest,
    detached_libvirt_lab: LibvirtLab,
    trusted_glance: Glance,
    tmp_path: Path,
) -> None:
    adopted = deployment.manage("instance", "adopt", "--all")
    assert adopted == f"{guest.uuid}  instance-00000001  adopted\n"
    again = deployment.manage("instance", "adopt", "--domain", "instance-00000001")
    assert again == f"{guest.uuid}  instance-00000001  adopted before\n"

    deployment.start()
    client = deployment.client()
    server = client.server(guest.uuid)
    assert (server["name"], server["status"]) == ("web", "ACTIVE")

    guest.start_writer()
    before = guest.counter()
    running = client.create_image(guest.uuid, "running", color="red")
    states = client.wait_until_free(guest.uuid)
    after = guest.counter()
    assert states, "no task_state was ever seen"
    record = download(trusted_glance, running, tmp_path / "running")
    check_running(record, tmp_path / "running", guest, before, after)

    guest.stop_writer()
    power_off(guest, detached_libvirt_lab)
    off = client.create_image(guest.uuid, "off")
    client.wait_until_free(guest.uuid)
    record = download(trusted_glance, off, tmp_path / "off")
    assert (record["status"], record["disk_format"]) == ("active", "qcow2")
    assert disk_image.differences(tmp_path / "off", "qcow2", guest.disk_path, "qcow2") == ""
    assert client.server(guest.uuid)["OS-EXT-STS:power_state"] == 4


def power_off(guest: Guest, lab: LibvirtLab) -> None:
    """Only the compute service may ask this libvirt, but whoever sees its files sees the end."""
    pid_file = lab.root / "run" / "qemu" / f"{guest.name}.pid"
    assert pid_file.exists()
    guest.console.send("shutdown")
    until = time.monotonic() + 60
    while pid_file.exists():
        assert time.monotonic() < until, "the guest does not shut down"
        time.sleep(0.05)


def check_running(
    record: dict[str, Any], path: Path, guest: Guest, before: int, after: int
) -> None:
    assert (record["status"], record["disk_format"], record["container_format"]) == (
        "active",
        "qcow2",
        "bare",
    )
    assert (record["instance_uuid"], record["image_type"], record["color"]) == (
        guest.uuid,
        "snapshot",
        "red",
    )
    assert (record["owner"], record["visibility"], record["min_disk"]) == ("shop", "private", 1)
    assert disk_image.check(path, "qcow2") == ""
    with disk_image.raw_view(path, "qcow2") as view:
        assert view.fsck().damage == ""
        state = view.writer_state()
    assert state.problems == ()
    assert before <= state.counter <= after


def test_a_domain_that_is_not_there(deployment: Deployment) -> None:
    with pytest.raises(CommandRefused, match="Domain nobody is not defined on this host"):
        deployment.manage("instance", "adopt", "--domain", "nobody")
