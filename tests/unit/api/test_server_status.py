# SPDX-License-Identifier: Apache-2.0
"""The one word for the state of a server."""

import pytest

from nova_snap.api.views import server_status
from nova_snap.compute import task_states, vm_states
from nova_snap.objects.instance import Flavor, Instance


def instance(vm_state: str, task_state: str | None = None, *, deleted: bool = False) -> Instance:
    made = Instance("u", "n", "d", "p", "w", Flavor("f", 1, 1))
    made.vm_state, made.task_state, made.deleted = vm_state, task_state, deleted
    return made


@pytest.mark.parametrize(
    ("vm_state", "task_state", "status"),
    [
        ("active", None, "ACTIVE"),
        ("active", "image_uploading", "ACTIVE"),
        ("active", "powering-off", "ACTIVE"),
        ("active", "deleting", "ACTIVE"),
        ("active", "rebooting", "REBOOT"),
        ("active", "reboot_started", "REBOOT"),
        ("active", "rebooting_hard", "HARD_REBOOT"),
        ("active", "reboot_started_hard", "HARD_REBOOT"),
        ("building", "scheduling", "BUILD"),
        ("building", "spawning", "BUILD"),
        ("stopped", None, "SHUTOFF"),
        ("stopped", "powering-on", "SHUTOFF"),
        ("stopped", "rebooting_hard", "SHUTOFF"),
        ("paused", None, "PAUSED"),
        ("suspended", "resuming", "SUSPENDED"),
        ("error", None, "ERROR"),
        ("error", "deleting", "ERROR"),
        ("deleted", None, "DELETED"),
        ("rescued", None, "UNKNOWN"),
    ],
)
def test_the_status(vm_state: str, task_state: str | None, status: str) -> None:
    assert server_status.of(instance(vm_state, task_state)) == status


def test_what_is_deleted_is_deleted() -> None:
    assert server_status.of(instance("active", deleted=True)) == "DELETED"


def test_every_status_is_found_where_it_is() -> None:
    """The filter finds each state by the word that it is shown by."""
    for vm_state in vm_states.ALL:
        for task_state in (None, *task_states.ALL):
            status = server_status.of(instance(vm_state, task_state))
            assert status in server_status.ALL
            found, busy = server_status.states_of([status])
            assert vm_state in found
            assert busy is None or task_state in busy


@pytest.mark.parametrize(
    ("statuses", "states"),
    [
        (["ACTIVE"], (("active",), None)),
        (["ACTIVE", "SHUTOFF"], (("active", "stopped"), None)),
        (["REBOOT"], (("active",), ("rebooting", "reboot_started"))),
        (["RESIZE"], ((), ())),
        (["NONSENSE"], ((), ())),
        ([], ((), ())),
    ],
)
def test_where_to_look(
    statuses: list[str], states: tuple[tuple[str, ...], tuple[str, ...] | None]
) -> None:
    assert server_status.states_of(statuses) == states
