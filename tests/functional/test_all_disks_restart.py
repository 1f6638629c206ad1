# SPDX-License-Identifier: Apache-2.0
"""The compute process is killed between two disks; the next one ends what it has left of both."""

import json
import os
from pathlib import Path

import pytest

from tests.fixtures import disk_image
from tests.fixtures.libvirt_lab import LibvirtLab
from tests.fixtures.libvirt_ops import StepFailed
from tests.functional import all_disks_child, all_disks_parts
from tests.functional.all_disks_parts import OTHERS


@pytest.fixture(scope="module")
def lab():
    """A libvirt that this process does not hold."""
    with LibvirtLab() as made:
        yield made


@pytest.fixture(scope="module")
def guest(lab):
    made = all_disks_parts.define(lab, "all-restart")
    made.start()
    made.wait_ready()
    return made


def die(guest, directory):
    process = all_disks_child.start(guest, directory, "die")
    try:
        assert process.stdout.readline() == "here\n"
    finally:
        process.kill()
        process.communicate(timeout=60)


def do(guest, directory, work):
    output, _ = all_disks_child.start(guest, directory, work).communicate(timeout=120)
    assert output == "done\n"


def assert_nothing_left(lab, directory):
    assert os.listdir(directory / "snapshots") == []
    assert os.listdir(lab.root / "sockets") == []


def test_stream(lab, guest, tmp_path):
    die(guest, tmp_path)
    assert guest.state()["job"] != 0
    (left,) = (tmp_path / "snapshots").iterdir()
    assert {"scratch-vda", "scratch-vdb", "scratch-vdc"} <= set(os.listdir(left))
    do(guest, tmp_path, "recover")
    assert (guest.state()["state"], guest.state()["job"]) == ("running", 0)
    assert_nothing_left(lab, tmp_path)
    do(guest, tmp_path, "take")
    assert len(os.listdir(tmp_path / "take" / "images")) == 1 + len(OTHERS)


def test_offline(lab, guest, tmp_path):
    """Each of the disks has a qemu-nbd, and each would keep the guest from being started."""
    guest.power_off()
    die(guest, tmp_path)
    (journal,) = (tmp_path / "snapshots").glob("*/journal.json")
    pids = json.loads(journal.read_text())["reader_pids"]
    readers = [Path("/proc", str(pid), "cmdline") for pid in pids]
    assert ["qemu-nbd" in reader.read_text() for reader in readers] == [True] * (1 + len(OTHERS))
    with pytest.raises(StepFailed, match="lock"):
        guest.start()
    do(guest, tmp_path, "recover")
    assert_nothing_left(lab, tmp_path)
    assert not any(reader.exists() and reader.read_text() for reader in readers)
    do(guest, tmp_path, "take")
    image = tmp_path / "take" / "images" / "image"
    assert disk_image.differences(image, "qcow2", guest.disk.path, guest.disk.format) == ""
    guest.start()
    guest.wait_ready()
