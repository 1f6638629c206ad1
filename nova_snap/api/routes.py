# SPDX-License-Identifier: Apache-2.0
"""Which path leads where, as data.

A template's first part is the version; below ``/v2.1`` every path may have the project's id
in front, as catalogs of old clouds give it: ``/v2.1/{project_id}/servers``.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

import webob

Handler = Callable[..., webob.Response]


# template: {method: (controller, its method)}
ROUTES: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "/": {"GET": ("versions", "index")},
    "/v2.1": {"GET": ("versions", "show")},
    "/v2.1/": {"GET": ("versions", "show")},
    "/v2.1/servers": {"GET": ("servers", "index"), "POST": ("servers_create", "create")},
    "/v2.1/servers/detail": {"GET": ("servers", "detail")},
    "/v2.1/servers/{server_id}": {
        "GET": ("servers", "show"),
        "PUT": ("servers_change", "update"),
        "DELETE": ("servers_change", "delete"),
    },
    "/v2.1/servers/{server_id}/action": {"POST": ("servers", "action")},
    "/v2.1/servers/{server_id}/os-instance-actions": {"GET": ("instance_actions", "index")},
    "/v2.1/servers/{server_id}/os-instance-actions/{request_id}": {
        "GET": ("instance_actions", "show")
    },
    "/v2.1/servers/{server_id}/metadata": {
        "GET": ("server_metadata", "index"),
        "POST": ("server_metadata", "create"),
        "PUT": ("server_metadata", "update_all"),
    },
    "/v2.1/servers/{server_id}/metadata/{key}": {
        "GET": ("server_metadata", "show"),
        "PUT": ("server_metadata", "update"),
        "DELETE": ("server_metadata", "delete"),
    },
    "/v2.1/flavors": {"GET": ("flavors", "index"), "POST": ("flavors", "create")},
    "/v2.1/flavors/detail": {"GET": ("flavors", "detail")},
    "/v2.1/flavors/{flavor_id}": {
        "GET": ("flavors", "show"),
        "PUT": ("flavors", "update"),
        "DELETE": ("flavors", "delete"),
    },
    "/v2.1/flavors/{flavor_id}/os-extra_specs": {
        "GET": ("flavor_extra_specs", "index"),
        "POST": ("flavor_extra_specs", "create"),
    },
    "/v2.1/flavors/{flavor_id}/os-extra_specs/{key}": {
        "GET": ("flavor_extra_specs", "show"),
        "PUT": ("flavor_extra_specs", "update"),
        "DELETE": ("flavor_extra_specs", "delete"),
    },
    "/v2.1/flavors/{flavor_id}/os-flavor-access": {"GET": ("flavor_extra_specs", "access")},
    "/v2.1/os-services": {"GET": ("services", "index")},
    "/v2.1/os-services/{service_id}": {
        "PUT": ("services", "update"),
        "DELETE": ("services", "delete"),
    },
    "/v2.1/os-hypervisors": {"GET": ("hypervisors", "index")},
    "/v2.1/os-hypervisors/detail": {"GET": ("hypervisors", "detail")},
    "/v2.1/os-hypervisors/statistics": {"GET": ("hypervisors", "statistics")},
    "/v2.1/os-hypervisors/{hypervisor_id}": {"GET": ("hypervisors", "show")},
    "/v2.1/os-hypervisors/{hypervisor_id}/uptime": {"GET": ("hypervisors", "uptime")},
    "/v2.1/os-hypervisors/{hypervisor_id}/search": {"GET": ("hypervisors", "search")},
    "/v2.1/os-hypervisors/{hypervisor_id}/servers": {"GET": ("hypervisors", "servers")},
    "/v2.1/os-availability-zone": {"GET": ("availability_zone", "index")},
    "/v2.1/os-availability-zone/detail": {"GET": ("availability_zone", "detail")},
    "/v2.1/images": {"GET": ("images", "index")},
    "/v2.1/images/detail": {"GET": ("images", "detail")},
    "/v2.1/images/{image_id}": {"GET": ("images", "show"), "DELETE": ("images", "delete")},
    "/v2.1/images/{image_id}/metadata": {
        "GET": ("image_metadata", "index"),
        "POST": ("image_metadata", "create"),
        "PUT": ("image_metadata", "update_all"),
    },
    "/v2.1/images/{image_id}/metadata/{key}": {
        "GET": ("image_metadata", "show"),
        "PUT": ("image_metadata", "update"),
        "DELETE": ("image_metadata", "delete"),
    },
    "/v2.1/limits": {"GET": ("limits", "index")},
    "/v2.1/os-quota-sets/{project_id}": {"GET": ("quota_sets", "show")},
    "/v2.1/os-quota-sets/{project_id}/defaults": {"GET": ("quota_sets", "defaults")},
    "/v2.1/os-quota-sets/{project_id}/detail": {"GET": ("quota_sets", "detail")},
    "/v2.1/os-aggregates": {"GET": ("aggregates", "index")},
    "/v2.1/extensions": {"GET": ("extensions", "index")},
    "/v2.1/extensions/{alias}": {"GET": ("extensions", "show")},
}

# template: the last microversion 2.x that has it. The others have no end.
LAST_MINOR: Final[Mapping[str, int]] = {
    "/v2.1/images": 35,
    "/v2.1/images/detail": 35,
    "/v2.1/images/{image_id}": 35,
    "/v2.1/images/{image_id}/metadata": 38,
    "/v2.1/images/{image_id}/metadata/{key}": 38,
    "/v2.1/os-hypervisors/statistics": 87,
    "/v2.1/os-hypervisors/{hypervisor_id}/uptime": 87,
    "/v2.1/os-hypervisors/{hypervisor_id}/search": 52,
    "/v2.1/os-hypervisors/{hypervisor_id}/servers": 52,
}

# Actions of Nova's that there are not here. Others are none at all.
_UNSUPPORTED_ACTIONS: Final = (
    *("addFixedIp", "addFloatingIp", "addSecurityGroup", "changePassword", "confirmResize"),
    *("evacuate", "injectNetworkInfo", "lock", "migrate", "os-getRDPConsole"),
    *("os-getSPICEConsole", "os-getSerialConsole", "os-getVNCConsole", "os-migrateLive"),
    *("os-resetNetwork", "rebuild", "removeFixedIp", "removeFloatingIp", "removeSecurityGroup"),
    *("rescue", "resize", "revertResize", "shelve", "shelveOffload", "trigger_crash_dump"),
    *("unlock", "unrescue", "unshelve"),
)

# action's name in the body: (controller, its method)
ACTIONS: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(_UNSUPPORTED_ACTIONS, ("server_actions", "unsupported")),
    "createBackup": ("create_backup", "create_backup"),
    "createImage": ("servers", "_action_create_image"),
    "forceDelete": ("server_actions", "force_delete"),
    "os-getConsoleOutput": ("server_actions", "console_output"),
    "os-resetState": ("server_actions", "reset_state"),
    "os-start": ("server_actions", "start"),
    "os-stop": ("server_actions", "stop"),
    "pause": ("server_actions", "pause"),
    "reboot": ("server_actions", "reboot"),
    "restore": ("server_actions", "restore"),
    "resume": ("server_actions", "resume"),
    "suspend": ("server_actions", "suspend"),
    "unpause": ("server_actions", "unpause"),
}

# Nobody needs to say who he is to see these.
PUBLIC_PATHS: Final = frozenset({"/", "/v2.1", "/v2.1/"})

# Microversions are of the API below a version, not of the list of versions.
UNVERSIONED_PATHS: Final = frozenset({"/"})


@dataclasses.dataclass(frozen=True)
class Match:
    """Where a path leads.

    :ivar template: the key in :data:`ROUTES`.
    :ivar project_id: what the path has in front of the resource; ``None`` if it has nothing.
    """

    template: str
    methods: Mapping[str, tuple[str, str]]
    parameters: Mapping[str, str]
    project_id: str | None

    def ended_before(self, minor: int) -> bool:
        """Whether 2.``minor`` has it no more."""
        return minor > LAST_MINOR.get(self.template, minor)


def match(path: str) -> Match | None:
    """The route of a path, not quoted; ``None`` if there is none."""
    if path in ROUTES:
        return Match(path, ROUTES[path], {}, None)
    parts = path.split("/")
    found = _match(parts, None)
    # ["", "v2.1", project, resource, ...]
    if found is None and len(parts) > 3 and parts[2]:
        found = _match([*parts[:2], *parts[3:]], parts[2])
    return found


def _match(parts: list[str], project_id: str | None) -> Match | None:
    for template, methods in ROUTES.items():
        if template in PUBLIC_PATHS:
            continue
        parameters = _parameters(template.split("/"), parts)
        if parameters is not None:
            return Match(template, methods, parameters, project_id)
    return None


def _parameters(template: list[str], parts: list[str]) -> dict[str, str] | None:
    """What the template's placeholders stand for; ``None`` if the path is another one."""
    if len(template) != len(parts):
        return None
    found: dict[str, str] = {}
    for expected, part in zip(template, parts, strict=True):
        if expected.startswith("{") and part:
            found[expected[1:-1]] = part
        elif expected != part:
            return None
    return found


def allowed_methods(methods: Mapping[str, Any]) -> set[str]:
    """What may be said to a resource, with what every resource understands."""
    return {*methods, "OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
