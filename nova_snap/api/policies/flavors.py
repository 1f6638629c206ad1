# SPDX-License-Identifier: Apache-2.0
"""Who may make and change flavors. Names and defaults are Nova's.

There is none for looking at them: everybody may, as in Nova.
"""

from typing import Final

from nova_snap.api.policies import base

CREATE: Final = "os_compute_api:os-flavor-manage:create"
UPDATE: Final = "os_compute_api:os-flavor-manage:update"
DELETE: Final = "os_compute_api:os-flavor-manage:delete"

EXTRA_SPECS_INDEX: Final = "os_compute_api:os-flavor-extra-specs:index"
EXTRA_SPECS_SHOW: Final = "os_compute_api:os-flavor-extra-specs:show"
EXTRA_SPECS_CREATE: Final = "os_compute_api:os-flavor-extra-specs:create"
EXTRA_SPECS_UPDATE: Final = "os_compute_api:os-flavor-extra-specs:update"
EXTRA_SPECS_DELETE: Final = "os_compute_api:os-flavor-extra-specs:delete"

ACCESS: Final = "os_compute_api:os-flavor-access"

_ALL = "/flavors"
_ONE = "/flavors/{flavor_id}"
_SPECS = "/flavors/{flavor_id}/os-extra_specs"
_SPEC = "/flavors/{flavor_id}/os-extra_specs/{key}"
_READER = base.PROJECT_READER_OR_ADMIN

RULES = [
    base.rule(CREATE, base.ADMIN, "Make a flavor.", ("POST", _ALL)),
    base.rule(UPDATE, base.ADMIN, "Change a flavor's description.", ("PUT", _ONE)),
    base.rule(DELETE, base.ADMIN, "Delete a flavor.", ("DELETE", _ONE)),
    base.rule(
        EXTRA_SPECS_INDEX,
        _READER,
        "See the extra specs of a flavor; from microversion 2.61 on also in the flavor itself.",
        ("GET", _SPECS),
        ("GET", "/flavors/detail"),
        ("GET", _ONE),
        ("POST", _ALL),
        ("PUT", _ONE),
    ),
    base.rule(EXTRA_SPECS_SHOW, _READER, "Show an extra spec of a flavor.", ("GET", _SPEC)),
    base.rule(EXTRA_SPECS_CREATE, base.ADMIN, "Add extra specs to a flavor.", ("POST", _SPECS)),
    base.rule(EXTRA_SPECS_UPDATE, base.ADMIN, "Set an extra spec of a flavor.", ("PUT", _SPEC)),
    base.rule(
        EXTRA_SPECS_DELETE, base.ADMIN, "Delete an extra spec of a flavor.", ("DELETE", _SPEC)
    ),
    base.rule(
        ACCESS,
        base.ADMIN,
        "See which projects may use a flavor that is not public.",
        ("GET", "/flavors/{flavor_id}/os-flavor-access"),
    ),
]
