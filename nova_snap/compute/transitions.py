# SPDX-License-Identifier: Apache-2.0
"""Which task_state may follow which, as data.

``Instance.save`` refuses a step that is not in the table, so that a new step is a line here
before it is code anywhere.
"""

from collections.abc import Iterable
from typing import Final

from nova_snap import exception
from nova_snap.compute import task_states as ts

ALLOWED: Final[frozenset[tuple[str | None, str | None]]] = frozenset(
    {
        # The API accepts a createImage.
        (None, ts.IMAGE_SNAPSHOT_PENDING),
        # The compute service takes the request up.
        (ts.IMAGE_SNAPSHOT_PENDING, ts.IMAGE_SNAPSHOT),
        # The same for a cast that came from another service and not through our API.
        (None, ts.IMAGE_SNAPSHOT),
        # The driver has begun to take the content.
        (ts.IMAGE_SNAPSHOT, ts.IMAGE_PENDING_UPLOAD),
        # The content goes to the image service.
        (ts.IMAGE_PENDING_UPLOAD, ts.IMAGE_UPLOADING),
        # The API accepts a createBackup, and the compute service takes it up.
        (None, ts.IMAGE_BACKUP),
        (ts.IMAGE_BACKUP, ts.IMAGE_SNAPSHOT),
        # A service that stops puts off what has not begun: it waits for the host again.
        (ts.IMAGE_SNAPSHOT, ts.IMAGE_SNAPSHOT_PENDING),
        (ts.IMAGE_SNAPSHOT, ts.IMAGE_BACKUP),
        # The host takes a new server up, which is made in task_state scheduling.
        (ts.SCHEDULING, ts.SPAWNING),
        # The API accepts an action on the guest, or the power state is put right.
        (None, ts.POWERING_ON),
        (None, ts.POWERING_OFF),
        (None, ts.PAUSING),
        (None, ts.UNPAUSING),
        (None, ts.SUSPENDING),
        (None, ts.RESUMING),
        (None, ts.REBOOTING),
        (None, ts.REBOOTING_HARD),
        # The host has begun to reboot the guest.
        (ts.REBOOTING, ts.REBOOT_STARTED),
        (ts.REBOOTING_HARD, ts.REBOOT_STARTED_HARD),
        # A hard reboot is the way out of what hangs.
        (ts.REBOOTING, ts.REBOOTING_HARD),
        (ts.REBOOT_STARTED, ts.REBOOTING_HARD),
        (ts.REBOOT_STARTED_HARD, ts.REBOOTING_HARD),
        (ts.PAUSING, ts.REBOOTING_HARD),
        (ts.UNPAUSING, ts.REBOOTING_HARD),
        (ts.SUSPENDING, ts.REBOOTING_HARD),
        (ts.RESUMING, ts.REBOOTING_HARD),
        # Done, failed, refused, or reset by an administrator: from wherever it was.
        *((state, None) for state in ts.ALL),
        # A delete may come at any time.
        *((state, ts.DELETING) for state in (None, *ts.ALL) if state != ts.DELETING),
    }
)


def check(expected: Iterable[str | None], new: str | None) -> None:
    """Refuse a step that the table does not have.

    :param expected: the states from which the step is taken.
    :param new: the state that it leads to. Staying where one is, is no step.
    :raises InvalidTransition: if one of the steps is not in the table.
    """
    for old in expected:
        if old != new and (old, new) not in ALLOWED:
            raise exception.InvalidTransition(old=old, new=new)
