# SPDX-License-Identifier: Apache-2.0
"""What a flavor says beside its sizes, and who may use a private one."""

from typing import Any

import jsonschema
import pytest
import webob

from nova_snap.api.schemas import flavor_responses
from nova_snap.api.validation import FORMATS
from nova_snap.objects.flavor import Flavor
from tests.functional.api import service as svc
from tests.functional.api.service import Service


@pytest.fixture
def flavors(service: Service) -> Service:
    """The API with a public flavor and a private one."""
    for flavor in (
        Flavor("1", "tiny", 512, 1, 1, extra_specs={"hw:cpu": "x"}),
        Flavor("9", "secret", 8192, 4, 80, is_public=False),
    ):
        flavor.create(service.context())
    return service


def check(body: object, schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(body)


def message(response: webob.Response, code: int) -> str:
    assert response.status_int == code
    ((_, fault),) = response.json.items()
    text: str = fault["message"]
    return text


def specs(service: Service, method: str, rest: str = "", body: object = None) -> webob.Response:
    path = f"/v2.1/flavors/1/os-extra_specs{rest}"
    return service.request(method, path, body, token=svc.ADMIN_TOKEN, version="2.61")


def test_extra_specs(flavors: Service) -> None:
    added = specs(flavors, "POST", body={"extra_specs": {"a": "b", "n": 7}})
    assert (added.status_int, added.json) == (200, {"extra_specs": {"a": "b", "n": "7"}})
    assert specs(flavors, "PUT", "/a", {"a": "c"}).json == {"a": "c"}
    assert specs(flavors, "GET", "/a").json == {"a": "c"}
    everything = {"hw:cpu": "x", "a": "c", "n": "7"}
    assert flavors.get("/v2.1/flavors/1/os-extra_specs").json == {"extra_specs": everything}
    shown = flavors.get("/v2.1/flavors/1", version="2.61").json["flavor"]
    assert shown["extra_specs"] == everything
    deleted = specs(flavors, "DELETE", "/a")
    assert (deleted.status_int, deleted.body) == (200, b"")
    text = "Flavor 1 has no extra specs with key a."
    assert message(specs(flavors, "DELETE", "/a"), 404) == text
    assert message(specs(flavors, "GET", "/a"), 404) == text
    assert specs(flavors, "GET").json == {"extra_specs": {"hw:cpu": "x", "n": "7"}}


@pytest.mark.parametrize(
    ("method", "rest", "body"),
    [
        ("POST", "", {}),
        ("POST", "", {"extra_specs": {"a/b": "x"}}),
        ("POST", "", {"extra_specs": {"a": None}}),
        ("POST", "", {"extra_specs": {"a": "v" * 256}}),
        ("POST", "", {"extra_specs": {"a": 10**300}}),
        ("POST", "", {"extra_specs": {"a": "b\0"}}),
        ("POST", "", {"extra_specs": {"k" * 256: "x"}}),
        ("POST", "", {"extra_specs": {"a": "x"}, "b": 1}),
        ("PUT", "/a", {}),
        ("PUT", "/a", {"b": "x"}),
        ("PUT", "/a", {"a": "x", "b": "y"}),
    ],
)
def test_extra_specs_that_make_no_sense(
    flavors: Service, method: str, rest: str, body: object
) -> None:
    assert message(specs(flavors, method, rest, body), 400)
    assert specs(flavors, "GET").json == {"extra_specs": {"hw:cpu": "x"}}


def test_of_no_flavor(flavors: Service) -> None:
    for method, body in (("GET", None), ("POST", {"extra_specs": {"a": "b"}})):
        path = "/v2.1/flavors/17/os-extra_specs"
        response = flavors.request(method, path, body, token=svc.ADMIN_TOKEN)
        assert message(response, 404) == "Flavor 17 could not be found."


def test_who_may_use_a_private_flavor(flavors: Service) -> None:
    def access(flavor_id: str) -> webob.Response:
        path = f"/v2.1/flavors/{flavor_id}/os-flavor-access"
        return flavors.get(path, token=svc.ADMIN_TOKEN)

    check(access("9").json, flavor_responses.ACCESS)
    assert access("9").json == {"flavor_access": []}
    assert "not available for public flavors" in message(access("1"), 404)
