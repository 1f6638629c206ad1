# SPDX-License-Identifier: Apache-2.0
"""Changing what a server is called, and deleting it."""

from collections.abc import Mapping
from typing import Any, Final

import webob
from oslo_config import cfg

from nova_snap.api import policies, text
from nova_snap.api.policies import servers as rules
from nova_snap.api.schemas import server_update as schema
from nova_snap.api.server_base import ServerController
from nova_snap.api.validation import check_body
from nova_snap.api.wsgi import Request, empty_response, json_response
from nova_snap.compute.lifecycle_api import LifecycleAPI

# What the body calls it, and what it is called in here.
_NAMES: Final[Mapping[str, str]] = {
    "name": "display_name",
    "description": "display_description",
    "hostname": "hostname",
    "accessIPv4": "access_ip_v4",
    "accessIPv6": "access_ip_v6",
}
_ADDRESSES: Final = frozenset({"access_ip_v4", "access_ip_v6"})
_DISK_CONFIG: Final = "OS-DCF:diskConfig"


class Controller(ServerController):
    """``PUT`` and ``DELETE /servers/{server_id}``."""

    def __init__(
        self, conf: cfg.ConfigOpts, lifecycle_api: LifecycleAPI, enforcer: policies.Enforcer
    ) -> None:
        super().__init__(conf, enforcer)
        self._lifecycle_api = lifecycle_api

    def update(self, request: Request, server_id: str, body: Mapping[str, Any]) -> webob.Response:
        """``PUT /servers/{server_id}``."""
        check_body(body, schema.update(request.microversion))
        context = request.context
        instance = self._authorized_server(context, server_id, rules.UPDATE)
        given = body["server"]
        changes: dict[str, Any] = {
            ours: given[name] for name, ours in _NAMES.items() if name in given
        }
        for name in _ADDRESSES & changes.keys():
            changes[name] = text.canonical_address(changes[name])
        if _DISK_CONFIG in given:
            changes["auto_disk_config"] = given[_DISK_CONFIG] == "AUTO"
        self._lifecycle_api.update(context, instance, **changes)
        visible = self._visible(context, {"project_id": instance.project_id})
        instance.refresh()
        (shown,) = self._with_related(context, [instance], visible)
        return json_response({"server": self._view_builder(request).update(shown, visible)})

    def delete(self, request: Request, server_id: str) -> webob.Response:
        """``DELETE /servers/{server_id}``."""
        instance = self._authorized_server(request.context, server_id, rules.DELETE)
        self._lifecycle_api.delete(request.context, instance)
        return empty_response(204)
