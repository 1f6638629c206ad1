# SPDX-License-Identifier: Apache-2.0
"""What may be done with a guest, when, and what it makes of the instance: as data.

The states are Nova's. Both ends of a message read this table: the API to accept, the host to do.
"""

import dataclasses
from typing import Final

from nova_snap.compute import task_states, vm_states

SOFT: Final = "SOFT"
HARD: Final = "HARD"


@dataclasses.dataclass(frozen=True)
class PowerAction:
    """One of them.

    :ivar name: as the user's action is recorded, and called where it is refused.
    :ivar vm_states: in which it is accepted.
    :ivar task_state: which announces it.
    :ivar vm_state: of the instance when it is done.
    :ivar over: task_states in which it is accepted besides none at all.
    :ivar started: the task_state when the host has begun, if it is another one.
    """

    name: str
    vm_states: tuple[str, ...]
    task_state: str
    vm_state: str
    over: tuple[str, ...] = ()
    started: str | None = None

    @property
    def method(self) -> str:
        """The message that asks for it."""
        return f"{self.name}_instance"

    @property
    def event(self) -> str:
        """The step of the action that the host records."""
        return f"compute_{self.method}"


_ACTIVE: Final = (vm_states.ACTIVE,)

START: Final = PowerAction("start", (vm_states.STOPPED,), task_states.POWERING_ON, vm_states.ACTIVE)
STOP: Final = PowerAction(
    "stop",
    (vm_states.ACTIVE, vm_states.ERROR),
    task_states.POWERING_OFF,
    vm_states.STOPPED,
)
PAUSE: Final = PowerAction("pause", _ACTIVE, task_states.PAUSING, vm_states.PAUSED)
UNPAUSE: Final = PowerAction(
    "unpause", (vm_states.PAUSED,), task_states.UNPAUSING, vm_states.ACTIVE
)
SUSPEND: Final = PowerAction("suspend", _ACTIVE, task_states.SUSPENDING, vm_states.SUSPENDED)
RESUME: Final = PowerAction(
    "resume", (vm_states.SUSPENDED,), task_states.RESUMING, vm_states.ACTIVE
)
REBOOT_SOFT: Final = PowerAction(
    "reboot",
    _ACTIVE,
    task_states.REBOOTING,
    vm_states.ACTIVE,
    started=task_states.REBOOT_STARTED,
)
REBOOT_HARD: Final = PowerAction(
    "reboot",
    (
        vm_states.ACTIVE,
        vm_states.STOPPED,
        vm_states.PAUSED,
        vm_states.SUSPENDED,
        vm_states.ERROR,
    ),
    task_states.REBOOTING_HARD,
    vm_states.ACTIVE,
    over=(
        *task_states.REBOOT_STATES,
        task_states.PAUSING,
        task_states.UNPAUSING,
        task_states.SUSPENDING,
        task_states.RESUMING,
    ),
    started=task_states.REBOOT_STARTED_HARD,
)

ALL: Final = (START, STOP, PAUSE, UNPAUSE, SUSPEND, RESUME, REBOOT_SOFT, REBOOT_HARD)


def reboot(reboot_type: str) -> PowerAction:
    """:param reboot_type: ``SOFT`` or ``HARD``."""
    return {SOFT: REBOOT_SOFT, HARD: REBOOT_HARD}[reboot_type]


def announced_by(task_state: str | None) -> PowerAction | None:
    """The action that an instance in this task_state waits for, or is in; ``None`` for others."""
    for action in ALL:
        if task_state is not None and task_state in (action.task_state, action.started):
            return action
    return None
