# SPDX-License-Identifier: Apache-2.0
"""The table of allowed steps."""

import itertools

import pytest

from nova_snap import exception
from nova_snap.compute import power_actions, task_states, transitions
from nova_snap.db import models

THE_WAY = [
    None,
    task_states.IMAGE_SNAPSHOT_PENDING,
    task_states.IMAGE_SNAPSHOT,
    task_states.IMAGE_PENDING_UPLOAD,
    task_states.IMAGE_UPLOADING,
    None,
]


@pytest.mark.parametrize(("old", "new"), list(itertools.pairwise(THE_WAY)))
def test_the_way_of_a_snapshot_is_allowed(old: str | None, new: str | None) -> None:
    transitions.check([old], new)


@pytest.mark.parametrize("state", task_states.ALL)
def test_everything_may_fail_or_be_deleted_anywhere(state: str) -> None:
    transitions.check([state], None)
    transitions.check([state], task_states.DELETING)


@pytest.mark.parametrize(
    "way",
    [
        (task_states.SCHEDULING, task_states.SPAWNING, None),
        (None, task_states.REBOOTING, task_states.REBOOT_STARTED, None),
        (None, task_states.REBOOTING_HARD, task_states.REBOOT_STARTED_HARD, None),
        *((None, action.task_state, None) for action in power_actions.ALL),
        *(
            (state, task_states.REBOOTING_HARD)
            for state in power_actions.REBOOT_HARD.over
            if state != task_states.REBOOTING_HARD
        ),
    ],
)
def test_the_ways_of_an_instances_life_are_allowed(way: tuple[str | None, ...]) -> None:
    for old, new in itertools.pairwise(way):
        transitions.check([old], new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (None, task_states.IMAGE_UPLOADING),
        (task_states.IMAGE_UPLOADING, task_states.IMAGE_SNAPSHOT_PENDING),
        (task_states.DELETING, task_states.IMAGE_SNAPSHOT),
        (task_states.IMAGE_SNAPSHOT, task_states.IMAGE_UPLOADING),
        (None, task_states.SPAWNING),
        (None, task_states.REBOOT_STARTED),
        (task_states.SPAWNING, task_states.POWERING_OFF),
        (task_states.POWERING_OFF, task_states.REBOOTING_HARD),
        (task_states.IMAGE_UPLOADING, task_states.REBOOTING_HARD),
        (task_states.DELETING, task_states.REBOOTING_HARD),
        (task_states.DELETING, task_states.SPAWNING),
    ],
)
def test_other_steps_are_refused(old: str | None, new: str | None) -> None:
    with pytest.raises(exception.InvalidTransition) as caught:
        transitions.check([old], new)
    assert str(old) in str(caught.value)
    assert str(new) in str(caught.value)


def test_one_bad_step_of_several_is_refused() -> None:
    with pytest.raises(exception.InvalidTransition):
        transitions.check([None, task_states.DELETING], task_states.IMAGE_SNAPSHOT_PENDING)


def test_to_stay_is_no_step() -> None:
    transitions.check([task_states.IMAGE_UPLOADING], task_states.IMAGE_UPLOADING)


@pytest.mark.parametrize("state", task_states.ALL)
def test_every_state_fits_its_column(state: str) -> None:
    assert len(state) <= models.Instance.__table__.c.task_state.type.length


def test_every_state_is_in_the_table() -> None:
    named = {state for step in transitions.ALLOWED for state in step}
    assert named == {None, *task_states.ALL}
