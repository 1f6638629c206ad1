# SPDX-License-Identifier: Apache-2.0
"""What limits look like, and what may be asked of them."""

import functools
from typing import Final

from nova_snap.api.microversion import Microversion
from nova_snap.api.schemas.types import QUERY_STRING, Schema, array_of, closed, words

_ALWAYS: Final = words(
    "maxServerMeta maxTotalInstances maxTotalCores maxTotalRAMSize maxTotalKeypairs "
    "maxServerGroups maxServerGroupMembers totalInstancesUsed totalCoresUsed totalRAMUsed "
    "totalServerGroupsUsed"
)

# The version that took each of these away.
_UNTIL: Final = {
    36: words(
        "maxTotalFloatingIps totalFloatingIpsUsed maxSecurityGroups totalSecurityGroupsUsed "
        "maxSecurityGroupRules"
    ),
    39: ("maxImageMeta",),
    57: ("maxPersonality", "maxPersonalitySize"),
}


@functools.cache
def query(version: Microversion) -> Schema:
    """The query string of ``GET /limits``."""
    return {
        "type": "object",
        "properties": {"tenant_id": QUERY_STRING, "reserved": QUERY_STRING},
        "additionalProperties": not version.at_least(75),
    }


@functools.cache
def show(version: Microversion) -> Schema:
    """``GET /limits``."""
    names = list(_ALWAYS)
    for minor, more in _UNTIL.items():
        if not version.at_least(minor):
            names += more
    number: Schema = {"type": "integer", "minimum": -1}
    absolute = closed(dict.fromkeys(names, number))
    # Nova once limited how often a client may ask; since then the list is empty.
    rate = {**array_of({}), "maxItems": 0}
    return closed({"limits": closed({"rate": rate, "absolute": absolute})})
