# SPDX-License-Identifier: Apache-2.0
"""The compute process is killed while it reads a disk; the next one ends what it has left."""

import json
import os
from pathlib import Path

import pytest

from tests.fixtures import disk_image
from tests.fixtures.libvirt_lab import LibvirtLab
from tests.fixtures.libvirt_ops import StepFailed
from tests.functional import snapshot_parts as parts
from tests.functional.snapshot_child import Compute


@pytest.fixture(scope="module")
def lab():
    """A libvirt that this process does not hold."""
    with LibvirtLab() as made:
        yield made


@pytest.fixture(scope="module")
def guest(lab):
    """A guest that writes all the time and has an agent."""
    return parts.writing_guest(lab, "restart")


@pytest.fixture
def compute(lab, guest, tmp_path):
    """The guest's; nothing of its snapshots is left at the end, and another one works."""
    made = Compute(lab, tmp_path, "stream", guest)
    yield made
    assert os.listdir(tmp_path / "snapshots") == []
    assert os.listdir(lab.root / "sockets") == []
    made.take()
    with disk_image.raw_view(tmp_path / "images" / "image", "qcow2") as image:
        assert image.fsck().damage == ""
        assert image.writer_state().problems == ()


@pytest.mark.parametrize(
    ("point", "frozen", "job"),
    [("beginning", True, False), ("thawing", True, True), ("streaming", False, True)],
)
def test_stream(lab, guest, compute, tmp_path, point, frozen, job):
    """The job and the freeze outlive the process, and go with the next start."""
    before = guest.xml(inactive=True)
    compute.die_at(point)
    assert len(os.listdir(tmp_path / "snapshots")) == 1
    assert len(os.listdir(lab.root / "sockets")) == 1
    assert (guest.state()["job"] != 0) == job
    assert guest.agent("guest-fsfreeze-status") == ("frozen" if frozen else "thawed")

    compute.start_again()
    state = guest.state()
    assert (state["state"], state["persistent"], state["job"]) == ("running", True, 0)
    assert guest.xml(inactive=True) == before
    assert guest.agent("guest-fsfreeze-status") == "thawed"
    counter = guest.counter()
    guest.run(f"while [ $(counter) = {counter} ]; do usleep 100000; done")


def test_nbd_server_that_libvirt_has_forgotten(lab, guest, compute):
    """libvirt died while it ended the job: there is none any more, but its server is."""
    compute.die_at("beginning")
    address = {"type": "unix", "data": {"path": str(lab.root / "forgotten")}}
    command = {"execute": "nbd-server-start", "arguments": {"addr": address}}
    assert "return" in lab.step("monitor", name=guest.name, command=command)
    compute.start_again()
    stop = {"execute": "nbd-server-stop"}
    assert "not running" in lab.step("monitor", name=guest.name, command=stop)["error"]["desc"]


def test_offline(guest, compute, tmp_path):
    """A qemu-nbd that nobody ends would keep the guest from being started."""
    guest.stop_writer()
    guest.power_off()
    compute.die_at("streaming")
    (journal,) = (tmp_path / "snapshots").glob("*/journal.json")
    reader = Path("/proc", str(json.loads(journal.read_text())["reader_pids"][0]))
    assert b"qemu-nbd" in (reader / "cmdline").read_bytes()
    with pytest.raises(StepFailed, match="lock"):
        guest.start()

    compute.start_again()
    assert not reader.exists() or (reader / "cmdline").read_bytes() == b""
    guest.start()
    guest.wait_ready()
