# SPDX-License-Identifier: Apache-2.0
"""Who may have backups of a server taken. Name and default are Nova's."""

from typing import Final

from nova_snap.api.policies import base

CREATE_BACKUP: Final = "os_compute_api:os-create-backup"

RULES = [
    base.rule(
        CREATE_BACKUP,
        base.PROJECT_MEMBER_OR_ADMIN,
        "Back a server up, and have older backups deleted.",
        ("POST", "/servers/{server_id}/action (createBackup)"),
    ),
]
