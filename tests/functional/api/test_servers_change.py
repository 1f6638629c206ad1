# SPDX-License-Identifier: Apache-2.0
"""Changing, switching and deleting servers: the answers, and what the hosts are asked for."""

from typing import Any

import jsonschema
import pytest
import webob

from nova_snap import exception
from nova_snap.api.microversion import Microversion
from nova_snap.api.schemas import server_responses
from nova_snap.api.validation import FORMATS
from nova_snap.compute import task_states, vm_states
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction
from tests.functional.api import service as svc
from tests.functional.api.service import Service

SERVER = f"/v2.1/servers/{svc.ACTIVE}"
MINORS = (1, 8, 9, 18, 19, 46, 47, 62, 63, 70, 71, 73, 74, 75, 89, 90, 96)


def check(body: object, schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(body)


def message(response: webob.Response, code: int) -> str:
    assert response.status_int == code, response.text
    ((_, fault),) = response.json.items()
    text: str = fault["message"]
    return text


def put(service: Service, version: str = "2.1", **changes: Any) -> webob.Response:
    return service.request("PUT", SERVER, {"server": changes}, version=version)


def in_state(service: Service, vm_state: str, task_state: str | None = None) -> Instance:
    instance = service.instance(svc.ACTIVE)
    instance.vm_state = vm_state
    instance.save()
    if task_state is not None:
        instance.task_state = task_state
        instance.save(expected_task_state=[None])
    return instance


# -- PUT ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [svc.TOKEN, svc.ADMIN_TOKEN], ids=["member", "admin"])
@pytest.mark.parametrize("minor", MINORS, ids=lambda minor: f"2.{minor}")
def test_a_change_is_answered_with_the_server(service: Service, minor: int, token: str) -> None:
    version = f"2.{minor}"
    body = {"server": {"name": "renamed"}}
    answer = service.request("PUT", SERVER, body, token=token, version=version).json
    check(answer, server_responses.update(Microversion(2, minor)))
    shown = service.get(SERVER, token=token, version=version).json["server"]
    assert shown["name"] == "renamed"
    # Up to 2.74 the answer has less in it, and nothing else.
    assert answer["server"].items() <= shown.items()
    assert (answer["server"] == shown) == (minor >= 75)
    hidden = {"key_name", "config_drive", "OS-EXT-STS:vm_state", "OS-SRV-USG:launched_at"}
    assert (hidden & set(answer["server"]) == set()) == (minor < 75)


@pytest.mark.parametrize(
    ("version", "changes"),
    [
        ("2.1", {"name": "db", "accessIPv4": "192.0.2.1", "accessIPv6": "2001:db8::1"}),
        ("2.1", {"OS-DCF:diskConfig": "AUTO"}),
        ("2.1", {}),
        ("2.19", {"description": "a word"}),
        ("2.19", {"description": None}),
    ],
)
def test_what_may_change(service: Service, version: str, changes: dict[str, Any]) -> None:
    before = service.get(SERVER, version=version).json["server"]
    answer = put(service, version, **changes).json["server"]
    expected = {**before, **changes}
    for name, value in answer.items():
        if name != "updated":
            assert value == expected[name]


def test_an_address_is_kept_in_its_shortest_form(service: Service) -> None:
    answer = put(service, accessIPv6="0000:0000:0000:0000:0000:babe:220.12.22.2").json["server"]
    assert answer["accessIPv6"] == "::babe:dc0c:1602"


def test_the_hostname_since_2_90(service: Service) -> None:
    answer = put(service, "2.90", hostname="mail").json["server"]
    assert answer["OS-EXT-SRV-ATTR:hostname"] == "mail"
    assert message(put(service, "2.89", hostname="mail"), 400)


@pytest.mark.parametrize(
    ("version", "changes"),
    [
        ("2.1", {"name": ""}),
        ("2.1", {"name": "a" * 256}),
        ("2.1", {"name": None}),
        ("2.1", {"name": "x "}),
        ("2.1", {"accessIPv4": "::1"}),
        ("2.1", {"accessIPv6": "192.0.2.1"}),
        ("2.1", {"OS-DCF:diskConfig": "auto"}),
        ("2.1", {"metadata": {}}),
        ("2.18", {"description": "x"}),
        ("2.19", {"description": "d" * 256}),
        ("2.90", {"hostname": "a.b"}),
        ("2.94", {"hostname": "-a"}),
    ],
)
def test_a_change_that_makes_no_sense(
    service: Service, version: str, changes: dict[str, Any]
) -> None:
    before = service.get(SERVER).json
    assert message(put(service, version, **changes), 400)
    assert service.get(SERVER).json == before


# -- DELETE ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["DELETE", "forceDelete"])
@pytest.mark.parametrize(
    "uuid", [svc.ACTIVE, svc.STOPPED, svc.FAILED, svc.BUSY], ids=["active", "off", "error", "busy"]
)
def test_delete(service: Service, how: str, uuid: str) -> None:
    if how == "DELETE":
        response = service.request("DELETE", f"/v2.1/servers/{uuid}")
        assert (response.status_int, response.body) == (204, b"")
    else:
        assert service.action(uuid, how).status_int == 202
    assert service.casts.asked == [(uuid, "terminate")]
    shown = service.get(f"/v2.1/servers/{uuid}").json["server"]
    assert shown["OS-EXT-STS:task_state"] == "deleting"


def test_a_server_on_no_host_is_gone_at_once(service: Service) -> None:
    path = f"/v2.1/servers/{svc.NOWHERE}"
    assert service.request("DELETE", path).status_int == 204
    assert service.get(path).status_int == 404
    assert service.request("DELETE", path).status_int == 404
    assert service.casts.asked == []


def test_a_deleted_server_is_not_restored(service: Service) -> None:
    text = message(service.action(svc.ACTIVE, "restore", {}), 409)
    assert text == f"Cannot 'restore' instance {svc.ACTIVE} while it is in vm_state active"
    assert message(service.action(svc.DELETED, "restore", {}), 404)


# -- switching ---------------------------------------------------------------------------------

# action: its value, the vm_state before it, what the host is asked for
ACTIONS: dict[str, tuple[object, str, str]] = {
    "os-start": (None, vm_states.STOPPED, "start over powering-on"),
    "os-stop": (None, vm_states.ACTIVE, "stop over powering-off"),
    "pause": (None, vm_states.ACTIVE, "pause over pausing"),
    "unpause": (None, vm_states.PAUSED, "unpause over unpausing"),
    "suspend": (None, vm_states.ACTIVE, "suspend over suspending"),
    "resume": (None, vm_states.SUSPENDED, "resume over resuming"),
    "reboot": ({"type": "SOFT"}, vm_states.ACTIVE, "reboot over rebooting"),
}
WORDS = {name: name.removeprefix("os-") for name in ACTIONS}


@pytest.mark.parametrize("value", [None, {}, "x"], ids=["null", "object", "string"])
@pytest.mark.parametrize("name", ACTIONS)
def test_an_action(service: Service, name: str, value: object) -> None:
    given, vm_state, asked = ACTIONS[name]
    in_state(service, vm_state)
    response = service.action(svc.ACTIVE, name, given or value)
    assert (response.status_int, response.body) == (202, b"")
    assert service.casts.asked == [(svc.ACTIVE, asked)]
    (action,) = InstanceAction.get_by_instance_uuid(service.context(), svc.ACTIVE)
    assert action.action == WORDS[name]


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_in_a_wrong_state(service: Service, name: str) -> None:
    given, vm_state, _ = ACTIONS[name]
    wrong = vm_states.STOPPED if vm_state != vm_states.STOPPED else vm_states.ACTIVE
    in_state(service, wrong)
    text = message(service.action(svc.ACTIVE, name, given), 409)
    word = WORDS[name]
    assert text == f"Cannot '{word}' instance {svc.ACTIVE} while it is in vm_state {wrong}"
    in_state(service, vm_state, task_states.IMAGE_SNAPSHOT_PENDING)
    text = message(service.action(svc.ACTIVE, name, given), 409)
    busy = "task_state image_snapshot_pending"
    assert text == f"Cannot '{word}' instance {svc.ACTIVE} while it is in {busy}"
    assert service.casts.asked == []


@pytest.mark.parametrize("name", ACTIONS)
def test_one_action_at_a_time(service: Service, name: str) -> None:
    given, vm_state, asked = ACTIONS[name]
    in_state(service, vm_state)
    assert service.action(svc.ACTIVE, name, given).status_int == 202
    text = message(service.action(svc.ACTIVE, name, given), 409)
    assert text.endswith(f"while it is in task_state {asked.split()[-1]}")


@pytest.mark.parametrize("kind", ["HARD", "Hard", "hard", "SOFT", "Soft", "soft"])
def test_reboot(service: Service, kind: str) -> None:
    assert service.action(svc.ACTIVE, "reboot", {"type": kind}).status_int == 202
    hard = kind.upper() == "HARD"
    asked = "reboot over rebooting_hard" if hard else "reboot over rebooting"
    assert service.casts.asked == [(svc.ACTIVE, asked)]
    shown = service.get(SERVER).json
    check(shown, server_responses.show(Microversion(2, 1)))
    status = "HARD_REBOOT" if hard else "REBOOT"
    assert shown["server"]["status"] == status
    assert "progress" not in shown["server"]
    for wanted, found in ((status, 1), (status.lower(), 1), ("ACTIVE", 3), ("PASSWORD", 0)):
        listed = service.get(f"/v2.1/servers?status={wanted}", version="2.96").json["servers"]
        assert len(listed) == found


@pytest.mark.parametrize("value", [None, {}, {"type": "WARM"}, {"type": "SOFT", "x": 1}, "SOFT"])
def test_a_reboot_that_is_none(service: Service, value: object) -> None:
    assert message(service.action(svc.ACTIVE, "reboot", value), 400)
    assert service.casts.asked == []


def test_a_host_that_cannot_be_asked(service: Service) -> None:
    service.casts.fail = exception.MessagingUnavailable(host=svc.HOST, reason="no broker")
    assert message(service.action(svc.ACTIVE, "os-stop"), 503)
    assert service.instance(svc.ACTIVE).task_state is None


# -- the rest ----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["active", "error"])
def test_reset_state(service: Service, state: str) -> None:
    body = {"state": state}
    assert message(service.action(svc.BUSY, "os-resetState", body), 403)
    response = service.action(svc.BUSY, "os-resetState", body, token=svc.ADMIN_TOKEN)
    assert (response.status_int, response.body) == (202, b"")
    instance = service.instance(svc.BUSY)
    assert (instance.vm_state, instance.task_state) == (state, None)


@pytest.mark.parametrize("body", [None, {}, {"state": "stopped"}, {"state": "active", "x": 1}])
def test_a_state_that_is_none(service: Service, body: object) -> None:
    assert message(service.action(svc.BUSY, "os-resetState", body, token=svc.ADMIN_TOKEN), 400)
    assert service.instance(svc.BUSY).task_state == "image_uploading"


@pytest.mark.parametrize(
    ("value", "length"),
    [
        ({}, None),
        ({"length": None}, None),
        ({"length": -1}, None),
        ({"length": "-1"}, None),
        ({"length": 3}, 3),
        ({"length": "3"}, 3),
        ({"length": 0}, 0),
    ],
)
def test_console_output(service: Service, value: object, length: int | None) -> None:
    response = service.action(svc.ACTIVE, "os-getConsoleOutput", value)
    assert response.status_int == 200
    check(response.json, server_responses.CONSOLE_OUTPUT)
    assert response.json == {"output": service.casts.console}
    assert service.casts.asked == [(svc.ACTIVE, f"console {length}")]


@pytest.mark.parametrize(
    "value", [None, {"length": -2}, {"length": "x"}, {"length": 1.5}, {"lines": 1}, {"length": ""}]
)
def test_console_output_of_no_length(service: Service, value: object) -> None:
    assert message(service.action(svc.ACTIVE, "os-getConsoleOutput", value), 400)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (
            exception.ConsoleNotAvailable(instance_uuid=svc.ACTIVE, reason="no file"),
            404,
            "Guest does not have a console available.",
        ),
        (
            exception.MessagingUnavailable(host=svc.HOST, reason="silence"),
            503,
            "cannot be reached",
        ),
    ],
)
def test_a_console_that_is_not_there(
    service: Service, error: Exception, code: int, text: str
) -> None:
    service.casts.fail = error
    response = service.action(svc.ACTIVE, "os-getConsoleOutput", {})
    assert text in message(response, code)


def test_the_console_of_a_server_on_no_host(service: Service) -> None:
    assert message(service.action(svc.NOWHERE, "os-getConsoleOutput", {}), 409)


REQUESTS: list[tuple[str, str, object]] = [
    ("DELETE", "", None),
    ("PUT", "", {"server": {"name": "x"}}),
    ("GET", "/metadata", None),
    ("POST", "/metadata", {"metadata": {"a": "b"}}),
    ("PUT", "/metadata", {"metadata": {"a": "b"}}),
    ("GET", "/metadata/role", None),
    ("PUT", "/metadata/role", {"meta": {"role": "b"}}),
    ("DELETE", "/metadata/role", None),
    *[("POST", "/action", {name: value}) for name, (value, _, _) in ACTIONS.items()],
    ("POST", "/action", {"os-getConsoleOutput": {}}),
    ("POST", "/action", {"forceDelete": None}),
    ("POST", "/action", {"restore": None}),
    ("POST", "/action", {"rebuild": {"imageRef": svc.IMAGE}}),
    ("POST", "/action", {"resize": {"flavorRef": "2"}}),
    ("POST", "/action", {"lock": None}),
    ("POST", "/action", {"shelve": None}),
]


@pytest.mark.parametrize(("method", "rest", "body"), REQUESTS, ids=lambda part: str(part)[:40])
@pytest.mark.parametrize("uuid", [svc.UNKNOWN, svc.FOREIGN, svc.DELETED, "web", "%00"])
def test_a_server_that_is_none(
    service: Service, uuid: str, method: str, rest: str, body: object
) -> None:
    response = service.request(method, f"/v2.1/servers/{uuid}{rest}", body)
    assert "could not be found" in message(response, 404)
    foreign = service.instance(svc.FOREIGN)
    assert (foreign.task_state, foreign.metadata) == (None, {"role": "web"})
    assert service.casts.asked == []


@pytest.mark.parametrize(("method", "rest", "body"), REQUESTS, ids=lambda part: str(part)[:40])
def test_nobody_may_do_anything(service: Service, method: str, rest: str, body: object) -> None:
    assert service.request(method, SERVER + rest, body, token=None).status_int == 401
    assert service.casts.asked == []


@pytest.mark.parametrize("name", ["rebuild", "resize", "lock", "rescue", "os-getVNCConsole"])
def test_actions_of_novas_that_there_are_not(service: Service, name: str) -> None:
    text = message(service.action(svc.ACTIVE, name, {}), 400)
    assert text == f"The action {name} is not supported."


# -- finding by flavor -------------------------------------------------------------------------


@pytest.mark.parametrize(("flavor", "found"), [("1", 6), ("2", 0), ("non_existing_flavor", 0)])
def test_the_servers_of_a_flavor(service: Service, flavor: str, found: int) -> None:
    for path in ("/v2.1/servers", "/v2.1/servers/detail"):
        assert len(service.get(f"{path}?flavor={flavor}").json["servers"]) == found
