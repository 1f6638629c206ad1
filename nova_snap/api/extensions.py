# SPDX-License-Identifier: Apache-2.0
"""The parts of the API that were extensions once.

Old clients ask for them before they use one. Only what nova_snap serves is in the list.
"""

from typing import Any, Final

import webob

from nova_snap.api import errors, policies
from nova_snap.api.policies import extensions as rules
from nova_snap.api.wsgi import Request, json_response

# alias: (name, description)
_EXTENSIONS: Final = {
    "flavors": ("Flavors", "Sizes of servers."),
    "image-metadata": ("ImageMetadata", "Properties of images (up to 2.38)."),
    "image-size": ("ImageSize", "The size of an image's data (up to 2.35)."),
    "images": ("Images", "Images (up to 2.35)."),
    "limits": ("Limits", "What a project may have, and what it uses."),
    "os-admin-actions": ("AdminActions", "Reset the state of a server."),
    "os-availability-zone": ("AvailabilityZone", "Availability zones."),
    "os-console-output": ("ConsoleOutput", "What a server has written to its console."),
    "os-create-backup": ("CreateBackup", "Images of servers, of which the oldest go."),
    "os-extended-availability-zone": ("ExtendedAvailabilityZone", "The zone of a server."),
    "os-extended-server-attributes": ("ExtendedServerAttributes", "The host of a server."),
    "os-extended-status": ("ExtendedStatus", "States of a server in detail."),
    "os-extended-volumes": ("ExtendedVolumes", "The volumes of a server."),
    "os-flavor-access": ("FlavorAccess", "Who may use a flavor."),
    "os-flavor-extra-specs": ("FlavorExtraSpecs", "More of what a flavor asks for."),
    "os-flavor-manage": ("FlavorManage", "Make and delete flavors."),
    "os-aggregates": ("Aggregates", "Host aggregates: there are none."),
    "os-hypervisors": ("Hypervisors", "What the compute hosts have."),
    "os-instance-actions": ("InstanceActions", "What was asked of a server, and its end."),
    "os-pause-server": ("PauseServer", "Pause and unpause a server."),
    "os-quota-sets": ("Quotas", "What a project may have."),
    "os-server-usage": ("ServerUsage", "When a server was launched and ended."),
    "os-services": ("Services", "Which services there are and which are up."),
    "os-suspend-server": ("SuspendServer", "Suspend a server to disk and resume it."),
    "server-metadata": ("ServerMetadata", "Metadata of servers."),
    "servers": ("Servers", "Servers."),
    "versions": ("Versions", "Versions of the API."),
}

# Both are the same for every extension since they all became parts of the API.
_UPDATED: Final = "2014-12-03T00:00:00Z"
_NAMESPACE: Final = "http://docs.openstack.org/compute/ext/fake_xml"


class Controller:
    """``/extensions``."""

    def __init__(self, enforcer: policies.Enforcer) -> None:
        self._enforcer = enforcer

    def index(self, request: Request) -> webob.Response:
        """``GET /extensions``."""
        self._enforcer.authorize(request.context, rules.EXTENSIONS)
        return json_response({"extensions": [_view(alias) for alias in sorted(_EXTENSIONS)]})

    def show(self, request: Request, alias: str) -> webob.Response:
        """``GET /extensions/{alias}``."""
        self._enforcer.authorize(request.context, rules.EXTENSIONS)
        if alias not in _EXTENSIONS:
            raise errors.NoSuchResource()
        return json_response({"extension": _view(alias)})


def _view(alias: str) -> dict[str, Any]:
    name, description = _EXTENSIONS[alias]
    return {
        "alias": alias,
        "name": name,
        "description": description,
        "namespace": _NAMESPACE,
        "updated": _UPDATED,
        "links": [],
    }
