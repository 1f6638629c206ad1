# SPDX-License-Identifier: Apache-2.0
"""The user's own metadata of an instance, which several requests may change at the same time."""

from collections.abc import Callable

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.db import instance_queries
from nova_snap.db.session import retry_on_deadlock


@retry_on_deadlock
def change(
    context: RequestContext, uuid: str, new_from_old: Callable[[dict[str, str]], dict[str, str]]
) -> dict[str, str]:
    """Replace the metadata by what ``new_from_old`` makes of them; no change is lost.

    :param new_from_old: what it raises is raised, and nothing has changed.
    :returns: the new metadata.
    :raises nova_snap.exception.InstanceNotFound: if the instance was deleted.
    """
    with context.db.writer() as session:
        new = instance_queries.change_metadata(session, uuid, new_from_old)
    if new is None:
        raise exception.InstanceNotFound(instance_id=uuid)
    return new
