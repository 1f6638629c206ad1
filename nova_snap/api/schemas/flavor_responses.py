# SPDX-License-Identifier: Apache-2.0
"""What flavors look like in answers, by microversion; every object is closed."""

import functools
from typing import Final

from nova_snap.api.microversion import Microversion
from nova_snap.api.schemas.types import (
    LINKS,
    NEXT_LINK,
    STRING,
    STRING_OR_NULL,
    Schema,
    array_of,
    closed,
)

_SPECS: Final[Schema] = {"type": "object", "additionalProperties": STRING}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}


def _basic(version: Microversion) -> Schema:
    found: Schema = {"id": STRING, "name": STRING, "links": LINKS}
    if version.at_least(55):
        found["description"] = STRING_OR_NULL
    return found


def _detail(version: Microversion) -> Schema:
    properties: Schema = {
        **_basic(version),
        "ram": _COUNT,
        "disk": _COUNT,
        "vcpus": _COUNT,
        "swap": _COUNT if version.at_least(75) else {"anyOf": [_COUNT, {"const": ""}]},
        "rxtx_factor": {"type": "number", "exclusiveMinimum": 0},
        "os-flavor-access:is_public": {"type": "boolean"},
        "OS-FLV-EXT-DATA:ephemeral": _COUNT,
        "OS-FLV-DISABLED:disabled": {"type": "boolean"},
    }
    required = list(properties)
    if version.at_least(61):
        # By policy.
        properties["extra_specs"] = _SPECS
    return closed(properties, required)


@functools.cache
def index(version: Microversion) -> Schema:
    """``GET /flavors``."""
    flavors = array_of(closed(_basic(version)))
    return closed({"flavors": flavors, "flavors_links": NEXT_LINK}, required=["flavors"])


@functools.cache
def detail(version: Microversion) -> Schema:
    """``GET /flavors/detail``."""
    flavors = array_of(_detail(version))
    return closed({"flavors": flavors, "flavors_links": NEXT_LINK}, required=["flavors"])


@functools.cache
def show(version: Microversion) -> Schema:
    """``GET /flavors/{flavor_id}``, and what ``POST`` and ``PUT`` answer with."""
    return closed({"flavor": _detail(version)})


EXTRA_SPECS: Final = closed({"extra_specs": _SPECS})
EXTRA_SPEC: Final[Schema] = {**_SPECS, "minProperties": 1, "maxProperties": 1}

ACCESS: Final = closed(
    {"flavor_access": array_of(closed({"flavor_id": STRING, "tenant_id": STRING}))}
)
