# SPDX-License-Identifier: Apache-2.0
"""What requests for a server's actions look like, and the answers."""

import functools

from nova_snap.api.microversion import Microversion
from nova_snap.api.schemas.types import (
    BARE_TIME,
    BARE_TIME_OR_NULL,
    NEXT_LINK,
    STRING,
    STRING_OR_NULL,
    TIME,
    UUID,
    Schema,
    array_of,
    closed,
)


@functools.cache
def list_query(version: Microversion) -> Schema:
    """The query string of ``/servers/{server_id}/os-instance-actions``: below 2.58 it says
    nothing, whatever is in it."""
    if not version.at_least(58):
        return {"type": "object"}
    once: dict[str, int] = {"maxItems": 1}
    properties: Schema = {
        "limit": array_of({"type": "string", "pattern": r"^[0-9]{1,10}$(?!\n)"}, **once),
        "marker": array_of(STRING, **once),
        "changes-since": array_of(TIME, **once),
    }
    if version.at_least(66):
        properties["changes-before"] = array_of(TIME, **once)
    return closed(properties, required=[])


def _action(version: Microversion) -> Schema:
    properties: Schema = {
        "action": STRING,
        "instance_uuid": UUID,
        "request_id": STRING,
        "user_id": STRING_OR_NULL,
        "project_id": STRING_OR_NULL,
        "start_time": BARE_TIME,
        "message": STRING_OR_NULL,
    }
    if version.at_least(58):
        properties["updated_at"] = BARE_TIME_OR_NULL
    return properties


def _event(version: Microversion) -> Schema:
    properties: Schema = {
        "event": STRING,
        "start_time": BARE_TIME,
        "finish_time": BARE_TIME_OR_NULL,
        "result": {"enum": ["Success", "Error", None]},
    }
    required = list(properties)
    properties["traceback"] = STRING_OR_NULL
    if version.at_least(62):
        properties["host"] = STRING_OR_NULL
        properties["hostId"] = {"type": "string", "pattern": "^([0-9a-f]{56})?$"}
        required.append("hostId")
    if version.at_least(84):
        properties["details"] = STRING_OR_NULL
    return closed(properties, required)


@functools.cache
def index(version: Microversion) -> Schema:
    """``GET /servers/{server_id}/os-instance-actions``."""
    properties: Schema = {"instanceActions": array_of(closed(_action(version)))}
    if version.at_least(58):
        properties["links"] = NEXT_LINK
    return closed(properties, required=["instanceActions"])


@functools.cache
def show(version: Microversion) -> Schema:
    """``GET /servers/{server_id}/os-instance-actions/{request_id}``."""
    action = _action(version)
    required = list(action)
    action["events"] = array_of(_event(version))
    if version.at_least(51):
        required.append("events")
    return closed({"instanceAction": closed(action, required)})
