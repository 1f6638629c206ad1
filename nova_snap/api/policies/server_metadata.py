# SPDX-License-Identifier: Apache-2.0
"""Who may see and change a server's metadata. Names and defaults are Nova's."""

from typing import Final

from nova_snap.api.policies import base

_PREFIX: Final = "os_compute_api:server-metadata:"

INDEX: Final = _PREFIX + "index"
SHOW: Final = _PREFIX + "show"
CREATE: Final = _PREFIX + "create"
UPDATE_ALL: Final = _PREFIX + "update_all"
UPDATE: Final = _PREFIX + "update"
DELETE: Final = _PREFIX + "delete"

_ALL = "/servers/{server_id}/metadata"
_ONE = "/servers/{server_id}/metadata/{key}"
_MEMBER = base.PROJECT_MEMBER_OR_ADMIN
_READER = base.PROJECT_READER_OR_ADMIN

RULES = [
    base.rule(INDEX, _READER, "List a server's metadata.", ("GET", _ALL)),
    base.rule(SHOW, _READER, "Show an item of a server's metadata.", ("GET", _ONE)),
    base.rule(CREATE, _MEMBER, "Add items to a server's metadata.", ("POST", _ALL)),
    base.rule(UPDATE_ALL, _MEMBER, "Replace a server's metadata.", ("PUT", _ALL)),
    base.rule(UPDATE, _MEMBER, "Set an item of a server's metadata.", ("PUT", _ONE)),
    base.rule(DELETE, _MEMBER, "Delete an item of a server's metadata.", ("DELETE", _ONE)),
]
