# SPDX-License-Identifier: Apache-2.0
"""The description is of the whole API: what the route table has, and nothing else."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from nova_snap.api import microversion, openapi, routes
from nova_snap.api.microversion import Microversion
from nova_snap.api.operations import OPERATIONS

ALL = [Microversion(2, minor) for minor in range(1, microversion.MAX.minor + 1)]


def operations(description: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                yield path, method.upper(), operation


def test_every_route_is_described_and_nothing_else_is() -> None:
    targets = {target for methods in routes.ROUTES.values() for target in methods.values()}
    assert set(OPERATIONS) == targets


@pytest.mark.parametrize("version", ALL, ids=str)
def test_a_version_has_the_routes_that_it_serves(version: Microversion) -> None:
    described = openapi.describe(version)
    found = {(path, method) for path, method, _ in operations(described)}
    assert found == {
        (path, method)
        for path, methods in routes.ROUTES.items()
        for method in methods
        if routes.LAST_MINOR.get(path, 1000) >= version.minor
    }
    assert described["info"]["version"] == str(version)


@pytest.mark.parametrize("version", [ALL[0], ALL[34], ALL[51], ALL[-1]], ids=str)
def test_everything_in_it_can_be_used(version: Microversion) -> None:
    described = openapi.describe(version)
    identifiers = []
    for path, method, operation in operations(described):
        identifiers.append(operation["operationId"])
        assert operation["summary"]
        assert ("security" in operation) == (path not in routes.PUBLIC_PATHS)
        assert ("requestBody" in operation) == (method in ("POST", "PUT"))
        contents = [operation.get("requestBody", {}), *operation["responses"].values()]
        schemas = [
            each["content"]["application/json"]["schema"] for each in contents if "content" in each
        ]
        schemas += [parameter["schema"] for parameter in operation.get("parameters", [])]
        for schema in schemas:
            jsonschema.Draft202012Validator.check_schema(schema)
    assert len(identifiers) == len(set(identifiers))


def test_a_path_names_its_parameters_and_the_version() -> None:
    path = openapi.describe()["paths"]["/v2.1/servers/{server_id}/metadata/{key}"]
    shown = [(each["name"], each["in"], each["required"]) for each in path["parameters"]]
    assert shown == [
        ("server_id", "path", True),
        ("key", "path", True),
        ("OpenStack-API-Version", "header", True),
    ]
    assert path["parameters"][-1]["schema"] == {"const": "compute 2.96"}
    assert "parameters" not in openapi.describe()["paths"]["/"]
