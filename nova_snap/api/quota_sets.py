# SPDX-License-Identifier: Apache-2.0
"""Quotas: the same for every project, from ``[quota]``, and only to be looked at."""

from typing import Any, Final

import webob
from oslo_config import cfg

from nova_snap.api import policies
from nova_snap.api.policies import quota_sets as rules
from nova_snap.api.schemas import quota_sets as schema
from nova_snap.api.validation import check_query
from nova_snap.api.wsgi import Request, json_response
from nova_snap.objects.quota import Usage

UNLIMITED: Final = -1

_CONFIGURED: Final = ("instances", "cores", "ram", "metadata_items")
# What the network service counts; of everything else there can be none here.
_ELSEWHERE: Final = ("fixed_ips", "floating_ips", "security_groups", "security_group_rules")


class Controller:
    """``/os-quota-sets/{project_id}``."""

    def __init__(self, conf: cfg.ConfigOpts, enforcer: policies.Enforcer) -> None:
        self._conf = conf
        self._enforcer = enforcer

    def show(self, request: Request, project_id: str) -> webob.Response:
        """``GET /os-quota-sets/{project_id}``."""
        self._check(request, rules.SHOW, project_id)
        return _answer(project_id, self._limits(request))

    def defaults(self, request: Request, project_id: str) -> webob.Response:
        """``GET /os-quota-sets/{project_id}/defaults``."""
        self._check(request, rules.DEFAULTS, project_id)
        return _answer(project_id, self._limits(request))

    def detail(self, request: Request, project_id: str) -> webob.Response:
        """``GET /os-quota-sets/{project_id}/detail``."""
        self._check(request, rules.DETAIL, project_id)
        usage = Usage.of_project(request.context, project_id)
        used = {"instances": usage.instances, "cores": usage.cores, "ram": usage.ram}
        shown = {
            name: {"limit": limit, "in_use": used.get(name, 0), "reserved": 0}
            for name, limit in self._limits(request).items()
        }
        return _answer(project_id, shown)

    def _check(self, request: Request, rule: str, project_id: str) -> None:
        target = {"project_id": project_id, "user_id": request.context.user_id}
        self._enforcer.authorize(request.context, rule, target)
        check_query(request.query(), schema.query(request.microversion))

    def _limits(self, request: Request) -> dict[str, int]:
        limits = dict.fromkeys(schema.names(request.microversion), 0)
        for name in limits:
            if name in _CONFIGURED:
                limits[name] = self._conf.quota[name]
            elif name in _ELSEWHERE:
                limits[name] = UNLIMITED
        return limits


def _answer(project_id: str, limits: dict[str, Any]) -> webob.Response:
    return json_response({"quota_set": {"id": project_id, **limits}})
