# SPDX-License-Identifier: Apache-2.0
"""Whatever a client sends that knows the API's description, and breaks it: no 500, and every answer
is one that the description foresees.

``NOVA_SNAP_API_EXAMPLES`` says how many requests there are for each operation; with it they are
others in every run.
"""

import functools
import os
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi import checks as openapi_checks

from nova_snap.api import openapi
from nova_snap.api.microversion import Microversion
from nova_snap.objects.service import ComputeNode
from nova_snap.objects.service import Service as ComputeService
from tests.functional.api import service as svc
from tests.functional.api.service import Service

MINORS = (1, 52, 96)
EXAMPLES = int(os.environ.get("NOVA_SNAP_API_EXAMPLES", "0"))

CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
]

SETTINGS = hypothesis.settings(
    max_examples=EXAMPLES or 12,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)

# Ids of what is there: a random id finds nothing.
KNOWN = {
    "server_id": [svc.ACTIVE, svc.STOPPED, svc.FAILED, svc.BUSY, svc.NOWHERE, svc.FOREIGN],
    "image_id": [svc.IMAGE],
    "hypervisor_id": ["1", "compute"],
    "service_id": ["1", "enable", "disable", "disable-log-reason", "force-down"],
    "flavor_id": ["1"],
    "key": ["role", "os_distro", "hw:cpu"],
    "alias": ["os-hypervisors"],
    "project_id": [svc.PROJECT],
}


def description(minor: int) -> dict[str, Any]:
    """The API's description, in which paths may name what is there."""
    found = openapi.describe(Microversion(2, minor))
    for path in found["paths"].values():
        for parameter in path.get("parameters", []):
            if parameter["name"] in KNOWN:
                parameter["schema"] = {"enum": [*KNOWN[parameter["name"]], "nothing"]}
    return found


@functools.cache
def loaded(minor: int) -> Any:
    return schemathesis.openapi.from_dict(description(minor))


def operations() -> list[Any]:
    found = []
    for minor in MINORS:
        for result in loaded(minor).get_all_operations():
            operation = result.ok()
            identifier = operation.definition.raw["operationId"]
            found.append(pytest.param(operation, id=f"2.{minor}-{identifier}"))
    return found


@pytest.fixture
def cloud(service: Service) -> Service:
    """With an image, a hypervisor and a flavor."""
    record = service.images.create(service.context(), {"name": "base", "os_distro": "debian"})
    stored = service.images.records.pop(record["id"])
    service.images.records[svc.IMAGE] = {**stored, "id": svc.IMAGE, "status": "active", "size": 1}
    host = ComputeService.get_by_host(service.context(), svc.HOST)
    ComputeNode.record(service.context(), host, {"vcpus": 4, "cpu_info": {"arch": "x86_64"}})
    return service


@pytest.mark.parametrize("operation", operations())
def test_every_answer_is_foreseen(cloud: Service, operation: Any) -> None:
    version = operation.schema.raw_schema["info"]["version"]

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        # What the answer depends on is not left to chance: who asks, and in which version.
        environ["HTTP_X_AUTH_TOKEN"] = svc.ADMIN_TOKEN
        environ["HTTP_OPENSTACK_API_VERSION"] = f"compute {version}"
        environ.pop("HTTP_X_OPENSTACK_NOVA_API_VERSION", None)
        return cloud.app(environ, start_response)

    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    cases = strategies.one_of(operation.as_strategy(generation_mode=mode) for mode in modes)

    @SETTINGS
    @hypothesis.given(cases)
    def ask(case: Any) -> None:
        response = case.call(app=app)
        # Some actions answer without a body, and some with one.
        bodiless = response.status_code == 202 and not response.content
        case.validate_response(response, checks=CHECKS[:2] if bodiless else CHECKS)

    ask()
