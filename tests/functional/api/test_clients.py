# SPDX-License-Identifier: Apache-2.0
"""Clients as people use them, against the API on a port."""

import threading
from collections.abc import Iterator

import openstack
import pytest
from cheroot import wsgi
from keystoneauth1 import adapter, discover, session, token_endpoint
from novaclient import client as novaclient

from nova_snap.objects.service import ComputeNode
from nova_snap.objects.service import Service as ComputeService
from tests.functional.api import service as svc
from tests.functional.api.service import Service


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    """The API on a port of this machine."""
    server = wsgi.Server(("127.0.0.1", 0), service.app, numthreads=2)
    server.prepare()
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield f"http://127.0.0.1:{server.bind_addr[1]}"
    server.stop()
    thread.join(30)
    assert not thread.is_alive()


def authenticated(url: str, token: str = svc.TOKEN) -> session.Session:
    return session.Session(auth=token_endpoint.Token(url, token))


@pytest.mark.parametrize("path", ["", "/", "/v2.1", "/v2.1/"])
def test_keystoneauth_discovers_the_versions(url: str, path: str) -> None:
    found = discover.Discover(authenticated(url), url + path).version_data()
    assert [each["version"] for each in found] == [(2, 1)]
    assert found[0]["min_microversion"] == (2, 1)
    assert found[0]["max_microversion"] == (2, 96)
    assert found[0]["url"] == f"{url}/v2.1/"


def test_keystoneauth_negotiates_a_microversion(url: str) -> None:
    compute = adapter.Adapter(
        authenticated(url),
        service_type="compute",
        endpoint_override=f"{url}/v2.1",
        default_microversion="2.47",
    )
    response = compute.get(f"/servers/{svc.ACTIVE}")
    assert response.headers["OpenStack-API-Version"] == "compute 2.47"
    assert response.json()["server"]["flavor"]["original_name"] == "m1.tiny"


@pytest.fixture
def cloud(url: str) -> Iterator[openstack.connection.Connection]:
    """openstacksdk, as clouds.yaml would configure it."""
    made = openstack.connection.Connection(
        auth_type="admin_token",
        auth={"endpoint": url, "token": svc.TOKEN},
        compute_endpoint_override=f"{url}/v2.1",
        compute_api_version="2.1",
    )
    yield made
    made.close()


def test_the_sdk_lists_and_finds_servers(cloud: openstack.connection.Connection) -> None:
    servers = list(cloud.compute.servers())
    assert len(servers) == 6
    found = cloud.compute.find_server("web")
    assert found.id == svc.ACTIVE
    assert cloud.compute.find_server(svc.STOPPED).id == svc.STOPPED
    assert cloud.compute.find_server("no such server") is None


def test_the_sdk_pages(cloud: openstack.connection.Connection) -> None:
    assert len({server.id for server in cloud.compute.servers(limit=2)}) == 6


def test_the_sdk_shows_a_server(cloud: openstack.connection.Connection) -> None:
    server = cloud.compute.get_server(svc.ACTIVE)
    assert (server.name, server.status, server.task_state) == ("web", "ACTIVE", None)
    assert server.project_id == svc.PROJECT
    assert server.image.id == svc.IMAGE


@pytest.mark.parametrize("microversion", [None, "2.44", "2.45", "2.96"])
def test_the_sdk_takes_a_snapshot(
    service: Service, cloud: openstack.connection.Connection, microversion: str | None
) -> None:
    cloud.compute.default_microversion = microversion
    server = cloud.compute.get_server(svc.ACTIVE)
    image_id = server.create_image(cloud.compute, "nightly", {"purpose": "test"})
    record = service.images.records[image_id]
    assert record["name"] == "nightly"
    assert record["purpose"] == "test"
    assert cloud.compute.get_server(svc.ACTIVE).task_state == "image_snapshot_pending"


def test_the_sdk_understands_a_fault(cloud: openstack.connection.Connection) -> None:
    with pytest.raises(openstack.exceptions.ConflictException, match="in task_state"):
        cloud.compute.get_server(svc.BUSY).create_image(cloud.compute, "nightly")
    with pytest.raises(openstack.exceptions.NotFoundException, match="could not be found"):
        cloud.compute.get_server(svc.FOREIGN)


@pytest.mark.parametrize("microversion", [None, "2.36", "2.52", "2.96"])
def test_the_sdk_makes_and_deletes_a_server(
    service: Service, cloud: openstack.connection.Connection, microversion: str | None
) -> None:
    service.offer()
    cloud.compute.default_microversion = microversion
    modern = microversion is not None and int(microversion[2:]) >= 37
    server = cloud.compute.create_server(
        name="new",
        image_id=svc.IMAGE,
        flavor_id=cloud.compute.find_flavor("m1.tiny").id,
        metadata={"a": "b"},
        networks="none" if modern else [],
    )
    assert service.casts.asked.pop(0)[0] == server.id
    shown = cloud.compute.get_server(server.id)
    assert (shown.name, shown.status, shown.metadata) == ("new", "BUILD", {"a": "b"})
    assert len(server.admin_password) == 12
    cloud.compute.delete_server(shown)
    assert service.casts.asked == [(server.id, "terminate")]


def test_the_sdk_changes_a_server(service: Service, cloud: openstack.connection.Connection) -> None:
    cloud.compute.default_microversion = "2.96"
    server = cloud.compute.get_server(svc.ACTIVE)
    renamed = cloud.compute.update_server(server, name="renamed", description="a word")
    assert (renamed.name, renamed.description) == ("renamed", "a word")
    cloud.compute.set_server_metadata(server, tier="gold")
    assert cloud.compute.get_server_metadata(server).metadata == {"role": "web", "tier": "gold"}
    cloud.compute.delete_server_metadata(server, ["role"])
    assert service.instance(svc.ACTIVE).metadata == {"tier": "gold"}


def test_the_sdk_switches_a_server(
    service: Service, cloud: openstack.connection.Connection
) -> None:
    assert cloud.compute.get_server_console_output(svc.ACTIVE, length=2) == {
        "output": service.casts.console
    }
    cloud.compute.reboot_server(svc.ACTIVE, "HARD")
    cloud.compute.start_server(svc.STOPPED)
    assert service.casts.asked == [
        (svc.ACTIVE, "console 2"),
        (svc.ACTIVE, "reboot over rebooting_hard"),
        (svc.STOPPED, "start over powering-on"),
    ]
    with pytest.raises(openstack.exceptions.ConflictException, match="Cannot 'stop' instance"):
        cloud.compute.stop_server(svc.BUSY)


@pytest.mark.parametrize("microversion", ["2.1", "2.61", "2.96"])
def test_novaclient(service: Service, url: str, microversion: str) -> None:
    nova = novaclient.Client(
        microversion,
        session=authenticated(url, svc.ADMIN_TOKEN),
        endpoint_override=f"{url}/v2.1",
    )
    service.offer()
    flavor = nova.flavors.create("m1.small", 2048, 1, 20, is_public=False)
    flavor.set_keys({"hw:mem": "large"})
    assert flavor.get_keys() == {"hw:mem": "large"}
    assert {each.name for each in nova.flavors.list(is_public=None)} == {"m1.small", "m1.tiny"}
    nova.flavors.delete(flavor)
    assert [each.name for each in nova.flavors.list()] == ["m1.tiny"]
    modern = int(microversion[2:]) >= 37
    server = nova.servers.create("new", svc.IMAGE, "1", nics="none" if modern else None)
    assert nova.servers.get(server.id).status == "BUILD"
    server.delete()
    nova.servers.pause(svc.ACTIVE)
    nova.servers.reset_state(svc.ACTIVE, "error")
    assert nova.servers.get(svc.ACTIVE).status == "ERROR"
    assert [what for _, what in service.casts.asked[1:]] == ["terminate", "pause over pausing"]


@pytest.mark.parametrize("microversion", [None, "2.44", "2.45", "2.96"])
def test_the_sdk_takes_a_backup(
    service: Service, cloud: openstack.connection.Connection, microversion: str | None
) -> None:
    cloud.compute.default_microversion = microversion
    server = cloud.compute.get_server(svc.ACTIVE)
    image_id = server.backup(cloud.compute, "nightly", "daily", 2)
    assert service.images.records[image_id]["backup_type"] == "daily"
    assert service.casts.sent == [(svc.ACTIVE, image_id)]
    assert service.casts.rotations == [("daily", 2)]
    (action,) = cloud.compute.server_actions(svc.ACTIVE)
    assert (action.action, action.message) == ("createBackup", None)
    shown = cloud.compute.get_server_action(action.request_id, svc.ACTIVE)
    assert (shown.request_id, shown.project_id) == (action.request_id, svc.PROJECT)


@pytest.mark.parametrize("microversion", ["2.1", "2.44", "2.45", "2.96"])
def test_novaclient_takes_a_backup(service: Service, url: str, microversion: str) -> None:
    nova = novaclient.Client(
        microversion, session=authenticated(url), endpoint_override=f"{url}/v2.1"
    )
    nova.servers.backup(svc.ACTIVE, "nightly", "weekly", 1)
    assert service.casts.rotations == [("weekly", 1)]
    (action,) = nova.instance_action.list(svc.ACTIVE)
    assert action.action == "createBackup"
    assert nova.instance_action.get(svc.ACTIVE, action.request_id).message is None


@pytest.fixture
def node(service: Service) -> ComputeNode:
    """The hypervisor of the one host that there is."""
    context = service.context()
    resources = {"vcpus": 4, "memory_mb": 2048, "uptime": "up 1 day", "hypervisor_type": "QEMU"}
    host = ComputeService.get_by_host(context, svc.HOST)
    ComputeNode.record(context, host, resources)
    (made,) = ComputeNode.get_all(context)
    return made


def test_the_sdk_looks_after_hosts(url: str, node: ComputeNode) -> None:
    with openstack.connection.Connection(
        auth_type="admin_token",
        auth={"endpoint": url, "token": svc.ADMIN_TOKEN},
        compute_endpoint_override=f"{url}/v2.1",
        compute_default_microversion="2.96",
    ) as operator:
        compute = operator.compute
        (host,) = compute.services()
        assert (host.id, host.state, host.status) == (node.service.uuid, "up", "enabled")
        compute.disable_service(host, disabled_reason="a new disk")
        assert compute.find_service(host.id).disabled_reason == "a new disk"
        assert compute.find_hypervisor(svc.HOST).status == "disabled"
        compute.enable_service(host)
        (shown,) = compute.hypervisors(details=True)
        assert (shown.id, shown.uptime, shown.status) == (node.uuid, "up 1 day", "enabled")
        assert compute.get_limits().absolute.instances_used == 6
        assert compute.get_quota_set(svc.PROJECT).cores == 20
        (zone,) = compute.availability_zones(details=True)
        assert list(zone.hosts) == [svc.HOST]


@pytest.mark.parametrize("microversion", ["2.1", "2.53", "2.96"])
def test_novaclient_looks_after_hosts(url: str, node: ComputeNode, microversion: str) -> None:
    nova = novaclient.Client(
        microversion,
        session=authenticated(url, svc.ADMIN_TOKEN),
        endpoint_override=f"{url}/v2.1",
    )
    by_uuid = int(microversion[2:]) >= 53
    (host,) = nova.services.list(binary="nova-compute")
    if by_uuid:
        assert nova.services.disable(host.id).status == "disabled"
        assert nova.services.enable(host.id).status == "enabled"
    else:
        assert nova.services.disable(svc.HOST, "nova-compute").status == "disabled"
        assert nova.services.enable(svc.HOST, "nova-compute").status == "enabled"
    (shown,) = nova.hypervisors.search("compute")
    assert shown.id == (node.uuid if by_uuid else node.id)
    assert nova.hypervisors.uptime(shown.id).uptime == "up 1 day"
    limits = {each.name: each.value for each in nova.limits.get().absolute}
    assert limits["totalInstancesUsed"] == 6
    assert nova.quotas.get(svc.PROJECT, detail=True).cores["in_use"] == 6
    assert [zone.zoneName for zone in nova.availability_zones.list(detailed=True)] == ["nova"]
