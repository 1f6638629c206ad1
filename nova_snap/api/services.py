# SPDX-License-Identifier: Apache-2.0
"""Services: which there are, which are up, and which get new instances."""

from collections.abc import Mapping
from typing import Any, Final

import webob
from oslo_config import cfg
from oslo_utils import strutils, uuidutils

from nova_snap import exception
from nova_snap.api import errors, policies, text
from nova_snap.api.policies import services as rules
from nova_snap.api.schemas import services as schema
from nova_snap.api.validation import check_body, check_query
from nova_snap.api.views.services import ViewBuilder, status_of
from nova_snap.api.wsgi import Request, empty_response, json_response
from nova_snap.context import RequestContext
from nova_snap.objects.instance import InstanceFilters, InstanceList
from nova_snap.objects.service import Service

# What the last part of the path of a PUT may be below 2.53, and from which version on.
_ACTIONS: Final = {
    "enable": (1, schema.ENABLE),
    "disable": (1, schema.ENABLE),
    "disable-log-reason": (1, schema.DISABLE_LOG_REASON),
    "force-down": (11, schema.FORCE_DOWN),
}


class Controller:
    """``/os-services``."""

    def __init__(self, conf: cfg.ConfigOpts, enforcer: policies.Enforcer) -> None:
        self._conf = conf
        self._enforcer = enforcer

    def index(self, request: Request) -> webob.Response:
        """``GET /os-services``."""
        self._enforcer.authorize(request.context, rules.LIST)
        query = request.query()
        check_query(query, schema.list_query(request.microversion))
        wanted = {name: query[name][-1] for name in ("host", "binary") if name in query}
        view = self._views(request)
        found = Service.get_all(request.context, **wanted)
        return json_response({"services": [view.full(service) for service in found]})

    def update(self, request: Request, service_id: str, body: Mapping[str, Any]) -> webob.Response:
        """``PUT /os-services/{service_id}``; below 2.53 ``/enable`` and its like."""
        self._enforcer.authorize(request.context, rules.UPDATE)
        if request.microversion.at_least(53):
            return self._update(request, service_id, body)
        since, body_schema = _ACTIONS.get(service_id, (1000, {}))
        if not request.microversion.at_least(since):
            raise errors.NoSuchResource()
        check_body(body, body_schema)
        return self._act(request.context, service_id, body)

    def delete(self, request: Request, service_id: str) -> webob.Response:
        """``DELETE /os-services/{service_id}``."""
        self._enforcer.authorize(request.context, rules.DELETE)
        context = request.context
        if request.microversion.at_least(53):
            service = Service.get_by_uuid(context, _uuid(service_id))
        else:
            service = Service.get_by_id(context, _number(service_id))
        on_host = InstanceFilters(host=service.host)
        if InstanceList.get_by_filters(context, on_host, limit=1):
            raise exception.ServiceHasInstances(host=service.host)
        service.destroy(context)
        return empty_response(204)

    def _update(self, request: Request, service_id: str, body: Mapping[str, Any]) -> webob.Response:
        """2.53 and later: one service, by its uuid, and everything in one body."""
        check_body(body, schema.UPDATE_2_53)
        _check_update(body)
        context = request.context
        service = Service.get_by_uuid(context, _uuid(service_id))
        if "status" in body:
            service.disabled = body["status"] == "disabled"
            service.disabled_reason = body.get("disabled_reason")
        if "forced_down" in body:
            service.forced_down = strutils.bool_from_string(body["forced_down"], strict=True)
        service.save(context)
        return json_response({"service": self._views(request).full(service)})

    def _act(self, context: RequestContext, action: str, body: Mapping[str, Any]) -> webob.Response:
        service = Service.get_by_host(context, body["host"], body["binary"])
        shown: dict[str, Any] = {"host": service.host, "binary": service.binary}
        if action == "force-down":
            given = body.get("forced_down", False)
            service.forced_down = strutils.bool_from_string(given, strict=True)
            shown["forced_down"] = service.forced_down
        else:
            service.disabled = action != "enable"
            service.disabled_reason = body.get("disabled_reason")
            shown["status"] = status_of(service)
            if service.disabled_reason is not None:
                shown["disabled_reason"] = service.disabled_reason
        service.save(context)
        return json_response({"service": shown})

    def _views(self, request: Request) -> ViewBuilder:
        return ViewBuilder(self._conf, request.microversion)


def _check_update(body: Mapping[str, Any]) -> None:
    """What the schema cannot say of a body."""
    if "disabled_reason" in body and body.get("status") != "disabled":
        raise errors.ValidationError(
            reason="Specifying 'disabled_reason' requires that 'status' is 'disabled'."
        )
    if not body:
        raise errors.ValidationError(
            reason="No updates were requested: the body has neither 'status' nor 'forced_down'."
        )


def _uuid(given: str) -> str:
    if not uuidutils.is_uuid_like(given):
        raise errors.ValidationError(reason=f"Invalid uuid {text.shorten(given)}")
    return given


def _number(given: str) -> int:
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        raise errors.ValidationError(
            reason=f"Invalid service id {text.shorten(given)}: below 2.53 it is a number."
        )
    return int(given)
