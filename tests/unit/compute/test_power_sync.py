# SPDX-License-Identifier: Apache-2.0
"""Nova's rule for guests that are in another state than the database says."""

import itertools

import pytest

from nova_snap.compute import power_state, vm_states
from nova_snap.compute.power_sync import Verdict, judge

# The pairs of vm_state and power state that lead to a stop; all others are left.
STOPPED = {
    (vm_states.ACTIVE, power_state.SHUTDOWN),
    (vm_states.ACTIVE, power_state.CRASHED),
    (vm_states.ACTIVE, power_state.SUSPENDED),
    (vm_states.PAUSED, power_state.SHUTDOWN),
    (vm_states.PAUSED, power_state.CRASHED),
    (vm_states.STOPPED, power_state.RUNNING),
    (vm_states.STOPPED, power_state.PAUSED),
    (vm_states.STOPPED, power_state.SUSPENDED),
}


@pytest.mark.parametrize(
    ("vm_state", "actual"), list(itertools.product(vm_states.ALL, power_state.NAMES))
)
def test_the_rule(vm_state: str, actual: int) -> None:
    stops = judge(vm_state, actual) is Verdict.STOP
    assert stops == ((vm_state, actual) in STOPPED)
