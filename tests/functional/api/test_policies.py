# SPDX-License-Identifier: Apache-2.0
"""Who may do what, by default and with a policy file."""

import datetime
import pathlib

import pytest
from oslo_policy import policy
from oslo_utils import fixture, timeutils

from nova_snap.api import policies
from nova_snap.api.policies import flavors, server_actions, server_metadata
from nova_snap.api.policies import servers as rules
from nova_snap.context import RequestContext
from nova_snap.objects.service import Service as ComputeService
from tests.functional.api import service as svc
from tests.functional.api.service import Service

OWN = {"project_id": svc.PROJECT}
WRITES = {
    rules.CREATE,
    rules.UPDATE,
    rules.DELETE,
    rules.CREATE_IMAGE,
    rules.CREATE_IMAGE_VOLUME_BACKED,
    server_actions.START,
    server_actions.STOP,
    server_actions.REBOOT,
    server_actions.PAUSE,
    server_actions.UNPAUSE,
    server_actions.SUSPEND,
    server_actions.RESUME,
    server_actions.CONSOLE_OUTPUT,
    server_actions.FORCE_DELETE,
    server_actions.RESTORE,
    server_metadata.CREATE,
    server_metadata.UPDATE,
    server_metadata.UPDATE_ALL,
    server_metadata.DELETE,
    "os_compute_api:os-create-backup",
}
READS = {
    rules.INDEX,
    rules.DETAIL,
    rules.SHOW,
    rules.SHOW_EXTRA_SPECS,
    server_metadata.INDEX,
    server_metadata.SHOW,
    flavors.EXTRA_SPECS_INDEX,
    flavors.EXTRA_SPECS_SHOW,
    "os_compute_api:os-instance-actions:list",
    "os_compute_api:os-instance-actions:show",
    "os_compute_api:os-quota-sets:show",
    "os_compute_api:os-quota-sets:detail",
}
OPEN = {
    "os_compute_api:extensions",
    "os_compute_api:limits",
    "os_compute_api:os-availability-zone:list",
    "os_compute_api:os-quota-sets:defaults",
}
PERSONS = {
    "nobody": (svc.PROJECT, []),
    "reader": (svc.PROJECT, ["reader"]),
    "member": (svc.PROJECT, ["member", "reader"]),
    "foreign-member": (svc.OTHER_PROJECT, ["member", "reader"]),
    "admin": (svc.PROJECT, ["admin", "member", "reader"]),
    "foreign-admin": (svc.OTHER_PROJECT, ["admin", "member", "reader"]),
}


def names() -> set[str]:
    return {rule.name for rule in policies.list_rules() if rule.name.startswith("os_compute_api")}


@pytest.mark.parametrize("person", PERSONS)
def test_the_defaults(service: Service, person: str) -> None:
    project, roles = PERSONS[person]
    context = RequestContext(user_id="x", project_id=project, roles=roles, overwrite=False)
    enforcer = policies.Enforcer(service.conf)
    allowed = {name for name in names() if enforcer.allows(context, name, OWN)}
    assert (
        allowed
        == {
            "nobody": OPEN,
            "reader": OPEN | READS,
            "member": OPEN | READS | WRITES,
            "foreign-member": OPEN,
            "admin": names(),
            "foreign-admin": names(),
        }[person]
    )


def test_every_rule_of_a_route_is_documented() -> None:
    for rule in policies.list_rules():
        assert rule.description
        if rule.name.startswith("os_compute_api"):
            assert isinstance(rule, policy.DocumentedRuleDefault)
            assert rule.operations


def write_policy(service: Service, directory: pathlib.Path, text: str) -> None:
    path = directory / "policy.yaml"
    path.write_text(text)
    service.conf.set_override("policy_file", str(path), "oslo_policy")
    service.rebuild()


def test_a_policy_file_overrides_a_rule(service: Service, tmp_path: pathlib.Path) -> None:
    write_policy(service, tmp_path, f'"{rules.CREATE_IMAGE}": "role:admin"\n')
    response = service.create_image(svc.ACTIVE)
    assert response.status_int == 403
    assert response.json == {
        "forbidden": {
            "code": 403,
            "message": "Policy doesn't allow os_compute_api:servers:create_image to be performed.",
        }
    }
    assert service.images.records == {}
    assert service.create_image(svc.ACTIVE, token=svc.ADMIN_TOKEN).status_int == 202


def test_volume_backed_servers_have_a_rule_of_their_own(
    service: Service, tmp_path: pathlib.Path
) -> None:
    write_policy(service, tmp_path, f'"{rules.CREATE_IMAGE_VOLUME_BACKED}": "!"\n')
    response = service.create_image(svc.VOLUME_BACKED)
    assert response.status_int == 403
    assert rules.CREATE_IMAGE_VOLUME_BACKED in response.json["forbidden"]["message"]
    assert service.create_image(svc.ACTIVE).status_int == 202


def test_the_file_may_say_who_is_an_administrator(service: Service, tmp_path: pathlib.Path) -> None:
    write_policy(service, tmp_path, '"context_is_admin": "user_id:alice"\n')
    assert service.get(f"/v2.1/servers/{svc.FOREIGN}").status_int == 200
    admin = "admin:" + svc.OTHER_PROJECT
    assert service.get(f"/v2.1/servers/{svc.ACTIVE}", token=admin).status_int == 404


@pytest.mark.parametrize(
    ("rule", "up"), [(rules.SHOW_HOST_STATUS, "UP"), (rules.SHOW_HOST_STATUS_UNKNOWN, None)]
)
def test_who_sees_the_status_of_the_host(
    service: Service, tmp_path: pathlib.Path, rule: str, up: str | None
) -> None:
    stopped = service.instance(svc.STOPPED)
    stopped.host = "nobody-has-heard-of-it"
    stopped.save()
    write_policy(service, tmp_path, f'"{rule}": "@"\n')
    nowhere = "" if up else None
    for uuid, status in {svc.ACTIVE: up, svc.STOPPED: "UNKNOWN", svc.NOWHERE: nowhere}.items():
        server = service.get(f"/v2.1/servers/{uuid}", version="2.16").json["server"]
        assert server.get("host_status") == status


@pytest.mark.parametrize(
    ("disabled", "forced_down", "seconds_ago", "status"),
    [
        (False, False, 0, "UP"),
        (True, False, 0, "MAINTENANCE"),
        (False, True, 0, "DOWN"),
        (True, True, 0, "DOWN"),
        (True, False, 4000, "UNKNOWN"),
    ],
)
def test_the_status_of_the_host(
    service: Service, disabled: bool, forced_down: bool, seconds_ago: int, status: str
) -> None:
    host = ComputeService.get_by_host(service.context(), svc.HOST)
    host.disabled, host.forced_down = disabled, forced_down
    host.save(service.context())
    now = timeutils.utcnow() + datetime.timedelta(seconds=seconds_ago)
    with fixture.TimeFixture(now):
        for path in (f"/v2.1/servers/{svc.ACTIVE}", "/v2.1/servers/detail?name=web"):
            body = service.get(path, version="2.16", token=svc.ADMIN_TOKEN).json
            server = body["server"] if "server" in body else body["servers"][0]
            assert server["host_status"] == status


def test_extra_specs_may_be_hidden(service: Service, tmp_path: pathlib.Path) -> None:
    write_policy(service, tmp_path, f'"{rules.SHOW_EXTRA_SPECS}": "!"\n')
    server = service.get(f"/v2.1/servers/{svc.ACTIVE}", version="2.47").json["server"]
    assert "extra_specs" not in server["flavor"]


def test_a_policy_file_that_cannot_be_read_stops_the_start(
    service: Service, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(Exception, match="policy"):
        write_policy(service, tmp_path, "{ this is: [ no policy")


def test_the_enforcer_of_the_oslopolicy_tools() -> None:
    enforcer = policies.get_enforcer()
    assert set(enforcer.registered_rules) == {rule.name for rule in policies.list_rules()}
