# SPDX-License-Identifier: Apache-2.0
"""os-services, os-hypervisors, os-availability-zone at the versions where they change."""

import datetime
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest
from oslo_utils import timeutils

from nova_snap.api.microversion import Microversion
from nova_snap.api.schemas import availability_zone, hypervisors, services
from nova_snap.api.validation import FORMATS
from nova_snap.db import service_queries
from nova_snap.objects.service import COMPUTE, ComputeNode, Service
from tests.functional.api import service as svc
from tests.functional.api.service import Service as Cloud

RESOURCES = {
    "host_ip": "192.0.2.7",
    "hypervisor_type": "QEMU",
    "hypervisor_version": 7_002_000,
    "vcpus": 8,
    "memory_mb": 16_000,
    "memory_mb_used": 4_000,
    "local_gb": 100,
    "local_gb_used": 30,
    "disk_available_gb": -5,
    "running_vms": 3,
    "cpu_info": {"arch": "x86_64", "topology": {"cores": 8}},
    "uptime": " 10:00:00 up 3 days,  0 users,  load average: 0.00, 0.01, 0.05",
}
MINORS = (1, 10, 11, 28, 32, 33, 52, 53, 74, 75, 87, 88, 96)


def check(body: object, schema: Mapping[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(body)


@pytest.fixture
def cloud(service: Cloud) -> Cloud:
    """With three hosts: one has servers, one is disabled, one is down."""
    context = service.context()
    for host in (svc.HOST, "compute-2", "compute-3"):
        made = Service.register(context, host, COMPUTE, "topic")
        ComputeNode.record(context, made, RESOURCES)
    disabled = Service.get_by_host(context, "compute-2")
    disabled.disabled, disabled.disabled_reason = True, "a new disk"
    disabled.save(context)
    down = Service.get_by_host(context, "compute-3")
    long_ago = timeutils.utcnow() - datetime.timedelta(hours=1)
    with service.database.writer() as session:
        service_queries.service_update(session, down.id, {"last_seen_up": long_ago})
    return service


def get(cloud: Cloud, path: str, minor: int, status: int = 200) -> Any:
    response = cloud.get(f"/v2.1/{path}", token=svc.ADMIN_TOKEN, version=f"2.{minor}")
    assert response.status_int == status, response.text
    return response.json


def put(
    cloud: Cloud, path: str, body: object, minor: int, status: int = 200, message: str = ""
) -> Any:
    response = cloud.request(
        "PUT", f"/v2.1/os-services/{path}", body, token=svc.ADMIN_TOKEN, version=f"2.{minor}"
    )
    assert response.status_int == status, response.text
    assert message in response.text
    return response.json


# -- os-services -----------------------------------------------------------------------------


@pytest.mark.parametrize("minor", MINORS, ids=lambda minor: f"2.{minor}")
def test_services_have_what_their_version_has(cloud: Cloud, minor: int) -> None:
    body = get(cloud, "os-services", minor)
    check(body, services.index(Microversion(2, minor)))
    shown = [(each["host"], each["status"], each["state"]) for each in body["services"]]
    assert shown == [
        (svc.HOST, "enabled", "up"),
        ("compute-2", "disabled", "up"),
        ("compute-3", "enabled", "down"),
    ]
    assert body["services"][1]["disabled_reason"] == "a new disk"
    assert body["services"][0]["zone"] == "nova"


def test_services_may_be_filtered(cloud: Cloud) -> None:
    def hosts(query: str, minor: int = 1) -> list[str]:
        found = get(cloud, f"os-services?{query}", minor)["services"]
        return [each["host"] for each in found]

    assert hosts("host=compute-2") == ["compute-2"]
    assert len(hosts("binary=nova-compute")) == 3
    assert hosts("host=compute-2&binary=nova-conductor") == []
    assert len(hosts("xxx=1", 74)) == 3
    get(cloud, "os-services?xxx=1", 75, 400)


def test_below_2_53_a_service_is_changed_by_host_and_binary(cloud: Cloud) -> None:
    one = {"host": svc.HOST, "binary": COMPUTE}
    assert put(cloud, "disable", one, 1) == {"service": {**one, "status": "disabled"}}
    assert get(cloud, "os-services", 1)["services"][0]["status"] == "disabled"
    why = {**one, "disabled_reason": "a new disk"}
    assert put(cloud, "disable-log-reason", why, 1) == {"service": {**why, "status": "disabled"}}
    assert get(cloud, "os-services", 1)["services"][0]["disabled_reason"] == "a new disk"
    assert put(cloud, "enable", one, 52) == {"service": {**one, "status": "enabled"}}
    assert get(cloud, "os-services", 1)["services"][0]["disabled_reason"] is None
    down = {**one, "forced_down": "true"}
    put(cloud, "force-down", down, 10, 404)
    assert put(cloud, "force-down", down, 11) == {"service": {**one, "forced_down": True}}
    assert get(cloud, "os-services", 11)["services"][0]["state"] == "down"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("disable", {"host": "nowhere", "binary": COMPUTE}, 404),
        ("disable", {"host": svc.HOST, "binary": "nova-api"}, 404),
        ("disable", {"host": svc.HOST}, 400),
        ("disable", {"host": "a b", "binary": COMPUTE}, 400),
        ("disable", {"host": svc.HOST, "binary": COMPUTE, "more": 1}, 400),
        ("disable-log-reason", {"host": svc.HOST, "binary": COMPUTE}, 400),
        ("force-down", {"host": svc.HOST, "binary": COMPUTE, "forced_down": "perhaps"}, 400),
        ("restart", {"host": svc.HOST, "binary": COMPUTE}, 404),
    ],
)
def test_what_below_2_53_is_refused(cloud: Cloud, path: str, body: object, status: int) -> None:
    put(cloud, path, body, 52, status)


def test_from_2_53_on_a_service_is_changed_by_its_uuid(cloud: Cloud) -> None:
    uuid = get(cloud, "os-services", 53)["services"][0]["id"]
    version = Microversion(2, 53)
    body = put(cloud, uuid, {"status": "disabled", "disabled_reason": "a new disk"}, 53)
    check(body, services.update(version))
    assert (body["service"]["status"], body["service"]["forced_down"]) == ("disabled", False)
    body = put(cloud, uuid, {"forced_down": True}, 53)
    assert (body["service"]["state"], body["service"]["disabled_reason"]) == ("down", "a new disk")
    body = put(cloud, uuid, {"status": "enabled", "forced_down": False}, 53)
    assert (body["service"]["state"], body["service"]["disabled_reason"]) == ("up", None)


def test_what_from_2_53_on_is_refused(cloud: Cloud) -> None:
    uuid = get(cloud, "os-services", 53)["services"][0]["id"]
    put(cloud, uuid, {}, 53, 400, "No updates were requested")
    put(cloud, uuid, {"disabled_reason": "x"}, 53, 400, "requires that 'status' is 'disabled'")
    put(cloud, uuid, {"status": "enabled", "disabled_reason": "x"}, 53, 400, "requires that")
    put(cloud, uuid, {"status": "up"}, 53, 400)
    put(cloud, svc.UNKNOWN, {"status": "enabled"}, 53, 404)
    put(cloud, "enable", {"status": "enabled"}, 53, 400, "Invalid uuid enable")


@pytest.mark.parametrize("minor", [52, 53])
def test_a_service_without_servers_may_be_deleted(cloud: Cloud, minor: int) -> None:
    def delete(service_id: object) -> int:
        path = f"/v2.1/os-services/{service_id}"
        response = cloud.request("DELETE", path, token=svc.ADMIN_TOKEN, version=f"2.{minor}")
        return int(response.status_int)

    first, *_, last = get(cloud, "os-services", minor)["services"]
    assert delete(first["id"]) == 409
    assert delete(last["id"]) == 204
    assert delete(last["id"]) == 404
    assert delete("x") == 400
    assert len(get(cloud, "os-services", minor)["services"]) == 2
    assert len(get(cloud, "os-hypervisors", minor)["hypervisors"]) == 2


# -- os-hypervisors --------------------------------------------------------------------------


@pytest.mark.parametrize("minor", MINORS, ids=lambda minor: f"2.{minor}")
def test_hypervisors_have_what_their_version_has(cloud: Cloud, minor: int) -> None:
    version = Microversion(2, minor)
    body = get(cloud, "os-hypervisors", minor)
    check(body, hypervisors.index(version))
    check(get(cloud, "os-hypervisors/detail", minor), hypervisors.detail(version))
    identifier = body["hypervisors"][0]["id"]
    shown = get(cloud, f"os-hypervisors/{identifier}", minor)
    check(shown, hypervisors.show(version))
    assert shown["hypervisor"]["hypervisor_hostname"] == svc.HOST
    assert shown["hypervisor"]["service"]["host"] == svc.HOST
    if minor < 88:
        check(get(cloud, f"os-hypervisors/{identifier}/uptime", minor), hypervisors.uptime(version))
        check(get(cloud, "os-hypervisors/statistics", minor), hypervisors.STATISTICS)
    else:
        get(cloud, f"os-hypervisors/{identifier}/uptime", minor, 404)
        get(cloud, "os-hypervisors/statistics", minor, 404)
        assert shown["hypervisor"]["uptime"] == RESOURCES["uptime"]


def test_a_hypervisor_says_what_it_has(cloud: Cloud) -> None:
    shown = get(cloud, "os-hypervisors/1", 52)["hypervisor"]
    # The template has six servers on this host, one of them with a task.
    assert (shown["vcpus"], shown["vcpus_used"], shown["current_workload"]) == (8, 6, 1)
    assert (shown["memory_mb"], shown["free_ram_mb"]) == (16_000, 12_000)
    assert (shown["local_gb"], shown["free_disk_gb"]) == (100, 70)
    assert (shown["disk_available_least"], shown["running_vms"]) == (-5, 3)
    assert shown["cpu_info"] == RESOURCES["cpu_info"]
    assert get(cloud, "os-hypervisors/1", 27)["hypervisor"]["cpu_info"].startswith('{"arch"')
    sums = get(cloud, "os-hypervisors/statistics", 1)["hypervisor_statistics"]
    assert (sums["count"], sums["vcpus"], sums["vcpus_used"]) == (3, 24, 6)


def test_a_hypervisor_that_has_said_nothing_yet_is_shown(cloud: Cloud) -> None:
    context = cloud.context()
    made = Service.register(context, "new", COMPUTE, "topic")
    ComputeNode.record(context, made, {})
    for minor in (1, 88):
        check(
            get(cloud, "os-hypervisors/detail", minor),
            hypervisors.detail(Microversion(2, minor)),
        )


def test_hypervisors_come_in_pages(cloud: Cloud) -> None:
    body = get(cloud, "os-hypervisors?limit=2", 33)
    check(body, hypervisors.index(Microversion(2, 33)))
    (link,) = body["hypervisors_links"]
    assert "limit=2&marker=2" in link["href"]
    rest = get(cloud, "os-hypervisors?limit=2&marker=2", 33)
    assert [each["hypervisor_hostname"] for each in rest["hypervisors"]] == ["compute-3"]
    assert "hypervisors_links" not in rest
    uuid = get(cloud, "os-hypervisors", 53)["hypervisors"][1]["id"]
    rest = get(cloud, f"os-hypervisors/detail?marker={uuid}", 53)
    assert len(rest["hypervisors"]) == 1
    get(cloud, "os-hypervisors?marker=99", 33, 400)
    get(cloud, "os-hypervisors?marker=2", 53, 400)
    get(cloud, "os-hypervisors?limit=x", 33, 400)
    assert len(get(cloud, "os-hypervisors?limit=1", 32)["hypervisors"]) == 3


def test_hypervisors_are_found_by_a_part_of_their_name(cloud: Cloud) -> None:
    found = get(cloud, "os-hypervisors?hypervisor_hostname_pattern=e-2", 53)["hypervisors"]
    assert [each["hypervisor_hostname"] for each in found] == ["compute-2"]
    get(cloud, "os-hypervisors?hypervisor_hostname_pattern=x", 53, 404)
    get(cloud, "os-hypervisors?hypervisor_hostname_pattern=e&limit=1", 53, 400)
    body = get(cloud, "os-hypervisors/e-2/search", 52)
    check(body, hypervisors.search(Microversion(2, 52)))
    get(cloud, "os-hypervisors/x/search", 52, 404)
    get(cloud, "os-hypervisors/e-2/search", 53, 404)


def test_hypervisors_show_their_servers(cloud: Cloud) -> None:
    body = get(cloud, "os-hypervisors/compute/servers", 52)
    check(body, hypervisors.search(Microversion(2, 52)))
    first, second, _ = body["hypervisors"]
    assert svc.ACTIVE in [each["uuid"] for each in first["servers"]]
    assert len(first["servers"]) == 6
    assert "servers" not in second
    get(cloud, "os-hypervisors/compute/servers", 53, 404)
    for minor in (53, 75):
        for path in ("os-hypervisors", "os-hypervisors/detail"):
            with_servers = get(cloud, f"{path}?with_servers=true", minor)["hypervisors"]
            assert len(with_servers[0]["servers"]) == 6
            assert with_servers[1].get("servers") == {53: None, 75: []}[minor]
    get(cloud, "os-hypervisors?with_servers=perhaps", 53, 400)


@pytest.mark.parametrize(
    ("minor", "identifier"), [(1, "99"), (1, "x"), (52, svc.UNKNOWN), (53, "1"), (96, svc.UNKNOWN)]
)
def test_a_hypervisor_that_is_not_there(cloud: Cloud, minor: int, identifier: str) -> None:
    get(cloud, f"os-hypervisors/{identifier}", minor, 404)


def test_the_uptime_of_a_host_that_is_down(cloud: Cloud) -> None:
    get(cloud, "os-hypervisors/3/uptime", 1, 400)


# -- os-availability-zone --------------------------------------------------------------------


def test_the_availability_zone(cloud: Cloud) -> None:
    body = cloud.get("/v2.1/os-availability-zone").json
    check(body, availability_zone.INDEX)
    assert body["availabilityZoneInfo"] == [
        {"zoneName": "nova", "zoneState": {"available": True}, "hosts": None}
    ]
    body = get(cloud, "os-availability-zone/detail", 96)
    check(body, availability_zone.DETAIL)
    hosts = body["availabilityZoneInfo"][0]["hosts"]
    states = {name: hosts[name][COMPUTE] for name in hosts}
    assert states["compute-2"]["active"] is False
    assert states["compute-3"]["available"] is False


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "os-services"),
        ("PUT", "os-services/enable"),
        ("DELETE", "os-services/1"),
        ("GET", "os-hypervisors"),
        ("GET", "os-hypervisors/detail"),
        ("GET", "os-hypervisors/statistics"),
        ("GET", "os-hypervisors/1"),
        ("GET", "os-hypervisors/99"),
        ("GET", "os-hypervisors/1/uptime"),
        ("GET", "os-hypervisors/x/search"),
        ("GET", "os-hypervisors/x/servers"),
        ("GET", "os-availability-zone/detail"),
    ],
)
def test_all_this_is_for_administrators(cloud: Cloud, method: str, path: str) -> None:
    response = cloud.request(method, f"/v2.1/{path}", {} if method == "PUT" else None)
    assert response.status_int == 403
