# SPDX-License-Identifier: Apache-2.0
"""OpenStack's own clients, as they come from PyPI, against the whole cloud."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from openstack.connection import Connection

from tests.fixtures.cloud import FLAVORS, IMAGES, Cloud
from tests.fixtures.cloud_clients import Nova, Openstack

IMAGE, FLAVOR = IMAGES[0], FLAVORS[0].name
CREATE = ("server", "create", "--image", IMAGE, "--flavor", FLAVOR, "--no-network", "--wait")
READY = "nova-snap-guest: ready boot="


@pytest.fixture(scope="module")
def openstack(cloud: Cloud) -> Openstack:
    return Openstack(cloud)


@pytest.fixture(autouse=True)
def clean(cloud: Cloud) -> Iterator[None]:
    """Every test leaves the project without servers, and without images of its own."""
    yield
    with cloud.connection() as connection:
        for server in connection.compute.servers():
            connection.delete_server(server.id, wait=True)
        for image in connection.image.images(visibility="private"):
            connection.image.delete_image(image.id)


@pytest.fixture(scope="module")
def sdk(cloud: Cloud) -> Iterator[Connection]:
    """openstacksdk; it also waits for what the other clients ask for, for it is quick."""
    with cloud.connection() as connection:
        yield connection


def wait_for(sdk: Connection, name: str, status: str, timeout: float = 60) -> None:
    """Until a server has the status, and no task."""
    server = sdk.compute.find_server(name, ignore_missing=False)
    until = time.monotonic() + timeout
    while (found := sdk.compute.get_server(server.id)).status != status or found.task_state:
        assert found.status != "ERROR", found.fault
        assert time.monotonic() < until, f"{found.status}, {found.task_state}, not {status}"
        time.sleep(0.2)


def wait_for_console(sdk: Connection, name: str, wanted: str, timeout: float = 120) -> None:
    """Until a server has printed the text."""
    server = sdk.compute.find_server(name, ignore_missing=False)
    until = time.monotonic() + timeout
    while wanted not in (printed := sdk.get_server_console(server.id)):
        assert time.monotonic() < until, f"no {wanted!r} on: {printed}"
        time.sleep(0.2)


def test_a_server_and_its_snapshot(openstack: Openstack, sdk: Connection) -> None:
    made = openstack.json(*CREATE, "web")
    assert (made["status"], made["name"]) == ("ACTIVE", "web")
    (listed,) = openstack.json("server", "list")
    assert (listed["ID"], listed["Name"], listed["Status"]) == (made["id"], "web", "ACTIVE")
    assert (listed["Image"], listed["Flavor"]) == (IMAGE, FLAVOR)
    shown = openstack.json("server", "show", "web")
    assert shown["id"] == made["id"]
    assert shown["OS-EXT-STS:power_state"] in (1, "Running")
    wait_for_console(sdk, "web", f"{READY}1")

    image = openstack.json("server", "image", "create", "--wait", "--name", "web-1", "web")
    assert (image["name"], image["status"]) == ("web-1", "active")
    wait_for(sdk, "web", "ACTIVE")

    create = ("server", "create", "--image", "web-1", "--flavor", FLAVOR, "--no-network")
    openstack(*create, "--wait", "copy")
    wait_for_console(sdk, "copy", f"{READY}2")
    assert f"{READY}2" in openstack("console", "log", "show", "copy")

    events = openstack.json("server", "event", "list", "web")
    assert {event["Action"] for event in events} == {"create", "createImage"}
    openstack("server", "delete", "--wait", "web", "copy")
    assert openstack.json("server", "list") == []


def test_the_life_of_a_server(openstack: Openstack, sdk: Connection) -> None:
    openstack(*CREATE, "web")
    wait_for_console(sdk, "web", f"{READY}1")
    for verb, status in (
        ("pause", "PAUSED"), ("unpause", "ACTIVE"), ("suspend", "SUSPENDED"), ("resume", "ACTIVE"),
        ("stop", "SHUTOFF"), ("start", "ACTIVE"),
    ):  # fmt: skip
        openstack("server", verb, "web")
        wait_for(sdk, "web", status)
    wait_for_console(sdk, "web", f"{READY}2")
    openstack("server", "reboot", "--hard", "--wait", "web")
    wait_for_console(sdk, "web", f"{READY}3")
    openstack("server", "set", "--name", "renamed", "--property", "color=red", "web")
    shown = openstack.json("server", "show", "renamed")
    assert shown["properties"] == {"color": "red"}
    openstack("server", "unset", "--property", "color", "renamed")
    assert openstack.json("server", "show", "renamed")["properties"] == {}


@pytest.mark.parametrize("status", ["SHUTOFF", "PAUSED", "SUSPENDED"])
def test_a_snapshot_in_another_state(openstack: Openstack, sdk: Connection, status: str) -> None:
    verb = {"SHUTOFF": "stop", "PAUSED": "pause", "SUSPENDED": "suspend"}[status]
    openstack(*CREATE, "web")
    openstack("server", verb, "web")
    wait_for(sdk, "web", status)
    image = openstack.json("server", "image", "create", "--wait", "--name", "still", "web")
    assert image["status"] == "active"
    assert openstack.json("server", "show", "web")["status"] == status


def test_backups_rotate(openstack: Openstack, sdk: Connection) -> None:
    openstack(*CREATE, "web")
    for name in ("first", "second", "third"):
        backup = ("server", "backup", "create", "--type", "daily", "--rotate", "2", "--wait")
        # What it prints is of before it has waited.
        assert openstack.json(*backup, "--name", name, "web")["name"] == name
        wait_for(sdk, "web", "ACTIVE")
    images = {image["Name"]: image for image in openstack.json("image", "list", "--private")}
    assert set(images) == {"second", "third"}
    assert {image["Status"] for image in images.values()} == {"active"}


def test_what_is_not_allowed(cloud: Cloud, openstack: Openstack, sdk: Connection) -> None:
    made = openstack.json(*CREATE, "web")
    reader, other = Openstack(cloud, "reader"), Openstack(cloud, "other")
    assert [server["Name"] for server in reader.json("server", "list")] == ["web"]
    assert "403" in reader.refused("server", "image", "create", "web")
    assert other.json("server", "list") == []
    assert "No Server found for" in other.refused("server", "show", made["id"])
    openstack("server", "pause", "web")
    wait_for(sdk, "web", "PAUSED")
    assert "409" in openstack.refused("server", "pause", "web")


def test_the_administrator_looks_around(cloud: Cloud, openstack: Openstack) -> None:
    openstack(*CREATE, "web")
    admin = Openstack(cloud, "admin")
    (compute,) = (
        service
        for service in admin.json("compute", "service", "list")
        if service["Binary"] == "nova-compute"
    )
    assert (compute["Status"], compute["State"]) == ("enabled", "up")
    (hypervisor,) = admin.json("hypervisor", "list")
    assert (hypervisor["Hypervisor Type"], hypervisor["State"]) == ("QEMU", "up")
    servers = admin.json("server", "list", "--all-projects")
    assert [server["Name"] for server in servers] == ["web"]
    flavors = {flavor["Name"] for flavor in admin.json("flavor", "list")}
    assert flavors == {flavor.name for flavor in FLAVORS}
    assert openstack.json("availability", "zone", "list", "--compute")
    limits = openstack.json("limits", "show", "--absolute")
    assert {"Name": "instances_used", "Value": 1} in limits


def test_the_nova_client(cloud: Cloud, openstack: Openstack, sdk: Connection) -> None:
    nova = Nova(cloud)
    boot = ("boot", "--image", IMAGE, "--flavor", FLAVOR, "--nic", "none", "--poll", "web")
    assert nova(*boot).endswith("Finished\n")
    assert re.search(r"\| web +\| ACTIVE ", nova("list"))
    printed = nova("image-create", "--poll", "--show", "web", "by-nova")
    assert re.search(r"\| name +\| by-nova +\|", printed)
    assert re.search(r"\| status +\| active +\|", printed)
    nova("backup", "web", "backup-by-nova", "weekly", "1")
    wait_for(sdk, "web", "ACTIVE")
    images = {image["Name"]: image for image in openstack.json("image", "list", "--private")}
    assert set(images) == {"by-nova", "backup-by-nova"}
    assert {image["Status"] for image in images.values()} == {"active"}
    assert "createImage" in nova("instance-action-list", "web")
    assert READY in nova("console-log", "web")
    nova("delete", "web")


def test_openstacksdk(sdk: Connection) -> None:
    compute = sdk.compute
    image_id = sdk.image.find_image(IMAGE, False).id
    flavor_id = compute.find_flavor(FLAVOR, ignore_missing=False).id
    wanted = {"flavor_id": flavor_id, "networks": "none"}
    server = compute.create_server(name="web", image_id=image_id, **wanted)
    assert compute.wait_for_server(server).status == "ACTIVE"
    wait_for_console(sdk, "web", f"{READY}1")
    image = compute.create_server_image(
        server.id, "by-the-sdk", metadata={"color": "red"}, wait=True, timeout=120
    )
    assert image.status == "active"
    again = sdk.image.get_image(image.id)
    assert (again.properties["color"], again.instance_uuid) == ("red", server.id)
    copy = compute.create_server(name="copy", image_id=image.id, **wanted)
    compute.wait_for_server(copy)
    wait_for_console(sdk, "copy", f"{READY}2")
    compute.delete_server(copy.id)
    compute.wait_for_delete(copy)
    assert compute.find_server("copy", ignore_missing=True) is None
