# SPDX-License-Identifier: Apache-2.0
"""A new instance, from its record to a guest that runs."""

import time
from collections.abc import Mapping
from typing import Any, Final

from oslo_config import cfg
from oslo_log import log
from oslo_utils import timeutils

from nova_snap import exception
from nova_snap.compute import boot_image, records, task_states, vm_states
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.context import RequestContext
from nova_snap.objects import instance_action
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceActionEvent
from nova_snap.virt.driver import ComputeDriver, SpawnRequest

LOG = log.getLogger(__name__)

EVENT: Final = "compute__do_build_and_run_instance"

_AUTO: Final = "auto"
_LOCK_SECONDS: Final = 60.0
# A delete must stop a build within a second or so, without a query for each piece of an image.
_LOOK_SECONDS: Final = 0.5


class Builder:
    """Makes the instances of one host.

    :param driver: connected by the time that :meth:`build` is called.
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        image_api: boot_image.Images,
        driver: ComputeDriver,
        locks: InstanceLocks,
    ) -> None:
        self._host: str = conf.host
        self._timeout: float = conf.instance_build_timeout
        self._default_network: str = conf.default_guest_network
        self._image_api = image_api
        self._driver = driver
        self._locks = locks

    def build(self, context: RequestContext, uuid: str, network: str) -> None:
        """Make the instance, if it still waits for that; a message that came twice is ignored.

        Never raises what was foreseen: a failure leaves vm_state error, a fault and no guest.

        :param network: see :class:`nova_snap.compute.server_request.ServerRequest`.
        """
        context.update_store()
        instance = self._claim(context, uuid)
        if instance is None:
            return
        action = records.action_of(context, uuid, instance_action.CREATE)
        try:
            with (
                InstanceActionEvent.record(context, action, EVENT, self._host),
                self._locks.hold(uuid, _LOCK_SECONDS),
            ):
                self._spawn(context, instance, network)
        except exception.InstanceNotFound:
            LOG.info("Instance %s was deleted while it was being made", uuid)
            action.finish(context, "The server was deleted while it was being made.")
        except Exception as error:
            LOG.exception("Instance %s could not be made", uuid)
            records.failed(context, uuid, self._host, action, error)
            records.free(instance, expected=task_states.SPAWNING, vm_state=vm_states.ERROR)
        else:
            action.finish(context)

    def _claim(self, context: RequestContext, uuid: str) -> Instance | None:
        try:
            instance = Instance.get_by_uuid(context, uuid)
            instance.task_state = task_states.SPAWNING
            instance.save(expected_task_state=[task_states.SCHEDULING])
        except (exception.InstanceNotFound, exception.UnexpectedTaskState) as error:
            LOG.warning("Instance %s does not wait to be made: %s", uuid, error)
            return None
        return instance

    def _spawn(self, context: RequestContext, instance: Instance, network: str) -> None:
        LOG.info("Instance %s (%s) is being made", instance.uuid, instance.name)
        image = self._image_api.get(context, instance.image_ref or "")
        request = self._request(instance, image, network)
        watch = BuildWatch(context, instance.uuid, self._timeout)
        self._driver.spawn(context, instance, request, watch.check)
        try:
            instance.power_state = self._driver.get_info(instance).state
            instance.vm_state = vm_states.ACTIVE
            instance.task_state = None
            instance.launched_at = timeutils.utcnow()
            instance.save(expected_task_state=[task_states.SPAWNING])
        except Exception as error:
            # Nobody wants it any more, or nobody would know of it.
            LOG.info("The guest of instance %s is removed again: %s", instance.uuid, error)
            self._driver.destroy(instance)
            if getattr(error, "actual", None) == task_states.DELETING:
                raise exception.InstanceNotFound(instance_id=instance.uuid) from error
            raise
        LOG.info("Instance %s runs", instance.uuid)

    def _request(self, instance: Instance, image: Mapping[str, Any], network: str) -> SpawnRequest:
        flavor = instance.flavor
        return SpawnRequest(
            image_id=str(image["id"]),
            image_meta=image,
            vcpus=flavor.vcpus,
            memory_mb=flavor.memory_mb,
            root_gb=flavor.root_gb,
            network=self._default_network if network == _AUTO else network,
            display_name=instance.display_name,
            flavor_name=flavor.name,
            project_name=instance.system_metadata.get("owner_project_name"),
            user_name=instance.system_metadata.get("owner_user_name"),
            extra_specs=flavor.extra_specs,
        )


class BuildWatch:
    """Knows whether an instance that is being made is still wanted.

    :param timeout: seconds that making it may take; 0 for as long as it takes.
    """

    def __init__(self, context: RequestContext, uuid: str, timeout: float) -> None:
        self._context = context
        self._uuid = uuid
        self._timeout = timeout
        self._begin = time.monotonic()
        self._next_look = 0.0

    def check(self) -> None:
        """Cheap enough for every piece of an image.

        :raises nova_snap.exception.InstanceNotFound: if the instance was deleted, or is being.
        :raises nova_snap.exception.UnexpectedTaskState: if it was reset.
        :raises nova_snap.exception.LifecycleTimeout: if it takes too long.
        """
        now = time.monotonic()
        if self._timeout and now - self._begin > self._timeout:
            raise exception.LifecycleTimeout(action="build", seconds=self._timeout)
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_SECONDS
        actual = Instance.get_by_uuid(self._context, self._uuid).task_state
        if actual == task_states.DELETING:
            raise exception.InstanceNotFound(instance_id=self._uuid)
        if actual != task_states.SPAWNING:
            raise exception.UnexpectedTaskState(
                instance_uuid=self._uuid, expected=[task_states.SPAWNING], actual=actual
            )
