# SPDX-License-Identifier: Apache-2.0
"""A server's metadata: all of it, and single items."""

from typing import Any

import jsonschema
import pytest
import webob

from nova_snap.api.schemas import server_responses
from nova_snap.api.validation import FORMATS
from nova_snap.compute import vm_states
from tests.functional.api import service as svc
from tests.functional.api.service import Service

PATH = f"/v2.1/servers/{svc.ACTIVE}/metadata"


def ask(service: Service, method: str, key: str = "", body: object = None) -> webob.Response:
    response = service.request(method, f"{PATH}/{key}" if key else PATH, body)
    if response.status_int == 200:
        schema = server_responses.METADATA_ITEM if key else server_responses.METADATA
        jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(response.json)
    return response


def message(response: webob.Response, code: int) -> str:
    assert response.status_int == code, response.text
    ((_, fault),) = response.json.items()
    text: str = fault["message"]
    return text


def metadata(service: Service) -> dict[str, str]:
    """What is kept, as each of the answers shows it."""
    kept = service.instance(svc.ACTIVE).metadata
    assert ask(service, "GET").json == {"metadata": kept}
    shown = service.get(f"/v2.1/servers/{svc.ACTIVE}").json["server"]["metadata"]
    assert shown == kept
    return kept


def test_all_of_it(service: Service) -> None:
    added = ask(service, "POST", body={"metadata": {"a": "1", "b": ""}})
    everything = {"role": "web", "a": "1", "b": ""}
    assert added.json == {"metadata": everything}
    assert metadata(service) == everything
    assert ask(service, "POST", body={"metadata": {}}).json == {"metadata": everything}
    replaced = ask(service, "PUT", body={"metadata": {"c": "3"}})
    assert replaced.json == {"metadata": {"c": "3"}}
    assert metadata(service) == {"c": "3"}
    assert ask(service, "PUT", body={"metadata": {}}).json == {"metadata": {}}
    assert metadata(service) == {}


def test_items(service: Service) -> None:
    assert ask(service, "GET", "role").json == {"meta": {"role": "web"}}
    assert ask(service, "PUT", "role", {"meta": {"role": "db"}}).json == {"meta": {"role": "db"}}
    assert ask(service, "PUT", "a b", {"meta": {"a b": "c"}}).json == {"meta": {"a b": "c"}}
    assert metadata(service) == {"role": "db", "a b": "c"}
    deleted = ask(service, "DELETE", "role")
    assert (deleted.status_int, deleted.body) == (204, b"")
    assert metadata(service) == {"a b": "c"}
    assert message(ask(service, "DELETE", "role"), 404) == "Metadata item was not found"
    assert message(ask(service, "GET", "role"), 404) == "Metadata item was not found"


BAD: list[tuple[str, str, Any]] = [
    ("POST", "", {}),
    ("POST", "", {"meta1": "data1"}),
    ("POST", "", {"metadata": None}),
    ("POST", "", {"metadata": {"": "x"}}),
    ("POST", "", {"metadata": {"a": None}}),
    ("POST", "", {"metadata": {"a": 1}}),
    ("POST", "", {"metadata": {"k" * 256: "x"}}),
    ("POST", "", {"metadata": {"a": "v" * 256}}),
    ("POST", "", {"metadata": {"a/b": "x"}}),
    ("POST", "", {"metadata": {}, "x": 1}),
    ("PUT", "", {"metadata": {"": "x"}}),
    ("PUT", "role", {"meta": {}}),
    ("PUT", "role", {"meta": {"role": "a", "b": "c"}}),
    ("PUT", "role", {"meta": {"other": "a"}}),
    ("PUT", "role", {"role": "a"}),
    ("PUT", "role", {"meta": {"role": None}}),
]


@pytest.mark.parametrize(("method", "key", "body"), BAD, ids=lambda part: str(part)[:40])
def test_what_makes_no_sense(service: Service, method: str, key: str, body: object) -> None:
    assert message(ask(service, method, key, body), 400)
    assert metadata(service) == {"role": "web"}


def test_a_body_and_a_path_that_differ(service: Service) -> None:
    response = ask(service, "PUT", "key", {"meta": {"testkey": "testvalue"}})
    assert message(response, 400) == "Request body and URI mismatch"


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_the_quota(service: Service, method: str) -> None:
    service.conf.set_override("metadata_items", 2, "quota")
    body = {"metadata": {"a": "1", "b": "2", "c": "3"}}
    assert message(ask(service, method, body=body), 403) == (
        "Maximum number of metadata items exceeds 2"
    )
    assert metadata(service) == {"role": "web"}
    # Two more make three, and two others make two.
    code = ask(service, method, body={"metadata": {"a": "1", "b": "2"}}).status_int
    assert code == {"POST": 403, "PUT": 200}[method]


def test_a_server_that_failed_keeps_its_own(service: Service) -> None:
    instance = service.instance(svc.ACTIVE)
    instance.vm_state = vm_states.ERROR
    instance.save()
    text = message(ask(service, "POST", body={"metadata": {"a": "b"}}), 409)
    words = f"instance {svc.ACTIVE} while it is in vm_state error"
    assert text == f"Cannot 'update metadata' {words}"
    assert message(ask(service, "DELETE", "role"), 409) == f"Cannot 'delete metadata' {words}"
    assert metadata(service) == {"role": "web"}
