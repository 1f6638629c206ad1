# SPDX-License-Identifier: Apache-2.0
"""createImage of a server that boots from a volume: the data stay in the volume service.

Everything is done while the client waits, by the API: a snapshot of each volume, of one instant if
the guest can be quiesced, and an image without data that lists them. The instance is in task_state
image_snapshot_pending meanwhile, so that nothing else is done to it.
"""

from __future__ import annotations

import dataclasses
import io
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from oslo_config import cfg
from oslo_log import log
from oslo_utils import strutils

from nova_snap import exception
from nova_snap.compute import image_properties, snapshot_kinds, vm_states, volume_mapping
from nova_snap.compute.volume_set import VolumeAPI, VolumeSet, gone
from nova_snap.context import RequestContext
from nova_snap.objects.block_device import BlockDeviceMapping, BlockDeviceMappingList
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction, InstanceActionEvent
from nova_snap.volume.model import Volume

LOG = log.getLogger(__name__)

EVENT: Final = "api_snapshot_instance"

REQUEST_SECONDS: Final = 240.0
"""What a request may take beside ``[cinder] snapshot_timeout``. One that takes longer is given up:
by then the instance's host may take it for dead."""

_KIND: Final = snapshot_kinds.SNAPSHOT

# Of the properties of the image that a volume was made from, those that are about the image itself.
_NOT_KEPT: Final = ("image_id", "image_name", "signature_verified")

Image = Mapping[str, Any]


class Images(Protocol):
    """The image service, as snapshots of volume-backed servers use it."""

    def update(
        self,
        context: RequestContext,
        image_id: str,
        metadata: Mapping[str, Any],
        data: Any = None,
        size: int | None = None,
    ) -> Image:
        """Set properties and send the content."""


class Quiescing(Protocol):
    """The instance's host: see :class:`nova_snap.compute.rpcapi.ComputeAPI`."""

    def quiesce_instance(self, ctxt: RequestContext, instance: Instance, image_id: str) -> None:
        """Freeze the guest's file systems."""

    def unquiesce_instance(self, ctxt: RequestContext, instance: Instance, image_id: str) -> None:
        """Thaw them."""

    def abandon_quiesce(self, ctxt: RequestContext, instance: Instance, image_id: str) -> None:
        """Have them thawed, without waiting for it."""


class VolumeSnapshots:
    """Takes them.

    :param image_api: such as :class:`nova_snap.image.glance.API`.
    :param volume_api: such as :class:`nova_snap.volume.cinder.API`.
    """

    def __init__(
        self, conf: cfg.ConfigOpts, image_api: Images, volume_api: VolumeAPI, hosts: Quiescing
    ) -> None:
        self._host: str = conf.host
        self._seconds: int = conf.cinder.snapshot_timeout
        self._image_api = image_api
        self._volume_api = volume_api
        self._hosts = hosts

    def take(
        self,
        context: RequestContext,
        instance: Instance,
        name: str,
        create_image: Callable[[], Image],
        discard_image: Callable[[str], None],
    ) -> Image:
        """Make the snapshots and the image.

        :param instance: in a state to be snapshotted.
        :param name: the image's name.
        :param create_image: makes the image's record, in status ``queued``.
        :param discard_image: deletes an image by its id, and never raises.
        :returns: the image's record.
        :raises nova_snap.exception.VolumeSnapshotQuotaExceeded: if the project may not have so
            many snapshots.
        :raises nova_snap.exception.InvalidVolume: if a volume cannot be snapshotted.
        :raises nova_snap.exception.InstanceInvalidState: if another request was faster.
        :raises nova_snap.exception.QuiesceUnsupported: or QuiesceFailed, MessagingUnavailable, if
            the guest must be quiesced and cannot be.
        :raises nova_snap.exception.VolumeServiceError: if the volume service cannot do it.
        :raises nova_snap.exception.ImageServiceError: or ImageForbidden, InvalidImageProperty, if
            the image service cannot. Whatever is raised, the instance is as it was, and neither
            snapshots nor an image are left.
        """
        started = time.monotonic()
        disks = BlockDeviceMappingList.get_by_instance_uuid(context, instance.uuid)
        volume_ids = [disk.volume_id for disk in disks if disk.is_volume and disk.volume_id]
        self._check_quota(context, len(volume_ids))
        volumes = [self._get_volume(context, instance, each) for each in volume_ids]
        _complete(instance, disks, volumes)
        image = create_image()
        try:
            self._claim(instance, image["id"])
        except Exception:
            discard_image(image["id"])
            raise
        work = _Work(context, instance, image["id"], name, disks, volumes, started)
        try:
            self._recorded(work)
        except Exception:
            discard_image(image["id"])
            self._free(instance)
            raise
        self._free(instance)
        LOG.info("Snapshot of instance %s to image %s is done", instance.uuid, image["id"])
        return image

    # -- before anything is done -----------------------------------------------------------

    def _check_quota(self, context: RequestContext, count: int) -> None:
        limits = self._volume_api.get_snapshot_limits(context)
        if not limits.has_room_for(count):
            raise exception.VolumeSnapshotQuotaExceeded(
                wanted=count, used=limits.used, maximum=limits.maximum
            )

    def _get_volume(self, context: RequestContext, instance: Instance, volume_id: str) -> Volume:
        try:
            volume = self._volume_api.get_volume(context, volume_id)
        except exception.VolumeNotFound as error:
            raise gone(volume_id) from error
        if volume.status.startswith("error"):
            reason = f"volume {volume_id} is in status {volume.status}"
            raise exception.InvalidVolume(reason=reason)
        if volume.attached_to and instance.uuid not in volume.attached_to:
            reason = f"volume {volume_id} is attached to another server"
            raise exception.InvalidVolume(reason=reason)
        return volume

    def _claim(self, instance: Instance, image_id: str) -> None:
        instance.task_state = _KIND.announced
        instance.snapshot_image_id = image_id
        try:
            instance.save(expected_task_state=[None])
        except exception.UnexpectedTaskState as error:
            raise exception.InstanceInvalidState(
                instance_uuid=instance.uuid,
                attr="task_state",
                state=error.actual,
                method=_KIND.action,
            ) from error

    def _free(self, instance: Instance) -> None:
        """Never raises: whatever has become of the instance, the snapshot has ended."""
        image_id = instance.snapshot_image_id
        instance.end_snapshot()
        try:
            instance.save(expected_task_state=[_KIND.announced], expected_image_id=image_id)
        except (exception.UnexpectedTaskState, exception.InstanceNotFound) as error:
            LOG.info("Instance %s is in other hands: %s", instance.uuid, error)
        except Exception:
            LOG.exception("Instance %s stays in %s for now", instance.uuid, _KIND.announced)

    # -- while the instance is ours --------------------------------------------------------

    def _recorded(self, work: _Work) -> None:
        """With an action, whose end says why it failed."""
        context = work.context
        action = InstanceAction.start(context, work.instance.uuid, _KIND.action)
        try:
            with InstanceActionEvent.record(context, action, EVENT, self._host) as event:
                event.details = self._run(work)
        except Exception as error:
            LOG.error(
                "Snapshot of instance %s to image %s failed (method volumes): %s",
                work.instance.uuid,
                work.image_id,
                error,
                exc_info=not isinstance(error, exception.NovaSnapError),
            )
            action.finish(context, exception.for_user(error))
            raise
        action.finish(context)

    def _run(self, work: _Work) -> str:
        """:returns: what was done, in words."""
        context, image_id = work.context, work.image_id
        snapshots = VolumeSet(self._volume_api, context, image_id, self._seconds)
        try:
            quiesced = self._at_one_instant(work, lambda: self._make(work, snapshots))
            made = snapshots.by_volume
            limit = REQUEST_SECONDS + self._seconds
            if time.monotonic() - work.started > limit:
                reason = "quiescing the guest and making the snapshots took all of it"
                raise exception.VolumeSnapshotTimeout(seconds=limit, reason=reason)
            self._activate(work, made)
        except Exception:
            snapshots.delete()
            raise
        frozen = "quiesced" if quiesced else "not quiesced"
        return f"volumes, {frozen}: snapshots {', '.join(made.values()) or 'none'}"

    def _make(self, work: _Work, snapshots: VolumeSet) -> None:
        for volume in work.volumes:
            snapshots.create(volume, work.name)
        snapshots.wait()

    def _activate(self, work: _Work, snapshots: Mapping[str, str]) -> None:
        """An image without data becomes active by being sent none."""
        properties = volume_mapping.properties(
            work.disks, snapshots, work.instance.root_device_name
        )
        metadata = {"disk_format": "raw", "container_format": "bare", "properties": properties}
        self._image_api.update(work.context, work.image_id, metadata, io.BytesIO(), 0)

    # -- quiescing -------------------------------------------------------------------------

    def _at_one_instant(self, work: _Work, make: Callable[[], None]) -> bool:
        """Make the snapshots while the guest is frozen, if it can be.

        :returns: whether it was, from before the first snapshot until after the last.
        """
        if not self._freeze(work):
            make()
            return False
        context, instance = work.context, work.instance
        try:
            make()
        except Exception:
            self._abandon(work)
            raise
        try:
            self._hosts.unquiesce_instance(context, instance, work.image_id)
        except (exception.QuiesceFailed, exception.MessagingUnavailable) as error:
            if work.quiesce_required:
                raise
            LOG.warning("The snapshot of instance %s may not be of one instant: %s", instance.uuid,
                        error)  # fmt: skip
            return False
        return True

    def _freeze(self, work: _Work) -> bool:
        instance = work.instance
        if instance.vm_state != vm_states.ACTIVE or not work.quiesce_wanted:
            return False
        try:
            self._hosts.quiesce_instance(work.context, instance, work.image_id)
        except exception.NovaSnapError as error:
            if not isinstance(error, exception.QuiesceUnsupported):
                # It may be frozen all the same, or become so.
                self._abandon(work)
            if work.quiesce_required:
                raise
            LOG.warning("Instance %s is not quiesced for its snapshot: %s", instance.uuid, error)
            return False
        return True

    def _abandon(self, work: _Work) -> None:
        """Never raises: the host thaws the guest by itself, if it does not hear of it."""
        try:
            self._hosts.abandon_quiesce(work.context, work.instance, work.image_id)
        except Exception as error:
            LOG.error(
                "Host %s is not told to thaw instance %s, and does so when [libvirt] "
                "quiesce_timeout is over: %s",
                work.instance.host,
                work.instance.uuid,
                error,
            )


@dataclasses.dataclass(frozen=True)
class _Work:
    """One snapshot; ``started`` by the monotonic clock."""

    context: RequestContext
    instance: Instance
    image_id: str
    name: str
    disks: Sequence[BlockDeviceMapping]
    volumes: Sequence[Volume]
    started: float

    @property
    def quiesce_required(self) -> bool:
        return self._says("os_require_quiesce")

    @property
    def quiesce_wanted(self) -> bool:
        return self.quiesce_required or self._says("hw_qemu_guest_agent")

    def _says(self, name: str) -> bool:
        return strutils.bool_from_string(self.instance.image_properties.get(name))


def _complete(
    instance: Instance, disks: Sequence[BlockDeviceMapping], volumes: Sequence[Volume]
) -> None:
    """Keep with the instance what the image says that its root volume was made from: an instance
    that boots from a volume has no other image. What is known of it already wins."""
    root = next((disk.volume_id for disk in disks if disk.is_root), None)
    for volume in volumes:
        if volume.id == root and volume.image_properties:
            kept = image_properties.kept_with_instance(volume.image_properties)
            for key in _NOT_KEPT:
                kept.pop(f"image_{key}", None)
            instance.system_metadata = {**kept, **instance.system_metadata}
