# SPDX-License-Identifier: Apache-2.0
"""What availability zones look like: the same in every version."""

from typing import Final

from nova_snap.api.schemas.types import BARE_TIME_OR_NULL, STRING, Schema, array_of, closed

_SERVICE: Final = closed(
    {
        "active": {"type": "boolean"},
        "available": {"type": "boolean"},
        "updated_at": BARE_TIME_OR_NULL,
    }
)
_HOSTS: Final[Schema] = {
    "type": "object",
    "additionalProperties": {"type": "object", "additionalProperties": _SERVICE},
}


def _zones(hosts: Schema) -> Schema:
    zone = closed(
        {
            "zoneName": STRING,
            "zoneState": closed({"available": {"type": "boolean"}}),
            "hosts": hosts,
        }
    )
    return closed({"availabilityZoneInfo": array_of(zone)})


INDEX: Final = _zones({"type": "null"})
DETAIL: Final = _zones(_HOSTS)
