# SPDX-License-Identifier: Apache-2.0
"""OpenStack's own clients, as they come from PyPI, against the whole cloud."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

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


def wait_for(openstack: Openstack, server: str, status: str, timeout: float = 60) -> None:
    until = time.monotonic() + timeout
    while (found := openstack.json("server", "show", server)["status"]) != status:
        assert found != "ERROR", openstack("server", "show", server)
        assert time.monotonic() < until, f"{found}, not {status}"


def test_a_server_and_its_snapshot(openstack: Openstack) -> None:
    made = openstack.json(*CREATE, "web")
    assert (made["status"], made["name"]) == ("ACTIVE", "web")
    (listed,) = openstack.json("server", "list")
    assert (listed["ID"], listed["Name"], listed["Status"]) == (made["id"], "web", "ACTIVE")
    assert (listed["Image"], listed["Flavor"]) == (IMAGE, FLAVOR)
    shown = openstack.json("server", "show", "web")
    assert shown["id"] == made["id"]
    assert shown["OS-EXT-STS:power_state"] in (1, "Running")
    openstack.console_says("web", f"{READY}1")

    image = openstack.json("server", "image", "create", "--wait", "--name", "web-1", "web")
    assert (image["name"], image["status"]) == ("web-1", "active")
    assert openstack.json("server", "show", "web")["OS-EXT-STS:task_state"] is None

    create = ("server", "create", "--image", "web-1", "--flavor", FLAVOR, "--no-network")
    openstack(*create, "--wait", "copy")
    openstack.console_says("copy", f"{READY}2")

    events = openstack.json("server", "event", "list", "web")
    assert {event["Action"] for event in events} == {"create", "createImage"}
    openstack("server", "delete", "--wait", "web", "copy")
    assert openstack.json("server", "list") == []


def test_the_life_of_a_server(openstack: Openstack) -> None:
    openstack(*CREATE, "web")
    openstack.console_says("web", f"{READY}1")
    for verb, status in (
        ("pause", "PAUSED"), ("unpause", "ACTIVE"), ("suspend", "SUSPENDED"), ("resume", "ACTIVE"),
        ("stop", "SHUTOFF"), ("start", "ACTIVE"),
    ):  # fmt: skip
        openstack("server", verb, "web")
        wait_for(openstack, "web", status)
    openstack.console_says("web", f"{READY}2")
    openstack("server", "reboot", "--hard", "--wait", "web")
    openstack.console_says("web", f"{READY}3")
    openstack("server", "set", "--name", "renamed", "--property", "color=red", "web")
    shown = openstack.json("server", "show", "renamed")
    assert shown["properties"] == {"color": "red"}
    openstack("server", "unset", "--property", "color", "renamed")
    assert openstack.json("server", "show", "renamed")["properties"] == {}


@pytest.mark.parametrize("status", ["SHUTOFF", "PAUSED", "SUSPENDED"])
def test_a_snapshot_in_another_state(openstack: Openstack, status: str) -> None:
    verb = {"SHUTOFF": "stop", "PAUSED": "pause", "SUSPENDED": "suspend"}[status]
    openstack(*CREATE, "web")
    openstack("server", verb, "web")
    wait_for(openstack, "web", status)
    image = openstack.json("server", "image", "create", "--wait", "--name", "still", "web")
    assert image["status"] == "active"
    assert openstack.json("server", "show", "web")["status"] == status


def test_backups_rotate(openstack: Openstack) -> None:
    openstack(*CREATE, "web")
    for name in ("first", "second", "third"):
        backup = ("server", "backup", "create", "--type", "daily", "--rotate", "2", "--wait")
        # What it prints is of before it has waited.
        assert openstack.json(*backup, "--name", name, "web")["name"] == name
        wait_until_idle(openstack, "web")
    images = {image["Name"]: image for image in openstack.json("image", "list", "--private")}
    assert set(images) == {"second", "third"}
    assert {image["Status"] for image in images.values()} == {"active"}


def wait_until_idle(openstack: Openstack, server: str, timeout: float = 60) -> None:
    until = time.monotonic() + timeout
    while openstack.json("server", "show", server)["OS-EXT-STS:task_state"] is not None:
        assert time.monotonic() < until, "the server stays busy"


def test_what_is_not_allowed(cloud: Cloud, openstack: Openstack) -> None:
    made = openstack.json(*CREATE, "web")
    reader, other = Openstack(cloud, "reader"), Openstack(cloud, "other")
    assert [server["Name"] for server in reader.json("server", "list")] == ["web"]
    assert "403" in reader.refused("server", "image", "create", "web")
    assert other.json("server", "list") == []
    assert "No Server found for" in other.refused("server", "show", made["id"])
    openstack("server", "pause", "web")
    wait_for(openstack, "web", "PAUSED")
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
    limits = {
        limit["Name"]: limit["Value"] for limit in openstack.json("limits", "show", "--absolute")
    }
    assert {"Name": "totalInstancesUsed", "Value": 1} in limits


def test_the_nova_client(cloud: Cloud, openstack: Openstack) -> None:
    nova = Nova(cloud)
    boot = ("boot", "--image", IMAGE, "--flavor", FLAVOR, "--nic", "none", "--poll", "web")
    assert "ACTIVE" in nova(*boot)
    assert re.search(r"\| web +\| ACTIVE ", nova("list"))
    printed = nova("image-create", "--poll", "--show", "web", "by-nova")
    assert re.search(r"\| name +\| by-nova +\|", printed)
    assert re.search(r"\| status +\| active +\|", printed)
    nova("backup", "web", "backup-by-nova", "weekly", "1")
    wait_until_idle(openstack, "web")
    images = {image["Name"]: image for image in openstack.json("image", "list", "--private")}
    assert set(images) == {"by-nova", "backup-by-nova"}
    assert {image["Status"] for image in images.values()} == {"active"}
    assert "createImage" in nova("instance-action-list", "web")
    assert READY in nova("console-log", "web")
    nova("delete", "web")


def test_openstacksdk(cloud: Cloud) -> None:
    with cloud.connection() as connection:
        server = connection.create_server(
            "web", image=IMAGE, flavor=FLAVOR, auto_ip=False, wait=True, timeout=120
        )
        assert server.status == "ACTIVE"
        wait_for_console(connection, server, f"{READY}1")
        image = connection.compute.create_server_image(
            server.id, "by-the-sdk", metadata={"color": "red"}, wait=True, timeout=120
        )
        assert image.status == "active"
        again = connection.image.get_image(image.id)
        assert (again.properties["color"], again.properties["instance_uuid"]) == ("red", server.id)
        copy = connection.create_server(
            "copy", image="by-the-sdk", flavor=FLAVOR, auto_ip=False, wait=True, timeout=120
        )
        wait_for_console(connection, copy, f"{READY}2")
        assert connection.delete_server(copy.id, wait=True)
        assert connection.compute.find_server("copy") is None


def wait_for_console(connection: Connection, server: Any, wanted: str, timeout: float = 90) -> None:
    until = time.monotonic() + timeout
    while wanted not in (printed := connection.get_server_console(server.id)):
        assert time.monotonic() < until, f"no {wanted!r} on: {printed}"
        time.sleep(0.5)
