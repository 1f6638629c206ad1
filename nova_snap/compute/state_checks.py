# SPDX-License-Identifier: Apache-2.0
"""Whether an instance is in a state in which it may be asked for something."""

from collections.abc import Collection

from nova_snap import exception
from nova_snap.objects.instance import Instance


def check(
    instance: Instance,
    method: str,
    *,
    vm_states: Collection[str],
    task_states: Collection[str | None] = (None,),
    launched: bool = True,
) -> None:
    """Refuse what the instance's state forbids.

    :param method: what was asked for, as the user is told.
    :param launched: the guest must have run before.
    :raises nova_snap.exception.InstanceInvalidState: naming the first state that is wrong.
    """
    state: str | None
    if instance.vm_state not in vm_states:
        attr, state = "vm_state", instance.vm_state
    elif instance.task_state not in task_states:
        attr, state = "task_state", instance.task_state
    elif launched and instance.launched_at is None:
        attr, state = "launched_at", None
    else:
        return
    raise exception.InstanceInvalidState(
        instance_uuid=instance.uuid, attr=attr, state=state, method=method
    )


def lost_race(
    instance: Instance, method: str, error: exception.UnexpectedTaskState
) -> exception.InstanceInvalidState:
    """What the loser of two requests at the same time is told."""
    return exception.InstanceInvalidState(
        instance_uuid=instance.uuid, attr="task_state", state=error.actual, method=method
    )
