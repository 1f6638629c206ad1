# SPDX-License-Identifier: Apache-2.0
"""Instances, their states and their lives."""

from collections.abc import Iterable

from nova_snap.exception.base import Conflict, Invalid, NotFound, NovaSnapError, printable
from nova_snap.exception.snapshots import SnapshotFailed


class InstanceNotFound(NotFound):
    instance_id: str
    msg = "Instance {self.instance_id} could not be found."


class InstanceActionNotFound(NotFound):
    """:ivar request_id: of the request that has asked for it."""

    request_id: str
    msg = "Action {self.request_id} not found"


class ConsoleNotAvailable(NotFound):
    instance_uuid: str
    reason: str
    msg = "The console of instance {self.instance_uuid} is not available: {self.reason}"
    user_msg = "Guest does not have a console available."


class InstanceInvalidState(Conflict):
    """:ivar attr: which state is wrong: ``vm_state``, ``task_state`` or ``launched_at``."""

    instance_uuid: str
    attr: str
    state: str | None
    method: str
    msg = (
        "Cannot '{self.method}' instance {self.instance_uuid} while it is in "
        "{self.attr} {self.state}"
    )


class InstanceNotReady(Conflict):
    instance_uuid: str
    msg = "Instance {self.instance_uuid} is not ready."


class InstanceBusy(Conflict):
    """:ivar seconds: how long was waited."""

    instance_uuid: str
    seconds: float
    msg = (
        "What is being done to instance {self.instance_uuid} did not end within {self.seconds:g} s"
    )


class UnexpectedTaskState(Conflict):
    """A compare-and-swap found another state than the one that was expected."""

    instance_uuid: str
    expected: Iterable[str | None]
    actual: str | None
    msg = (
        "Instance {self.instance_uuid} was expected in task_state {self.expected}, "
        "but it is in {self.actual}"
    )


class SnapshotReplaced(UnexpectedTaskState):
    """A step of a snapshot found the instance claimed for another one, or for none.

    :ivar image_id: that it is claimed for.
    """

    image_id: str | None
    msg = (
        "Instance {self.instance_uuid} is in {self.actual} for image {self.image_id} by now: its "
        "state was reset meanwhile"
    )
    user_msg = "The instance's state was reset before the snapshot was done."


class AlreadyAdopted(Conflict):
    instance_uuid: str
    host: str
    msg = "Instance {self.instance_uuid} is already adopted on host {self.host}."


class InvalidTransition(Invalid):
    old: str | None
    new: str | None
    msg = "No step leads from task_state {self.old} to {self.new}."


class InvalidInstancePrimitive(Invalid):
    reason: str
    msg = "The instance in the message is neither a uuid nor a serialised Instance: {self.reason}"


class InvalidImageId(Invalid):
    image_id: str
    msg = "The image in the message is {self.image_id}, which is no uuid"


class LifecycleInterrupted(NovaSnapError):
    """:ivar action: what the process did when it died."""

    host: str
    action: str
    msg = "The compute service of host {self.host} was restarted during {self.action}."
    user_msg = "The compute service was restarted during {self.action}."


class LifecycleTimeout(NovaSnapError):
    """:ivar seconds: how long was waited."""

    action: str
    seconds: float
    msg = "The {self.action} did not end within {self.seconds:g} s."


class SpawnFailed(NovaSnapError):
    """:ivar phase: what was being done, in words."""

    instance_uuid: str
    phase: str
    reason: str
    msg = "Instance {self.instance_uuid} could not be made ({self.phase}): {self.reason}"

    def for_user(self) -> str:
        """The message with as much of the first error as a client may read."""
        cause = self.__cause__
        reason = cause.for_user() if isinstance(cause, NovaSnapError) else SnapshotFailed.unforeseen
        return f"The instance could not be made ({printable(self.phase)}): {reason}"
