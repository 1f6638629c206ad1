# SPDX-License-Identifier: Apache-2.0
"""An instance is made, switched in every way, and removed, on real QEMU."""

import os
import queue
import signal
from pathlib import Path

import libvirt
import pytest

from nova_snap import exception
from nova_snap.compute import power_state
from tests.functional import lifecycle_parts as parts


@pytest.fixture
def world(libvirt_lab, tmp_path):
    with parts.open_world(libvirt_lab, tmp_path) as made:
        yield made


@pytest.fixture
def made(world):
    made = world.spawn(world.guest_image())
    assert made.wait_ready() == 1
    return made


def test_a_life(made):
    driver, instance = made.driver, made.instance
    assert made.state() == power_state.RUNNING
    made.run("echo alive > /run/memory")

    driver.pause(instance)
    assert made.state() == power_state.PAUSED
    driver.unpause(instance)
    assert made.state() == power_state.RUNNING

    driver.suspend(instance)
    assert made.state() == power_state.SHUTDOWN
    assert made.domain().hasManagedSaveImage()
    driver.resume(instance)
    assert made.state() == power_state.RUNNING
    # Its memory is what it was: it has not booted.
    assert made.run("cat /run/memory") == "alive"

    driver.power_off(instance, 60)
    assert made.state() == power_state.SHUTDOWN
    # It was asked, and did it by itself.
    assert "nova-snap-guest: poweroff" in made.console()
    driver.power_off(instance, 60)
    driver.power_on(instance)
    assert made.wait_ready() == 2
    driver.power_on(instance)

    driver.reboot(instance, hard=False, timeout=60)
    assert made.wait_ready() == 3
    driver.reboot(instance, hard=True, timeout=0)
    assert made.wait_ready() == 4

    driver.destroy(instance)
    made.world.assert_gone(instance)
    driver.destroy(instance)
