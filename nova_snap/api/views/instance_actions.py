# SPDX-License-Identifier: Apache-2.0
"""What was done to a server, as clients see it, by microversion."""

import dataclasses
import datetime
from typing import Any

from nova_snap.api.microversion import Microversion
from nova_snap.api.views.hosts import host_id
from nova_snap.objects.instance_action import InstanceAction, InstanceActionEvent

View = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Visibility:
    """What the policies let the client see of an action's steps.

    :ivar events: the traceback, the name of the host, and below 2.51 the steps at all.
    :ivar details: how it was done, or why it failed.
    """

    events: bool
    details: bool


class ViewBuilder:
    """Makes the views of one request."""

    def __init__(self, version: Microversion) -> None:
        self._version = version

    def action(self, action: InstanceAction) -> View:
        """An action without its steps."""
        view: View = {
            "action": action.action,
            "instance_uuid": action.instance_uuid,
            "request_id": action.request_id,
            "user_id": action.user_id,
            "project_id": action.project_id,
            "start_time": _time(action.start_time),
            "message": action.message,
        }
        if self._version.at_least(58):
            view["updated_at"] = _time(action.updated_at)
        return view

    def shows_events(self, visible: Visibility) -> bool:
        """Whether an action is shown with its steps."""
        return visible.events or self._version.at_least(51)

    def event(self, event: InstanceActionEvent, project_id: str, visible: Visibility) -> View:
        """A step of an action.

        :param project_id: for whom the host's name is hidden.
        """
        view: View = {
            "event": event.event,
            "start_time": _time(event.start_time),
            "finish_time": _time(event.finish_time),
            "result": event.result,
        }
        if visible.events:
            view["traceback"] = event.traceback
        if self._version.at_least(62):
            if visible.events:
                view["host"] = event.host
            view["hostId"] = host_id(project_id, event.host)
        if self._version.at_least(84) and visible.details:
            view["details"] = event.details
        return view


def _time(time: datetime.datetime | None) -> str | None:
    """Nova shows the times of actions with microseconds and without a zone."""
    return None if time is None else time.strftime("%Y-%m-%dT%H:%M:%S.%f")
