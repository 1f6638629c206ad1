# SPDX-License-Identifier: Apache-2.0
"""Snapshots and backups."""

from nova_snap.exception.base import Invalid, NovaSnapError


class VolumeBackedUnsupported(Invalid):
    instance_uuid: str
    msg = (
        "Instance {self.instance_uuid} boots from a volume; snapshots of volume-backed instances "
        "are not supported."
    )


class VolumeBackedBackup(Invalid):
    instance_uuid: str
    msg = (
        "Instance {self.instance_uuid} boots from a volume; backups of volume-backed instances "
        "are not supported."
    )


class InvalidRotation(Invalid):
    reason: str
    msg = "The backup's type must be text and its rotation a number from 0 on, but {self.reason}"


class RequestLost(NovaSnapError):
    """:ivar seconds: how long was waited for the message."""

    host: str
    seconds: float
    msg = "The request did not reach compute host {self.host} within {self.seconds:g} s."
    user_msg = "The request did not reach the compute host within {self.seconds:g} s; try again."


class SnapshotFailed(NovaSnapError):
    """:ivar phase: the task_state during which it failed."""

    instance_uuid: str
    image_id: str
    method: str
    phase: str
    reason: str
    msg = "Snapshot by method {self.method} failed during {self.phase}: {self.reason}"
    unforeseen = "an unexpected error; the log of the compute host has it."

    def for_user(self) -> str:
        """The message with as much of the first error as a client may read."""
        cause = self.__cause__
        reason = cause.for_user() if isinstance(cause, NovaSnapError) else self.unforeseen
        return f"Snapshot by method {self.method} failed during {self.phase}: {reason}"


class SnapshotInterrupted(NovaSnapError):
    """:ivar phase: the task_state that the process died in."""

    host: str
    phase: str | None
    msg = "The compute service of host {self.host} was restarted during {self.phase}."
    user_msg = "The compute service was restarted during {self.phase}."


class SnapshotMethodUnavailable(NovaSnapError):
    method: str
    reason: str
    msg = "Snapshot method {self.method} cannot be used: {self.reason}"
