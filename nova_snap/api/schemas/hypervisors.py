# SPDX-License-Identifier: Apache-2.0
"""What hypervisors look like in answers, and what may be asked of them."""

import functools
from typing import Final

from nova_snap.api.microversion import Microversion
from nova_snap.api.schemas.types import (
    ADDRESS,
    NEXT_LINK,
    QUERY_NUMBER,
    QUERY_STRING,
    STRING,
    STRING_OR_NULL,
    UUID,
    Schema,
    array_of,
    closed,
)

_INTEGER: Final[Schema] = {"type": "integer"}
_SERVERS: Final = array_of(closed({"name": STRING, "uuid": UUID}))
_BASIC: Final[Schema] = {
    "hypervisor_hostname": STRING,
    "state": {"enum": ["up", "down"]},
    "status": {"enum": ["enabled", "disabled"]},
}

# What 2.88 took away, because the placement service says it better.
USAGE: Final = (
    "vcpus",
    "memory_mb",
    "local_gb",
    "vcpus_used",
    "memory_mb_used",
    "local_gb_used",
    "free_ram_mb",
    "free_disk_gb",
    "current_workload",
    "running_vms",
    "disk_available_least",
)
_NUMBERS: Final[Schema] = {
    **dict.fromkeys(USAGE, _INTEGER),
    "disk_available_least": {"type": ["integer", "null"]},
}

STATISTICS: Final = closed(
    {"hypervisor_statistics": closed({"count": _INTEGER, **_NUMBERS})},
)


@functools.cache
def list_query(version: Microversion) -> Schema:
    """The query string of ``/os-hypervisors`` and ``/os-hypervisors/detail``."""
    properties: Schema = {}
    if version.at_least(33):
        properties.update(limit=QUERY_NUMBER, marker=QUERY_STRING)
    if version.at_least(53):
        properties.update(
            hypervisor_hostname_pattern=array_of(
                {"type": "string", "minLength": 1, "maxLength": 255}, maxItems=1
            ),
            with_servers=array_of(STRING, maxItems=1),
        )
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": not version.at_least(53),
    }


@functools.cache
def show_query(version: Microversion) -> Schema:
    """The query string of ``/os-hypervisors/{hypervisor_id}``."""
    properties = {"with_servers": array_of(STRING, maxItems=1)} if version.at_least(53) else {}
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": not version.at_least(53),
    }


def _basic(version: Microversion, *, servers: bool) -> tuple[Schema, list[str]]:
    properties: Schema = {"id": UUID if version.at_least(53) else _INTEGER, **_BASIC}
    required = list(properties)
    if servers:
        properties["servers"] = _SERVERS
    return properties, required


@functools.cache
def _full(version: Microversion) -> Schema:
    properties, required = _basic(version, servers=version.at_least(53))
    identifier = UUID if version.at_least(53) else _INTEGER
    more: Schema = {
        "host_ip": ADDRESS,
        "hypervisor_type": STRING,
        "hypervisor_version": _INTEGER,
        "service": closed({"host": STRING, "id": identifier, "disabled_reason": STRING_OR_NULL}),
    }
    if version.at_least(88):
        more["uptime"] = STRING_OR_NULL
    else:
        more.update(_NUMBERS)
        more["cpu_info"] = {"type": "object"} if version.at_least(28) else STRING
    return closed({**properties, **more}, [*required, *more])


def _list(version: Microversion, item: Schema) -> Schema:
    properties: Schema = {"hypervisors": array_of(item)}
    if version.at_least(33):
        properties["hypervisors_links"] = NEXT_LINK
    return closed(properties, required=["hypervisors"])


@functools.cache
def index(version: Microversion) -> Schema:
    """``GET /os-hypervisors``."""
    return _list(version, closed(*_basic(version, servers=version.at_least(53))))


@functools.cache
def detail(version: Microversion) -> Schema:
    """``GET /os-hypervisors/detail``."""
    return _list(version, _full(version))


@functools.cache
def show(version: Microversion) -> Schema:
    """``GET /os-hypervisors/{hypervisor_id}``."""
    return closed({"hypervisor": _full(version)})


@functools.cache
def uptime(version: Microversion) -> Schema:
    """``GET /os-hypervisors/{hypervisor_id}/uptime``."""
    properties, required = _basic(version, servers=False)
    return closed(
        {"hypervisor": closed({**properties, "uptime": STRING_OR_NULL}, [*required, "uptime"])}
    )


@functools.cache
def search(version: Microversion) -> Schema:
    """``GET /os-hypervisors/{pattern}/search``, and ``/servers``, which adds the servers."""
    return closed({"hypervisors": array_of(closed(*_basic(version, servers=True)))})
