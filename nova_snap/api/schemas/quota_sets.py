# SPDX-License-Identifier: Apache-2.0
"""What quotas look like in answers, and what may be asked of them."""

import functools
from typing import Any, Final

from nova_snap.api.microversion import Microversion
from nova_snap.api.schemas.types import QUERY_STRING, STRING, Schema, closed, words

_ALWAYS: Final = words(
    "instances cores ram metadata_items key_pairs server_groups server_group_members"
)

# The version that took each of these away.
_UNTIL: Final = {
    36: words("fixed_ips floating_ips security_groups security_group_rules"),
    57: words("injected_files injected_file_content_bytes injected_file_path_bytes"),
}

_NUMBER: Final[Schema] = {"type": "integer", "minimum": -1}
_USE: Final = closed({"limit": _NUMBER, "in_use": _NUMBER, "reserved": _NUMBER})


def names(version: Microversion) -> list[str]:
    """What a version has quotas of."""
    found = list(_ALWAYS)
    for minor, more in _UNTIL.items():
        if not version.at_least(minor):
            found += more
    return found


def _set(version: Microversion, each: Any) -> Schema:
    return closed({"quota_set": closed({"id": STRING, **dict.fromkeys(names(version), each)})})


@functools.cache
def query(version: Microversion) -> Schema:
    """The query string: quotas of single users are those of their project."""
    return {
        "type": "object",
        "properties": {"user_id": QUERY_STRING},
        "additionalProperties": not version.at_least(75),
    }


@functools.cache
def show(version: Microversion) -> Schema:
    """``GET /os-quota-sets/{project_id}`` and ``/defaults``."""
    return _set(version, _NUMBER)


@functools.cache
def detail(version: Microversion) -> Schema:
    """``GET /os-quota-sets/{project_id}/detail``."""
    return _set(version, _USE)
