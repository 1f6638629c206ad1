# SPDX-License-Identifier: Apache-2.0
"""What a change of a server, or of its metadata, looks like."""

import functools
from typing import Final

from nova_snap.api.microversion import Microversion
from nova_snap.api.schemas import server_create
from nova_snap.api.schemas.types import (
    ADDRESS_V4,
    ADDRESS_V6,
    METADATA,
    NAME,
    PRINTABLE_OR_NULL,
    Schema,
    closed,
)


@functools.cache
def update(version: Microversion) -> Schema:
    """``PUT /servers/{server_id}``."""
    properties: Schema = {
        "name": NAME,
        "OS-DCF:diskConfig": {"enum": ["AUTO", "MANUAL"]},
        "accessIPv4": ADDRESS_V4,
        "accessIPv6": ADDRESS_V6,
    }
    if version.at_least(19):
        properties["description"] = PRINTABLE_OR_NULL
    if version.at_least(90):
        properties["hostname"] = server_create.hostname(version)
    return closed({"server": closed(properties, required=[])})


METADATA_ALL: Final = closed({"metadata": METADATA})
"""``POST`` and ``PUT /servers/{server_id}/metadata``."""

METADATA_ITEM: Final = closed({"meta": {**METADATA, "minProperties": 1, "maxProperties": 1}})
"""``PUT /servers/{server_id}/metadata/{key}``."""
