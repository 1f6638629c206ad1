# SPDX-License-Identifier: Apache-2.0
"""Whatever a client sends that knows the API's description, and breaks it: no 500, and every answer
is one that the description foresees.

``NOVA_SNAP_API_EXAMPLES`` says how many requests there are for each operation; with it they are
others in every run.
"""

import os
from typing import Any

import hypothesis
import pytest

from nova_snap.objects.service import ComputeNode
from nova_snap.objects.service import Service as ComputeService
from tests.functional.api import openapi_cases
from tests.functional.api import service as svc
from tests.functional.api.service import Service

EXAMPLES = int(os.environ.get("NOVA_SNAP_API_EXAMPLES", "0"))

SETTINGS = hypothesis.settings(
    max_examples=EXAMPLES or 12,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@pytest.fixture
def cloud(service: Service) -> Service:
    """With an image, a hypervisor and a flavor."""
    record = service.images.create(service.context(), {"name": "base", "os_distro": "debian"})
    stored = service.images.records.pop(record["id"])
    service.images.records[svc.IMAGE] = {**stored, "id": svc.IMAGE, "status": "active", "size": 1}
    host = ComputeService.get_by_host(service.context(), svc.HOST)
    ComputeNode.record(service.context(), host, {"vcpus": 4, "cpu_info": {"arch": "x86_64"}})
    return service


@pytest.mark.parametrize(
    "operation",
    [pytest.param(operation, id=name) for name, operation in openapi_cases.operations()],
)
def test_every_answer_is_foreseen(cloud: Service, operation: Any) -> None:
    @SETTINGS
    @hypothesis.given(openapi_cases.cases(operation))
    def ask(case: Any) -> None:
        openapi_cases.ask(cloud.app, operation, case)

    ask()
