# SPDX-License-Identifier: Apache-2.0
"""Images and their metadata, for clients of before 2.36."""

from typing import Any

import jsonschema
import pytest

from nova_snap import exception
from nova_snap.api.schemas import images as schema
from nova_snap.api.validation import FORMATS
from tests.functional.api import service as svc
from tests.functional.api.service import Service

PATH = "/v2.1/images"


def check(body: object, against: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(against)
    jsonschema.Draft202012Validator(against, format_checker=FORMATS).validate(body)


@pytest.fixture
def base(service: Service) -> str:
    """An image that is no snapshot; its id."""
    return add(service, "base", 1, disk_format="qcow2", os_distro="debian")


@pytest.fixture
def snapshot(service: Service) -> str:
    """A snapshot of a server; its id."""
    return add(service, "nightly", 2, instance_uuid=svc.ACTIVE, image_type="snapshot", min_disk=1)


@pytest.fixture
def saving(service: Service) -> str:
    """A snapshot of another server that is not done; its id."""
    how = {"instance_uuid": svc.STOPPED, "image_type": "snapshot"}
    return add(service, "new", 3, status="saving", size=None, **how)


def add(service: Service, name: str, hour: int, **values: Any) -> str:
    properties = {"status": "active", "size": 1024, "min_disk": 0, "min_ram": 0, **values}
    record = service.images.create(service.context(), {"name": name})
    time = f"2026-01-01T0{hour}:00:00Z"
    stored = service.images.records[record["id"]]
    stored.update(created_at=time, updated_at=time, tags=[], protected=False, **properties)
    return str(record["id"])


def names(service: Service, query: str = "", path: str = PATH) -> list[str]:
    response = service.get(f"{path}{query}")
    assert response.status_int == 200, response.text
    check(response.json, schema.DETAIL if path.endswith("detail") else schema.INDEX)
    return [each["name"] for each in response.json["images"]]


def test_an_image_is_shown_as_nova_shows_it(service: Service, snapshot: str) -> None:
    body = service.get(f"{PATH}/{snapshot}").json
    check(body, schema.SHOW)
    image = body["image"]
    assert (image["status"], image["progress"]) == ("ACTIVE", 100)
    assert (image["minDisk"], image["minRam"], image["OS-EXT-IMG-SIZE:size"]) == (1, 0, 1024)
    assert image["metadata"] == {"instance_uuid": svc.ACTIVE, "image_type": "snapshot"}
    assert image["server"]["id"] == svc.ACTIVE
    assert (image["created"], image["name"]) == ("2026-01-01T02:00:00Z", "nightly")
    links = {link["rel"]: link["href"] for link in image["links"]}
    assert links == {
        "self": f"http://localhost/v2.1/images/{snapshot}",
        "bookmark": f"http://localhost/images/{snapshot}",
        "alternate": f"http://glance.example.org:9292/images/{snapshot}",
    }


@pytest.mark.parametrize(
    ("status", "shown", "progress"),
    [
        ("queued", "SAVING", 25),
        ("saving", "SAVING", 50),
        ("killed", "ERROR", 0),
        ("pending_delete", "DELETED", 0),
        ("deactivated", "UNKNOWN", 0),
    ],
)
def test_statuses(service: Service, status: str, shown: str, progress: int) -> None:
    body = service.get(f"{PATH}/{add(service, 'x', 1, status=status)}").json
    check(body, schema.SHOW)
    assert (body["image"]["status"], body["image"]["progress"]) == (shown, progress)


def test_the_disk_config_is_shown_where_there_is_one(service: Service) -> None:
    for value, shown in (("True", "AUTO"), ("False", "MANUAL")):
        body = service.get(f"{PATH}/{add(service, 'x', 1, auto_disk_config=value)}").json
        check(body, schema.SHOW)
        assert body["image"]["OS-DCF:diskConfig"] == shown


@pytest.mark.usefixtures("base", "snapshot", "saving")
@pytest.mark.parametrize("path", [PATH, f"{PATH}/detail"])
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["new", "nightly", "base"]),
        ("?status=ACTIVE", ["nightly", "base"]),
        ("?status=active", ["nightly", "base"]),
        ("?status=SAVING", ["new"]),
        ("?status=DELETED", []),
        ("?status=nonsense", []),
        ("?name=base", ["base"]),
        ("?type=snapshot", ["new", "nightly"]),
        (f"?server={svc.ACTIVE}", ["nightly"]),
        (f"?server=http://localhost/v2.1/servers/{svc.ACTIVE}", ["nightly"]),
        (f"?server=http://localhost/servers/{svc.ACTIVE}", ["nightly"]),
        ("?changes-since=2026-01-01T02:00:00Z", ["new", "nightly"]),
        ("?changes-since=2026-01-01T04:00:00%2B02:00", ["new", "nightly"]),
        ("?minDisk=1", ["nightly"]),
        ("?property-os_distro=debian", ["base"]),
        ("?property-visibility=x&property-=y&unknown=z", ["new", "nightly", "base"]),
        ("?limit=0", []),
        ("?limit=1&name=base", ["base"]),
    ],
)
def test_lists_may_be_filtered(
    service: Service, path: str, query: str, expected: list[str]
) -> None:
    assert names(service, query, path) == expected


def test_lists_come_in_pages(service: Service, base: str, snapshot: str, saving: str) -> None:
    body = service.get(f"{PATH}?limit=2").json
    check(body, schema.INDEX)
    assert body["images_links"][0]["href"].endswith(f"/v2.1/images?limit=2&marker={snapshot}")
    body = service.get(f"{PATH}?limit=2&marker={snapshot}").json
    assert [each["id"] for each in body["images"]] == [base]
    assert "images_links" not in body


@pytest.mark.parametrize("query", ["limit=x", "limit=-1", "changes-since=x", "marker=x"])
def test_what_cannot_be_listed(service: Service, query: str) -> None:
    assert service.get(f"{PATH}?{query}").status_int == 400


def test_what_the_image_service_cannot_list(service: Service) -> None:
    service.images.fail["get_all"] = exception.InvalidImageProperty(reason="no such marker")
    response = service.get(PATH)
    assert response.status_int == 400
    assert "The image service cannot list this: no such marker" in response.text


def test_an_image_may_be_deleted(service: Service, base: str) -> None:
    path = f"{PATH}/{base}"
    response = service.request("DELETE", path)
    assert (response.status_int, response.body) == (204, b"")
    assert service.request("DELETE", path).status_int == 404
    assert service.get(path).status_int == 404


def test_the_image_service_says_no(service: Service, base: str) -> None:
    service.images.fail["delete"] = exception.ImageForbidden(image_id=base, reason="protected")
    response = service.request("DELETE", f"{PATH}/{base}")
    assert response.status_int == 403
    assert "protected" in response.text


@pytest.mark.parametrize("image_id", ["x", "-1", f"{svc.UNKNOWN}1", "%3Fa%23b", "..", svc.UNKNOWN])
def test_an_image_that_is_not_there(service: Service, image_id: str) -> None:
    for method, path, body in (
        ("GET", "", None),
        ("DELETE", "", None),
        ("GET", "/metadata", None),
        ("GET", "/metadata/key", None),
        ("PUT", "/metadata", {"metadata": {"key": "x"}}),
        ("POST", "/metadata", {"metadata": {"key": "x"}}),
        ("PUT", "/metadata/key", {"meta": {"key": "x"}}),
        ("DELETE", "/metadata/key", None),
    ):
        response = service.request(method, f"{PATH}/{image_id}{path}", body)
        assert response.status_int == 404


def test_the_versions_that_have_images(service: Service, base: str) -> None:
    for path in ("", "/detail", f"/{base}"):
        assert service.get(PATH + path, version="2.35").status_int == 200
        assert service.get(PATH + path, version="2.36").status_int == 404
    assert service.request("DELETE", f"{PATH}/{base}", version="2.36").status_int == 404
    for path in (f"/{base}/metadata", f"/{base}/metadata/os_distro"):
        assert service.get(PATH + path, version="2.38").status_int == 200
        assert service.get(PATH + path, version="2.39").status_int == 404


# -- metadata --------------------------------------------------------------------------------


def test_metadata_are_shown_set_and_deleted(service: Service, base: str) -> None:
    path = f"{PATH}/{base}/metadata"

    def ask(method: str, more: str = "", body: object = None) -> Any:
        response = service.request(method, path + more, body)
        assert response.status_int == 200, response.text
        check(response.json, schema.METADATA_ITEM if more else schema.METADATA)
        return response.json

    assert ask("GET") == {"metadata": {"os_distro": "debian"}}
    assert ask("GET", "/os_distro") == {"meta": {"os_distro": "debian"}}
    both = {"metadata": {"os_distro": "debian", "a": "1"}}
    assert ask("POST", body={"metadata": {"a": "1"}}) == both
    assert ask("PUT", body={"metadata": {"a": "2", "b": "3"}}) == {"metadata": {"a": "2", "b": "3"}}
    assert ask("PUT", "/a", {"meta": {"a": "4"}}) == {"meta": {"a": "4"}}
    assert service.request("DELETE", f"{path}/b").status_int == 204
    assert ask("GET") == {"metadata": {"a": "4"}}
    assert service.images.records[base]["disk_format"] == "qcow2"


@pytest.mark.parametrize(
    ("method", "more", "body", "status"),
    [
        ("PUT", "", {"metadata": {"visibility": "public"}}, 400),
        ("POST", "", {"metadata": {"owner": "me"}}, 400),
        ("PUT", "/protected", {"meta": {"protected": "True"}}, 400),
        ("PUT", "/a", {"meta": {"b": "1"}}, 400),
        ("PUT", "/a", {"meta": {"a": "1", "b": "1"}}, 400),
        ("PUT", "", {"metadata": {"a": 1}}, 400),
        ("PUT", "", {"meta": {}}, 400),
        ("POST", "", {"metadata": {"a": "1", "b": "2", "c": "3"}}, 403),
        ("PUT", "", {"metadata": {"a": "1", "b": "2", "c": "3"}}, 200),
        ("GET", "/a", None, 404),
        ("GET", "/disk_format", None, 404),
        ("DELETE", "/a", None, 404),
        ("DELETE", "/name", None, 404),
    ],
)
def test_metadata_that_cannot_be(
    service: Service, base: str, method: str, more: str, body: object, status: int
) -> None:
    service.conf.set_override("metadata_items", 3, "quota")
    before = dict(service.images.records[base])
    response = service.request(method, f"{PATH}/{base}/metadata{more}", body)
    assert response.status_int == status, response.text
    if status != 200:
        assert service.images.records[base] == before
