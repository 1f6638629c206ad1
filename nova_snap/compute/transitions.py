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
        # Done.
        (ts.IMAGE_UPLOADING, None),
        # Failed, or refused: from wherever it was.
        (ts.IMAGE_SNAPSHOT_PENDING, None),
        (ts.IMAGE_SNAPSHOT, None),
        (ts.IMAGE_PENDING_UPLOAD, None),
        (ts.IMAGE_BACKUP, None),
        # The API accepts a createBackup, and the compute service takes it up.
        (None, ts.IMAGE_BACKUP),
        (ts.IMAGE_BACKUP, ts.IMAGE_SNAPSHOT),
        # A delete may come at any time.
        *((state, ts.DELETING) for state in (None, *ts.SNAPSHOT_STATES)),
        # A delete that failed.
        (ts.DELETING, None),
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
