# SPDX-License-Identifier: Apache-2.0
"""What was done to a server: who sees how much of it, in which version."""

import datetime
import itertools
import pathlib
from typing import Any

import jsonschema
import pytest

from nova_snap.api.microversion import Microversion
from nova_snap.api.policies import instance_actions as rules
from nova_snap.api.schemas import instance_actions as schema
from nova_snap.api.validation import FORMATS
from nova_snap.api.views.hosts import host_id
from nova_snap.objects.instance_action import InstanceAction, InstanceActionEvent
from tests.functional.api import service as svc
from tests.functional.api.service import Service

WHY = "Snapshot by method stream failed during image_uploading: no room."
VERSIONS = ("2.1", "2.20", "2.21", "2.50", "2.51", "2.57", "2.58", "2.61", "2.62", "2.66", "2.84")
NOON = datetime.datetime(2026, 1, 2, 12)


def act(
    service: Service,
    number: int,
    uuid: str = svc.ACTIVE,
    error: str | None = None,
    action: str = "createImage",
) -> str:
    """An action that has ended; its request id."""
    request_id = f"req-00000000-0000-0000-0000-{number:012}"
    start = NOON + datetime.timedelta(minutes=number)
    context = service.context(
        request_id=request_id, user_id="alice", project_id=svc.PROJECT, timestamp=start
    )
    made = InstanceAction.start(context, uuid, action)
    try:
        with InstanceActionEvent.record(
            context, made, "compute_snapshot_instance", svc.HOST
        ) as step:
            step.details = "stream: the guest is running"
            if error is not None:
                step.details = f"{error} /var/lib/secret"
                raise RuntimeError(error)
    except RuntimeError:
        pass
    made.finish(context, error)
    return request_id


def path(uuid: str = svc.ACTIVE, request_id: str | None = None) -> str:
    tail = f"/{request_id}" if request_id else ""
    return f"/v2.1/servers/{uuid}/os-instance-actions{tail}"


def checked(body: Any, against: Any) -> Any:
    jsonschema.Draft202012Validator(against, format_checker=FORMATS).validate(body)
    return body


def version_of(text: str) -> Microversion:
    return Microversion(*map(int, text.split(".")))


def listed(service: Service, query: str = "", version: str = "2.58", **how: Any) -> list[str]:
    response = service.get(path() + query, version=version, **how)
    assert response.status_int == 200, response.text
    body = checked(response.json, schema.index(version_of(version)))
    return [action["request_id"] for action in body["instanceActions"]]


class TestList:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_the_newest_comes_first(self, service: Service, version: str) -> None:
        ids = [act(service, number) for number in range(3)]
        assert listed(service, version=version) == ids[::-1]

    def test_an_action(self, service: Service) -> None:
        request_id = act(service, 1, error=WHY)
        (action,) = service.get(path(), version="2.58").json["instanceActions"]
        updated = action.pop("updated_at")
        assert updated > "2026-01-02T12:01:00.000000"
        assert action == {
            "action": "createImage",
            "instance_uuid": svc.ACTIVE,
            "request_id": request_id,
            "user_id": "alice",
            "project_id": svc.PROJECT,
            "start_time": "2026-01-02T12:01:00.000000",
            "message": WHY,
        }

    def test_pages(self, service: Service) -> None:
        ids = [act(service, number) for number in range(5)][::-1]
        url = path() + "?limit=2"
        seen: list[list[str]] = []
        for _ in itertools.count():
            body = service.get(url, version="2.58").json
            seen.append([action["request_id"] for action in body["instanceActions"]])
            if "links" not in body:
                break
            (link,) = body["links"]
            assert link["rel"] == "next"
            url = link["href"].removeprefix("http://localhost")
        assert seen == [ids[:2], ids[2:4], ids[4:]]

    def test_a_page_is_no_longer_than_the_service_allows(self, service: Service) -> None:
        service.conf.set_override("max_limit", 2, "api")
        for number in range(3):
            act(service, number)
        assert len(listed(service)) == 2
        assert len(listed(service, "?limit=1000")) == 2
        assert len(listed(service, version="2.57")) == 3

    def test_a_page_of_none(self, service: Service) -> None:
        act(service, 1)
        body = service.get(path() + "?limit=0", version="2.58").json
        assert body == {"instanceActions": []}

    def test_by_time(self, service: Service) -> None:
        """Of the last change, as the clients of billing ask for it."""
        first = act(service, 1)
        between = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        second = act(service, 2)
        since = f"?changes-since={between.isoformat()}"
        before = f"?changes-before={between.isoformat()}"
        assert listed(service, since) == [second]
        assert listed(service, before, version="2.66") == [first]
        assert listed(service, f"{since}&changes-before=2100-01-01", version="2.66") == [second]

    @pytest.mark.parametrize(
        ("query", "version", "code"),
        [
            ("?changes-before=2026-01-01", "2.65", 400),
            ("?changes-before=2026-01-01", "2.66", 200),
            ("?changes-since=2026-01-02&changes-before=2026-01-01", "2.66", 400),
            ("?changes-since=yesterday", "2.58", 400),
            ("?limit=-1", "2.58", 400),
            ("?limit=one", "2.58", 400),
            ("?limit=1&limit=2", "2.58", 400),
            ("?marker=nosuch", "2.58", 400),
            ("?color=red", "2.58", 400),
            ("?color=red&limit=-1", "2.57", 200),
        ],
    )
    def test_a_query(self, service: Service, query: str, version: str, code: int) -> None:
        assert service.get(path() + query, version=version).status_int == code

    def test_a_marker_of_another_server(self, service: Service) -> None:
        foreign = act(service, 1, uuid=svc.FOREIGN)
        response = service.get(f"{path()}?marker={foreign}", version="2.58")
        assert response.status_int == 400
        assert foreign in response.json["badRequest"]["message"]


class TestShow:
    def show(self, service: Service, request_id: str, version: str, **how: Any) -> dict[str, Any]:
        response = service.get(path(request_id=request_id), version=version, **how)
        assert response.status_int == 200, response.text
        body = checked(response.json, schema.show(version_of(version)))
        shown: dict[str, Any] = body["instanceAction"]
        return shown

    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("token", [svc.TOKEN, svc.ADMIN_TOKEN], ids=["member", "admin"])
    def test_what_is_seen_of_an_event(self, service: Service, version: str, token: str) -> None:
        request_id = act(service, 1, error=WHY)
        shown = self.show(service, request_id, version, token=token)
        number = int(version.split(".")[1])
        admin = token == svc.ADMIN_TOKEN
        assert shown["message"] == WHY
        assert ("updated_at" in shown) == (number >= 58)
        if number < 51 and not admin:
            assert "events" not in shown
            return
        (event,) = shown["events"]
        expected = {"event", "start_time", "finish_time", "result"}
        if admin:
            expected |= {"traceback"}
        if number >= 62:
            expected |= {"hostId"} | ({"host"} if admin else set())
        if number >= 84 and admin:
            expected |= {"details"}
        assert event.keys() == expected
        assert (event["event"], event["result"]) == ("compute_snapshot_instance", "Error")

    def test_an_administrator_sees_all_of_it(self, service: Service) -> None:
        request_id = act(service, 1, error=WHY)
        (event,) = self.show(service, request_id, "2.84", token=svc.ADMIN_TOKEN)["events"]
        assert "RuntimeError" in event["traceback"]
        assert event["host"] == svc.HOST
        assert event["hostId"] == host_id(svc.PROJECT, svc.HOST)
        assert event["details"] == f"{WHY} /var/lib/secret"

    def test_what_runs_has_no_end(self, service: Service) -> None:
        context = service.context()
        made = InstanceAction.start(context, svc.ACTIVE, "createImage")
        InstanceActionEvent.record(context, made, "snapshot", svc.HOST).__enter__()
        shown = self.show(service, context.request_id, "2.51")
        assert shown["message"] is None
        (event,) = shown["events"]
        assert (event["finish_time"], event["result"]) == (None, None)

    def test_the_progress_of_what_runs(self, service: Service) -> None:
        context = service.context()
        made = InstanceAction.start(context, svc.ACTIVE, "createImage")
        step = InstanceActionEvent.record(context, made, "snapshot", svc.HOST).__enter__()
        step.note(context, "3 of 12 MiB sent")
        shown = self.show(service, context.request_id, "2.84", token=svc.ADMIN_TOKEN)
        assert shown["events"][0]["details"] == "3 of 12 MiB sent"

    def test_the_details_may_be_shown_to_others(
        self, service: Service, tmp_path: pathlib.Path
    ) -> None:
        request_id = act(service, 1)
        policy = tmp_path / "policy.yaml"
        policy.write_text(f'"{rules.EVENTS_DETAILS}": "rule:project_reader_or_admin"\n')
        service.conf.set_override("policy_file", str(policy), "oslo_policy")
        service.rebuild()
        (event,) = self.show(service, request_id, "2.84")["events"]
        assert event["details"] == "stream: the guest is running"
        assert "traceback" not in event

    @pytest.mark.parametrize("request_id", ["req-nosuch", "x" * 500])
    def test_one_that_there_is_not(self, service: Service, request_id: str) -> None:
        response = service.get(path(request_id=request_id))
        assert response.status_int == 404
        message = response.json["itemNotFound"]["message"]
        assert message.startswith("Action ")
        assert len(message) < 200

    def test_another_servers(self, service: Service) -> None:
        request_id = act(service, 1, uuid=svc.STOPPED)
        assert service.get(path(request_id=request_id)).status_int == 404


class TestPolicies:
    def write(self, service: Service, directory: pathlib.Path, text: str) -> None:
        policy = directory / "policy.yaml"
        policy.write_text(text)
        service.conf.set_override("policy_file", str(policy), "oslo_policy")
        service.rebuild()

    @pytest.mark.parametrize("rule", [rules.LIST, rules.SHOW])
    @pytest.mark.parametrize("version", ["2.1", "2.96"])
    def test_each_route_asks_its_rule(
        self, service: Service, tmp_path: pathlib.Path, rule: str, version: str
    ) -> None:
        request_id = act(service, 1)
        self.write(service, tmp_path, f'"{rule}": "!"\n')
        routes = {rules.LIST: path(), rules.SHOW: path(request_id=request_id)}
        for other, route in routes.items():
            response = service.get(route, version=version)
            assert response.status_int == (403 if other == rule else 200)
            if other == rule:
                assert rule in response.json["forbidden"]["message"]

    def test_the_rule_of_events_is_of_the_servers_project(
        self, service: Service, tmp_path: pathlib.Path
    ) -> None:
        request_id = act(service, 1, error=WHY)
        self.write(service, tmp_path, f'"{rules.EVENTS}": "project_id:%(project_id)s"\n')
        own = service.get(path(request_id=request_id)).json["instanceAction"]
        assert "RuntimeError" in own["events"][0]["traceback"]
        admin = f"admin:{svc.OTHER_PROJECT}"
        other = service.get(path(request_id=request_id), token=admin).json["instanceAction"]
        assert "events" not in other


@pytest.mark.parametrize("request_id", [None, "req-00000000-0000-0000-0000-000000000001"])
class TestWhose:
    def get(self, service: Service, uuid: str, request_id: str | None, **how: Any) -> int:
        act(service, 1, uuid=uuid)
        code: int = service.get(path(uuid, request_id), **how).status_int
        return code

    def test_another_projects(self, service: Service, request_id: str | None) -> None:
        assert self.get(service, svc.FOREIGN, request_id) == 404
        assert self.get(service, svc.FOREIGN, request_id, token=svc.OTHER_TOKEN) == 200
        assert self.get(service, svc.FOREIGN, request_id, token=svc.ADMIN_TOKEN) == 200

    def test_nobody(self, service: Service, request_id: str | None) -> None:
        assert self.get(service, svc.ACTIVE, request_id, token=None) == 401

    @pytest.mark.parametrize("uuid", [svc.UNKNOWN, "web"])
    @pytest.mark.parametrize("version", ["2.1", "2.21"])
    def test_of_no_server(
        self, service: Service, request_id: str | None, uuid: str, version: str
    ) -> None:
        assert service.get(path(uuid, request_id), version=version).status_int == 404

    @pytest.mark.parametrize(("version", "code"), [("2.20", 404), ("2.21", 200)])
    def test_of_a_deleted_server(
        self, service: Service, request_id: str | None, version: str, code: int
    ) -> None:
        assert self.get(service, svc.DELETED, request_id, version=version) == code

    def test_of_another_projects_deleted_server(
        self, service: Service, request_id: str | None
    ) -> None:
        how: dict[str, Any] = {"version": "2.21", "token": svc.OTHER_TOKEN}
        assert self.get(service, svc.DELETED, request_id, **how) == 404
