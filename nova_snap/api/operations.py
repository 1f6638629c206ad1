# SPDX-License-Identifier: Apache-2.0
"""What each operation of the route table takes and gives, as data for the API's description.

The schemas are those that requests are checked against, and that tests hold the answers against.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

from nova_snap.api.microversion import Microversion
from nova_snap.api.schemas import (
    aggregates,
    availability_zone,
    create_backup,
    extensions,
    flavor_responses,
    flavors,
    hypervisors,
    images,
    instance_actions,
    limits,
    quota_sets,
    server_actions,
    server_create,
    server_responses,
    server_update,
    servers,
    services,
    versions,
)
from nova_snap.api.schemas.types import Schema, closed

ByVersion = Callable[[Microversion], Schema]


@dataclasses.dataclass(frozen=True)
class Operation:
    """One method of one path.

    :ivar answers: status codes of success, each with what the body is; ``None`` for no body.
    :ivar query: of the query string: each parameter a list, as it may be given more than once.
    """

    summary: str
    answers: Mapping[int, Schema | ByVersion | None]
    query: Schema | ByVersion | None = None
    body: Schema | ByVersion | None = None


def resolve(schema: Schema | ByVersion | None, version: Microversion) -> Schema | None:
    """The schema of a version."""
    return schema(version) if callable(schema) else schema


def _ok(
    summary: str, answer: Schema | ByVersion | None, status: int = 200, **more: Any
) -> Operation:
    return Operation(summary, {status: answer}, **more)


# What these take is not looked at: clients send null, or an empty object.
_PLAIN_ACTIONS: Final = (
    *("forceDelete", "os-start", "os-stop", "pause", "restore", "resume", "suspend", "unpause"),
)


def _action_body(version: Microversion) -> Schema:
    del version
    bodies = [
        servers.CREATE_IMAGE,
        create_backup.CREATE_BACKUP,
        server_actions.REBOOT,
        server_actions.RESET_STATE,
        server_actions.CONSOLE_OUTPUT,
        *(closed({name: {"type": ["object", "null"]}}) for name in _PLAIN_ACTIONS),
    ]
    return {"oneOf": bodies}


def _action_answer(version: Microversion) -> Schema:
    """Of createImage and createBackup from 2.45 on; the other actions answer without a body."""
    return server_responses.CREATE_IMAGE_2_45 if version.at_least(45) else {}


def _service_body(version: Microversion) -> Schema:
    if version.at_least(53):
        return services.UPDATE_2_53
    return {"anyOf": [services.ENABLE, services.DISABLE_LOG_REASON, services.FORCE_DOWN]}


def _server_created(version: Microversion) -> Schema:
    del version
    return {"anyOf": [server_responses.CREATE, server_responses.CREATE_RESERVATION]}


_SERVERS: Final = {
    ("servers", "index"): _ok(
        "List servers", lambda _: server_responses.index(), query=servers.list_query
    ),
    ("servers", "detail"): _ok(
        "List servers with details", server_responses.detail, query=servers.list_query
    ),
    ("servers", "show"): _ok("Show a server", server_responses.show),
    ("servers_create", "create"): _ok(
        "Create a server", _server_created, 202, body=server_create.create
    ),
    ("servers_change", "update"): _ok(
        "Change a server", server_responses.update, body=server_update.update
    ),
    ("servers_change", "delete"): _ok("Delete a server", None, 204),
    ("servers", "action"): Operation(
        "Do something to a server",
        {200: server_responses.CONSOLE_OUTPUT, 202: _action_answer},
        body=_action_body,
    ),
    ("instance_actions", "index"): _ok(
        "List what was asked of a server",
        instance_actions.index,
        query=instance_actions.list_query,
    ),
    ("instance_actions", "show"): _ok("Show what became of a request", instance_actions.show),
    ("server_metadata", "index"): _ok("List metadata", server_responses.METADATA),
    ("server_metadata", "create"): _ok(
        "Add metadata", server_responses.METADATA, body=server_update.METADATA_ALL
    ),
    ("server_metadata", "update_all"): _ok(
        "Replace metadata", server_responses.METADATA, body=server_update.METADATA_ALL
    ),
    ("server_metadata", "show"): _ok("Show one item", server_responses.METADATA_ITEM),
    ("server_metadata", "update"): _ok(
        "Set one item", server_responses.METADATA_ITEM, body=server_update.METADATA_ITEM
    ),
    ("server_metadata", "delete"): _ok("Delete one item", None, 204),
}

_FLAVORS: Final = {
    ("flavors", "index"): _ok("List flavors", flavor_responses.index, query=flavors.list_query),
    ("flavors", "detail"): _ok(
        "List flavors with details", flavor_responses.detail, query=flavors.list_query
    ),
    ("flavors", "show"): _ok("Show a flavor", flavor_responses.show),
    ("flavors", "create"): _ok("Create a flavor", flavor_responses.show, body=flavors.create),
    ("flavors", "update"): _ok(
        "Change a flavor's description", flavor_responses.show, body=flavors.UPDATE
    ),
    ("flavors", "delete"): _ok("Delete a flavor", None, 202),
    ("flavor_extra_specs", "index"): _ok("List extra specs", flavor_responses.EXTRA_SPECS),
    ("flavor_extra_specs", "create"): _ok(
        "Add extra specs", flavor_responses.EXTRA_SPECS, body=flavors.EXTRA_SPECS
    ),
    ("flavor_extra_specs", "show"): _ok("Show an extra spec", flavor_responses.EXTRA_SPEC),
    ("flavor_extra_specs", "update"): _ok(
        "Set an extra spec", flavor_responses.EXTRA_SPEC, body=flavors.EXTRA_SPEC
    ),
    ("flavor_extra_specs", "delete"): _ok("Delete an extra spec", None),
    ("flavor_extra_specs", "access"): _ok("List who may use a flavor", flavor_responses.ACCESS),
}

_IMAGES: Final = {
    ("images", "index"): _ok("List images", images.INDEX, query=images.LIST_QUERY),
    ("images", "detail"): _ok("List images with details", images.DETAIL, query=images.LIST_QUERY),
    ("images", "show"): _ok("Show an image", images.SHOW),
    ("images", "delete"): _ok("Delete an image", None, 204),
    ("image_metadata", "index"): _ok("List an image's metadata", images.METADATA),
    ("image_metadata", "create"): _ok(
        "Add to an image's metadata", images.METADATA, body=server_update.METADATA_ALL
    ),
    ("image_metadata", "update_all"): _ok(
        "Replace an image's metadata", images.METADATA, body=server_update.METADATA_ALL
    ),
    ("image_metadata", "show"): _ok("Show one item of an image's", images.METADATA_ITEM),
    ("image_metadata", "update"): _ok(
        "Set one item of an image's", images.METADATA_ITEM, body=server_update.METADATA_ITEM
    ),
    ("image_metadata", "delete"): _ok("Delete one item of an image's", None, 204),
}

_OPERATORS: Final = {
    ("services", "index"): _ok("List services", services.index, query=services.list_query),
    ("services", "update"): _ok("Change a service", services.update, body=_service_body),
    ("services", "delete"): _ok("Delete a service", None, 204),
    ("hypervisors", "index"): _ok(
        "List hypervisors", hypervisors.index, query=hypervisors.list_query
    ),
    ("hypervisors", "detail"): _ok(
        "List hypervisors with details", hypervisors.detail, query=hypervisors.list_query
    ),
    ("hypervisors", "statistics"): _ok("Sum up the hypervisors", hypervisors.STATISTICS),
    ("hypervisors", "show"): _ok(
        "Show a hypervisor", hypervisors.show, query=hypervisors.show_query
    ),
    ("hypervisors", "uptime"): _ok("Show since when a host is up", hypervisors.uptime),
    ("hypervisors", "search"): _ok("Find hypervisors by name", hypervisors.search),
    ("hypervisors", "servers"): _ok("List the servers of hypervisors", hypervisors.search),
}

_OTHERS: Final = {
    ("versions", "index"): _ok("List versions", versions.INDEX_RESPONSE),
    ("versions", "show"): _ok("Show the version 2.1", versions.SHOW_RESPONSE),
    ("availability_zone", "index"): _ok("List availability zones", availability_zone.INDEX),
    ("availability_zone", "detail"): _ok(
        "List availability zones with their hosts", availability_zone.DETAIL
    ),
    ("limits", "index"): _ok("Show the limits of a project", limits.show, query=limits.query),
    ("quota_sets", "show"): _ok("Show a project's quotas", quota_sets.show, query=quota_sets.query),
    ("quota_sets", "defaults"): _ok(
        "Show the default quotas", quota_sets.show, query=quota_sets.query
    ),
    ("quota_sets", "detail"): _ok(
        "Show a project's quotas and what it has", quota_sets.detail, query=quota_sets.query
    ),
    ("aggregates", "index"): _ok("List host aggregates: there are none", aggregates.INDEX),
    ("extensions", "index"): _ok("List extensions", extensions.INDEX),
    ("extensions", "show"): _ok("Show an extension", extensions.SHOW),
}

# (controller, its method), as in the route table: what it takes and gives.
OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    **_SERVERS,
    **_FLAVORS,
    **_IMAGES,
    **_OPERATORS,
    **_OTHERS,
}
