# SPDX-License-Identifier: Apache-2.0
"""What may be asked of an instance's life: everything that happens before a host is involved."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

from oslo_config import cfg
from oslo_log import log

from nova_snap import exception
from nova_snap.compute import boot_image, hosts, power_actions, state_checks, task_states, vm_states
from nova_snap.compute.creation import Creation
from nova_snap.compute.power_actions import PowerAction
from nova_snap.compute.rpcapi import ComputeAPI
from nova_snap.compute.server_metadata import ServerMetadata
from nova_snap.compute.server_request import ServerRequest
from nova_snap.context import RequestContext
from nova_snap.objects import instance_action
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction

__all__ = ["UNCHANGED", "LifecycleAPI", "ServerRequest"]

LOG = log.getLogger(__name__)

UNCHANGED: Final = object()
"""The value of what an update leaves as it is, where ``None`` is a value too."""

_UPDATABLE: Final = (
    "display_name",
    "display_description",
    "hostname",
    "access_ip_v4",
    "access_ip_v6",
    "auto_disk_config",
)


class LifecycleAPI:
    """The compute API beside snapshots.

    :param image_api: such as :class:`nova_snap.image.glance.API`.
    """

    def __init__(
        self, conf: cfg.ConfigOpts, image_api: boot_image.Images, compute_rpcapi: ComputeAPI
    ) -> None:
        self._conf = conf
        self._compute_rpcapi = compute_rpcapi
        self._creation = Creation(conf, image_api, compute_rpcapi)
        self._metadata = ServerMetadata(conf)

    # -- beginning and end -----------------------------------------------------------------

    def create(self, context: RequestContext, request: ServerRequest) -> tuple[list[Instance], str]:
        """Have new servers made; returns when their hosts have been asked.

        A server for which there is no host is in vm_state error, and its fault says why.

        :returns: the instances, and the id of the reservation.
        :raises nova_snap.exception.QuotaExceeded: if ``min_count`` of them are too many.
        :raises nova_snap.exception.ServerMetadataLimitExceeded: if there is too much metadata.
        :raises nova_snap.exception.RequestedImageNotFound: or ImageNotActive,
            FlavorMemoryTooSmall, FlavorDiskSmallerThanImage, FlavorDiskSmallerThanMinDisk, if the
            image cannot be used.
        :raises nova_snap.exception.ImageServiceError: or ImageForbidden, if it cannot be read.
        :raises nova_snap.exception.MessagingUnavailable: if no host can be asked. Whatever is
            raised, there are no new servers.
        """
        return self._creation.create(context, request)

    def delete(self, context: RequestContext, instance: Instance) -> None:
        """Have an instance deleted, whatever its state and whatever is being done to it.

        If its host cannot be asked, the instance is gone at once, and the host removes the guest
        when it is back.
        """
        try:
            if instance.host is None:
                self._delete_here(context, instance, cleanup_pending=False)
            elif not hosts.is_up(context, self._conf, instance.host):
                self._delete_here(context, instance, cleanup_pending=True)
            else:
                self._ask_to_terminate(context, instance)
        except exception.InstanceNotFound:
            LOG.info("Instance %s is gone already", instance.uuid)

    # -- switching -------------------------------------------------------------------------
    #
    # Each raises InstanceInvalidState if the instance's state forbids it, also to the loser of two
    # requests at the same time; InstanceNotReady if it is on no host; and MessagingUnavailable if
    # its host cannot be asked: nothing has changed then.

    def start(self, context: RequestContext, instance: Instance) -> None:
        """Start a guest that is shut off."""
        self._switch(context, instance, power_actions.START)

    def stop(self, context: RequestContext, instance: Instance) -> None:
        """Shut a guest down: it is asked to, and made to if it does not."""
        self._switch(context, instance, power_actions.STOP)

    def pause(self, context: RequestContext, instance: Instance) -> None:
        """Stop a guest's CPUs."""
        self._switch(context, instance, power_actions.PAUSE)

    def unpause(self, context: RequestContext, instance: Instance) -> None:
        """Let a paused guest run on."""
        self._switch(context, instance, power_actions.UNPAUSE)

    def suspend(self, context: RequestContext, instance: Instance) -> None:
        """Save a guest's memory to disk and stop it."""
        self._switch(context, instance, power_actions.SUSPEND)

    def resume(self, context: RequestContext, instance: Instance) -> None:
        """Let a suspended guest run on."""
        self._switch(context, instance, power_actions.RESUME)

    def reboot(self, context: RequestContext, instance: Instance, reboot_type: str) -> None:
        """Have a guest run anew.

        :param reboot_type: ``SOFT``: the guest is asked to; or ``HARD``, which ends what hangs.
        """
        self._switch(context, instance, power_actions.reboot(reboot_type))

    # -- records ---------------------------------------------------------------------------

    def reset_state(self, context: RequestContext, instance: Instance, state: str) -> None:
        """Say that an instance is in another state; its host is not asked.

        :param state: ``active`` or ``error``.
        :raises nova_snap.exception.InstanceNotFound: if it was deleted meanwhile.
        """
        LOG.warning(
            "Instance %s is reset from vm_state %s, task_state %s to %s by %s",
            instance.uuid,
            instance.vm_state,
            instance.task_state,
            state,
            context.user_id,
        )
        instance.end_snapshot()
        instance.vm_state = {"active": vm_states.ACTIVE, "error": vm_states.ERROR}[state]
        instance.save()

    def update(
        self,
        context: RequestContext,  # noqa: ARG002
        instance: Instance,
        *,
        display_name: str | None = None,
        display_description: object = UNCHANGED,
        hostname: object = UNCHANGED,
        access_ip_v4: object = UNCHANGED,
        access_ip_v6: object = UNCHANGED,
        auto_disk_config: object = UNCHANGED,
    ) -> None:
        """Change what an instance is called.

        :param display_name: ``None`` leaves it.
        :raises nova_snap.exception.InstanceNotFound: if it was deleted meanwhile.
        """
        given = (
            UNCHANGED if display_name is None else display_name,
            display_description,
            hostname,
            access_ip_v4,
            access_ip_v6,
            auto_disk_config,
        )
        for name, value in zip(_UPDATABLE, given, strict=True):
            if value is not UNCHANGED:
                setattr(instance, name, value)
        instance.save()

    def get_metadata(self, context: RequestContext, instance: Instance) -> dict[str, str]:  # noqa: ARG002
        """The user's own metadata."""
        return dict(instance.metadata)

    def update_metadata(
        self,
        context: RequestContext,
        instance: Instance,
        metadata: Mapping[str, str],
        replace: bool,
    ) -> dict[str, str]:
        """Set items.

        :param replace: those that are not named are deleted.
        :returns: all of them.
        :raises nova_snap.exception.InstanceInvalidState: if the instance's state forbids it.
        :raises nova_snap.exception.ServerMetadataLimitExceeded: if there would be too many.
        """
        instance.metadata = self._metadata.update(context, instance, metadata, replace)
        return dict(instance.metadata)

    def delete_metadata_item(self, context: RequestContext, instance: Instance, key: str) -> None:
        """Delete one item.

        :raises nova_snap.exception.InstanceInvalidState: if the instance's state forbids it.
        :raises nova_snap.exception.MetadataItemNotFound: if there is none.
        """
        self._metadata.delete_item(context, instance, key)

    # -- the console -----------------------------------------------------------------------

    def get_console_output(
        self, context: RequestContext, instance: Instance, length: int | None
    ) -> str:
        """The end of what the guest has printed on its serial console.

        :param length: of how many lines; ``None`` or -1 for all that is kept.
        :raises nova_snap.exception.InstanceNotReady: if it is on no host, or not made yet.
        :raises nova_snap.exception.ConsoleNotAvailable: if it has no console that can be read.
        :raises nova_snap.exception.MessagingUnavailable: if its host does not answer.
        """
        self._check_host(context, instance)
        if instance.vm_state == vm_states.BUILDING:
            raise exception.InstanceNotReady(instance_uuid=instance.uuid)
        return self._compute_rpcapi.get_console_output(context, instance, length)

    # -- steps -----------------------------------------------------------------------------

    def _switch(self, context: RequestContext, instance: Instance, action: PowerAction) -> None:
        task_states_allowed = (None, *action.over)
        state_checks.check(
            instance,
            action.name,
            vm_states=action.vm_states,
            task_states=task_states_allowed,
        )
        host = self._check_host(context, instance)
        before = instance.task_state
        instance.task_state = action.task_state
        try:
            instance.save(expected_task_state=list(task_states_allowed))
        except exception.UnexpectedTaskState as error:
            raise state_checks.lost_race(instance, action.name, error) from error
        send = functools.partial(self._compute_rpcapi.switch_instance, context, instance, action)
        self._announced(context, instance, action.name, send, host, before)

    def _announced(
        self,
        context: RequestContext,
        instance: Instance,
        name: str,
        send: Callable[[], Any],
        host: str,
        before: str | None,
    ) -> None:
        """Send what the task_state announces; if that fails, take the announcement back."""
        record = None
        announced = instance.task_state
        try:
            record = InstanceAction.start(context, instance.uuid, name)
            send()
        except Exception as error:
            if before is None:
                self._give_back(instance, announced)
            else:
                LOG.error("Instance %s stays in task_state %s", instance.uuid, announced)
            if record is not None:
                record.finish(context, exception.for_user(error))
            LOG.error("Host %s cannot be asked to %s instance %s", host, name, instance.uuid)
            raise

    def _give_back(self, instance: Instance, announced: str | None) -> None:
        instance.task_state = None
        try:
            instance.save(expected_task_state=[announced])
        except exception.UnexpectedTaskState as error:
            LOG.info("Instance %s is in other hands: %s", instance.uuid, error)

    def _ask_to_terminate(self, context: RequestContext, instance: Instance) -> None:
        instance.task_state = task_states.DELETING
        instance.save()
        record = InstanceAction.start(context, instance.uuid, instance_action.DELETE)
        try:
            self._compute_rpcapi.terminate_instance(context, instance)
        except exception.MessagingUnavailable as error:
            LOG.warning("%s Instance %s is deleted here.", error, instance.uuid)
            instance.destroy(cleanup_pending=True)
            record.finish(context)

    def _delete_here(
        self, context: RequestContext, instance: Instance, *, cleanup_pending: bool
    ) -> None:
        """Delete the record alone."""
        record = InstanceAction.start(context, instance.uuid, instance_action.DELETE)
        instance.destroy(cleanup_pending=cleanup_pending)
        record.finish(context)

    def _check_host(self, context: RequestContext, instance: Instance) -> str:
        """:returns: the name of the host, which is up."""
        if instance.host is None:
            raise exception.InstanceNotReady(instance_uuid=instance.uuid)
        if not hosts.is_up(context, self._conf, instance.host):
            reason = "its compute service is down"
            raise exception.MessagingUnavailable(host=instance.host, reason=reason)
        return instance.host
