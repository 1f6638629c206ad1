# SPDX-License-Identifier: Apache-2.0
"""What may be done to a server that there is: ``POST /servers/{server_id}/action``."""

from collections.abc import Callable, Mapping
from typing import Any

import webob
from oslo_config import cfg

from nova_snap import exception
from nova_snap.api import errors, policies
from nova_snap.api.policies import server_actions as rules
from nova_snap.api.schemas import server_actions as schema
from nova_snap.api.server_base import ServerController
from nova_snap.api.validation import check_body
from nova_snap.api.wsgi import Request, empty_response, json_response
from nova_snap.compute.lifecycle_api import LifecycleAPI
from nova_snap.context import RequestContext
from nova_snap.objects.instance import Instance

Body = Mapping[str, Any]


class Controller(ServerController):
    """Actions beside those that make images."""

    def __init__(
        self, conf: cfg.ConfigOpts, lifecycle_api: LifecycleAPI, enforcer: policies.Enforcer
    ) -> None:
        super().__init__(conf, enforcer)
        self._lifecycle_api = lifecycle_api

    # -- switching: these take any value, as in Nova ---------------------------------------

    def start(self, request: Request, server_id: str, body: Body) -> webob.Response:  # noqa: ARG002
        """``os-start``."""
        return self._simply(request, server_id, rules.START, self._lifecycle_api.start)

    def stop(self, request: Request, server_id: str, body: Body) -> webob.Response:  # noqa: ARG002
        """``os-stop``."""
        return self._simply(request, server_id, rules.STOP, self._lifecycle_api.stop)

    def pause(self, request: Request, server_id: str, body: Body) -> webob.Response:  # noqa: ARG002
        """``pause``."""
        return self._simply(request, server_id, rules.PAUSE, self._lifecycle_api.pause)

    def unpause(self, request: Request, server_id: str, body: Body) -> webob.Response:  # noqa: ARG002
        """``unpause``."""
        return self._simply(request, server_id, rules.UNPAUSE, self._lifecycle_api.unpause)

    def suspend(self, request: Request, server_id: str, body: Body) -> webob.Response:  # noqa: ARG002
        """``suspend``."""
        return self._simply(request, server_id, rules.SUSPEND, self._lifecycle_api.suspend)

    def resume(self, request: Request, server_id: str, body: Body) -> webob.Response:  # noqa: ARG002
        """``resume``."""
        return self._simply(request, server_id, rules.RESUME, self._lifecycle_api.resume)

    def reboot(self, request: Request, server_id: str, body: Body) -> webob.Response:
        """``reboot``, ``SOFT`` or ``HARD``."""
        check_body(body, schema.REBOOT)
        instance = self._authorized_server(request.context, server_id, rules.REBOOT)
        self._lifecycle_api.reboot(request.context, instance, body["reboot"]["type"].upper())
        return empty_response(202)

    # -- the rest --------------------------------------------------------------------------

    def reset_state(self, request: Request, server_id: str, body: Body) -> webob.Response:
        """``os-resetState``."""
        check_body(body, schema.RESET_STATE)
        instance = self._authorized_server(request.context, server_id, rules.RESET_STATE)
        state = body["os-resetState"]["state"]
        self._lifecycle_api.reset_state(request.context, instance, state)
        return empty_response(202)

    def console_output(self, request: Request, server_id: str, body: Body) -> webob.Response:
        """``os-getConsoleOutput``."""
        check_body(body, schema.CONSOLE_OUTPUT)
        instance = self._authorized_server(request.context, server_id, rules.CONSOLE_OUTPUT)
        given = body["os-getConsoleOutput"].get("length")
        length = None if given is None or int(given) < 0 else int(given)
        output = self._lifecycle_api.get_console_output(request.context, instance, length)
        return json_response({"output": output})

    def force_delete(self, request: Request, server_id: str, body: Body) -> webob.Response:  # noqa: ARG002
        """``forceDelete``: nothing here is deleted in any other way."""
        return self._simply(request, server_id, rules.FORCE_DELETE, self._lifecycle_api.delete)

    def restore(self, request: Request, server_id: str, body: Body) -> webob.Response:  # noqa: ARG002
        """``restore``: what is deleted is gone, and what is not cannot be restored."""
        instance = self._authorized_server(request.context, server_id, rules.RESTORE)
        raise exception.InstanceInvalidState(
            instance_uuid=instance.uuid, attr="vm_state", state=instance.vm_state, method="restore"
        )

    def unsupported(self, request: Request, server_id: str, body: Body) -> webob.Response:
        """An action of Nova's that there is not here; that there is no such server comes first."""
        self._get_server(request.context, server_id)
        (name,) = body
        raise errors.MalformedRequest(reason=f"The action {name} is not supported.")

    # -- helpers ---------------------------------------------------------------------------

    def _simply(
        self,
        request: Request,
        server_id: str,
        rule: str,
        do: Callable[[RequestContext, Instance], None],
    ) -> webob.Response:
        instance = self._authorized_server(request.context, server_id, rule)
        do(request.context, instance)
        return empty_response(202)
