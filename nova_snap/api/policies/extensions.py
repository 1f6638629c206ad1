# SPDX-License-Identifier: Apache-2.0
"""Who may see the list of extensions. Name and default are Nova's."""

from typing import Final

from nova_snap.api.policies import base

EXTENSIONS: Final = "os_compute_api:extensions"

RULES = [
    base.rule(
        EXTENSIONS,
        base.ANY,
        "List the parts of the API that were once extensions of it.",
        ("GET", "/extensions"),
        ("GET", "/extensions/{alias}"),
    ),
]
