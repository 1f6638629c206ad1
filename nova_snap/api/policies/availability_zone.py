# SPDX-License-Identifier: Apache-2.0
"""Who may see the availability zones. Names and defaults are Nova's."""

from typing import Final

from nova_snap.api.policies import base

LIST: Final = "os_compute_api:os-availability-zone:list"
DETAIL: Final = "os_compute_api:os-availability-zone:detail"

RULES = [
    base.rule(LIST, base.ANY, "List the availability zones.", ("GET", "/os-availability-zone")),
    base.rule(
        DETAIL,
        base.ADMIN,
        "List the availability zones with their hosts and services.",
        ("GET", "/os-availability-zone/detail"),
    ),
]
