# SPDX-License-Identifier: Apache-2.0
"""New servers, until their hosts have been asked to make them."""

from collections.abc import Mapping, Sequence
from typing import Any

from oslo_config import cfg
from oslo_log import log
from oslo_utils import uuidutils

from nova_snap import exception
from nova_snap.compute import boot_image, hosts, quota, records, task_states, vm_states
from nova_snap.compute.rpcapi import ComputeAPI
from nova_snap.compute.server_request import ServerRequest
from nova_snap.context import RequestContext
from nova_snap.objects import instance_action
from nova_snap.objects.block_device import BlockDeviceMappingList
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction

LOG = log.getLogger(__name__)


class Creation:
    """Makes the records of new servers and sends them to their hosts."""

    def __init__(
        self, conf: cfg.ConfigOpts, image_api: boot_image.Images, compute_rpcapi: ComputeAPI
    ) -> None:
        self._conf = conf
        self._image_api = image_api
        self._compute_rpcapi = compute_rpcapi

    def create(self, context: RequestContext, request: ServerRequest) -> tuple[list[Instance], str]:
        """See :meth:`nova_snap.compute.lifecycle_api.LifecycleAPI.create`."""
        quota.check_metadata_items(self._conf, len(request.metadata))
        image = boot_image.get(context, self._image_api, request.image_ref, request.flavor)
        count = quota.allowed_count(
            context, self._conf, request.flavor, request.min_count, request.max_count
        )
        reservation_id = f"r-{uuidutils.generate_uuid(dashed=False)[:8]}"
        instances: list[Instance] = []
        try:
            for index in range(count):
                instance = _instance(context, request, image, index, reservation_id)
                instance.create(context, name_template=self._conf.instance_name_template)
                instances.append(instance)
                disks = BlockDeviceMappingList([boot_image.root_disk(image)])
                disks.create(context, instance.uuid)
                InstanceAction.start(context, instance.uuid, instance_action.CREATE)
            quota.check_again(context, self._conf, request.flavor, count)
            self._send(context, request, instances)
        except Exception:
            for instance in instances:
                _forget(instance)
            raise
        return instances, reservation_id

    def _send(
        self, context: RequestContext, request: ServerRequest, instances: Sequence[Instance]
    ) -> None:
        """Choose the hosts and ask them. Where that fails, the server exists in vm_state error,
        as with Nova, unless no host could be asked for any of them.

        :raises nova_snap.exception.MessagingUnavailable: if nothing was sent.
        """
        try:
            chosen = hosts.choose(
                context, self._conf, len(instances), request.flavor.memory_mb, request.host
            )
        except exception.NoValidHost as error:
            LOG.error("Reservation %s: %s", instances[0].reservation_id, error)
            for instance in instances:
                _fail(context, instance, error)
            return
        sent = False
        for instance, host in zip(instances, chosen, strict=True):
            instance.host = host
            try:
                instance.save(expected_task_state=task_states.SCHEDULING)
                self._compute_rpcapi.build_instance(context, instance, request.network)
            except exception.MessagingUnavailable as error:
                if not sent:
                    raise
                _fail(context, instance, error)
            except (exception.InstanceNotFound, exception.UnexpectedTaskState) as error:
                LOG.info("Instance %s is not wanted any more: %s", instance.uuid, error)
            sent = True


def _instance(
    context: RequestContext,
    request: ServerRequest,
    image: Mapping[str, Any],
    index: int,
    reservation_id: str,
) -> Instance:
    """One of the new servers, on no host yet."""
    uuid = uuidutils.generate_uuid()
    return Instance(
        uuid=uuid,
        name=uuid,
        display_name=request.name_of(index),
        display_description=request.description,
        hostname=request.hostname_of(index, uuid),
        project_id=context.project_id or "",
        user_id=context.user_id or "",
        flavor=request.flavor.for_instance(),
        availability_zone=request.availability_zone,
        image_ref=str(image["id"]),
        kernel_id=image.get("kernel_id"),
        ramdisk_id=image.get("ramdisk_id"),
        os_type=image.get("os_type"),
        architecture=image.get("hw_architecture") or image.get("architecture"),
        root_device_name=boot_image.root_disk(image).device_name,
        reservation_id=reservation_id,
        launch_index=index,
        key_name=request.key_name,
        access_ip_v4=request.access_ip_v4,
        access_ip_v6=request.access_ip_v6,
        auto_disk_config=request.auto_disk_config,
        vm_state=vm_states.BUILDING,
        task_state=task_states.SCHEDULING,
        metadata=dict(request.metadata),
        system_metadata=boot_image.system_metadata(context, image),
    )


def _fail(context: RequestContext, instance: Instance, error: exception.NovaSnapError) -> None:
    """Leave a server in vm_state error, with the reason."""
    action = records.action_of(context, instance.uuid, instance_action.CREATE)
    records.failed(context, instance.uuid, instance.host, action, error)
    records.free(instance, expected=task_states.SCHEDULING, vm_state=vm_states.ERROR)


def _forget(instance: Instance) -> None:
    """Take back a server that no host has heard of."""
    try:
        instance.destroy()
    except exception.NovaSnapError as error:
        LOG.error("Instance %s is left behind in vm_state building: %s", instance.uuid, error)
