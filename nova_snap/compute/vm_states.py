# SPDX-License-Identifier: Apache-2.0
"""What an instance is when nothing is being done to it. Names are Nova's."""

from typing import Final

ACTIVE: Final = "active"
BUILDING: Final = "building"
PAUSED: Final = "paused"
SUSPENDED: Final = "suspended"
STOPPED: Final = "stopped"
ERROR: Final = "error"
DELETED: Final = "deleted"

ALL: Final = (ACTIVE, BUILDING, PAUSED, SUSPENDED, STOPPED, ERROR, DELETED)

ALLOW_SNAPSHOT: Final = (ACTIVE, STOPPED, PAUSED, SUSPENDED)
"""The states in which createImage is accepted."""
