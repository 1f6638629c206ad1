# SPDX-License-Identifier: Apache-2.0
"""Actions of snapshots that have ended, and do not say so.

The instance is free before the action has its end. Where the database goes away, or the process
dies, between the two, only the journal's row is left of the snapshot. It goes last, and names the
request whose action that is.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from oslo_log import log
from oslo_utils import timeutils

from nova_snap import exception
from nova_snap.compute import backup, one_by_one, snapshot_kinds, task_states
from nova_snap.context import RequestContext
from nova_snap.objects import instance_action
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction, InstanceActionEvent
from nova_snap.objects.snapshot_request import ASKED, GIVEN_UP, SnapshotRequest

LOG = log.getLogger(__name__)

NOT_ROTATED: Final = "The backup is done, but older ones were not rotated."

_DETAILS: Final = "done; more of it was not written down"
_EVENTS: Final = (snapshot_kinds.SNAPSHOT.event, snapshot_kinds.BACKUP.event)


class Images(Protocol):
    """The image service, as far as it tells how a snapshot has ended."""

    def get(self, context: RequestContext, image_id: str) -> Mapping[str, Any]:
        """:raises nova_snap.exception.ImageNotFound:"""


def is_wanted(context: RequestContext, request: SnapshotRequest) -> bool:
    """Whether the instance still knows of the image: then the snapshot has not ended."""
    try:
        instance = Instance.get_by_uuid(context, request.instance_uuid)
    except exception.InstanceNotFound:
        return False
    return (
        instance.snapshot_image_id == request.image_id
        and instance.task_state in task_states.SNAPSHOT_STATES
    )


def without_end(context: RequestContext, request: SnapshotRequest) -> InstanceAction | None:
    """The action of a request, if it has none. The instance may be gone."""
    if request.request_id is None:
        return None
    action = InstanceAction.get_by_request_id(context, request.instance_uuid, request.request_id)
    if action is None or action.finish_time is not None or action.action != request.action:
        return None
    return action


def end_well(context: RequestContext, action: InstanceAction, warnings: Sequence[str] = ()) -> None:
    """Write down that a snapshot is done: in its action, and in those of its steps without an end.

    :param warnings: for the user, what besides is not as it was.
    """
    said, events = list(warnings), action.events(context)
    if action.action == instance_action.CREATE_BACKUP:
        said += _of_rotation(action, events)
    for event in events:
        if event.finish_time is not None:
            continue
        if event.event == backup.EVENT:
            event.fail(context, NOT_ROTATED)
        else:
            event.succeed(context, _DETAILS)
    action.finish(context, " ".join(said) or None, unless_ended=True)


def end(
    context: RequestContext, images: Images, request: SnapshotRequest, action: InstanceAction
) -> bool:
    """End the action of a request that nobody works on any more, as the snapshot has ended. The
    journal forgets one that has ended well; of any other there is still the image.

    :returns: whether it is known how: not, if the image service cannot be asked.
    """
    done = request.phase != GIVEN_UP and _is_done(context, images, request, action)
    if done is None:
        return False
    LOG.warning(
        "The %s of instance %s to image %s has ended %s, which was not written down",
        request.action,
        request.instance_uuid,
        request.image_id,
        "well" if done else "without an image",
    )
    if done:
        end_well(context, action)
        SnapshotRequest.forget(context, request.image_id)
        return True
    said = _why(request).for_user()
    for event in action.events(context):
        if event.finish_time is None:
            event.fail(context, said)
    action.finish(context, said, unless_ended=True)
    return True


def end_all(context: RequestContext, images: Images, host: str) -> list[int]:
    """End the actions of one host's requests that have ended, for its start.

    :returns: the ids of those of which it is not known how: they are left for later.
    """
    left: list[int] = []
    for request in SnapshotRequest.get_all(context, host=host):
        action = without_end(context, request)
        if action is None or is_wanted(context, request):
            continue
        known = False
        with one_by_one.apart(LOG, "It is not known how image %s has ended", request.image_id):
            known = end(context, images, request, action)
        if not known:
            left.append(action.id)
    return left


def _of_rotation(action: InstanceAction, events: Sequence[InstanceActionEvent]) -> list[str]:
    """What is to be said of it; nothing, if it went well."""
    rotation = next((event for event in events if event.event == backup.EVENT), None)
    if rotation is None or rotation.finish_time is None:
        return [NOT_ROTATED]
    return [action.message or NOT_ROTATED] if rotation.result == instance_action.ERROR else []


def _is_done(
    context: RequestContext, images: Images, request: SnapshotRequest, action: InstanceAction
) -> bool | None:
    """``None`` if nobody can tell."""
    for event in action.events(context):
        if event.event in _EVENTS and event.result == instance_action.SUCCESS:
            # The image may have been deleted since.
            return True
    try:
        return bool(images.get(context, request.image_id)["status"] == "active")
    except exception.ImageNotFound:
        return False
    except exception.NovaSnapError as error:
        LOG.warning("Image %s cannot be looked at: %s", request.image_id, error)
        return None


def _why(request: SnapshotRequest) -> exception.NovaSnapError:
    host = request.host or "-"
    if request.phase == ASKED:
        seconds = (timeutils.utcnow() - request.phase_since).total_seconds()
        return exception.RequestLost(host=host, seconds=round(seconds))
    return exception.SnapshotDropped(host=host, phase=request.phase)
