# SPDX-License-Identifier: Apache-2.0
"""New servers."""

import secrets
import string
from collections.abc import Mapping
from typing import Any, Final

import webob
from oslo_config import cfg

from nova_snap.api import new_server, policies
from nova_snap.api.policies import servers as rules
from nova_snap.api.schemas import server_create as schema
from nova_snap.api.server_base import ServerController
from nova_snap.api.validation import check_body
from nova_snap.api.wsgi import Request, json_response
from nova_snap.compute.lifecycle_api import LifecycleAPI

_PASSWORD_LENGTH: Final = 12
_LOOK_ALIKE: Final = "0O1Il"


class Controller(ServerController):
    """``POST /servers``."""

    def __init__(
        self, conf: cfg.ConfigOpts, lifecycle_api: LifecycleAPI, enforcer: policies.Enforcer
    ) -> None:
        super().__init__(conf, enforcer)
        self._lifecycle_api = lifecycle_api

    def create(self, request: Request, body: Mapping[str, Any]) -> webob.Response:
        """``POST /servers``."""
        context = request.context
        check_body(body, schema.create(request.microversion))
        self._enforcer.authorize(context, rules.CREATE)
        wanted = new_server.parse(context, body, self._conf, self._enforcer)
        instances, reservation_id = self._lifecycle_api.create(context, wanted)
        if wanted.return_reservation_id:
            return json_response({"reservation_id": reservation_id}, status=202)
        server = self._view_builder(request).create(instances[0])
        server["security_groups"] = new_server.security_groups(body["server"])
        server["adminPass"] = body["server"].get("adminPass") or _password()
        response = json_response({"server": server}, status=202)
        response.headers["Location"] = server["links"][0]["href"]
        return response


def _password() -> str:
    """Nova answers with one even where, as here, nothing in the guest will ever know it."""
    symbols = [
        symbol for symbol in string.ascii_letters + string.digits if symbol not in _LOOK_ALIKE
    ]
    return "".join(secrets.choice(symbols) for _ in range(_PASSWORD_LENGTH))
