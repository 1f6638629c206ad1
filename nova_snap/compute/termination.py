# SPDX-License-Identifier: Apache-2.0
"""The end of an instance."""

from collections.abc import Callable
from typing import Final

from oslo_log import log

from nova_snap import exception
from nova_snap.compute import one_by_one, records, recovery, task_states, vm_states
from nova_snap.compute.image_pass import ImagePass, Images
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.context import RequestContext
from nova_snap.objects import instance_action
from nova_snap.objects.instance import Instance, InstanceFilters, InstanceList
from nova_snap.objects.instance_action import InstanceAction, InstanceActionEvent
from nova_snap.virt.driver import ComputeDriver

LOG = log.getLogger(__name__)

EVENT: Final = "compute_terminate_instance"

# What is being done to the instance stops when it sees the task_state; a guest that is asked to
# shut itself down has its time.
_LOCK_SECONDS: Final = 900.0


class Terminator:
    """Removes the instances of one host.

    :param driver: connected by the time that anything is to be removed.
    """

    def __init__(
        self, host: str, image_api: Images, driver: ComputeDriver, locks: InstanceLocks
    ) -> None:
        self._host = host
        self._image_api = image_api
        self._driver = driver
        self._locks = locks

    def terminate(self, context: RequestContext, uuid: str) -> None:
        """Remove the guest, then the record, of an instance that is in task_state deleting.

        Never raises what was foreseen: a failure leaves vm_state error and a fault.
        """
        context.update_store()
        try:
            instance = Instance.get_by_uuid(context, uuid)
        except exception.InstanceNotFound:
            LOG.info("Instance %s is gone already", uuid)
            asked = InstanceAction.get_by_request_id(context, uuid, context.request_id)
            if asked is not None:
                asked.finish(context)
            return
        if instance.task_state != task_states.DELETING:
            LOG.warning(
                "Instance %s is in task_state %s and is not deleted", uuid, instance.task_state
            )
            return
        action = records.action_of(context, uuid, instance_action.DELETE)
        try:
            with (
                InstanceActionEvent.record(context, action, EVENT, self._host),
                self._locks.hold(uuid, _LOCK_SECONDS),
            ):
                # Another delete may have been faster.
                instance.refresh()
                self._driver.destroy(instance)
                instance.destroy()
        except exception.InstanceNotFound:
            LOG.info("Instance %s was deleted by another request", uuid)
        except Exception as error:
            LOG.exception("Instance %s could not be deleted", uuid)
            records.failed(context, uuid, self._host, action, error)
            records.free(instance, expected=task_states.DELETING, vm_state=vm_states.ERROR)
            return
        action.finish(context)
        LOG.info("Instance %s is deleted", uuid)

    def clean_up(self, context: RequestContext) -> None:
        """Remove the guests of instances that were deleted while this host could not be asked."""
        discard = self.snapshot_discarder()
        filters = InstanceFilters(host=self._host, deleted=True, cleanup_pending=True)
        for instance in InstanceList.get_by_filters(context, filters):
            with (
                one_by_one.apart(LOG, "The guest of instance %s is left behind", instance.uuid),
                self._locks.hold(instance.uuid, _LOCK_SECONDS),
            ):
                if _is_back(context, instance.uuid):
                    LOG.warning("Instance %s was adopted again and stays", instance.uuid)
                else:
                    LOG.info("Removing the guest of instance %s, deleted", instance.uuid)
                    self._driver.destroy(instance)
                    discard(context, instance)
                instance.cleaned_up()

    def snapshot_discarder(self) -> Callable[[RequestContext, Instance], None]:
        """What deletes the image that a snapshot was to become which no process lived to end: for
        one pass over many instances."""
        images = ImagePass(self._image_api)

        def discard(context: RequestContext, instance: Instance) -> None:
            image_id = instance.snapshot_image_id
            if image_id is not None:
                recovery.delete_left(images, context, image_id)

        return discard


def _is_back(context: RequestContext, uuid: str) -> bool:
    try:
        Instance.get_by_uuid(context, uuid)
    except exception.InstanceNotFound:
        return False
    return True
