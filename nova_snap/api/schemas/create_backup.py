# SPDX-License-Identifier: Apache-2.0
"""What a request for a backup looks like."""

from typing import Final

from nova_snap.api.schemas.types import METADATA, NAME, NUMBER, STRING, closed

CREATE_BACKUP: Final = closed(
    {
        "createBackup": closed(
            {"name": NAME, "backup_type": STRING, "rotation": NUMBER, "metadata": METADATA},
            required=["name", "backup_type", "rotation"],
        )
    }
)
