# SPDX-License-Identifier: Apache-2.0
"""The whole WSGI application: every route, with bodies, headers and query strings."""

import json
import random
import shutil
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Final

from nova_snap.api import routes
from nova_snap.objects.service import ComputeNode
from nova_snap.objects.service import Service as ComputeService
from tests.functional.api import service as svc
from tests.fuzz import columns, parts, wsgi_calls
from tests.fuzz.target import Target
from tests.fuzz.wsgi_calls import Call, call

_SERVER = {"name": "new", "imageRef": svc.IMAGE, "flavorRef": "1"}
_FLAVOR = {"name": "f", "ram": 512, "vcpus": 1, "disk": 1}
_MORE: Final[dict[str, Any]] = {
    "metadata": {"a": "b"},
    "min_count": 1,
    "max_count": "2",
    "availability_zone": "nova",
    "accessIPv4": "192.0.2.1",
    "accessIPv6": "2001:db8::1",
    "networks": "none",
    "user_data": "",
    "key_name": None,
    "block_device_mapping_v2": [
        {
            "boot_index": 0,
            "uuid": svc.IMAGE,
            "source_type": "image",
            "destination_type": "local",
        }
    ],
}

# What the bodies are, by the controller's method; of the others {}.
_BODIES: Final[dict[str, Sequence[dict[str, Any]]]] = {
    "create": (
        {"server": _SERVER},
        {"server": {**_SERVER, **_MORE}, "os:scheduler_hints": {"group": "x"}},
        {"flavor": {**_FLAVOR, "id": "auto", "rxtx_factor": 1.0, "swap": 1}},
        {"metadata": {"a": "b"}},
        {"extra_specs": {"hw:cpu_policy": "shared"}},
    ),
    "update": (
        {"server": {"name": "b", "accessIPv4": None}},
        {"meta": {"role": "b"}},
        {"hw:cpu": "x"},
        {"status": "disabled", "disabled_reason": "x", "forced_down": False},
        {"host": svc.HOST, "binary": "nova-compute", "disabled_reason": "x"},
        {"flavor": {"description": "x"}},
    ),
    "update_all": ({"metadata": {"a": "b"}},),
    "action": (
        {"createImage": {"name": "snap", "metadata": {"a": "b"}}},
        {"createBackup": {"name": "b", "backup_type": "daily", "rotation": 1}},
        {"reboot": {"type": "SOFT"}},
        {"os-resetState": {"state": "error"}},
        {"os-getConsoleOutput": {"length": 5}},
        *({name: None} for name in ("os-start", "os-stop", "pause", "suspend", "restore")),
        {"resize": {"flavorRef": "1"}},
    ),
}
_VALUES: Final = {
    "server_id": (svc.ACTIVE, svc.STOPPED, svc.VOLUME_BACKED, svc.FOREIGN, svc.NOWHERE),
    "image_id": (svc.IMAGE,),
    "hypervisor_id": ("1", "compute"),
    "service_id": ("1", "enable", "disable-log-reason", "force-down"),
    "flavor_id": ("1",),
    "key": ("role", "os_distro", "hw:cpu"),
    "alias": ("os-hypervisors",),
    "project_id": (svc.PROJECT,),
    "request_id": ("req-1",),
}
_QUERIES: Final = (
    "",
    f"limit=2&marker={svc.ACTIVE}&sort_key=created_at&sort_dir=asc",
    "name=web&status=ACTIVE&changes-since=2026-01-01T00:00:00Z&all_tenants=1",
)
# The hosts that answer 503 are not here, and nothing else may be above 499.
_ALLOWED: Final = frozenset({501})


class API(Target):
    renew_after = 150

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        columns.watch()
        made = svc.Service(directory / "template")
        made.populate()
        made.offer()
        # For expressions that try every way.
        made.add("00000000-0000-0000-0000-000000000009", display_name="a" * 254 + "!")
        self.furnish(made)
        made.close()
        self._template = made.path
        self._service: svc.Service | None = None
        self.log = parts.LogWatch()
        self.renew()
        self.log.watch()

    @property
    def service(self) -> svc.Service:
        assert self._service is not None
        return self._service

    @staticmethod
    def furnish(service: svc.Service) -> None:
        host = ComputeService.get_by_host(service.context(), svc.HOST)
        ComputeNode.record(service.context(), host, {"vcpus": 4, "cpu_info": {"arch": "x86_64"}})

    def renew(self) -> None:
        if self._service is not None:
            self._service.close()
        place = self.directory / "service"
        shutil.rmtree(place, ignore_errors=True)
        (place / "state").mkdir(parents=True)
        self._service = svc.Service(place, self._template)
        # They are made at once: nobody waits.
        self.service.volumes.looks = 0
        self.service.images.records[svc.IMAGE] = {
            "id": svc.IMAGE,
            "name": "base",
            "status": "active",
            "size": 1 << 20,
            "min_disk": 0,
            "min_ram": 0,
            "disk_format": "qcow2",
            "container_format": "bare",
            "visibility": "public",
            "owner": svc.PROJECT,
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z",
            "os_distro": "debian",
        }

    def close(self) -> None:
        self.service.close()

    def seeds(self) -> Sequence[bytes]:
        found = [wsgi_calls.pack(made) for made in every_call()]
        for path in ("/healthcheck", "/metrics", "/v2", "//", "/v2.1/nothing"):
            found.append(wsgi_calls.pack(call("GET", path, X_Auth_Token=svc.TOKEN)))
        return found

    def mutate(self, data: bytes, other: bytes, dice: random.Random) -> bytes:
        return wsgi_calls.mutate(data, other, dice)

    def run(self, data: bytes) -> Hashable:
        made: Call = json.loads(data)
        self.log.clear()
        answer = wsgi_calls.Answer(self.service.app, wsgi_calls.environ_of(made))
        wsgi_calls.check(made, answer, self.log, _ALLOWED)
        # Of a refusal the words, without the values.
        words = answer.body[:90] if answer.status >= 400 else b""
        return made["method"], answer.status, b"".join(words.split()[:12])


def every_call() -> list[Call]:
    """A request to every route, and every body."""
    found = []
    for template, methods in routes.ROUTES.items():
        for number in range(3):
            path = _filled(template, number)
            for method, (_controller, name) in methods.items():
                bodies = _BODIES.get(name, ({},)) if method in ("POST", "PUT") else (None,)
                token = (svc.ADMIN_TOKEN, svc.TOKEN)[number % 2]
                version = ("2.96", "2.1", "2.35")[number]
                query = _QUERIES[number] if method == "GET" else ""
                found += [
                    call(
                        method,
                        path,
                        body,
                        query,
                        X_Auth_Token=token,
                        OpenStack_API_Version=f"compute {version}",
                    )
                    for body in bodies
                ]
    return found


def _filled(template: str, number: int) -> str:
    for name, values in _VALUES.items():
        template = template.replace(f"{{{name}}}", values[number % len(values)])
    return template


TARGET = API
