# SPDX-License-Identifier: Apache-2.0
"""Availability zones: there is one, and every compute host is in it."""

from typing import Any

import webob
from oslo_config import cfg

from nova_snap.api import policies
from nova_snap.api.policies import availability_zone as rules
from nova_snap.api.wsgi import Request, json_response
from nova_snap.objects.service import Service


class Controller:
    """``/os-availability-zone``."""

    def __init__(self, conf: cfg.ConfigOpts, enforcer: policies.Enforcer) -> None:
        self._conf = conf
        self._enforcer = enforcer

    def index(self, request: Request) -> webob.Response:
        """``GET /os-availability-zone``."""
        self._enforcer.authorize(request.context, rules.LIST)
        return self._answer(request, detailed=False)

    def detail(self, request: Request) -> webob.Response:
        """``GET /os-availability-zone/detail``."""
        self._enforcer.authorize(request.context, rules.DETAIL)
        return self._answer(request, detailed=True)

    def _answer(self, request: Request, *, detailed: bool) -> webob.Response:
        services = Service.get_all(request.context)
        hosts: dict[str, dict[str, Any]] = {}
        for service in services:
            hosts.setdefault(service.host, {})[service.binary] = self._view(service)
        zones = []
        if services:
            available = any(not service.disabled for service in services)
            zones = [
                {
                    "zoneName": self._conf.default_availability_zone,
                    "zoneState": {"available": available},
                    "hosts": hosts if detailed else None,
                }
            ]
        return json_response({"availabilityZoneInfo": zones})

    def _view(self, service: Service) -> dict[str, Any]:
        seen = service.last_seen_up
        return {
            "active": not service.disabled,
            "available": service.is_up(self._conf.service_down_time),
            "updated_at": None if seen is None else seen.strftime("%Y-%m-%dT%H:%M:%S.%f"),
        }
