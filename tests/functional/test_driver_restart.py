# SPDX-License-Identifier: Apache-2.0
"""The compute process is killed in the middle of a snapshot; the next one puts everything right."""

import os

import pytest

from tests.fixtures.libvirt_lab import LibvirtLab
from tests.functional.snapshot_child import Compute

MAC = "52:54:00:00:00:08"


@pytest.fixture(scope="module")
def lab():
    """A libvirt that this process does not hold."""
    with LibvirtLab() as made:
        yield made


@pytest.fixture(scope="module")
def guest(lab):
    """A guest that writes all the time and has an agent, and a port that is plugged into it."""
    port = f"<interface type='user'><mac address='{MAC}'/><model type='virtio'/></interface>"
    made = lab.define_guest("restart", lab.make_disk(), devices_xml=port)
    made.start()
    made.wait_ready()
    made.wait_agent()
    made.start_writer()
    return made


@pytest.mark.parametrize(
    ("way", "point", "left"),
    [
        ("mirror", "copying", {"state": "running", "persistent": True}),
        ("mirror-undefine", "copying", {"state": "running", "persistent": False}),
        ("mirror-undefine", "frozen", {"state": "running", "persistent": False}),
        ("managed_save", "saved", {"state": "shut off", "managed_save": True}),
        ("devices-managed_save", "detached", {"state": "running", "managed_save": False}),
        ("devices-managed_save", "saved", {"state": "shut off", "managed_save": True}),
    ],
)
def test_killed(lab, guest, tmp_path, way, point, left):
    before = guest.xml(inactive=True)
    compute = Compute(lab, tmp_path, way, guest)
    compute.die_at(point)
    snapshots = tmp_path / "snapshots"
    assert len(os.listdir(snapshots)) == 1
    state = guest.state()
    assert {key: state[key] for key in left} == left
    if point in ("copying", "frozen"):
        assert "vda" in state["block_jobs"]
    if point == "detached":
        assert MAC not in guest.xml()
    if point == "frozen":
        assert guest.agent("guest-fsfreeze-status") == "frozen"

    compute.start_again()
    state = guest.state()
    assert state["state"] == "running"
    assert state["persistent"]
    assert not state["managed_save"]
    assert state["block_jobs"] == {}
    assert guest.xml(inactive=True) == before
    assert os.listdir(snapshots) == []
    guest.wait_agent()
    assert guest.agent("guest-fsfreeze-status") == "thawed"
    assert MAC in guest.xml()
    counter = guest.counter()
    guest.run(f"while [ $(counter) = {counter} ]; do sleep 0.1; done")


def test_guest_that_its_user_suspended_stays_so(lab, guest, tmp_path):
    """Of a saved memory that no snapshot has noted, nothing is known."""
    guest.managed_save()
    Compute(lab, tmp_path, "managed_save", guest).start_again()
    assert guest.state()["managed_save"]
    assert guest.state()["state"] == "shut off"
    guest.start()
    guest.wait_agent()


def test_guest_that_was_paused_is_paused(lab, guest, tmp_path):
    guest.suspend()
    compute = Compute(lab, tmp_path, "managed_save", guest)
    compute.die_at("saved")
    compute.start_again()
    assert guest.state()["state"] == "paused"
    guest.resume()
    guest.wait_agent()
