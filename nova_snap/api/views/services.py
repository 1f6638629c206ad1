# SPDX-License-Identifier: Apache-2.0
"""Services as clients see them, by microversion."""

from typing import Any

from oslo_config import cfg

from nova_snap.api.microversion import Microversion
from nova_snap.objects.service import Service

View = dict[str, Any]


def status_of(service: Service) -> str:
    """Nova's word for whether it gets new instances."""
    return "disabled" if service.disabled else "enabled"


def state_of(service: Service, down_time: float) -> str:
    """Nova's word for whether it is alive."""
    return "up" if service.is_up(down_time) else "down"


class ViewBuilder:
    """Makes the views of one request."""

    def __init__(self, conf: cfg.ConfigOpts, version: Microversion) -> None:
        self._conf = conf
        self._version = version

    def full(self, service: Service) -> View:
        """What ``/os-services`` shows."""
        seen = service.last_seen_up or service.updated_at
        view: View = {
            "id": service.uuid if self._version.at_least(53) else service.id,
            "binary": service.binary,
            "host": service.host,
            "zone": self._conf.default_availability_zone,
            "status": status_of(service),
            "state": state_of(service, self._conf.service_down_time),
            # Without a zone, as Nova shows it: clients parse it so.
            "updated_at": None if seen is None else seen.strftime("%Y-%m-%dT%H:%M:%S.%f"),
            "disabled_reason": service.disabled_reason,
        }
        if self._version.at_least(11):
            view["forced_down"] = service.forced_down
        return view
