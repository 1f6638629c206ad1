# SPDX-License-Identifier: Apache-2.0
"""Snapshots of volume-backed servers whose API process died before it could end them."""

import datetime
from collections.abc import Mapping
from typing import Final

from oslo_config import cfg
from oslo_log import log
from oslo_utils import timeutils

from nova_snap import exception
from nova_snap.compute import endings, recovery, task_states, volume_set
from nova_snap.compute.image_pass import ImagePass, Images
from nova_snap.compute.periodic import Task
from nova_snap.compute.volume_set import VolumeAPI
from nova_snap.compute.volume_snapshots import REQUEST_SECONDS
from nova_snap.context import RequestContext
from nova_snap.objects.block_device import BlockDeviceMappingList
from nova_snap.objects.instance import Instance, InstanceFilters, InstanceList
from nova_snap.objects.instance_action import InstanceAction

LOG = log.getLogger(__name__)

# The clocks of the API's host and of this one may differ by so much.
_CLOCKS_SECONDS: Final = 60.0

WHAT: Final = "end snapshots of volume-backed servers that nobody ends"

_CLAIMED: Final = task_states.IMAGE_SNAPSHOT_PENDING


class VolumeLeftovers:
    """Ends them, by whichever process sees one first: the volumes' snapshots are deleted, the image
    is, and the instance is free, with a reason. The guest is thawed by its host's driver."""

    def __init__(self, conf: cfg.ConfigOpts, image_api: Images, volume_api: VolumeAPI) -> None:
        self._host: str = conf.host
        self._patience = REQUEST_SECONDS + conf.cinder.snapshot_timeout + _CLOCKS_SECONDS
        self._image_api = image_api
        self._volume_api = volume_api

    def tasks(self) -> Mapping[str, Task]:
        """What it does from time to time, by what to call that in the log."""
        return {WHAT: self.end_overdue}

    def end_overdue(self, context: RequestContext) -> None:
        """End those that take longer than any API that lives lets them."""
        self._end(context, InstanceFilters(task_states=[_CLAIMED]), self._patience)

    def end_all(self, context: RequestContext) -> None:
        """End every one of this host, for a process that was their API too."""
        self._end(context, InstanceFilters(host=self._host, task_states=[_CLAIMED]), 0.0)

    def _end(self, context: RequestContext, filters: InstanceFilters, patience: float) -> None:
        images = ImagePass(self._image_api)
        limit = timeutils.utcnow() - datetime.timedelta(seconds=patience)
        for instance in InstanceList.get_by_filters(context, filters):
            volume_ids = volumes_of(context, instance)
            if not volume_ids:
                continue
            action = recovery.unfinished_action(context, instance)
            since = instance.updated_at if action is None else action.start_time
            if since is None or since > limit:
                continue
            try:
                self._give_up(context, images, instance, volume_ids, action)
            except exception.NovaSnapError as error:
                LOG.warning("Instance %s is left for the next time: %s", instance.uuid, error)

    def _give_up(
        self,
        context: RequestContext,
        images: Images,
        instance: Instance,
        volume_ids: list[str],
        action: InstanceAction | None,
    ) -> None:
        image_id = instance.snapshot_image_id
        # If the image service cannot be asked, then it is left for the next time.
        active = image_id is not None and _is_active(images, context, image_id)
        error = exception.VolumeSnapshotInterrupted(seconds=self._patience)
        if image_id is not None and not active:
            LOG.error("Snapshot of instance %s to image %s: %s", instance.uuid, image_id, error)
            # Before it is taken over: should this process die in between, whoever ends it then
            # knows nothing of volumes.
            own = _for_volumes(context, instance)
            volume_set.discard(self._volume_api, own, volume_ids, image_id)
        if not _take_over(instance, image_id):
            return
        if active:
            # The API had done all but to say so, and the image needs its snapshots.
            self._complete(context, instance, action)
            return
        for event in action.events(context) if action is not None else ():
            if event.finish_time is None:
                event.fail(context, error.for_user())
        host = instance.host or self._host
        recovery.give_up(context, images, instance, image_id, host, action, error)

    def _complete(
        self, context: RequestContext, instance: Instance, action: InstanceAction | None
    ) -> None:
        if action is not None:
            endings.end_well(context, action)
        image_id = instance.snapshot_image_id
        instance.end_snapshot()
        instance.save(expected_task_state=[task_states.IMAGE_SNAPSHOT], expected_image_id=image_id)


def _is_active(images: Images, context: RequestContext, image_id: str) -> bool:
    """:raises nova_snap.exception.NovaSnapError: if the image service cannot be asked."""
    try:
        return bool(images.get(context, image_id)["status"] == "active")
    except exception.ImageNotFound:
        return False


def _take_over(instance: Instance, image_id: str | None) -> bool:
    """Whether it is ours: from here on no API can end it, and nobody else does."""
    try:
        instance.refresh()
        if instance.snapshot_image_id != image_id:
            # Somebody was faster, and the next request is under way.
            return False
        instance.task_state = task_states.IMAGE_SNAPSHOT
        instance.save(expected_task_state=[_CLAIMED], expected_image_id=image_id)
    except (exception.UnexpectedTaskState, exception.InstanceNotFound):
        return False
    return True


def volumes_of(context: RequestContext, instance: Instance) -> list[str]:
    """The volumes of a volume-backed instance; none of any other, whose volumes no snapshot
    touches."""
    disks = BlockDeviceMappingList.get_by_instance_uuid(context, instance.uuid)
    root = disks.root_bdm()
    if root is not None and not root.is_volume:
        return []
    return [disk.volume_id for disk in disks if disk.is_volume and disk.volume_id]


def _for_volumes(context: RequestContext, instance: Instance) -> RequestContext:
    """The service itself, in the instance's project: without Keystone, the volume service's URL
    has to name one."""
    own = context.elevated()
    own.project_id = own.project_id or instance.project_id
    return own
