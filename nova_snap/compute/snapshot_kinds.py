# SPDX-License-Identifier: Apache-2.0
"""What distinguishes a snapshot from a backup; all else about them is the same."""

import dataclasses
from typing import Final

from nova_snap.compute import image_properties, task_states
from nova_snap.objects import instance_action


@dataclasses.dataclass(frozen=True)
class Kind:
    """A way to ask for an image of an instance.

    :ivar action: the name of the action, and of what is refused in messages to the user.
    :ivar image_type: the image's property of that name.
    :ivar announced: the task_state in which an instance waits for its host.
    :ivar event: the name of the action's step on the host.
    """

    action: str
    image_type: str
    announced: str
    event: str


SNAPSHOT: Final = Kind(
    instance_action.CREATE_IMAGE,
    image_properties.SNAPSHOT,
    task_states.IMAGE_SNAPSHOT_PENDING,
    "compute_snapshot_instance",
)
BACKUP: Final = Kind(
    instance_action.CREATE_BACKUP,
    image_properties.BACKUP,
    task_states.IMAGE_BACKUP,
    "compute_backup_instance",
)

ANNOUNCED: Final = (SNAPSHOT.announced, BACKUP.announced)
"""The task_states of requests that no host has taken up yet."""
