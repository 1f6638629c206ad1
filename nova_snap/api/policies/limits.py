# SPDX-License-Identifier: Apache-2.0
"""Who may see how much a project may have. Names and defaults are Nova's."""

from typing import Final

from nova_snap.api.policies import base

LIMITS: Final = "os_compute_api:limits"
OTHER_PROJECT: Final = "os_compute_api:limits:other_project"

RULES = [
    base.rule(
        LIMITS, base.ANY, "See the limits of one's project and what it uses.", ("GET", "/limits")
    ),
    base.rule(
        OTHER_PROJECT,
        base.ADMIN,
        "See the same of another project, with tenant_id.",
        ("GET", "/limits"),
    ),
]
