# SPDX-License-Identifier: Apache-2.0
"""Hosts under names that tell nothing of them."""

import hashlib


def host_id(project_id: str, host: str | None) -> str:
    """The host as a project sees it: another project sees another name. Empty for no host."""
    if not host:
        return ""
    return hashlib.sha224((project_id + host).encode()).hexdigest()
