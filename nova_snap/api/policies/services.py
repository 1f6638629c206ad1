# SPDX-License-Identifier: Apache-2.0
"""Who may see and change services. Names and defaults are Nova's."""

from typing import Final

from nova_snap.api.policies import base

LIST: Final = "os_compute_api:os-services:list"
UPDATE: Final = "os_compute_api:os-services:update"
DELETE: Final = "os_compute_api:os-services:delete"

RULES = [
    base.rule(
        LIST, base.ADMIN, "See which services there are and which are up.", ("GET", "/os-services")
    ),
    base.rule(
        UPDATE,
        base.ADMIN,
        "Enable or disable a service, or say that its host is down.",
        ("PUT", "/os-services/{service_id}"),
        ("PUT", "/os-services/enable"),
        ("PUT", "/os-services/disable"),
        ("PUT", "/os-services/disable-log-reason"),
        ("PUT", "/os-services/force-down"),
    ),
    base.rule(
        DELETE,
        base.ADMIN,
        "Delete a service whose host will not come back.",
        ("DELETE", "/os-services/{service_id}"),
    ),
]
