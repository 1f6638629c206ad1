# SPDX-License-Identifier: Apache-2.0
"""What services look like, in requests and in answers."""

import functools
from typing import Final

from nova_snap.api.microversion import Microversion
from nova_snap.api.schemas.types import (
    BARE_TIME_OR_NULL,
    BOOLEAN,
    PRINTABLE_OR_NULL,
    QUERY_STRING,
    STRING,
    STRING_OR_NULL,
    UUID,
    Schema,
    array_of,
    closed,
)

_HOST: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": r"^[a-zA-Z0-9._-]*$(?!\n)",
}
_BINARY: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "format": "printable",
}
_REASON: Final[Schema] = _BINARY

# The four ways to change a service below 2.53, by the last part of the path.
ENABLE: Final = closed({"host": _HOST, "binary": _BINARY})
DISABLE_LOG_REASON: Final = closed({"host": _HOST, "binary": _BINARY, "disabled_reason": _REASON})
FORCE_DOWN: Final = closed(
    {"host": _HOST, "binary": _BINARY, "forced_down": BOOLEAN}, required=["host", "binary"]
)

UPDATE_2_53: Final = closed(
    {
        "status": {"enum": ["enabled", "disabled"]},
        "disabled_reason": _REASON,
        "forced_down": BOOLEAN,
    },
    required=[],
)

_STATUS: Final[Schema] = {"enum": ["enabled", "disabled"]}


@functools.cache
def list_query(version: Microversion) -> Schema:
    """The query string of ``GET /os-services``."""
    return {
        "type": "object",
        "properties": {"host": QUERY_STRING, "binary": QUERY_STRING},
        "additionalProperties": not version.at_least(75),
    }


def _service(version: Microversion) -> Schema:
    properties: Schema = {
        "id": UUID if version.at_least(53) else {"type": "integer"},
        "binary": STRING,
        "host": STRING,
        "zone": STRING,
        "status": _STATUS,
        "state": {"enum": ["up", "down"]},
        "updated_at": BARE_TIME_OR_NULL,
        "disabled_reason": PRINTABLE_OR_NULL,
    }
    if version.at_least(11):
        properties["forced_down"] = {"type": "boolean"}
    return closed(properties)


@functools.cache
def index(version: Microversion) -> Schema:
    """``GET /os-services``."""
    return closed({"services": array_of(_service(version))})


@functools.cache
def update(version: Microversion) -> Schema:
    """``PUT /os-services/{service_id}``: what the older ways answer has only what was changed."""
    if version.at_least(53):
        return closed({"service": _service(version)})
    service = closed(
        {
            "host": STRING,
            "binary": STRING,
            "status": _STATUS,
            "disabled_reason": STRING_OR_NULL,
            "forced_down": {"type": "boolean"},
        },
        required=["host", "binary"],
    )
    return closed({"service": service})
