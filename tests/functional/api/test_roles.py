# SPDX-License-Identifier: Apache-2.0
"""Every route and action x everybody who may ask: the right code, and no effect of a refusal.

Whoever adds a route, an action or a rule must say here who may use it: the table is compared with
those of the API.
"""

import dataclasses
import json
import pathlib
from typing import Any

import pytest
import webob

from nova_snap.api import policies, routes
from nova_snap.api.wsgi import CONTEXT
from nova_snap.compute import vm_states
from nova_snap.context import RequestContext
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.objects.service import COMPUTE, ComputeNode
from nova_snap.objects.service import Service as ComputeService
from tests.functional.api import service as svc
from tests.functional.api.service import Service

PAUSED = "00000000-0000-0000-0000-000000000101"
SUSPENDED = "00000000-0000-0000-0000-000000000102"
REQUEST = "req-00000000-0000-0000-0000-000000000001"
PREFIX = "os_compute_api:"

# Project and roles; Keystone's tokens name implied roles too.
PERSONS: dict[str, tuple[str, list[str]] | None] = {
    "nobody": None,
    "reader": (svc.PROJECT, ["reader"]),
    "member": (svc.PROJECT, ["member", "reader"]),
    "foreign member": (svc.OTHER_PROJECT, ["member", "reader"]),
    "foreign admin": (svc.OTHER_PROJECT, ["admin", "member", "reader"]),
}

OK = -1
"""The code of a success, which each row says for itself."""

# Who gets what, in the order of PERSONS.
PUBLIC = (OK, OK, OK, OK, OK)
ANYBODY = (401, OK, OK, OK, OK)
OF_THE_PROJECT = (401, OK, OK, 404, OK)
"""Looking at a thing of a project: another project does not learn that it exists."""
OWN_PROJECT = (401, OK, OK, 403, OK)
"""Looking at a project, which whoever asks has named himself."""
CHANGES = (401, 403, OK, 404, OK)
MAKES = (401, 403, OK, OK, OK)
ADMIN_ON_A_SERVER = (401, 403, 403, 404, OK)
ADMIN = (401, 403, 403, 403, OK)


@dataclasses.dataclass(frozen=True)
class Row:
    """One route or action.

    :ivar who: what each of PERSONS gets.
    :ivar code: of a success.
    :ivar rule: the policy that decides; empty where none does.
    :ivar path: what stands for the placeholders.
    """

    name: str
    who: tuple[int, ...]
    code: int
    rule: str = ""
    path: dict[str, str] = dataclasses.field(default_factory=dict)
    body: Any = None
    version: str = "2.1"


def on(server_id: str = svc.ACTIVE, **more: str) -> dict[str, str]:
    return {"server_id": server_id, **more}


FLAVOR = {"flavor_id": "1"}
SPEC = {**FLAVOR, "key": "hw:cpu"}
NODE = {"hypervisor_id": "1"}
IMAGE = {"image_id": svc.IMAGE}
ITEM = {**IMAGE, "key": "color"}
QUOTAS = {"project_id": svc.PROJECT}
NEW_SERVER = {"server": {"name": "new", "imageRef": svc.IMAGE, "flavorRef": "1"}}
NEW_FLAVOR = {"flavor": {"name": "m1.new", "ram": 1, "vcpus": 1, "disk": 1}}

ROWS = [
    Row("GET /", PUBLIC, 200),
    Row("GET /v2.1", PUBLIC, 200),
    Row("GET /v2.1/", PUBLIC, 200),
    Row("GET /v2.1/servers", ANYBODY, 200, "servers:index"),
    Row("POST /v2.1/servers", MAKES, 202, "servers:create", body=NEW_SERVER),
    Row("GET /v2.1/servers/detail", ANYBODY, 200, "servers:detail"),
    Row("GET /v2.1/servers/{server_id}", OF_THE_PROJECT, 200, "servers:show", on()),
    Row("PUT /v2.1/servers/{server_id}", CHANGES, 200, "servers:update", on(),
        {"server": {"name": "other"}}),
    Row("DELETE /v2.1/servers/{server_id}", CHANGES, 204, "servers:delete", on()),
    Row("GET /v2.1/servers/{server_id}/os-instance-actions", OF_THE_PROJECT, 200,
        "os-instance-actions:list", on()),
    Row("GET /v2.1/servers/{server_id}/os-instance-actions/{request_id}", OF_THE_PROJECT, 200,
        "os-instance-actions:show", on(request_id=REQUEST)),
    Row("GET /v2.1/servers/{server_id}/metadata", OF_THE_PROJECT, 200, "server-metadata:index",
        on()),
    Row("POST /v2.1/servers/{server_id}/metadata", CHANGES, 200, "server-metadata:create", on(),
        {"metadata": {"a": "b"}}),
    Row("PUT /v2.1/servers/{server_id}/metadata", CHANGES, 200, "server-metadata:update_all", on(),
        {"metadata": {"a": "b"}}),
    Row("GET /v2.1/servers/{server_id}/metadata/{key}", OF_THE_PROJECT, 200,
        "server-metadata:show", on(key="role")),
    Row("PUT /v2.1/servers/{server_id}/metadata/{key}", CHANGES, 200, "server-metadata:update",
        on(key="role"), {"meta": {"role": "db"}}),
    Row("DELETE /v2.1/servers/{server_id}/metadata/{key}", CHANGES, 204, "server-metadata:delete",
        on(key="role")),
    Row("GET /v2.1/flavors", ANYBODY, 200),
    Row("POST /v2.1/flavors", ADMIN, 200, "os-flavor-manage:create", body=NEW_FLAVOR),
    Row("GET /v2.1/flavors/detail", ANYBODY, 200),
    Row("GET /v2.1/flavors/{flavor_id}", ANYBODY, 200, path=FLAVOR),
    Row("PUT /v2.1/flavors/{flavor_id}", ADMIN, 200, "os-flavor-manage:update", FLAVOR,
        {"flavor": {"description": "x"}}, "2.55"),
    Row("DELETE /v2.1/flavors/{flavor_id}", ADMIN, 202, "os-flavor-manage:delete", FLAVOR),
    Row("GET /v2.1/flavors/{flavor_id}/os-extra_specs", ANYBODY, 200,
        "os-flavor-extra-specs:index", FLAVOR),
    Row("POST /v2.1/flavors/{flavor_id}/os-extra_specs", ADMIN, 200,
        "os-flavor-extra-specs:create", FLAVOR, {"extra_specs": {"a": "b"}}),
    Row("GET /v2.1/flavors/{flavor_id}/os-extra_specs/{key}", ANYBODY, 200,
        "os-flavor-extra-specs:show", SPEC),
    Row("PUT /v2.1/flavors/{flavor_id}/os-extra_specs/{key}", ADMIN, 200,
        "os-flavor-extra-specs:update", SPEC, {"hw:cpu": "y"}),
    Row("DELETE /v2.1/flavors/{flavor_id}/os-extra_specs/{key}", ADMIN, 200,
        "os-flavor-extra-specs:delete", SPEC),
    # 404 is Nova's word for a public flavor, which everybody may use.
    Row("GET /v2.1/flavors/{flavor_id}/os-flavor-access", ADMIN, 404, "os-flavor-access", FLAVOR),
    Row("GET /v2.1/os-services", ADMIN, 200, "os-services:list"),
    Row("PUT /v2.1/os-services/{service_id}", ADMIN, 200, "os-services:update",
        {"service_id": "disable"}, {"host": svc.HOST, "binary": COMPUTE}),
    # It has instances.
    Row("DELETE /v2.1/os-services/{service_id}", ADMIN, 409, "os-services:delete",
        {"service_id": "1"}),
    Row("GET /v2.1/os-hypervisors", ADMIN, 200, "os-hypervisors:list"),
    Row("GET /v2.1/os-hypervisors/detail", ADMIN, 200, "os-hypervisors:list-detail"),
    Row("GET /v2.1/os-hypervisors/statistics", ADMIN, 200, "os-hypervisors:statistics"),
    Row("GET /v2.1/os-hypervisors/{hypervisor_id}", ADMIN, 200, "os-hypervisors:show", NODE),
    Row("GET /v2.1/os-hypervisors/{hypervisor_id}/uptime", ADMIN, 200, "os-hypervisors:uptime",
        NODE),
    Row("GET /v2.1/os-hypervisors/{hypervisor_id}/search", ADMIN, 200, "os-hypervisors:search",
        {"hypervisor_id": svc.HOST}),
    Row("GET /v2.1/os-hypervisors/{hypervisor_id}/servers", ADMIN, 200, "os-hypervisors:servers",
        {"hypervisor_id": svc.HOST}),
    Row("GET /v2.1/os-availability-zone", ANYBODY, 200, "os-availability-zone:list"),
    Row("GET /v2.1/os-availability-zone/detail", ADMIN, 200, "os-availability-zone:detail"),
    # Who may see and change an image is the image service's decision alone.
    Row("GET /v2.1/images", ANYBODY, 200),
    Row("GET /v2.1/images/detail", ANYBODY, 200),
    Row("GET /v2.1/images/{image_id}", ANYBODY, 200, path=IMAGE),
    Row("DELETE /v2.1/images/{image_id}", ANYBODY, 204, path=IMAGE),
    Row("GET /v2.1/images/{image_id}/metadata", ANYBODY, 200, path=IMAGE),
    Row("POST /v2.1/images/{image_id}/metadata", ANYBODY, 200, path=IMAGE,
        body={"metadata": {"a": "b"}}),
    Row("PUT /v2.1/images/{image_id}/metadata", ANYBODY, 200, path=IMAGE,
        body={"metadata": {"a": "b"}}),
    Row("GET /v2.1/images/{image_id}/metadata/{key}", ANYBODY, 200, path=ITEM),
    Row("PUT /v2.1/images/{image_id}/metadata/{key}", ANYBODY, 200, path=ITEM,
        body={"meta": {"color": "blue"}}),
    Row("DELETE /v2.1/images/{image_id}/metadata/{key}", ANYBODY, 204, path=ITEM),
    Row("GET /v2.1/limits", ANYBODY, 200, "limits"),
    Row("GET /v2.1/os-quota-sets/{project_id}", OWN_PROJECT, 200, "os-quota-sets:show", QUOTAS),
    Row("GET /v2.1/os-quota-sets/{project_id}/defaults", ANYBODY, 200, "os-quota-sets:defaults",
        QUOTAS),
    Row("GET /v2.1/os-quota-sets/{project_id}/detail", OWN_PROJECT, 200, "os-quota-sets:detail",
        QUOTAS),
    Row("GET /v2.1/os-aggregates", ADMIN, 200, "os-aggregates:index"),
    Row("GET /v2.1/extensions", ANYBODY, 200, "extensions"),
    Row("GET /v2.1/extensions/{alias}", ANYBODY, 200, "extensions", {"alias": "os-admin-actions"}),
    # -- actions, by their names -------------------------------------------------------------
    Row("createBackup", CHANGES, 202, "os-create-backup", on(),
        {"name": "b", "backup_type": "daily", "rotation": 1}),
    Row("createImage", CHANGES, 202, "servers:create_image", on(), {"name": "snap"}),
    Row("forceDelete", CHANGES, 202, "os-deferred-delete:force", on()),
    Row("os-getConsoleOutput", CHANGES, 200, "os-console-output", on(), {}),
    Row("os-resetState", ADMIN_ON_A_SERVER, 202, "os-admin-actions:reset_state", on(),
        {"state": "error"}),
    Row("os-start", CHANGES, 202, "servers:start", on(svc.STOPPED)),
    Row("os-stop", CHANGES, 202, "servers:stop", on()),
    Row("pause", CHANGES, 202, "os-pause-server:pause", on()),
    Row("unpause", CHANGES, 202, "os-pause-server:unpause", on(PAUSED)),
    Row("reboot", CHANGES, 202, "servers:reboot", on(), {"type": "HARD"}),
    # What is deleted is gone.
    Row("restore", CHANGES, 409, "os-deferred-delete:restore", on()),
    Row("suspend", CHANGES, 202, "os-suspend-server:suspend", on()),
    Row("resume", CHANGES, 202, "os-suspend-server:resume", on(SUSPENDED)),
]  # fmt: skip

# Of Nova's other actions everybody learns that there are none here; but not that a server exists.
UNSUPPORTED = [
    Row(name, OF_THE_PROJECT, 400, path=on())
    for name, (_, method) in routes.ACTIONS.items()
    if method == "unsupported"
]

# Rules that decide what of an answer is shown, or about a part of a request: the tests of the
# routes that have them are in the modules named like the routes, and in test_policies.
WITHIN_ROUTES = {
    "servers:index:get_all_tenants",
    "servers:detail:get_all_tenants",
    "servers:allow_all_filters",
    "servers:show:flavor-extra-specs",
    "servers:show:host_status",
    "servers:show:host_status:unknown-only",
    "servers:create_image:allow_volume_backed",
    "servers:create:forced_host",
    "servers:create:zero_disk_flavor",
    "compute:servers:create:requested_destination",
    "os-instance-actions:events",
    "os-instance-actions:events:details",
    "os-extended-server-attributes",
    "limits:other_project",
}

GOVERNED = [row for row in ROWS if row.rule]


def name_of(row: Row) -> str:
    return row.name


@pytest.fixture
def furnished(service: Service) -> Service:
    """One of everything that the rows name."""
    service.offer()
    time = "2026-01-02T03:04:05Z"
    service.images.records[svc.IMAGE].update(created_at=time, updated_at=time, color="red")
    context = service.context(request_id=REQUEST)
    service.add(PAUSED, vm_state=vm_states.PAUSED, power_state=3)
    service.add(SUSPENDED, vm_state=vm_states.SUSPENDED, power_state=4)
    InstanceAction.start(context, svc.ACTIVE, "create")
    host = ComputeService.get_all(context)[0]
    ComputeNode.record(context, host, {"vcpus": 4, "uptime": "up 1 day"})
    created = service.request(
        "POST",
        "/v2.1/flavors/1/os-extra_specs",
        {"extra_specs": {"hw:cpu": "x"}},
        token=svc.ADMIN_TOKEN,
    )
    assert created.status_int == 200
    return service


def ask(service: Service, row: Row, person: str) -> webob.Response:
    """The row's request, sent by one of PERSONS, whoever the authentication has found him to be."""
    method, _, template = row.name.rpartition(" ")
    body = row.body
    if not method:
        method, template = "POST", "/v2.1/servers/{server_id}/action"
        body = {row.name: row.body}
    request = webob.Request.blank(
        template.format(**row.path),
        method=method,
        headers={"OpenStack-API-Version": f"compute {row.version}"},
    )
    if body is not None:
        request.content_type = "application/json"
        request.body = json.dumps(body).encode()
    found = PERSONS[person]
    if found is not None:
        project, roles = found
        context = RequestContext(
            user_id=person, project_id=project, roles=roles, db=service.database, overwrite=False
        )
        context.is_admin = policies.Enforcer(service.conf).is_admin(context)
        request.environ[CONTEXT] = context
    return request.get_response(service.app)


def effects(service: Service) -> tuple[object, ...]:
    """What the compute hosts and the image service were asked for, and what the table holds."""
    instances = {uuid: service.instance(uuid).vm_state for uuid in (svc.ACTIVE, svc.STOPPED)}
    metadata = dict(service.instance(svc.ACTIVE).metadata)
    images = json.dumps(service.images.records, default=str, sort_keys=True)
    return list(service.casts.asked), list(service.casts.sent), instances, metadata, images


@pytest.mark.parametrize("row", [*ROWS, *UNSUPPORTED], ids=name_of)
def test_everybody_gets_what_is_due_to_him(furnished: Service, row: Row) -> None:
    refused = [(person, code) for person, code in zip(PERSONS, row.who, strict=True) if code != OK]
    before = effects(furnished)
    for person, code in refused:
        response = ask(furnished, row, person)
        assert response.status_int == code, (person, response.text)
    assert effects(furnished) == before


def successes() -> list[Any]:
    """Rows with those who may: one after the other where nothing changes, and else apart."""
    made = []
    for row in [*ROWS, *UNSUPPORTED]:
        may = [person for person, code in zip(PERSONS, row.who, strict=True) if code == OK]
        together = row.name.startswith("GET ") or row.code >= 400
        for persons in [may] if together else [[person] for person in may]:
            made.append(pytest.param(row, persons, id=f"{row.name}-{'-'.join(persons)}"))
    return made


@pytest.mark.parametrize(("row", "persons"), successes())
def test_whoever_may_succeeds(furnished: Service, row: Row, persons: list[str]) -> None:
    for person in persons:
        response = ask(furnished, row, person)
        assert response.status_int == row.code, (person, response.text)


@pytest.mark.parametrize("row", GOVERNED, ids=name_of)
def test_the_rule_of_the_row_decides(furnished: Service, row: Row, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(f'"{PREFIX}{row.rule}": "!"\n')
    furnished.conf.set_override("policy_file", str(path), "oslo_policy")
    furnished.rebuild()
    response = ask(furnished, row, "foreign admin")
    assert response.status_int == 403
    assert f"{PREFIX}{row.rule} " in response.json["forbidden"]["message"]


def test_a_list_shows_nothing_of_other_projects(furnished: Service) -> None:
    for row in ROWS:
        if row.name in ("GET /v2.1/servers", "GET /v2.1/servers/detail"):
            shown = [each["id"] for each in ask(furnished, row, "foreign member").json["servers"]]
            assert shown == [svc.FOREIGN]


def test_the_table_has_every_route_and_every_action() -> None:
    known = [row.name for row in [*ROWS, *UNSUPPORTED]]
    there = {f"{method} {path}" for path, methods in routes.ROUTES.items() for method in methods}
    there.remove("POST /v2.1/servers/{server_id}/action")
    assert sorted(known) == sorted(there | set(routes.ACTIONS))


def test_the_table_has_every_rule() -> None:
    there = {rule.name for rule in policies.list_rules() if rule.name.startswith(PREFIX)}
    known = {row.rule for row in GOVERNED}
    assert not known & WITHIN_ROUTES
    assert {f"{PREFIX}{name}" for name in known | WITHIN_ROUTES} == there
