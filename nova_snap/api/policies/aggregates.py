# SPDX-License-Identifier: Apache-2.0
"""Who may see the host aggregates, of which there are none. Name and default are Nova's."""

from typing import Final

from nova_snap.api.policies import base

INDEX: Final = "os_compute_api:os-aggregates:index"

RULES = [base.rule(INDEX, base.ADMIN, "List the host aggregates.", ("GET", "/os-aggregates"))]
