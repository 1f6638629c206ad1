# SPDX-License-Identifier: Apache-2.0
"""What a request for a new server looks like, by microversion.

The schemas take all that Nova's take. What nova_snap cannot do is refused afterwards, with a
message that says so: see :mod:`nova_snap.api.server_request`.
"""

import functools
from typing import Final

from nova_snap.api.microversion import Microversion
from nova_snap.api.schemas.types import (
    ADDRESS,
    ADDRESS_V4,
    ADDRESS_V6,
    BOOLEAN,
    METADATA,
    NAME,
    NUMBER,
    POSITIVE_NUMBER,
    PRINTABLE_OR_NULL,
    STRING,
    TAG,
    UUID,
    Schema,
    array_of,
    closed,
)

_UUID_OR_EMPTY: Final[Schema] = {"type": "string", "anyOf": [{"const": ""}, {"format": "uuid"}]}
_SHORT: Final[Schema] = {"type": "string", "maxLength": 255}
_DISK_CONFIG: Final[Schema] = {"enum": ["AUTO", "MANUAL"]}

_HOSTNAME: Final[Schema] = {
    "type": "string",
    "minLength": 2,
    "maxLength": 63,
    "pattern": r"^[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+$(?!\n)",
}
_FQDN: Final[Schema] = {
    "type": "string",
    "minLength": 2,
    "maxLength": 255,
    "pattern": r"^[a-zA-Z0-9]+[a-zA-Z0-9.-]*[a-zA-Z0-9]+$(?!\n)",
}
_HOST: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": r"^[a-zA-Z0-9._-]+$(?!\n)",
}

_LEGACY_MAPPING: Final[Schema] = {
    "virtual_name": _SHORT,
    "volume_id": UUID,
    "snapshot_id": UUID,
    "volume_size": NUMBER,
    "device_name": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": r"^[a-zA-Z0-9._/-]*$(?!\n)",
    },
    "delete_on_termination": BOOLEAN,
    "no_device": {},
    "connection_info": {"type": "string", "maxLength": 0xFFFFFF},
}
_MAPPING: Final[Schema] = {
    **_LEGACY_MAPPING,
    "source_type": {"enum": ["volume", "image", "snapshot", "blank"]},
    "destination_type": {"enum": ["local", "volume"]},
    "uuid": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": r"^[a-zA-Z0-9._-]*$(?!\n)",
    },
    "image_id": UUID,
    "guest_format": _SHORT,
    "device_type": _SHORT,
    "disk_bus": _SHORT,
    "boot_index": {"type": ["integer", "string", "null"], "pattern": r"^-?[0-9]+$(?!\n)"},
}
_NETWORK: Final[Schema] = {
    "fixed_ip": ADDRESS,
    "port": {"type": ["string", "null"], "format": "uuid"},
    "uuid": STRING,
}
_PERSONALITY: Final = array_of(
    closed({"path": STRING, "contents": {"type": "string", "format": "base64"}}, required=[])
)

_ALWAYS: Final[Schema] = {
    "name": NAME,
    "imageRef": _UUID_OR_EMPTY,
    "flavorRef": {"type": ["string", "integer"], "minLength": 1},
    "adminPass": STRING,
    "metadata": METADATA,
    "OS-DCF:diskConfig": _DISK_CONFIG,
    "accessIPv4": ADDRESS_V4,
    "accessIPv6": ADDRESS_V6,
    "availability_zone": NAME,
    "block_device_mapping": array_of(closed(_LEGACY_MAPPING, required=[])),
    "config_drive": BOOLEAN,
    "key_name": NAME,
    "min_count": POSITIVE_NUMBER,
    "max_count": POSITIVE_NUMBER,
    "return_reservation_id": BOOLEAN,
    "security_groups": array_of(closed({"name": NAME}, required=[])),
    "user_data": {"type": "string", "format": "base64", "maxLength": 65535},
}

HINTS: Final = (
    "group",
    "different_host",
    "same_host",
    "query",
    "target_cell",
    "different_cell",
    "build_near_host_ip",
    "cidr",
)
"""The scheduler hints that mean something to Nova; whatever else is given has no effect there."""

_HINTS: Final[Schema] = {"type": "object", "properties": {name: {} for name in HINTS}}


@functools.cache
def create(version: Microversion) -> Schema:
    """``POST /servers``."""
    properties: Schema = {
        **_ALWAYS,
        "networks": _networks(version),
        "block_device_mapping_v2": array_of(closed(_mapping(version), required=[])),
        **_later(version),
    }
    required = ["name", "flavorRef"]
    if version.at_least(37):
        required.append("networks")
    body: Schema = {"server": closed(properties, required)}
    body.update({"os:scheduler_hints": _HINTS, "OS-SCH-HNT:scheduler_hints": _HINTS})
    return closed(body, required=["server"])


def _later(version: Microversion) -> Schema:
    """What versions after 2.1 added to the server, or took away from it."""
    found: Schema = {}
    if version.at_least(19):
        found["description"] = PRINTABLE_OR_NULL
    if version.at_least(52):
        found["tags"] = array_of(TAG, maxItems=50)
    if not version.at_least(57):
        found["personality"] = _PERSONALITY
    if version.at_least(63):
        names = array_of({"type": "string", "minLength": 1}, minItems=1, maxItems=50)
        found["trusted_image_certificates"] = {
            **names,
            "type": ["array", "null"],
            "uniqueItems": True,
        }
    if version.at_least(74):
        found.update({"host": _HOST, "hypervisor_hostname": _HOST})
    if version.at_least(90):
        found["hostname"] = hostname(version)
    return found


def hostname(version: Microversion) -> Schema:
    """The name that the guest is told; from 2.94 on it may have a domain."""
    return _FQDN if version.at_least(94) else _HOSTNAME


def _networks(version: Microversion) -> Schema:
    properties = dict(_NETWORK)
    if version.at_least(37):
        properties["uuid"] = UUID
    # 2.37 lost what 2.32 had brought, and 2.42 brought it back.
    if version.at_least(32) and not (2, 37) <= version < (2, 42):
        properties["tag"] = TAG
    listed = array_of(closed(properties, required=[]))
    if not version.at_least(37):
        return listed
    return {"oneOf": [listed, {"enum": ["none", "auto"]}]}


def _mapping(version: Microversion) -> Schema:
    properties = dict(_MAPPING)
    # In 2.32 only, and then again from 2.42 on.
    if version == (2, 32) or version.at_least(42):
        properties["tag"] = TAG
    if version.at_least(67):
        properties["volume_type"] = {"type": ["string", "null"], "maxLength": 255}
    return properties
