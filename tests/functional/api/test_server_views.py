# SPDX-License-Identifier: Apache-2.0
"""Every answer has what its microversion has, and nothing else."""

from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest

from nova_snap.api.microversion import Microversion
from nova_snap.api.schemas import server_responses, versions
from nova_snap.api.validation import FORMATS
from tests.functional.api import service as svc
from tests.functional.api.service import Service

# Where something changes, the version before it, and both ends.
CHANGES = (3, 9, 16, 19, 26, 47, 63, 69, 71, 73, 75, 90, 96)
MINORS = sorted({1, 45, *CHANGES, *(minor - 1 for minor in CHANGES)})

KINDS = {
    "active": svc.ACTIVE,
    "stopped": svc.STOPPED,
    "failed": svc.FAILED,
    "volume-backed": svc.VOLUME_BACKED,
    "busy": svc.BUSY,
    "nowhere": svc.NOWHERE,
}

# What came with which version, said once more and by itself: attribute, first version, who sees
# it, in which answers.
ADDED = [
    ("OS-EXT-SRV-ATTR:host", 1, "admin", "show detail"),
    ("OS-EXT-SRV-ATTR:hypervisor_hostname", 1, "admin", "show detail"),
    ("OS-EXT-SRV-ATTR:instance_name", 1, "admin", "show detail"),
    ("OS-EXT-SRV-ATTR:hostname", 3, "admin", "show detail"),
    ("OS-EXT-SRV-ATTR:kernel_id", 3, "admin", "show detail"),
    ("OS-EXT-SRV-ATTR:launch_index", 3, "admin", "show detail"),
    ("OS-EXT-SRV-ATTR:ramdisk_id", 3, "admin", "show detail"),
    ("OS-EXT-SRV-ATTR:reservation_id", 3, "admin", "show detail"),
    ("OS-EXT-SRV-ATTR:root_device_name", 3, "admin", "show detail"),
    ("OS-EXT-SRV-ATTR:user_data", 3, "admin", "show detail"),
    ("locked", 9, "all", "show detail"),
    ("host_status", 16, "admin", "show detail"),
    ("description", 19, "all", "show detail"),
    ("tags", 26, "all", "show detail"),
    ("trusted_image_certificates", 63, "all", "show detail"),
    ("server_groups", 71, "all", "show"),
    ("locked_reason", 73, "all", "show detail"),
    ("OS-EXT-SRV-ATTR:hostname", 90, "all", "show detail"),
    ("pinned_availability_zone", 96, "all", "show detail"),
]


def check(body: object, schema: Mapping[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(body)


def tokens() -> list[Any]:
    return [pytest.param(svc.TOKEN, id="member"), pytest.param(svc.ADMIN_TOKEN, id="admin")]


@pytest.mark.parametrize("token", tokens())
@pytest.mark.parametrize("minor", MINORS, ids=lambda minor: f"2.{minor}")
def test_show(service: Service, minor: int, token: str) -> None:
    for uuid in KINDS.values():
        response = service.get(f"/v2.1/servers/{uuid}", version=f"2.{minor}", token=token)
        assert response.status_int == 200
        check(response.json, server_responses.show(Microversion(2, minor)))
        assert response.json["server"]["id"] == uuid


@pytest.mark.parametrize("token", tokens())
@pytest.mark.parametrize("minor", MINORS, ids=lambda minor: f"2.{minor}")
def test_detail(service: Service, minor: int, token: str) -> None:
    for query in ("", "?limit=2", "?changes-since=2020-01-01T00:00:00Z"):
        path = f"/v2.1/servers/detail{query}"
        response = service.get(path, version=f"2.{minor}", token=token)
        assert response.status_int == 200
        check(response.json, server_responses.detail(Microversion(2, minor)))
        assert len(response.json["servers"]) == {"": 6, "?limit=2": 2}.get(query, 7)


@pytest.mark.parametrize("minor", [1, 69, 96], ids=lambda minor: f"2.{minor}")
def test_index(service: Service, minor: int) -> None:
    for query in ("", "?limit=2"):
        response = service.get(f"/v2.1/servers{query}", version=f"2.{minor}")
        check(response.json, server_responses.index())
        assert ("servers_links" in response.json) == bool(query)


@pytest.mark.parametrize("minor", [45, 96])
def test_create_image(service: Service, minor: int) -> None:
    response = service.create_image(svc.ACTIVE, version=f"2.{minor}")
    check(response.json, server_responses.CREATE_IMAGE_2_45)
    assert list(service.images.records) == [response.json["image_id"]]


def test_create_image_below_2_45_names_the_image_in_a_header(service: Service) -> None:
    response = service.create_image(svc.ACTIVE, version="2.44")
    assert response.body == b""
    (image_id,) = service.images.records
    assert response.headers["Location"] == f"http://glance.example.org:9292/images/{image_id}"


@pytest.mark.parametrize("path", ["/", "/v2.1", "/v2.1/"])
def test_versions(service: Service, path: str) -> None:
    schema = versions.INDEX_RESPONSE if path == "/" else versions.SHOW_RESPONSE
    check(service.get(path, token=None).json, schema)


@pytest.mark.parametrize(("name", "since", "who", "where"), ADDED)
def test_an_attribute_comes_with_its_version(
    service: Service, name: str, since: int, who: str, where: str
) -> None:
    def shown(minor: int, token: str) -> set[str]:
        version = f"2.{minor}"
        server = service.get(f"/v2.1/servers/{svc.ACTIVE}", version=version, token=token)
        listed = service.get("/v2.1/servers/detail?name=web", version=version, token=token)
        found = {"show"} if name in server.json["server"] else set()
        return found | ({"detail"} if name in listed.json["servers"][0] else set())

    everywhere = set(where.split())
    assert shown(since, svc.ADMIN_TOKEN) == everywhere
    assert shown(96, svc.ADMIN_TOKEN) == everywhere
    if who == "all":
        assert shown(since, svc.TOKEN) == everywhere
        assert shown(96, svc.TOKEN) == everywhere
    else:
        assert shown(since, svc.TOKEN) == set()
    if since > 1:
        assert shown(since - 1, svc.TOKEN) == set()


@pytest.mark.parametrize(("minor", "keys"), [(46, {"id", "links"}), (47, None)])
def test_the_flavor_changes_with_2_47(service: Service, minor: int, keys: set[str] | None) -> None:
    response = service.get(f"/v2.1/servers/{svc.ACTIVE}", version=f"2.{minor}")
    flavor = response.json["server"]["flavor"]
    if keys is not None:
        assert set(flavor) == keys
    else:
        assert flavor == {
            "original_name": "m1.tiny",
            "vcpus": 1,
            "ram": 512,
            "disk": 1,
            "ephemeral": 0,
            "swap": 0,
            "extra_specs": {"hw:cpu": "x"},
        }


def test_the_schemas_are_closed(service: Service) -> None:
    """What an answer is held against must itself be able to refuse one."""
    body = service.get(f"/v2.1/servers/{svc.ACTIVE}").json
    schema = server_responses.show(Microversion(2, 1))
    check(body, schema)
    body["server"]["locked"] = False
    with pytest.raises(jsonschema.ValidationError, match="'locked' was unexpected"):
        check(body, schema)
    del body["server"]["locked"], body["server"]["hostId"]
    with pytest.raises(jsonschema.ValidationError, match="'hostId' is a required property"):
        check(body, schema)


def test_two_projects_see_other_names_of_one_host(service: Service) -> None:
    ours = service.get(f"/v2.1/servers/{svc.ACTIVE}").json["server"]["hostId"]
    theirs = service.get(f"/v2.1/servers/{svc.FOREIGN}", token=svc.OTHER_TOKEN).json["server"]
    assert len(ours) == 56
    assert theirs["hostId"] != ours


@pytest.mark.parametrize(
    ("uuid", "before"), [(svc.BUSY, 0), (svc.STOPPED, None)], ids=["active", "stopped"]
)
def test_the_progress_of_a_snapshot_is_shown(
    service: Service, uuid: str, before: int | None
) -> None:
    def progress() -> int | None:
        body = service.get(f"/v2.1/servers/{uuid}").json
        check(body, server_responses.show(Microversion(2, 1)))
        shown: int | None = body["server"].get("progress")
        return shown

    assert progress() == before
    instance = service.instance(uuid)
    instance.snapshot_bytes_done, instance.snapshot_bytes_total = 3_000, 9_000
    instance.save()
    assert progress() == 33
