# SPDX-License-Identifier: Apache-2.0
"""What is written down of something that a host does: the action, its step, and why it failed."""

import traceback
from typing import Final

from oslo_log import log

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.objects.instance_fault import InstanceFault

LOG = log.getLogger(__name__)

_FAULT_CODE: Final = 500
_UNFORESEEN: Final = "An unexpected error occurred; the log of the compute host has it."


def action_of(context: RequestContext, instance_uuid: str, name: str) -> InstanceAction:
    """The user's action that this is a part of: that of the context's request; else, for what is
    done again after a restart, the newest of that name; else a new one."""
    found = InstanceAction.get_by_request_id(context, instance_uuid, context.request_id)
    if found is not None:
        return found
    for action in InstanceAction.get_by_instance_uuid(context, instance_uuid):
        if action.action == name:
            return action
    return InstanceAction.start(context, instance_uuid, name)


def reason(error: BaseException) -> str:
    """In words for a user; what was not foreseen is not for him to read."""
    return exception.for_user(error, _UNFORESEEN)


def failed(
    context: RequestContext,
    instance_uuid: str,
    host: str | None,
    action: InstanceAction | None,
    error: Exception,
) -> None:
    """Write the reason down: before the instance is free, so that whoever waits for that finds it.

    :param action: ends with it.
    """
    said = reason(error)
    if action is not None:
        action.finish(context, said)
    InstanceFault(
        instance_uuid=instance_uuid,
        code=_FAULT_CODE,
        message=said,
        details="".join(traceback.format_exception(error)),
        host=host,
    ).create(context)


def free(instance: Instance, *, expected: str | None, vm_state: str | None = None) -> bool:
    """task_state None, if the instance is still in the expected one.

    :param vm_state: ``None`` leaves it.
    :returns: whether it was.
    """
    instance.task_state = None
    if vm_state is not None:
        instance.vm_state = vm_state
    try:
        instance.save(expected_task_state=[expected])
    except (exception.UnexpectedTaskState, exception.InstanceNotFound) as error:
        LOG.info("Instance %s is in other hands: %s", instance.uuid, error)
        return False
    return True
