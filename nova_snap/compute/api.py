# SPDX-License-Identifier: Apache-2.0
"""What may be asked of the compute service: everything that happens before a host is involved."""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from oslo_config import cfg
from oslo_db import exception as db_exception
from oslo_log import log
from oslo_utils import uuidutils

from nova_snap import exception
from nova_snap.compute import hosts, image_properties, snapshot_kinds, vm_states, volume_snapshots
from nova_snap.compute.rpcapi import ComputeAPI
from nova_snap.compute.snapshot_kinds import Kind
from nova_snap.compute.volume_set import VolumeAPI
from nova_snap.compute.volume_snapshots import VolumeSnapshots
from nova_snap.context import RequestContext
from nova_snap.objects.block_device import BlockDeviceMappingList
from nova_snap.objects.instance import Instance, InstanceFilters, InstanceList
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.objects.snapshot_request import SnapshotRequest
from nova_snap.virt.driver import data_properties

LOG = log.getLogger(__name__)


class ImageRecords(volume_snapshots.Images, Protocol):
    """The image service, as far as the compute API uses it."""

    def url(self, context: RequestContext, image_id: str) -> str:
        """Where a user finds the image."""

    def create(self, context: RequestContext, image_meta: Mapping[str, Any]) -> Mapping[str, Any]:
        """Make a record in status ``queued``."""

    def add_member(self, context: RequestContext, image_id: str, project_id: str) -> None:
        """Let another project use a shared image."""

    def delete(self, context: RequestContext, image_id: str) -> None:
        """Delete the image."""


class API:
    """The compute API.

    :param image_api: such as :class:`nova_snap.image.glance.API`.
    :param volume_api: such as :class:`nova_snap.volume.cinder.API`.
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        image_api: ImageRecords,
        compute_rpcapi: ComputeAPI,
        volume_api: VolumeAPI,
    ) -> None:
        self._conf = conf
        self.image_api = image_api
        self.compute_rpcapi = compute_rpcapi
        self._volume_snapshots = VolumeSnapshots(conf, image_api, volume_api, compute_rpcapi)

    # -- finding ---------------------------------------------------------------------------

    def get(self, context: RequestContext, instance_id: str) -> Instance:
        """The instance.

        :raises nova_snap.exception.InstanceNotFound: if there is none that the context may see.
        """
        return Instance.get_by_uuid(context, instance_id)

    def get_all(
        self,
        context: RequestContext,
        filters: InstanceFilters,
        *,
        limit: int | None = None,
        marker: str | None = None,
        sort: Sequence[tuple[str, str]] = (("created_at", "desc"),),
    ) -> list[Instance]:
        """A page of instances: see :meth:`nova_snap.objects.instance.InstanceList.get_by_filters`.

        :raises nova_snap.exception.MarkerNotFound: if the marker names no instance.
        :raises nova_snap.exception.InvalidFilter: if a filter's value cannot be used.
        """
        return InstanceList.get_by_filters(context, filters, limit=limit, marker=marker, sort=sort)

    # -- snapshots -------------------------------------------------------------------------

    def image_url(self, context: RequestContext, image_id: str) -> str:
        """Where a user finds the image of a snapshot."""
        return self.image_api.url(context, image_id)

    def is_volume_backed_instance(
        self, context: RequestContext, instance: Instance, bdms: BlockDeviceMappingList | None
    ) -> bool:
        """Whether the instance boots from a Cinder volume.

        :param bdms: its disks; ``None`` to have them read.
        """
        if bdms is None:
            bdms = BlockDeviceMappingList.get_by_instance_uuid(context, instance.uuid)
        root = bdms.root_bdm()
        if root is not None:
            return root.is_volume
        return instance.image_ref is None and any(bdm.is_volume for bdm in bdms)

    def snapshot(
        self,
        context: RequestContext,
        instance: Instance,
        name: str,
        extra_properties: Mapping[str, str] | None = None,
    ) -> Mapping[str, Any]:
        """Have a snapshot taken: returns when the instance's host has been asked.

        :param name: the image's name.
        :param extra_properties: the user's own image properties.
        :returns: the image's record, in status ``queued``: at least ``id``.
        :raises nova_snap.exception.InstanceInvalidState: if the instance's state forbids it. Of
            two requests at the same time one gets this.
        :raises nova_snap.exception.InstanceNotReady: if it is on no host.
        :raises nova_snap.exception.HostDown: if its host is down and ``[DEFAULT]
            snapshot_on_down_host`` is refuse.
        :raises nova_snap.exception.MessagingUnavailable: if its host cannot be asked.
        :raises nova_snap.exception.ImageServiceError: or ImageForbidden, InvalidImageProperty: if
            there is no record to be had. Whatever is raised, nothing was changed.
        """
        _check_instance_state(instance, snapshot_kinds.SNAPSHOT.action)
        send = functools.partial(self.compute_rpcapi.snapshot_instance, context, instance)
        return self._request(
            context, instance, name, snapshot_kinds.SNAPSHOT, extra_properties or {}, send
        )

    def backup(
        self,
        context: RequestContext,
        instance: Instance,
        name: str,
        backup_type: str,
        rotation: int,
        extra_properties: Mapping[str, str] | None = None,
    ) -> Mapping[str, Any]:
        """Have a backup taken, and older ones of its type deleted when it is done.

        :param backup_type: the user's word for it, such as ``daily``.
        :param rotation: how many backups of that type are kept, this one included. With 0 this
            one is deleted, too.
        :returns: as :meth:`snapshot`.
        :raises nova_snap.exception.VolumeBackedBackup: if the instance boots from a volume.
        :raises nova_snap.exception.NovaSnapError: as :meth:`snapshot`.
        """
        _check_instance_state(instance, snapshot_kinds.BACKUP.action)
        if self.is_volume_backed_instance(context, instance, None):
            raise exception.VolumeBackedBackup(instance_uuid=instance.uuid)
        send = functools.partial(
            self.compute_rpcapi.backup_instance,
            context,
            instance,
            backup_type=backup_type,
            rotation=rotation,
        )
        properties = {**(extra_properties or {}), image_properties.BACKUP_TYPE: backup_type}
        return self._request(context, instance, name, snapshot_kinds.BACKUP, properties, send)

    def snapshot_volume_backed(
        self,
        context: RequestContext,
        instance: Instance,
        name: str,
        extra_properties: Mapping[str, str] | None = None,
    ) -> Mapping[str, Any]:
        """Take a snapshot of each volume of an instance that boots from one, and make an image that
        lists them: returns when it is done.

        :param name: the image's name.
        :param extra_properties: the user's own image properties.
        :returns: the image's record: at least ``id``.
        :raises nova_snap.exception.InstanceInvalidState: if the instance's state forbids it. Of
            two requests at the same time one gets this.
        :raises nova_snap.exception.NovaSnapError: as
            :meth:`nova_snap.compute.volume_snapshots.VolumeSnapshots.take`.
        """
        _check_instance_state(instance, snapshot_kinds.SNAPSHOT.action)
        create = functools.partial(
            self._create_image,
            context,
            instance,
            name,
            snapshot_kinds.SNAPSHOT.image_type,
            extra_properties or {},
            record_as=snapshot_kinds.SNAPSHOT.action,
        )
        discard = functools.partial(self._discard_image, context)
        image = self._volume_snapshots.take(context, instance, name, create, discard)
        SnapshotRequest.forget(context, image["id"])
        return image

    # -- steps of a snapshot ---------------------------------------------------------------

    def _request(
        self,
        context: RequestContext,
        instance: Instance,
        name: str,
        kind: Kind,
        properties: Mapping[str, str],
        send: Callable[[str], None],
    ) -> Mapping[str, Any]:
        """Record, claim, send: all of it, or nothing is left of it.

        :param send: gives the host the message, with the image's id.
        """
        self._check_host(context, instance, kind.action)
        # A property that a record gets later takes Glance many times as long as one that it is
        # made with, and the host could not send a byte before.
        said = {**data_properties(instance), **properties}
        image = self._create_image(
            context, instance, name, kind.image_type, said, record_as=kind.action
        )
        try:
            self._ask_host(context, instance, image["id"], kind, send)
        except exception.UnexpectedTaskState as error:
            self._discard_image(context, image["id"])
            raise exception.InstanceInvalidState(
                instance_uuid=instance.uuid,
                attr="task_state",
                state=error.actual,
                method=kind.action,
            ) from error
        except db_exception.DBConnectionError:
            # Whether the claim was made, nobody knows; the journal stays, and so it is found.
            self._delete_image(context, image["id"])
            raise
        except Exception:
            self._discard_image(context, image["id"])
            raise
        return image

    def _check_host(self, context: RequestContext, instance: Instance, method: str) -> None:
        host = instance.host
        if self._conf.snapshot_on_down_host == "accept" or not host:
            return
        if not hosts.is_up(context, self._conf, host):
            raise exception.HostDown(instance_uuid=instance.uuid, host=host, method=method)

    def _create_image(
        self,
        context: RequestContext,
        instance: Instance,
        name: str,
        image_type: str,
        extra_properties: Mapping[str, str],
        record_as: str,
    ) -> Mapping[str, Any]:
        """The image's record; an instance of another project is told of it as a member.

        :param record_as: the action that it is for, written down before there is an image, so that
            it is found should nobody live to fill it.
        """
        meta = image_properties.build(
            context,
            instance,
            name,
            image_type,
            extra_properties,
            self._conf.non_inheritable_image_properties,
        )
        image_id = uuidutils.generate_uuid()
        if record_as is not None:
            SnapshotRequest.record(context, image_id, instance.uuid, instance.host, record_as)
        try:
            image = self.image_api.create(context, {**meta, "id": image_id})
        except exception.ImageServiceUnavailable:
            # Whether it has made one, nobody knows: it is looked for later.
            raise
        except exception.NovaSnapError:
            SnapshotRequest.forget(context, image_id)
            raise
        if meta["visibility"] == "shared":
            try:
                self.image_api.add_member(context, image["id"], instance.project_id)
            except Exception:
                self._discard_image(context, image["id"])
                raise
        return image

    def _ask_host(
        self,
        context: RequestContext,
        instance: Instance,
        image_id: str,
        kind: Kind,
        send: Callable[[str], None],
    ) -> None:
        """Claim the instance, then send the message; the claim is given back if it fails."""
        instance.task_state = kind.announced
        instance.snapshot_image_id = image_id
        instance.save(expected_task_state=[None])
        action = None
        try:
            action = InstanceAction.start(context, instance.uuid, kind.action)
            send(image_id)
        except db_exception.DBConnectionError:
            # It was waited for; to give the claim back would only take as long again.
            raise
        except Exception as error:
            if self._give_back(instance, kind):
                if action is not None:
                    action.finish(context, exception.for_user(error))
                raise
            LOG.warning(
                "Sending the request for image %s to host %s failed, but it has arrived: %s",
                image_id,
                instance.host,
                error,
            )

    def _give_back(self, instance: Instance, kind: Kind) -> bool:
        """Whether the claim was still ours to give back; else the host has taken it up."""
        image_id = instance.snapshot_image_id
        instance.end_snapshot()
        try:
            instance.save(expected_task_state=[kind.announced], expected_image_id=image_id)
        except exception.UnexpectedTaskState:
            return False
        return True

    def _discard_image(self, context: RequestContext, image_id: str) -> None:
        """Delete a record that nothing will be uploaded to. Never raises: another error is on its
        way to the user, and says more."""
        if not self._delete_image(context, image_id):
            return
        try:
            SnapshotRequest.forget(context, image_id)
        except Exception as error:
            LOG.warning("Image %s is gone, and the journal is not told: %s", image_id, error)

    def _delete_image(self, context: RequestContext, image_id: str) -> bool:
        """:returns: whether there is none any more. Never raises."""
        try:
            with contextlib.suppress(exception.ImageNotFound):
                self.image_api.delete(context, image_id)
        except Exception as error:
            LOG.error("Image %s is left behind in status queued: %s", image_id, error)
            return False
        return True


def _check_instance_state(instance: Instance, method: str) -> None:
    """:raises nova_snap.exception.InstanceInvalidState: unless a snapshot may begin now."""
    if instance.vm_state not in vm_states.ALLOW_SNAPSHOT:
        attr, state = "vm_state", instance.vm_state
    elif instance.task_state is not None:
        attr, state = "task_state", instance.task_state
    elif instance.launched_at is None:
        attr, state = "launched_at", None
    else:
        return
    raise exception.InstanceInvalidState(
        instance_uuid=instance.uuid, attr=attr, state=state, method=method
    )
