# SPDX-License-Identifier: Apache-2.0
"""Host aggregates: there are none, and clients that show a hypervisor ask for them."""

import webob

from nova_snap.api import policies
from nova_snap.api.policies import aggregates as rules
from nova_snap.api.wsgi import Request, json_response


class Controller:
    """``/os-aggregates``."""

    def __init__(self, enforcer: policies.Enforcer) -> None:
        self._enforcer = enforcer

    def index(self, request: Request) -> webob.Response:
        """``GET /os-aggregates``."""
        self._enforcer.authorize(request.context, rules.INDEX)
        return json_response({"aggregates": []})
