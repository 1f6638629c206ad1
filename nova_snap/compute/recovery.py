# SPDX-License-Identifier: Apache-2.0
"""Ending a snapshot that cannot go on: when it failed, and when its process died."""

import contextlib
import traceback
from collections.abc import Container, Mapping, Sequence
from typing import Any, Protocol

from oslo_db import exception as db_exception
from oslo_log import log

from nova_snap import context as nova_context
from nova_snap import exception
from nova_snap.compute import endings, image_sets, one_by_one, records, snapshot_kinds, task_states
from nova_snap.compute.image_pass import ImagePass, Images
from nova_snap.context import RequestContext
from nova_snap.db.session import Database, retry_on_failover
from nova_snap.objects.instance import Instance, InstanceFilters, InstanceList
from nova_snap.objects.instance_action import InstanceAction, InstanceActionEvent
from nova_snap.objects.instance_fault import InstanceFault
from nova_snap.objects.snapshot_request import GIVEN_UP, SnapshotRequest
from nova_snap.virt.driver import ComputeDriver, ImageUploader

LOG = log.getLogger(__name__)

_FAULT_CODE = 500

_RESTARTED = "The compute service was restarted."

INCOMPLETE = ("queued", "saving", "uploading", "importing", "killed")
"""Statuses of an image that a snapshot was to become, and is not."""

# The driver is done with it, and there is to be no image.
_GIVEN_UP = (exception.SnapshotFailed, exception.SnapshotCancelled)

# Somebody has taken the instance away: a user who deletes it, an administrator who resets its
# state, or who ends the snapshot from elsewhere.
_TAKEN_AWAY = (exception.UnexpectedTaskState, exception.InstanceNotFound)

# They say that nobody wrote down how it ended, and not how that was.
_OF_THE_RECORDS = (db_exception.DBError, exception.SnapshotDropped, exception.HostLost)


class ImageStore(ImageUploader, Images, Protocol):
    """The image service, as a compute host uses it."""


def delete_images(
    image_api: Images,
    context: RequestContext,
    image_id: str,
    statuses: Container[str] | None = None,
) -> None:
    """Delete the image of a snapshot that failed, and those of the other disks. Never raises.

    :param image_id: of the root disk. It is the last to go, and the journal forgets it then: as
        long as there may be others, whoever looks for what is left finds them by it.
    :param statuses: leave all of them alone if it is in any other than these.
    """
    further = _unwanted_further(image_api, context, image_id, statuses)
    for further_id in further or ():
        delete_image(image_api, context, further_id)
    left = image_sets.find_further(image_api, context, image_id) if further else further
    if left != []:
        LOG.error("Image %s stays as long as there may be others of its set", image_id)
        return
    delete_image(image_api, context, image_id, statuses)


def delete_left(image_api: Images, context: RequestContext, image_id: str) -> None:
    """Delete the images of a snapshot that no process lived to end. Whole ones stay, unless the
    journal says that they were given up.

    :raises oslo_db.exception.DBError: if the journal cannot be read.
    """
    request = SnapshotRequest.get(context, image_id)
    given_up = request is not None and request.phase == GIVEN_UP
    delete_images(image_api, context, image_id, None if given_up else INCOMPLETE)


def _unwanted_further(
    image_api: Images,
    context: RequestContext,
    image_id: str,
    statuses: Container[str] | None,
) -> Sequence[str] | None:
    """``None`` if nobody can tell."""
    try:
        record = _look_at(image_api, context, image_id)
    except exception.ImageNotFound:
        # Nobody can tell any more whether there were others.
        return image_sets.find_further(image_api, context, image_id)
    except exception.NovaSnapError as error:
        LOG.warning("Image %s cannot be looked at: %s", image_id, error)
        return None
    if not image_sets.is_in_set(record):
        return []
    if statuses is not None and record["status"] not in statuses:
        return []
    return image_sets.find_further(image_api, context, image_id)


def _look_at(image_api: Images, context: RequestContext, image_id: str) -> Mapping[str, Any]:
    try:
        return image_api.get(context, image_id)
    except exception.ImageForbidden:
        return image_api.get(nova_context.get_admin_context(), image_id)


def delete_image(
    image_api: Images,
    context: RequestContext,
    image_id: str,
    statuses: Container[str] | None = None,
) -> bool:
    """Delete an image that will never be what it was to be. Never raises.

    Where the user's token is not enough, because it was revoked or has expired, the service's own
    has to be.

    The journal forgets it, unless the image service cannot be asked: the image is then looked for
    later.

    :param statuses: leave it alone in any other than these.
    :returns: False if it was left alone for its status.
    """
    deleted = True
    try:
        try:
            deleted = _delete_image(image_api, context, image_id, statuses)
        except exception.ImageNotFound:
            LOG.info("Image %s is gone already", image_id)
        except exception.ImageForbidden as error:
            LOG.info("Image %s: %s; the service itself tries", image_id, error)
            own = nova_context.get_admin_context()
            with contextlib.suppress(exception.ImageNotFound):
                deleted = _delete_image(image_api, own, image_id, statuses)
        SnapshotRequest.forget(context, image_id)
    except Exception as error:
        # What comes after it, such as to free the instance, must not depend on it.
        foreseen = isinstance(error, exception.NovaSnapError)
        LOG.error(
            "Image %s is left behind: it cannot be deleted: %s",
            image_id,
            error,
            exc_info=not foreseen,
        )
    return deleted


def _delete_image(
    image_api: Images,
    context: RequestContext,
    image_id: str,
    statuses: Container[str] | None,
) -> bool:
    status = image_api.get(context, image_id)["status"]
    if statuses is not None and status not in statuses:
        LOG.info("Image %s is %s and stays", image_id, status)
        return False
    image_api.delete(context, image_id)
    return True


def give_up(
    context: RequestContext,
    image_api: Images,
    instance: Instance,
    image_id: str | None,
    host: str,
    action: InstanceAction | None,
    error: Exception,
) -> None:
    """End a failed snapshot: no image, a reason, task_state None. It has not failed if its image is
    whole, and only the records are not.

    The reason is written before the instance is free, so that whoever waits for that finds it.
    """
    # An image may be whole although the snapshot's end could not be recorded; but what the driver
    # gave up is not, even if the image service took all of it.
    given_up = image_id is not None and _is_given_up(context, image_id, action, error)
    if (
        image_id is not None
        and not given_up
        and isinstance(error, _OF_THE_RECORDS)
        and _is_active(image_api, context, image_id)
    ):
        _end_well(context, instance, image_id, action)
        return
    if image_id is not None:
        delete_images(image_api, context, image_id, None if given_up else INCOMPLETE)
    said = reason(error)
    if action is not None:
        action.finish(context, said, unless_ended=True)
    if isinstance(error, exception.InstanceNotFound):
        return
    if not isinstance(error, exception.ImageNotFound):
        InstanceFault(
            instance_uuid=instance.uuid,
            code=_FAULT_CODE,
            message=said,
            details="".join(traceback.format_exception(error)),
            host=host,
        ).create(context)
    _free(instance, image_id)


def _is_given_up(
    context: RequestContext,
    image_id: str,
    action: InstanceAction | None = None,
    error: Exception | None = None,
) -> bool:
    """Whether the snapshot was given up: by ``error``, and then the journal is told, or before, as
    the journal says. Never raises."""
    given_up = isinstance(error, _GIVEN_UP)
    try:
        if isinstance(error, _TAKEN_AWAY):
            # Who has ended it from elsewhere may have found its image whole.
            given_up = action is None or not _has_ended(context, action)
        if given_up:
            SnapshotRequest.give_up(context, image_id)
        else:
            request = SnapshotRequest.get(context, image_id)
            given_up = request is not None and request.phase == GIVEN_UP
    except db_exception.DBError as failure:
        LOG.warning("The journal of image %s cannot be used: %s", image_id, failure)
    return given_up


def _has_ended(context: RequestContext, action: InstanceAction) -> bool:
    find = retry_on_failover(InstanceAction.get_by_request_id)
    now = find(context, action.instance_uuid, action.request_id)
    return now is not None and now.finish_time is not None


def recover(
    database: Database,
    image_api: Images,
    driver: ComputeDriver,
    host: str,
    *,
    messages_survive: bool,
) -> None:
    """End every snapshot of this host that a process of before did not live to end.

    An image service that does not answer holds nothing up for long: the instances are free, with
    their reasons, and the journal keeps the images for the reaper, which lets whole ones be.

    :param messages_survive: a request that was not taken up yet is left alone, because its
        message is still with the broker. Messages inside of a process died with it.
    """
    context = nova_context.get_admin_context(database)
    images = ImagePass(image_api)
    waiting = snapshot_kinds.ANNOUNCED if messages_survive else ()
    states = [state for state in task_states.SNAPSHOT_STATES if state not in waiting]
    filters = InstanceFilters(host=host, task_states=states)
    for instance in InstanceList.get_by_filters(context, filters):
        with one_by_one.apart(LOG, "Instance %s could not be recovered", instance.uuid):
            _recover_instance(context, images, driver, instance, host)
    # What was done after an instance was free, such as a rotation, or to one that is gone by now.
    unknown = endings.end_all(context, images, host)
    InstanceActionEvent.fail_unfinished(context, host, _RESTARTED, spare=unknown)


def _recover_instance(
    context: RequestContext,
    image_api: Images,
    driver: ComputeDriver,
    instance: Instance,
    host: str,
) -> None:
    LOG.warning(
        "Instance %s was left in task_state %s for image %s",
        instance.uuid,
        instance.task_state,
        instance.snapshot_image_id,
    )
    warnings = driver.clean_up_after_restart(instance)
    image_id = instance.snapshot_image_id
    action = unfinished_action(context, instance)
    if (
        image_id is not None
        and not _is_given_up(context, image_id)
        and _is_active(image_api, context, image_id)
    ):
        _end_well(context, instance, image_id, action, warnings)
        return
    error = exception.SnapshotInterrupted(host=host, phase=instance.task_state, warnings=warnings)
    for event in action.events(context) if action is not None else ():
        if event.finish_time is None:
            event.fail(context, error.for_user())
    give_up(context, image_api, instance, image_id, host, action, error)


def _end_well(
    context: RequestContext,
    instance: Instance,
    image_id: str,
    action: InstanceAction | None,
    warnings: Sequence[str] = (),
) -> None:
    """The image is whole; only that could not be written down."""
    if action is not None:
        endings.end_well(context, action, warnings)
    _free(instance, image_id)
    SnapshotRequest.forget(context, image_id)


def unfinished_action(context: RequestContext, instance: Instance) -> InstanceAction | None:
    """The newest action of the instance that has not ended."""
    actions = InstanceAction.get_by_instance_uuid(context, instance.uuid)
    return next((action for action in actions if action.finish_time is None), None)


def _is_active(image_api: Images, context: RequestContext, image_id: str) -> bool:
    try:
        record: Mapping[str, Any] = image_api.get(context, image_id)
    except exception.NovaSnapError as error:
        LOG.warning("Image %s cannot be looked at: %s", image_id, error)
        return False
    return bool(record["status"] == "active")


def _free(instance: Instance, image_id: str | None) -> None:
    """task_state None, if the instance is still this snapshot's."""
    try:
        retry_on_failover(instance.refresh)()
        if instance.task_state in task_states.SNAPSHOT_STATES and (
            instance.snapshot_image_id == image_id
        ):
            expected = instance.task_state
            instance.end_snapshot()
            instance.save(expected_task_state=[expected], expected_image_id=image_id)
    except (exception.InstanceNotFound, exception.UnexpectedTaskState) as error:
        LOG.info("Instance %s is in other hands: %s", instance.uuid, error)


def reason(error: Exception) -> str:
    """In words for a user; what was not foreseen is not for him to read."""
    if isinstance(error, exception.ImageNotFound):
        return "The image was deleted while the snapshot was being taken."
    return records.reason(error)
