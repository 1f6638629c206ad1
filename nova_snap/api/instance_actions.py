# SPDX-License-Identifier: Apache-2.0
"""What was done to a server, by whom, and what became of it."""

import datetime
from typing import Any

import webob
from oslo_utils import timeutils, uuidutils

from nova_snap import exception
from nova_snap.api import errors, text
from nova_snap.api.policies import instance_actions as rules
from nova_snap.api.schemas import instance_actions as schema
from nova_snap.api.server_base import ServerController
from nova_snap.api.validation import check_query
from nova_snap.api.views import instance_actions as views
from nova_snap.api.wsgi import Request, json_response
from nova_snap.context import RequestContext
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction

Query = dict[str, list[str]]


class Controller(ServerController):
    """``/servers/{server_id}/os-instance-actions``."""

    def index(self, request: Request, server_id: str) -> webob.Response:
        """``GET /servers/{server_id}/os-instance-actions``."""
        query = request.query()
        check_query(query, schema.list_query(request.microversion))
        instance = self._find(request, server_id, rules.LIST)
        builder = views.ViewBuilder(request.microversion)
        if not request.microversion.at_least(58):
            actions = InstanceAction.get_by_instance_uuid(request.context, instance.uuid)
            return json_response({"instanceActions": [builder.action(each) for each in actions]})
        limit = self._limit(query)
        actions = _page(request.context, instance, query, limit)
        body: dict[str, Any] = {"instanceActions": [builder.action(each) for each in actions]}
        if limit and len(actions) == limit:
            path = f"servers/{instance.uuid}/os-instance-actions"
            body["links"] = self._links(request).next_page(path, actions[-1].request_id)
        return json_response(body)

    def show(self, request: Request, server_id: str, request_id: str) -> webob.Response:
        """``GET /servers/{server_id}/os-instance-actions/{request_id}``."""
        context = request.context
        instance = self._find(request, server_id, rules.SHOW)
        action = InstanceAction.get_by_request_id(context, instance.uuid, request_id)
        if action is None:
            raise exception.InstanceActionNotFound(request_id=text.shorten(request_id))
        target = {"project_id": instance.project_id}
        visible = views.Visibility(
            events=self._enforcer.allows(context, rules.EVENTS, target),
            details=self._enforcer.allows(context, rules.EVENTS_DETAILS, target),
        )
        builder = views.ViewBuilder(request.microversion)
        view = builder.action(action)
        if builder.shows_events(visible):
            project_id = action.project_id or instance.project_id
            view["events"] = [
                builder.event(event, project_id, visible) for event in action.events(context)
            ]
        return json_response({"instanceAction": view})

    def _find(self, request: Request, server_id: str, rule: str) -> Instance:
        """The instance, for those whom the rule lets; from 2.21 on a deleted one, too."""
        if not request.microversion.at_least(21):
            return self._authorized_server(request.context, server_id, rule)
        if not uuidutils.is_uuid_like(server_id):
            raise exception.InstanceNotFound(instance_id=text.shorten(server_id))
        instance = Instance.get_by_uuid(request.context, server_id, read_deleted=True)
        self._enforcer.authorize(request.context, rule, {"project_id": instance.project_id})
        return instance

    def _limit(self, query: Query) -> int:
        longest: int = self._conf.api.max_limit
        return min(int(query["limit"][0]), longest) if "limit" in query else longest


def _page(
    context: RequestContext, instance: Instance, query: Query, limit: int
) -> list[InstanceAction]:
    since, before = _time(query, "changes-since"), _time(query, "changes-before")
    if since is not None and before is not None and before < since:
        raise errors.ValidationError(
            reason="The value of changes-since must be less than or equal to changes-before."
        )
    return InstanceAction.get_by_instance_uuid(
        context,
        instance.uuid,
        limit=limit,
        marker=query["marker"][0] if "marker" in query else None,
        changes_since=since,
        changes_before=before,
    )


def _time(query: Query, name: str) -> datetime.datetime | None:
    if name not in query:
        return None
    # The schema has seen to it that this is a time.
    moment: datetime.datetime = timeutils.normalize_time(timeutils.parse_isotime(query[name][0]))
    return moment
