# SPDX-License-Identifier: Apache-2.0
"""Snapshots and backups."""

from collections.abc import Sequence

from nova_snap.exception.base import Conflict, Invalid, NovaSnapError, printable


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


class HostDown(Conflict):
    """:ivar method: what was asked for."""

    instance_uuid: str
    host: str
    method: str
    msg = (
        "Cannot '{self.method}' instance {self.instance_uuid} while its compute host "
        "{self.host} is down"
    )
    user_msg = (
        "Cannot '{self.method}' instance {self.instance_uuid} while its compute host is down; "
        "try again later."
    )


class HostLost(NovaSnapError):
    """:ivar phase: the task_state that the host left the instance in."""

    host: str
    phase: str | None
    seconds: float
    msg = (
        "Compute host {self.host} has not reported for {self.seconds:g} s; it was in {self.phase}."
    )
    user_msg = (
        "The compute host is down since {self.phase}, and was not back within {self.seconds:g} s."
    )


class SnapshotDropped(NovaSnapError):
    """:ivar phase: the task_state that nobody works on any more."""

    host: str
    phase: str | None
    msg = "Nothing on compute host {self.host} works on the snapshot any more; it was {self.phase}."
    user_msg = "The snapshot was lost on its compute host during {self.phase}; try again."


class SnapshotCancelled(NovaSnapError):
    """The service itself has stopped a snapshot that could have gone on."""


class SnapshotTimeout(SnapshotCancelled):
    seconds: float
    msg = (
        "The snapshot did not end within {self.seconds:g} s ([DEFAULT] snapshot_timeout) "
        "and was cancelled."
    )
    user_msg = "The snapshot did not end within {self.seconds:g} s and was cancelled."


class ServiceStopping(SnapshotCancelled):
    msg = "The compute service was stopped before the snapshot was done; try again."


class SnapshotFailed(NovaSnapError):
    """:ivar phase: the task_state during which it failed.

    :ivar warnings: what besides is not as it was, in words for the user.
    """

    instance_uuid: str
    image_id: str
    method: str
    phase: str
    reason: str
    msg = "Snapshot by method {self.method} failed during {self.phase}: {self.reason}"
    unforeseen = "an unexpected error; the log of the compute host has it."
    warnings: Sequence[str] = ()

    def for_user(self) -> str:
        """The message with as much of the first error as a client may read."""
        cause = self.__cause__
        reason = cause.for_user() if isinstance(cause, NovaSnapError) else self.unforeseen
        failed = f"Snapshot by method {self.method} failed during {self.phase}: {reason}"
        return printable(" ".join((*self.warnings, failed)))


class SnapshotIncomplete(NovaSnapError):
    """:ivar status: of an image that should be active."""

    image_id: str
    status: str
    msg = "The snapshot was said to be done, but image {self.image_id} is {self.status}."


class SnapshotInterrupted(NovaSnapError):
    """:ivar phase: the task_state that the process died in.

    :ivar warnings: what besides is not as it was, in words for the user.
    """

    host: str
    phase: str | None
    warnings: Sequence[str] = ()
    msg = "The compute service of host {self.host} was restarted during {self.phase}."
    user_msg = "The compute service was restarted during {self.phase}."

    def for_user(self) -> str:
        """The message, after what the user has to see to."""
        return " ".join((*self.warnings, super().for_user()))


class SnapshotMethodUnavailable(NovaSnapError):
    method: str
    reason: str
    msg = "Snapshot method {self.method} cannot be used: {self.reason}"
