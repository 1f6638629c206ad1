# SPDX-License-Identifier: Apache-2.0
"""What requests for flavors look like."""

import functools
from typing import Final

from nova_snap.api.microversion import Microversion
from nova_snap.api.schemas.types import (
    BOOLEAN,
    NAME,
    NUMBER,
    POSITIVE_NUMBER,
    QUERY_NUMBER,
    QUERY_STRING,
    Schema,
    closed,
    words,
)

# What a single-precision float of MySQL's can hold.
_MAX_FLOAT: Final = 3.40282e38

_DESCRIPTION: Final[Schema] = {
    "type": ["string", "null"],
    "maxLength": 65535,
    "format": "printable",
}
_CREATE: Final[Schema] = {
    "name": NAME,
    "id": {
        "type": ["string", "number", "null"],
        "minLength": 1,
        "maxLength": 255,
        "pattern": r"^(?! )[a-zA-Z0-9. _-]*(?<! )$(?!\n)",
    },
    "ram": POSITIVE_NUMBER,
    "vcpus": POSITIVE_NUMBER,
    "disk": NUMBER,
    "OS-FLV-EXT-DATA:ephemeral": NUMBER,
    "swap": NUMBER,
    "rxtx_factor": {
        "type": ["number", "string"],
        "pattern": r"^[0-9]{1,38}(\.[0-9]{1,38})?$(?!\n)",
        "exclusiveMinimum": 0,
        "maximum": _MAX_FLOAT,
    },
    "os-flavor-access:is_public": BOOLEAN,
}

SORT_KEYS: Final = words(
    "created_at description disabled ephemeral_gb flavorid id is_public memory_mb name root_gb "
    "rxtx_factor swap updated_at vcpus"
)


@functools.cache
def create(version: Microversion) -> Schema:
    """``POST /flavors``."""
    properties = dict(_CREATE)
    if version.at_least(55):
        properties["description"] = _DESCRIPTION
    return closed({"flavor": closed(properties, ["name", "ram", "vcpus", "disk"])})


UPDATE: Final = closed({"flavor": closed({"description": _DESCRIPTION})})
"""``PUT /flavors/{flavor_id}``, from 2.55 on."""


@functools.cache
def list_query(version: Microversion) -> Schema:
    """The query string of ``/flavors`` and ``/flavors/detail``."""
    names = ("marker", "is_public", "minRam", "minDisk", "sort_key", "sort_dir")
    return {
        "type": "object",
        "properties": {**dict.fromkeys(names, QUERY_STRING), "limit": QUERY_NUMBER},
        "additionalProperties": not version.at_least(75),
    }


_SPEC_KEY: Final = r"^[a-zA-Z0-9_:. -]{1,255}$(?!\n)"
_SPEC_VALUE: Final[Schema] = {
    "type": ["string", "number"],
    "maxLength": 255,
    "format": "printable",
}
_SPECS: Final[Schema] = {
    "type": "object",
    "patternProperties": {_SPEC_KEY: _SPEC_VALUE},
    "additionalProperties": False,
}

EXTRA_SPECS: Final = closed({"extra_specs": _SPECS})
"""``POST /flavors/{flavor_id}/os-extra_specs``."""

EXTRA_SPEC: Final[Schema] = {**_SPECS, "minProperties": 1, "maxProperties": 1}
"""``PUT /flavors/{flavor_id}/os-extra_specs/{key}``."""
