# SPDX-License-Identifier: Apache-2.0
"""What servers look like in answers, by microversion.

They close every object: an attribute that a version does not have is an error. Tests hold each
answer against them; so does the OpenAPI description of the API.
"""

import functools
from typing import Final, NamedTuple

from nova_snap.api.microversion import Microversion
from nova_snap.api.schemas.types import (
    BARE_TIME_OR_NULL,
    LINKS,
    NEXT_LINK,
    PROJECT_OR_USER,
    STRING,
    STRING_OR_NULL,
    TIME,
    UUID,
    Schema,
    array_of,
    closed,
    words,
)

_STATUS: Final[Schema] = {
    "enum": [
        *("ACTIVE", "BUILD", "DELETED", "ERROR", "HARD_REBOOT", "PAUSED", "REBOOT", "SHUTOFF"),
        *("SUSPENDED", "UNKNOWN"),
    ]
}
_ADDRESS: Final = closed(
    {
        "addr": {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
        "version": {"enum": [4, 6]},
        "OS-EXT-IPS:type": {"enum": ["fixed", "floating"]},
        "OS-EXT-IPS-MAC:mac_addr": STRING,
    }
)
_FAULT: Final = closed(
    {"code": {"type": "integer"}, "created": TIME, "message": STRING, "details": STRING},
    required=["code", "created", "message"],
)
_FLAVOR_SIZES: Final[Schema] = {
    name: {"type": "integer"} for name in ("disk", "ephemeral", "ram", "swap", "vcpus")
}
_FLAVOR_2_47: Final = closed(
    {
        **_FLAVOR_SIZES,
        "original_name": STRING,
        "extra_specs": {"type": "object", "additionalProperties": STRING},
    },
    required=[*_FLAVOR_SIZES, "original_name"],
)

_ALWAYS: Final[Schema] = {
    "accessIPv4": {"anyOf": [{"const": ""}, {"type": "string", "format": "ipv4"}]},
    "accessIPv6": {"anyOf": [{"const": ""}, {"type": "string", "format": "ipv6"}]},
    "addresses": {"type": "object", "additionalProperties": array_of(_ADDRESS)},
    "config_drive": {"enum": ["", "True", "False", None]},
    "created": TIME,
    "flavor": closed({"id": STRING, "links": LINKS}),
    "hostId": {"type": "string", "pattern": "^([0-9a-f]{56})?$"},
    "id": UUID,
    "image": {"anyOf": [{"const": ""}, closed({"id": UUID, "links": LINKS})]},
    "key_name": STRING_OR_NULL,
    "links": LINKS,
    "metadata": {"type": "object", "additionalProperties": STRING},
    "name": STRING,
    "os-extended-volumes:volumes_attached": array_of(closed({"id": STRING})),
    "status": _STATUS,
    "tenant_id": PROJECT_OR_USER,
    "updated": TIME,
    "user_id": PROJECT_OR_USER,
    "OS-DCF:diskConfig": {"enum": ["AUTO", "MANUAL"]},
    "OS-EXT-AZ:availability_zone": STRING,
    "OS-EXT-STS:power_state": {"enum": [0, 1, 3, 4, 6, 7, None]},
    "OS-EXT-STS:task_state": STRING_OR_NULL,
    "OS-EXT-STS:vm_state": STRING_OR_NULL,
    "OS-SRV-USG:launched_at": BARE_TIME_OR_NULL,
    "OS-SRV-USG:terminated_at": BARE_TIME_OR_NULL,
}

# By state, or by policy.
_SOMETIMES: Final[Schema] = {
    "fault": _FAULT,
    "progress": {"type": "integer", "minimum": 0, "maximum": 100},
    "security_groups": array_of(closed({"name": STRING})),
    "OS-EXT-SRV-ATTR:host": STRING_OR_NULL,
    "OS-EXT-SRV-ATTR:hypervisor_hostname": STRING_OR_NULL,
    "OS-EXT-SRV-ATTR:instance_name": STRING,
}


class _Change(NamedTuple):
    """What version 2.``since`` added, or made different."""

    since: int
    properties: Schema
    required: tuple[str, ...] = ()
    in_list: bool = True


_CHANGES: Final = (
    _Change(
        3,
        {
            "OS-EXT-SRV-ATTR:hostname": STRING,
            "OS-EXT-SRV-ATTR:kernel_id": STRING_OR_NULL,
            "OS-EXT-SRV-ATTR:launch_index": {"type": ["integer", "null"]},
            "OS-EXT-SRV-ATTR:ramdisk_id": STRING_OR_NULL,
            "OS-EXT-SRV-ATTR:reservation_id": STRING_OR_NULL,
            "OS-EXT-SRV-ATTR:root_device_name": STRING_OR_NULL,
            "OS-EXT-SRV-ATTR:user_data": {"type": ["string", "null"], "format": "base64"},
            "os-extended-volumes:volumes_attached": array_of(
                closed({"id": STRING, "delete_on_termination": {"type": "boolean"}})
            ),
        },
    ),
    _Change(9, {"locked": {"type": "boolean"}}, ("locked",)),
    _Change(16, {"host_status": {"enum": ["UP", "DOWN", "MAINTENANCE", "UNKNOWN", ""]}}),
    _Change(19, {"description": STRING_OR_NULL}, ("description",)),
    _Change(26, {"tags": array_of(STRING, maxItems=50)}, ("tags",)),
    _Change(47, {"flavor": _FLAVOR_2_47}),
    _Change(
        63,
        {"trusted_image_certificates": {"type": ["array", "null"], "items": STRING}},
        ("trusted_image_certificates",),
    ),
    _Change(71, {"server_groups": array_of(UUID, maxItems=1)}, ("server_groups",), in_list=False),
    _Change(73, {"locked_reason": STRING_OR_NULL}, ("locked_reason",)),
    _Change(90, {}, ("OS-EXT-SRV-ATTR:hostname",)),
    _Change(96, {"pinned_availability_zone": STRING_OR_NULL}, ("pinned_availability_zone",)),
)

CREATE_IMAGE_2_45: Final = closed({"image_id": UUID})

CREATE: Final = closed(
    {
        "server": closed(
            {
                "id": UUID,
                "links": LINKS,
                "adminPass": STRING,
                "security_groups": array_of(closed({"name": STRING})),
                "OS-DCF:diskConfig": {"enum": ["AUTO", "MANUAL"]},
            }
        )
    }
)
"""``POST /servers``."""

CREATE_RESERVATION: Final = closed({"reservation_id": STRING})
"""``POST /servers`` with ``return_reservation_id``."""

METADATA: Final = closed({"metadata": {"type": "object", "additionalProperties": STRING}})
METADATA_ITEM: Final = closed(
    {
        "meta": {
            "type": "object",
            "additionalProperties": STRING,
            "minProperties": 1,
            "maxProperties": 1,
        }
    }
)
CONSOLE_OUTPUT: Final = closed({"output": STRING})

# What the answer to a change shows up to 2.74.
_AFTER_UPDATE: Final = words(
    "accessIPv4 accessIPv6 addresses created flavor hostId id image links metadata name status "
    "tenant_id updated user_id OS-DCF:diskConfig fault progress locked description tags "
    "trusted_image_certificates server_groups locked_reason"
)


def _server(version: Microversion, in_list: bool) -> Schema:
    properties = {**_ALWAYS, **_SOMETIMES}
    required = list(_ALWAYS)
    for change in _CHANGES:
        if version.at_least(change.since) and (change.in_list or not in_list):
            properties.update(change.properties)
            required += change.required
    return closed(properties, required)


@functools.cache
def show(version: Microversion) -> Schema:
    """``GET /servers/{server_id}``."""
    return closed({"server": _server(version, in_list=False)})


@functools.cache
def update(version: Microversion) -> Schema:
    """``PUT /servers/{server_id}``."""
    if version.at_least(75):
        return show(version)
    whole = _server(version, in_list=False)
    properties = {
        name: schema for name, schema in whole["properties"].items() if name in _AFTER_UPDATE
    }
    required = [name for name in whole["required"] if name in _AFTER_UPDATE]
    return closed({"server": closed(properties, required)})


@functools.cache
def detail(version: Microversion) -> Schema:
    """``GET /servers/detail``."""
    servers = array_of(_server(version, in_list=True))
    return closed({"servers": servers, "servers_links": NEXT_LINK}, required=["servers"])


def index() -> Schema:
    """``GET /servers``: the same in every version."""
    servers = array_of(closed({"id": UUID, "name": STRING, "links": LINKS}))
    return closed({"servers": servers, "servers_links": NEXT_LINK}, required=["servers"])
