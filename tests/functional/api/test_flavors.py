# SPDX-License-Identifier: Apache-2.0
"""Flavors: what administrators make of them, and what everybody sees, by microversion."""

import json
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import webob

from nova_snap.api.microversion import Microversion
from nova_snap.api.schemas import flavor_responses
from nova_snap.api.validation import FORMATS
from nova_snap.objects.flavor import Flavor
from tests.functional.api import service as svc
from tests.functional.api.service import Service

MINORS = (1, 54, 55, 60, 61, 74, 75, 96)
TINY: dict[str, Any] = {"name": "m1.tiny", "ram": 512, "vcpus": 1, "disk": 1}


@pytest.fixture
def flavors(service: Service) -> Service:
    """The API with three public flavors and a private one."""
    for flavor in (
        Flavor("1", "tiny", 512, 1, 1, extra_specs={"hw:cpu": "x"}),
        Flavor("2", "small", 2048, 1, 20, ephemeral_gb=5, swap=64, description="for all"),
        Flavor("3", "medium", 4096, 2, 40),
        Flavor("9", "secret", 8192, 4, 80, is_public=False),
    ):
        flavor.create(service.context())
    return service


def check(body: object, schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(body)


def ids(response: webob.Response) -> list[str]:
    assert response.status_int == 200
    return [flavor["id"] for flavor in response.json["flavors"]]


def create(service: Service, version: str = "2.1", **values: Any) -> webob.Response:
    body = {"flavor": {**TINY, **values}}
    return service.request("POST", "/v2.1/flavors", body, token=svc.ADMIN_TOKEN, version=version)


def message(response: webob.Response, code: int) -> str:
    assert response.status_int == code
    ((_, fault),) = response.json.items()
    text: str = fault["message"]
    return text


# -- looking -----------------------------------------------------------------------------------


@pytest.mark.parametrize("minor", MINORS, ids=lambda minor: f"2.{minor}")
@pytest.mark.parametrize("token", [svc.TOKEN, svc.ADMIN_TOKEN])
def test_answers_have_what_their_version_has(flavors: Service, minor: int, token: str) -> None:
    version, name = Microversion(2, minor), f"2.{minor}"
    for query in ("", "?limit=2"):
        listed = flavors.get(f"/v2.1/flavors{query}", version=name, token=token).json
        check(listed, flavor_responses.index(version))
        assert ("flavors_links" in listed) == bool(query)
        listed = flavors.get(f"/v2.1/flavors/detail{query}", version=name, token=token).json
        check(listed, flavor_responses.detail(version))
        assert ("flavors_links" in listed) == bool(query)
    for flavor_id in "123":
        shown = flavors.get(f"/v2.1/flavors/{flavor_id}", version=name, token=token).json
        check(shown, flavor_responses.show(version))
        assert (
            shown["flavor"]
            == flavors.get("/v2.1/flavors/detail", version=name, token=token).json["flavors"][
                int(flavor_id) - 1
            ]
        )


@pytest.mark.parametrize(
    ("minor", "swap", "added"),
    [
        (54, "", set()),
        (55, "", {"description"}),
        (61, "", {"description", "extra_specs"}),
        (75, 0, {"description", "extra_specs"}),
    ],
)
def test_what_the_versions_changed(
    flavors: Service, minor: int, swap: object, added: set[str]
) -> None:
    flavor = flavors.get("/v2.1/flavors/1", version=f"2.{minor}").json["flavor"]
    assert flavor["swap"] == swap
    assert {"description", "extra_specs"} & set(flavor) == added
    other = flavors.get("/v2.1/flavors/2", version=f"2.{minor}").json["flavor"]
    assert other["swap"] == 64


def test_a_flavor(flavors: Service) -> None:
    flavor = flavors.get("/v2.1/flavors/2", version="2.61").json["flavor"]
    links = flavor.pop("links")
    assert flavor == {
        "id": "2",
        "name": "small",
        "description": "for all",
        "ram": 2048,
        "disk": 20,
        "vcpus": 1,
        "swap": 64,
        "rxtx_factor": 1.0,
        "os-flavor-access:is_public": True,
        "OS-FLV-EXT-DATA:ephemeral": 5,
        "OS-FLV-DISABLED:disabled": False,
        "extra_specs": {},
    }
    assert [(link["rel"], urlsplit(link["href"]).path) for link in links] == [
        ("self", "/v2.1/flavors/2"),
        ("bookmark", "/flavors/2"),
    ]


@pytest.mark.parametrize(
    ("query", "member", "admin"),
    [
        ("", "123", "123"),
        ("is_public=true", "123", "123"),
        ("is_public=false", "123", "9"),
        ("is_public=None", "123", "1239"),
        ("minRam=2048", "23", "23"),
        ("minRam=2049", "3", "3"),
        ("minDisk=41", "", ""),
        ("minRam=-1", "123", "123"),
        ("minRam=99999999999999999999", "", ""),
        ("minRam=9999999999", "", ""),
        ("sort_key=name", "321", "321"),
        ("sort_key=memory_mb&sort_dir=desc", "321", "321"),
        ("limit=0", "", ""),
        ("limit=1", "1", "1"),
        ("limit=1&limit=2", "12", "12"),
        ("marker=1", "23", "23"),
        ("marker=1&limit=1", "2", "2"),
        ("sort_key=ram", None, None),
        ("sort_dir=up", None, None),
        ("limit=-1", None, None),
        ("limit=x", None, None),
        ("minRam=x", None, None),
        ("minDisk=", None, None),
        ("marker=17", None, None),
        ("marker=9", None, ""),
    ],
)
def test_what_a_list_shows(
    flavors: Service, query: str, member: str | None, admin: str | None
) -> None:
    for token, expected in ((svc.TOKEN, member), (svc.ADMIN_TOKEN, admin)):
        for path in ("/v2.1/flavors", "/v2.1/flavors/detail"):
            response = flavors.get(f"{path}?{query}", token=token)
            if expected is None:
                assert message(response, 400)
            else:
                assert ids(response) == list(expected)


def test_a_word_for_is_public_that_is_none(flavors: Service) -> None:
    response = flavors.get("/v2.1/flavors?is_public=maybe", token=svc.ADMIN_TOKEN)
    assert message(response, 400) == "Invalid is_public filter [maybe]"


def test_unknown_parameters_are_errors_since_2_75(flavors: Service) -> None:
    assert ids(flavors.get("/v2.1/flavors?colour=red", version="2.74")) == ["1", "2", "3"]
    response = flavors.get("/v2.1/flavors?colour=red", version="2.75")
    assert "'colour' was unexpected" in message(response, 400)


def test_page_by_page(flavors: Service) -> None:
    found, path = [], "/v2.1/flavors/detail?limit=2&sort_key=name"
    while path:
        body = flavors.get(path).json
        found.append([flavor["name"] for flavor in body["flavors"]])
        link = urlsplit(body.get("flavors_links", [{"href": ""}])[0]["href"])
        path = f"{link.path}?{link.query}" if link.path else ""
    assert found == [["medium", "small"], ["tiny"]]


@pytest.mark.parametrize("flavor_id", ["17", "9", "a%2Fb", "%00", "%C3%A9", "x" * 300])
def test_a_flavor_that_is_none(flavors: Service, flavor_id: str) -> None:
    text = message(flavors.get(f"/v2.1/flavors/{flavor_id}"), 404)
    assert "could not be found" in text
    assert len(text) < 200


def test_an_administrator_sees_private_ones(flavors: Service) -> None:
    assert flavors.get("/v2.1/flavors/9", token=svc.ADMIN_TOKEN).status_int == 200


def test_nobody_sees_nothing(flavors: Service) -> None:
    assert flavors.get("/v2.1/flavors", token=None).status_int == 401


# -- making ------------------------------------------------------------------------------------


@pytest.mark.parametrize("minor", MINORS, ids=lambda minor: f"2.{minor}")
def test_create(service: Service, minor: int) -> None:
    response = create(service, f"2.{minor}", id="42", swap="128")
    assert response.status_int == 200
    check(response.json, flavor_responses.show(Microversion(2, minor)))
    assert response.json["flavor"]["swap"] == 128
    shown = service.get("/v2.1/flavors/42", version=f"2.{minor}").json
    assert shown == response.json


def test_an_id_is_made_where_none_is_given(service: Service) -> None:
    first = create(service).json["flavor"]["id"]
    second = create(service, name="other", id=None).json["flavor"]["id"]
    assert len(first) == len(second) == 36
    assert create(service, name="third", id=7).json["flavor"]["id"] == "7"


def test_a_name_and_an_id_are_taken_once(service: Service) -> None:
    assert create(service, id="1").status_int == 200
    again = create(service, id="2")
    assert message(again, 409) == "Flavor with name m1.tiny already exists."
    again = create(service, id="1", name="other")
    assert message(again, 409) == "Flavor with ID 1 already exists."
    assert ids(service.get("/v2.1/flavors")) == ["1"]


BAD: list[dict[str, Any]] = [
    {"name": ""},
    {"name": " x"},
    {"name": "n" * 256},
    {"name": 7},
    {"ram": 0},
    {"ram": "0"},
    {"ram": -1},
    {"ram": 1.5},
    {"ram": True},
    {"ram": "many"},
    {"ram": ""},
    {"ram": 2**31},
    {"ram": str(2**31)},
    {"ram": None},
    {"vcpus": 0},
    {"disk": -1},
    {"disk": "\u0661"},
    {"swap": -1},
    {"swap": None},
    {"OS-FLV-EXT-DATA:ephemeral": -1},
    {"rxtx_factor": 0},
    {"rxtx_factor": "0"},
    {"rxtx_factor": -1.0},
    {"rxtx_factor": "fast"},
    {"rxtx_factor": 1e39},
    {"os-flavor-access:is_public": "maybe"},
    {"os-flavor-access:is_public": 1},
    {"id": ""},
    {"id": " 1"},
    {"id": "a/b"},
    {"id": "1\n"},
    {"id": "i" * 256},
    {"id": 10**300},
    {"id": []},
    {"colour": "red"},
]


@pytest.mark.parametrize("values", BAD, ids=lambda value: str(value)[:40])
def test_a_flavor_that_makes_no_sense(service: Service, values: dict[str, Any]) -> None:
    assert len(message(create(service, **values), 400)) < 700
    assert ids(service.get("/v2.1/flavors")) == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_are_none(service: Service, number: str) -> None:
    body = json.dumps({"flavor": {**TINY, "rxtx_factor": "?"}}).replace('"?"', number)
    response = service.request("POST", "/v2.1/flavors", body.encode(), token=svc.ADMIN_TOKEN)
    assert message(response, 400)


def test_the_description_comes_with_2_55(service: Service) -> None:
    assert "'description' was unexpected" in message(create(service, "2.54", description="x"), 400)
    flavor = create(service, "2.55", id="1", description="x").json["flavor"]
    assert flavor["description"] == "x"
    for description in (None, "", "y"):
        response = service.request(
            "PUT",
            "/v2.1/flavors/1",
            {"flavor": {"description": description}},
            token=svc.ADMIN_TOKEN,
            version="2.61",
        )
        assert response.json["flavor"]["description"] == description
        check(response.json, flavor_responses.show(Microversion(2, 61)))
        shown = service.get("/v2.1/flavors/1", version="2.55").json["flavor"]
        assert shown["description"] == description


@pytest.mark.parametrize(
    ("version", "body", "code"),
    [
        ("2.54", {"flavor": {"description": "x"}}, 404),
        ("2.55", {"flavor": {}}, 400),
        ("2.55", {"flavor": {"description": "x", "name": "x"}}, 400),
        ("2.55", {"flavor": {"description": "d" * 65536}}, 400),
        ("2.55", {"flavor": {"description": "a\0b"}}, 400),
        ("2.55", {}, 400),
    ],
)
def test_an_update_that_is_none(
    flavors: Service, version: str, body: dict[str, Any], code: int
) -> None:
    response = flavors.request(
        "PUT", "/v2.1/flavors/2", body, token=svc.ADMIN_TOKEN, version=version
    )
    assert message(response, code)
    shown = flavors.get("/v2.1/flavors/2", version="2.55").json["flavor"]
    assert shown["description"] == "for all"


def test_delete(flavors: Service) -> None:
    response = flavors.request("DELETE", "/v2.1/flavors/2", token=svc.ADMIN_TOKEN)
    assert (response.status_int, response.body) == (202, b"")
    assert ids(flavors.get("/v2.1/flavors")) == ["1", "3"]
    again = flavors.request("DELETE", "/v2.1/flavors/2", token=svc.ADMIN_TOKEN)
    assert message(again, 404) == "Flavor 2 could not be found."


REQUESTS: list[tuple[str, str, object]] = [
    ("POST", "/v2.1/flavors", {"flavor": TINY}),
    ("PUT", "/v2.1/flavors/1", {"flavor": {"description": "x"}}),
    ("DELETE", "/v2.1/flavors/1", None),
    ("POST", "/v2.1/flavors/1/os-extra_specs", {"extra_specs": {"a": "b"}}),
    ("PUT", "/v2.1/flavors/1/os-extra_specs/hw:cpu", {"hw:cpu": "b"}),
    ("DELETE", "/v2.1/flavors/1/os-extra_specs/hw:cpu", None),
    ("GET", "/v2.1/flavors/1/os-flavor-access", None),
]


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
def test_only_administrators_may(flavors: Service, method: str, path: str, body: object) -> None:
    response = flavors.request(method, path, body, version="2.96")
    assert "Policy doesn't allow os_compute_api:os-flavor-" in message(response, 403)
    flavor = Flavor.get_by_flavor_id(flavors.context(), "1")
    assert (flavor.description, flavor.extra_specs) == (None, {"hw:cpu": "x"})
