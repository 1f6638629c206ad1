# SPDX-License-Identifier: Apache-2.0
"""How much a project may have, and how much of that it uses."""

from typing import Final

import webob
from oslo_config import cfg

from nova_snap.api import policies
from nova_snap.api.policies import limits as rules
from nova_snap.api.schemas import limits as schema
from nova_snap.api.validation import check_query
from nova_snap.api.wsgi import Request, json_response
from nova_snap.objects.quota import Usage

UNLIMITED: Final = -1
NONE: Final = 0

# What has no limit here, or of which a project can have nothing here.
_CONSTANTS: Final = {
    "maxTotalKeypairs": NONE,
    "maxServerGroups": NONE,
    "maxServerGroupMembers": NONE,
    "totalServerGroupsUsed": NONE,
}
# Up to 2.35, and all of it is the network service's.
_NETWORK: Final = {
    "maxTotalFloatingIps": UNLIMITED,
    "totalFloatingIpsUsed": NONE,
    "maxSecurityGroups": UNLIMITED,
    "totalSecurityGroupsUsed": NONE,
    "maxSecurityGroupRules": UNLIMITED,
}
# Up to 2.56: files that are put into a new server.
_PERSONALITY: Final = {"maxPersonality": NONE, "maxPersonalitySize": NONE}


class Controller:
    """``/limits``."""

    def __init__(self, conf: cfg.ConfigOpts, enforcer: policies.Enforcer) -> None:
        self._conf = conf
        self._enforcer = enforcer

    def index(self, request: Request) -> webob.Response:
        """``GET /limits``."""
        context = request.context
        self._enforcer.authorize(context, rules.LIMITS)
        query = request.query()
        version = request.microversion
        check_query(query, schema.query(version))
        project_id = context.project_id or ""
        if "tenant_id" in query:
            project_id = query["tenant_id"][-1]
            target = {"project_id": project_id, "user_id": context.user_id}
            self._enforcer.authorize(context, rules.OTHER_PROJECT, target)
        absolute = {**_CONSTANTS, **self._own(), **_used(Usage.of_project(context, project_id))}
        if not version.at_least(36):
            absolute.update(_NETWORK)
        if not version.at_least(39):
            absolute["maxImageMeta"] = self._conf.quota.metadata_items
        if not version.at_least(57):
            absolute.update(_PERSONALITY)
        return json_response({"limits": {"rate": [], "absolute": absolute}})

    def _own(self) -> dict[str, int]:
        quota = self._conf.quota
        return {
            "maxServerMeta": quota.metadata_items,
            "maxTotalInstances": quota.instances,
            "maxTotalCores": quota.cores,
            "maxTotalRAMSize": quota.ram,
        }


def _used(usage: Usage) -> dict[str, int]:
    return {
        "totalInstancesUsed": usage.instances,
        "totalCoresUsed": usage.cores,
        "totalRAMUsed": usage.ram,
    }
