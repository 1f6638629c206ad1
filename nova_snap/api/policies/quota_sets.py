# SPDX-License-Identifier: Apache-2.0
"""Who may see the quotas of projects. Names and defaults are Nova's."""

from typing import Final

from nova_snap.api.policies import base

SHOW: Final = "os_compute_api:os-quota-sets:show"
DEFAULTS: Final = "os_compute_api:os-quota-sets:defaults"
DETAIL: Final = "os_compute_api:os-quota-sets:detail"

_ONE = "/os-quota-sets/{project_id}"
_READER = base.PROJECT_READER_OR_ADMIN

RULES = [
    base.rule(SHOW, _READER, "See what a project may have.", ("GET", _ONE)),
    base.rule(
        DEFAULTS,
        base.ANY,
        "See what a project may have of which nothing else was said.",
        ("GET", f"{_ONE}/defaults"),
    ),
    base.rule(
        DETAIL, _READER, "See what a project may have and what it has.", ("GET", f"{_ONE}/detail")
    ),
]
