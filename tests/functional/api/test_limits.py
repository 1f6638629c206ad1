# SPDX-License-Identifier: Apache-2.0
"""Limits, quotas, aggregates and extensions."""

import jsonschema
import pytest

from nova_snap.api.microversion import Microversion
from nova_snap.api.schemas import aggregates, extensions, limits, quota_sets
from nova_snap.api.validation import FORMATS
from tests.functional.api import service as svc
from tests.functional.api.service import Service


def check(body: object, schema: dict[str, object]) -> None:
    jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(body)


@pytest.mark.parametrize("minor", [1, 35, 36, 38, 39, 56, 57, 96], ids=lambda minor: f"2.{minor}")
def test_limits_have_what_their_version_has(service: Service, minor: int) -> None:
    body = service.get("/v2.1/limits", version=f"2.{minor}").json
    check(body, limits.show(Microversion(2, minor)))
    absolute = body["limits"]["absolute"]
    assert ("maxSecurityGroups" in absolute) == (minor < 36)
    assert ("maxImageMeta" in absolute) == (minor < 39)
    assert ("maxPersonality" in absolute) == (minor < 57)


def test_limits_say_what_may_be_and_what_is(service: Service) -> None:
    service.conf.set_override("instances", 7, "quota")
    service.conf.set_override("ram", -1, "quota")
    absolute = service.get("/v2.1/limits").json["limits"]["absolute"]
    assert (absolute["maxTotalInstances"], absolute["totalInstancesUsed"]) == (7, 6)
    assert (absolute["maxTotalRAMSize"], absolute["totalRAMUsed"]) == (-1, 6 * 512)
    assert absolute["totalCoresUsed"] == 6
    assert absolute["maxServerMeta"] == 128


def test_only_an_administrator_sees_another_projects(service: Service) -> None:
    path = f"/v2.1/limits?tenant_id={svc.OTHER_PROJECT}"
    assert service.get(path).status_int == 403
    body = service.get(path, token=svc.ADMIN_TOKEN).json
    assert body["limits"]["absolute"]["totalInstancesUsed"] == 1
    # As in Nova, to name a project at all is the administrator's.
    assert service.get(f"/v2.1/limits?tenant_id={svc.PROJECT}").status_int == 403


def test_unknown_parameters(service: Service) -> None:
    assert service.get("/v2.1/limits?x=1", version="2.74").status_int == 200
    assert service.get("/v2.1/limits?x=1", version="2.75").status_int == 400


@pytest.mark.parametrize("minor", [1, 35, 36, 56, 57, 96], ids=lambda minor: f"2.{minor}")
def test_quotas_have_what_their_version_has(service: Service, minor: int) -> None:
    version = Microversion(2, minor)
    path = f"/v2.1/os-quota-sets/{svc.PROJECT}"
    shown = service.get(path, version=str(version)).json
    check(shown, quota_sets.show(version))
    assert service.get(f"{path}/defaults", version=str(version)).json == shown
    check(service.get(f"{path}/detail", version=str(version)).json, quota_sets.detail(version))
    assert ("floating_ips" in shown["quota_set"]) == (minor < 36)
    assert ("injected_files" in shown["quota_set"]) == (minor < 57)


def test_quotas_say_what_may_be_and_what_is(service: Service) -> None:
    service.conf.set_override("cores", 9, "quota")
    path = f"/v2.1/os-quota-sets/{svc.PROJECT}"
    shown = service.get(path).json["quota_set"]
    assert (shown["id"], shown["cores"], shown["key_pairs"]) == (svc.PROJECT, 9, 0)
    detail = service.get(f"{path}/detail").json["quota_set"]
    assert detail["cores"] == {"limit": 9, "in_use": 6, "reserved": 0}


def test_quotas_of_another_project_are_the_administrators(service: Service) -> None:
    for more, status in (("", 403), ("/detail", 403), ("/defaults", 200)):
        path = f"/v2.1/os-quota-sets/{svc.OTHER_PROJECT}{more}"
        assert service.get(path).status_int == status
        assert service.get(path, token=svc.ADMIN_TOKEN).status_int == 200


def test_there_are_no_aggregates(service: Service) -> None:
    assert service.get("/v2.1/os-aggregates").status_int == 403
    body = service.get("/v2.1/os-aggregates", token=svc.ADMIN_TOKEN).json
    check(body, aggregates.INDEX)


def test_extensions(service: Service) -> None:
    body = service.get("/v2.1/extensions").json
    check(body, extensions.INDEX)
    for each in body["extensions"]:
        shown = service.get(f"/v2.1/extensions/{each['alias']}").json
        check(shown, extensions.SHOW)
        assert shown["extension"] == each
    assert service.get("/v2.1/extensions/os-cells").status_int == 404
