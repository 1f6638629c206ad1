# SPDX-License-Identifier: Apache-2.0
"""Which body each microversion takes, for new servers and for flavors."""

from typing import Any

import jsonschema
import pytest

from nova_snap.api import errors, validation
from nova_snap.api.microversion import MAX, Microversion
from nova_snap.api.schemas import (
    flavor_responses,
    flavors,
    server_actions,
    server_create,
    server_responses,
    server_update,
    types,
)

UUID = "11111111-1111-1111-1111-111111111111"

# Where something changes, the version before it, and both ends.
_CHANGES = (19, 32, 33, 37, 42, 52, 57, 63, 67, 74, 90, 94)
MINORS = sorted({1, MAX.minor, *_CHANGES, *(minor - 1 for minor in _CHANGES)})

# property, a value, the versions between which it is taken
PROPERTIES: list[tuple[str, Any, int, int]] = [
    ("imageRef", UUID, 1, 96),
    ("imageRef", "", 1, 96),
    ("adminPass", "", 1, 96),
    ("metadata", {"a": "b"}, 1, 96),
    ("config_drive", "yes", 1, 96),
    ("config_drive", False, 1, 96),
    ("key_name", "mine", 1, 96),
    ("user_data", "YQ==", 1, 96),
    ("availability_zone", "zone:host", 1, 96),
    ("security_groups", [{"name": "web"}], 1, 96),
    ("security_groups", [], 1, 96),
    ("min_count", "2", 1, 96),
    ("max_count", 2, 1, 96),
    ("return_reservation_id", "t", 1, 96),
    ("block_device_mapping", [{"volume_id": UUID, "device_name": "/dev/vda"}], 1, 96),
    ("block_device_mapping_v2", [{"boot_index": "-1"}], 1, 96),
    ("block_device_mapping_v2", [{"boot_index": None}], 1, 96),
    ("personality", [{"path": "/a", "contents": "YQ=="}], 1, 56),
    ("description", None, 19, 96),
    ("description", " a word ", 19, 96),
    ("tags", ["a"], 52, 96),
    ("trusted_image_certificates", ["a"], 63, 96),
    ("trusted_image_certificates", None, 63, 96),
    ("block_device_mapping_v2", [{"volume_type": "fast"}], 67, 96),
    ("host", "compute-1.example.org", 74, 96),
    ("hypervisor_hostname", "compute_1", 74, 96),
    ("hostname", "guest-1", 90, 96),
    ("hostname", "guest.example.org", 94, 96),
    ("networks", [{"uuid": "anything"}], 1, 36),
    ("networks", [{"uuid": UUID, "port": None, "fixed_ip": "::1"}], 1, 96),
    ("networks", [{"port": UUID}], 1, 96),
    ("networks", [{}], 1, 96),
    ("networks", [], 1, 96),
    ("networks", "none", 37, 96),
    ("networks", "auto", 37, 96),
]


def server(minor: int, **values: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"name": "x", "flavorRef": "1"}
    if minor >= 37:
        given["networks"] = "none"
    return {"server": {**given, **values}}


def accepts(body: dict[str, Any], schema: dict[str, Any]) -> bool:
    try:
        validation.check_body(body, schema)
    except errors.ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "value", "first", "last"), PROPERTIES, ids=lambda part: str(part)[:40]
)
def test_a_property_of_a_new_server(name: str, value: object, first: int, last: int) -> None:
    taken = [
        minor
        for minor in MINORS
        if accepts(server(minor, **{name: value}), server_create.create(Microversion(2, minor)))
    ]
    assert taken == [minor for minor in MINORS if first <= minor <= last]


@pytest.mark.parametrize(
    ("body", "taken"),
    [
        ({"networks": [{"uuid": UUID, "tag": "a"}]}, [*range(32, 37), *range(42, 97)]),
        ({"block_device_mapping_v2": [{"tag": "a"}]}, [32, *range(42, 97)]),
    ],
    ids=["networks", "disks"],
)
def test_tags_came_and_went(body: dict[str, Any], taken: list[int]) -> None:
    found = [
        minor
        for minor in MINORS
        if accepts(server(minor, **body), server_create.create(Microversion(2, minor)))
    ]
    assert found == [minor for minor in MINORS if minor in taken]


def test_networks_are_asked_for_since_2_37() -> None:
    body = {"server": {"name": "x", "flavorRef": "1"}}
    assert accepts(body, server_create.create(Microversion(2, 36)))
    assert not accepts(body, server_create.create(Microversion(2, 37)))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"server": None},
        {"server": {}},
        {"server": {"name": "x"}},
        {"server": {"flavorRef": "1"}},
        {"server": {"name": "x", "flavorRef": True}},
        {"server": {"name": "x", "flavorRef": 1.5}},
        {"server": {"name": "x", "flavorRef": ["1"]}},
        {"server": {"name": "x", "flavorRef": "1"}, "colour": "red"},
        {"server": {"name": "x", "flavorRef": "1"}, "os:scheduler_hints": []},
    ],
    ids=str,
)
def test_no_new_server(body: dict[str, Any]) -> None:
    assert not accepts(body, server_create.create(Microversion(2, 1)))


@pytest.mark.parametrize("name", ["os:scheduler_hints", "OS-SCH-HNT:scheduler_hints"])
def test_hints(name: str) -> None:
    assert accepts({**server(1), name: {"a": "b"}}, server_create.create(Microversion(2, 1)))


@pytest.mark.parametrize(
    ("value", "yes"),
    [
        *((True, True), (False, True), ("on", True), ("0", True), ("y", True)),
        *((1, False), (0, False), (None, False), ("", False), ("maybe", False), ("tRuE", False)),
    ],
)
def test_a_boolean(value: object, yes: bool) -> None:
    assert accepts({"a": value}, types.closed({"a": types.BOOLEAN})) == yes


@pytest.mark.parametrize(
    ("value", "number", "positive"),
    [
        *((1, True, True), ("1", True, True), ("007", True, True), (2**31 - 1, True, True)),
        *((str(2**31 - 1), True, True), (0, True, False), ("0", True, False)),
        *((-1, False, False), ("-1", False, False), (2**31, False, False)),
        *((str(2**31), False, False), ("9" * 5000, False, False), ("", False, False)),
        *((True, False, False), (None, False, False), (1.5, False, False)),
        *((" 1", False, False), ("1\n", False, False), ("\u0661", False, False)),
        *(("\u00b2", False, False), (10**400, False, False)),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_number(value: object, number: bool, positive: bool) -> None:
    assert accepts({"a": value}, types.closed({"a": types.NUMBER})) == number
    assert accepts({"a": value}, types.closed({"a": types.POSITIVE_NUMBER})) == positive


@pytest.mark.parametrize("minor", MINORS)
def test_the_schemas_are_schemas(minor: int) -> None:
    version = Microversion(2, minor)
    for schema in (
        server_create.create(version),
        server_update.update(version),
        server_responses.show(version),
        server_responses.update(version),
        server_responses.detail(version),
        flavors.create(version),
        flavors.list_query(version),
        flavor_responses.index(version),
        flavor_responses.detail(version),
        flavor_responses.show(version),
    ):
        jsonschema.Draft202012Validator.check_schema(schema)


def test_the_others_are_schemas_too() -> None:
    for schema in (
        server_update.METADATA_ALL,
        server_update.METADATA_ITEM,
        server_actions.REBOOT,
        server_actions.RESET_STATE,
        server_actions.CONSOLE_OUTPUT,
        flavors.UPDATE,
        flavors.EXTRA_SPECS,
        flavors.EXTRA_SPEC,
        server_responses.CREATE,
        server_responses.CREATE_RESERVATION,
    ):
        jsonschema.Draft202012Validator.check_schema(schema)
