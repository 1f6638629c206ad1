# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in the demonstration itself, in words for whoever runs it."""

from __future__ import annotations

from tools._common.errors import ToolError


class ServiceLost(ToolError):
    """A service that was there does not answer any more."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} does not answer as it should: {reason}")


class SnapshotFailed(ToolError):
    """nova_snap could not take a snapshot; the reason is what it has on record."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"snapshot {name} failed: {reason}")


class CheckFailed(ToolError):
    """An image, or a guest made from one, is not what it should be."""

    def __init__(self, what: str, found: str) -> None:
        super().__init__(f"check failed: {what}: {found}")
