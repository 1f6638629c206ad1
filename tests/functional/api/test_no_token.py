# SPDX-License-Identifier: Apache-2.0
"""Without a token nobody gets anything but what is for everybody: by every route, however asked.

:mod:`tests.functional.api.test_roles` has who may what with one; here is the real authentication.
"""

import logging

import pytest
import webob
from keystoneauth1 import loading
from keystonemiddleware import auth_token
from oslo_config import cfg

from nova_snap.api import routes
from tests.functional.api import service as svc
from tests.functional.api.service import Service

PATHS = {
    "server_id": svc.ACTIVE,
    "flavor_id": "1",
    "image_id": svc.IMAGE,
    "project_id": svc.PROJECT,
    "hypervisor_id": "1",
    "service_id": "1",
    "request_id": "req-1",
    "key": "k",
    "alias": "os-services",
}
ROUTES = [
    (method, path.format(**PATHS))
    for path, methods in routes.ROUTES.items()
    for method in (*methods, "HEAD", "OPTIONS", "PATCH")
]
PASSWORD = "the-password-of-the-service"
PUBLIC = ("/", "/v2.1", "/v2.1/", "/healthcheck", "/metrics")

# What keystonemiddleware, and nobody else, tells the application.
CLAIMS = {
    "X-Identity-Status": "Confirmed",
    "X-User-Id": "admin",
    "X-Project-Id": svc.PROJECT,
    "X-Tenant-Id": svc.PROJECT,
    "X-Roles": "admin,member,reader",
    "X-Is-Admin-Project": "True",
    "X-Service-Roles": "service",
    "X-Service-Identity-Status": "Confirmed",
    "X-System-Scope": "all",
}

# Other names of paths that need a token.
DETOURS = [
    "//v2.1/servers",
    "/v2.1//servers",
    "/v2.1/./servers",
    "/v2.1/../v2.1/servers",
    "/healthcheck/../v2.1/servers",
    "/healthcheck/",
    "/healthcheck/v2.1/servers",
    "/metrics/../v2.1/servers",
    "/v2.1/servers/",
    "/v2.1/%73ervers",
    "/v2.1/servers%2f",
    "/v2.1/servers;/healthcheck",
    "/v2.1/servers?/healthcheck",
    "/V2.1/servers",
    f"/v2.1/{svc.PROJECT}/servers",
    "/v2/servers",
    "/v2.1/servers/%00",
]


@pytest.fixture(params=["noauth2", "keystone"])
def guarded(request: pytest.FixtureRequest, service: Service) -> Service:
    """The application with each kind of authentication; nobody listens where Keystone would."""
    service.conf.set_override("auth_strategy", request.param, "api")
    if request.param == "keystone":
        point_to_nobody(service.conf)
    service.rebuild()
    return service


def point_to_nobody(conf: cfg.ConfigOpts) -> None:
    group = "keystone_authtoken"
    for name, options in auth_token.list_opts():
        conf.register_opts(options, group=name)
    conf.register_opts(loading.get_auth_plugin_conf_options("password"), group=group)
    options = {
        "auth_type": "password",
        "auth_url": "http://127.0.0.1:1/v3",
        "username": "nova_snap",
        "password": PASSWORD,
        "user_domain_name": "Default",
        "project_name": "service",
        "project_domain_name": "Default",
        "http_request_max_retries": 0,
    }
    for name, value in options.items():
        conf.set_override(name, value, group)


def ask(
    service: Service, method: str, path: str, headers: dict[str, str] | None = None
) -> webob.Response:
    return service.request(
        method, path, b"{}" if method in ("POST", "PUT", "PATCH") else None,
        token=None, headers=headers,
    )  # fmt: skip


@pytest.mark.parametrize("headers", [{}, CLAIMS], ids=["nothing", "claims"])
def test_no_route_answers(guarded: Service, headers: dict[str, str]) -> None:
    before = [(instance, guarded.instance(instance).vm_state) for instance in (svc.ACTIVE,)]
    wrong = [
        (method, path, response.status_int)
        for method, path in ROUTES
        if path not in PUBLIC
        and (response := ask(guarded, method, path, headers)).status_int != 401
        # What a resource knows is no secret, and the same for everybody.
        and (method, response.status_int) != ("OPTIONS", 204)
        and (method not in ("HEAD", "PATCH") or response.status_int not in (404, 405))
    ]
    assert wrong == []
    assert guarded.casts.asked == guarded.casts.sent == []
    assert [(uuid, guarded.instance(uuid).vm_state) for uuid, _ in before] == before


def test_methods_of_a_path(guarded: Service) -> None:
    """Also for a browser that asks whether it may: that gets no methods of ours."""
    response = ask(guarded, "OPTIONS", "/v2.1/servers")
    assert (response.status_int, response.headers["Allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    assert ask(guarded, "OPTIONS", "/v2.1/nothing").status_int == 401
    asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
    preflight = ask(guarded, "OPTIONS", "/v2.1/servers", asked)
    assert "Access-Control-Allow-Origin" not in preflight.headers


@pytest.mark.parametrize("path", DETOURS)
def test_no_other_way_there(guarded: Service, path: str) -> None:
    response = ask(guarded, "GET", path)
    assert response.status_int in (401, 404)
    for secret in (svc.ACTIVE, "server-", svc.PROJECT):
        assert secret not in response.text.replace(path, "")


@pytest.mark.parametrize("path", PUBLIC[:4])
def test_what_is_for_everybody(guarded: Service, path: str) -> None:
    assert ask(guarded, "GET", path).status_int in (200, 204)


def test_token_that_nobody_can_check(guarded: Service, caplog: pytest.LogCaptureFixture) -> None:
    """If Keystone does not answer, nobody gets in; and the log does not have the token."""
    token = "gAAAAA-made-up"
    with caplog.at_level(logging.DEBUG):
        response = guarded.get("/v2.1/servers", token=f"{token}:p")
    if guarded.conf.api.auth_strategy == "keystone":
        assert response.status_int == 503
        assert "127.0.0.1" in caplog.text
    else:
        # Whoever says that he is somebody is believed: that is what it is for.
        assert response.json["servers"] == []
    assert PASSWORD not in caplog.text + response.text
    if guarded.conf.api.auth_strategy == "keystone":
        assert token not in caplog.text + response.text
