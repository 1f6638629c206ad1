# SPDX-License-Identifier: Apache-2.0
"""Paths and where they lead."""

import pytest

from nova_snap.api import routes


@pytest.mark.parametrize(
    ("path", "template", "parameters", "project"),
    [
        ("/", "/", {}, None),
        ("/v2.1", "/v2.1", {}, None),
        ("/v2.1/", "/v2.1/", {}, None),
        ("/v2.1/servers", "/v2.1/servers", {}, None),
        ("/v2.1/servers/detail", "/v2.1/servers/detail", {}, None),
        ("/v2.1/servers/x", "/v2.1/servers/{server_id}", {"server_id": "x"}, None),
        ("/v2.1/servers/x/action", "/v2.1/servers/{server_id}/action", {"server_id": "x"}, None),
        ("/v2.1/p/servers", "/v2.1/servers", {}, "p"),
        ("/v2.1/p/servers/detail", "/v2.1/servers/detail", {}, "p"),
        ("/v2.1/p/servers/x", "/v2.1/servers/{server_id}", {"server_id": "x"}, "p"),
        # A project may be named like a resource; a server may not be named like a list.
        ("/v2.1/servers/servers", "/v2.1/servers/{server_id}", {"server_id": "servers"}, None),
        ("/v2.1/servers/servers/detail", "/v2.1/servers/detail", {}, "servers"),
    ],
)
def test_a_path_leads_somewhere(
    path: str, template: str, parameters: dict[str, str], project: str | None
) -> None:
    match = routes.match(path)
    assert match is not None
    assert match.template == template
    assert match.parameters == parameters
    assert match.project_id == project
    assert match.methods is routes.ROUTES[template]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "//",
        "/v2",
        "/v2.1//",
        "/v2.1//servers",
        "/v2.1/servers/",
        "/v2.1/servers//action",
        "/v2.1/servers/x/actions",
        "/v2.1/servers/x/action/",
        "/v2.1/p/q/servers",
        "/v2.1/p/",
        "/v2.1/p",
        "/servers",
        "/V2.1/servers",
    ],
)
def test_a_path_leads_nowhere(path: str) -> None:
    assert routes.match(path) is None


def test_what_a_resource_understands() -> None:
    assert routes.allowed_methods({"GET": 0}) == {"GET", "HEAD", "OPTIONS"}
    assert routes.allowed_methods({"POST": 0}) == {"POST", "OPTIONS"}
