# SPDX-License-Identifier: Apache-2.0
"""Nova's one word for the state of a server, made of its vm_state and its task_state."""

from collections.abc import Iterable, Mapping
from typing import Final

from nova_snap.compute import task_states, vm_states
from nova_snap.objects.instance import Instance

DELETED: Final = "DELETED"
UNKNOWN: Final = "UNKNOWN"

# What the state is called when nothing is done that has a name of its own.
_PLAIN: Final[Mapping[str, str]] = {
    vm_states.ACTIVE: "ACTIVE",
    vm_states.BUILDING: "BUILD",
    vm_states.PAUSED: "PAUSED",
    vm_states.SUSPENDED: "SUSPENDED",
    vm_states.STOPPED: "SHUTOFF",
    vm_states.ERROR: "ERROR",
    vm_states.DELETED: DELETED,
}

_BUSY: Final[Mapping[tuple[str, str], str]] = {
    (vm_states.ACTIVE, task_states.REBOOTING): "REBOOT",
    (vm_states.ACTIVE, task_states.REBOOT_STARTED): "REBOOT",
    (vm_states.ACTIVE, task_states.REBOOTING_HARD): "HARD_REBOOT",
    (vm_states.ACTIVE, task_states.REBOOT_STARTED_HARD): "HARD_REBOOT",
}

# Nova has states that no instance is in here: no error, and nothing to find.
_OF_NONE: Final = (
    "MIGRATING",
    "PASSWORD",
    "REBUILD",
    "RESCUE",
    "RESIZE",
    "REVERT_RESIZE",
    "SHELVED",
    "SHELVED_OFFLOADED",
    "SOFT_DELETED",
    UNKNOWN,
    "VERIFY_RESIZE",
)

ALL: Final = frozenset({*_PLAIN.values(), *_BUSY.values(), *_OF_NONE})
"""Every status that Nova knows."""

WITH_FAULT: Final = ("ERROR", DELETED)
"""Nova shows a fault of servers in these states only."""

WITH_PROGRESS: Final = ("ACTIVE", "BUILD")
"""Of Nova's states with a progress, those that there are here."""


def of(instance: Instance) -> str:
    """The status of an instance."""
    if instance.deleted:
        return DELETED
    plain = _PLAIN.get(instance.vm_state, UNKNOWN)
    return _BUSY.get((instance.vm_state, instance.task_state or ""), plain)


def states_of(statuses: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Where to look for servers of these statuses.

    :returns: vm_states, and task_states; ``None`` for the latter if they do not matter.
    """
    wanted = set(statuses)
    plain = tuple(state for state, status in _PLAIN.items() if status in wanted)
    busy = [states for states, status in _BUSY.items() if status in wanted]
    found = tuple(dict.fromkeys([*plain, *(vm_state for vm_state, _ in busy)]))
    # As in Nova, ACTIVE also finds those that are being rebooted.
    return found, None if plain else tuple(task_state for _, task_state in busy)
