# SPDX-License-Identifier: Apache-2.0
"""What a dead process left is put right, as far as it can be."""

import errno
import json
import os
import pathlib
import signal
import subprocess

import pytest

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.virt.libvirt.guest import BlockJob
from nova_snap.virt.libvirt.snapshot import copy_job, workdir
from nova_snap.virt.libvirt.snapshot.ceph_made import Made
from nova_snap.virt.libvirt.snapshot.recovery import Recovery
from tests.unit.virt import doubles


class Scene:
    def __init__(self, conf):
        self.parent = conf.libvirt.snapshots_directory
        self.host_name = conf.host
        self.guest = doubles.FakeGuest()
        self.host = doubles.FakeHost(self.guest)
        self.images = doubles.FakeImages()
        self.recovery = Recovery(conf, self.host, self.images)

    def left(self, **facts) -> str:
        """A process dies with these facts in its journal."""
        made = workdir.create(self.parent, doubles.UUID, self.host_name)
        facts = {
            "domain": doubles.NAME,
            "domain_uuid": doubles.UUID,
            "disk": "vda",
            "power_state": power_state.RUNNING,
            **facts,
        }
        made.note(**facts)
        os.close(made._lock)
        return made.path

    def leftovers(self):
        return os.listdir(self.parent)


@pytest.fixture
def scene(conf):
    conf.set_override("thaw_timeout", 1, "libvirt")
    conf.set_override("operation_timeout", 1, "libvirt")
    return Scene(conf)


def noted(guest):
    device = guest.describe().host_devices[0]
    return device.address, (device.kind, device.address, device.xml)


def test_nothing_was_done_yet(scene):
    scene.left(domain_uuid="")
    scene.recovery.recover()
    assert scene.guest.calls == []
    assert scene.leftovers() == []


def test_nothing_left(scene):
    scene.recovery.recover()
    assert scene.guest.calls == []


def test_everything_at_once(scene):
    guest = scene.guest
    path = scene.left(frozen=True, undefined_xml="<domain/>", autostart=True)
    guest.persistent, guest.frozen, guest.job = False, True, BlockJob("copy", 1, 1)
    guest.copied_to = os.path.join(path, "delta")
    scene.recovery.recover()
    assert scene.host.defined == ["<domain/>"]
    assert guest.persistent
    assert guest.starts_automatically
    assert not guest.frozen
    assert guest.job is None
    assert scene.leftovers() == []


def test_transient_domain_that_has_stopped(scene):
    """libvirt has forgotten it; our definition is the only one."""
    scene.left(undefined_xml="<domain/>")
    scene.guest.persistent = False
    scene.guest.stop()
    scene.recovery.recover()
    assert scene.guest.persistent
    assert scene.leftovers() == []


@pytest.mark.parametrize("state", [power_state.RUNNING, power_state.PAUSED])
def test_saved_guest_is_restored(scene, state):
    devices = dict(scene.guest.devices)
    scene.left(
        saving=True,
        power_state=state,
        detached=[
            (device.kind, device.address, device.xml)
            for device in scene.guest.describe().host_devices
        ],
    )
    scene.guest.devices.clear()
    scene.guest.saved = True
    scene.guest.stop()
    scene.recovery.recover()
    assert (scene.guest.active, scene.guest.state) == (True, state)
    assert scene.guest.devices.keys() == devices.keys()
    assert scene.leftovers() == []


def test_device_that_the_guest_was_only_asked_for(scene):
    """It may let go of it at any time from then on: who waited for that may have died with it."""
    guest = scene.guest
    expected = guest.devices.keys()
    address, facts = noted(guest)
    scene.left(domain_id=guest.id, asked=[facts])
    scene.recovery.recover()
    assert guest.changes() == []
    assert len(scene.leftovers()) == 1
    del guest.devices[address]
    scene.recovery.recover()
    assert guest.devices.keys() == expected
    assert guest.changes() == ["attach_device"]
    assert scene.leftovers() == []


def test_device_that_the_guest_has_again(scene):
    """Who gave it back died with the word. From then on it is its owner's to remove."""
    guest = scene.guest
    address, facts = noted(guest)
    scene.left(domain_id=guest.id, detached=[facts])
    scene.recovery.recover()
    assert scene.leftovers() == []
    del guest.devices[address]
    scene.recovery.recover()
    assert guest.changes() == []


@pytest.mark.parametrize("fact", ["asked", "detached"])
@pytest.mark.parametrize(
    ("removed", "defined", "persistent", "again"),
    [
        (True, True, True, False),
        (False, True, True, True),
        # It was attached to the guest that runs, and never defined.
        (True, False, True, True),
        # There is no definition but that of what runs.
        (True, True, False, True),
    ],
)
def test_device_that_its_owner_removed(scene, fact, removed, defined, persistent, again):
    """The guest let go of it after the snapshot, and then nobody wanted it any more."""
    guest = scene.guest
    address, facts = noted(guest)
    left = {fact: [facts], "defined": [address] if defined else []}
    scene.left(domain_id=guest.id, **left)
    del guest.devices[address]
    if removed:
        del guest.defined[address]
    guest.persistent = persistent
    scene.recovery.recover()
    assert (address in guest.devices) == again
    assert scene.leftovers() == []


def test_device_of_which_nobody_tells_whether_it_is_to_be_there(scene):
    guest = scene.guest
    address, facts = noted(guest)
    scene.left(detached=[facts], defined=[address])
    del guest.devices[address], guest.defined[address]
    guest.errors["is_persistent"] = doubles.failed("isPersistent")
    scene.recovery.recover()
    assert address in guest.devices


@pytest.mark.parametrize("running", [True, False])
def test_device_that_an_earlier_process_of_the_guest_was_asked_for(scene, running):
    guest = scene.guest
    _address, facts = noted(guest)
    scene.left(domain_id=guest.id, asked=[facts])
    guest.id += 1
    if not running:
        guest.stop()
    guest.calls.clear()
    scene.recovery.recover()
    assert guest.changes() == []
    assert scene.leftovers() == []


def test_device_that_cannot_be_given_back_is_tried_again(scene):
    guest = scene.guest
    device = guest.describe().host_devices[0]
    scene.left(detached=[(device.kind, device.address, device.xml)])
    del guest.devices[device.address]
    guest.errors["attach_device"] = [doubles.failed("attachDevice", "in use by another guest")]
    scene.recovery.recover()
    assert device.address not in guest.devices
    assert len(scene.leftovers()) == 1
    scene.recovery.recover()
    assert device.address in guest.devices
    assert scene.leftovers() == []


@pytest.mark.parametrize("obstacle", ["libvirt", "guest"])
def test_copy_that_cannot_be_ended_is_tried_again(scene, monkeypatch, obstacle):
    monkeypatch.setattr(copy_job, "_LAST_POLL", 0.001)
    path = scene.left(method="mirror")
    delta = os.path.join(path, "delta")
    journal = os.path.join(path, "journal.json")
    facts = json.loads(pathlib.Path(journal).read_text())
    pathlib.Path(journal).write_text(json.dumps({**facts, "copying": delta}))
    scene.guest.job = BlockJob("copy", 1, 1)
    scene.guest.copied_to = delta
    if obstacle == "libvirt":
        away = exception.HypervisorUnavailable(uri="qemu:///system", reason="gone")
        scene.host.errors["get_guest"] = away
    else:
        scene.guest.errors["abort_block_job"] = exception.WaitTimeout(what="it", seconds=1)
    scene.recovery.recover()
    assert scene.guest.job is not None
    assert len(scene.leftovers()) == 1
    scene.host.errors.clear()
    scene.guest.errors.clear()
    scene.recovery.recover()
    assert scene.guest.job is None
    assert scene.leftovers() == []


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), ValueError("no JSON")])
def test_what_nobody_foresaw_is_tried_again(scene, error):
    """Nothing else that is to be put right waits for it, and its lock is not kept."""
    address, facts = noted(scene.guest)
    scene.left(frozen=True, detached=[facts])
    scene.guest.frozen = True
    del scene.guest.devices[address]
    scene.guest.errors["thaw"] = [error]
    scene.recovery.recover()
    assert len(scene.leftovers()) == 1
    assert address in scene.guest.devices
    scene.recovery.recover()
    assert not scene.guest.frozen
    assert scene.leftovers() == []


def test_error_over_one_instance_keeps_no_other_from_being_put_right(scene, monkeypatch):
    """Without that, one of them would keep the whole host from starting."""
    scene.left(undefined_xml="<domain/>", frozen=True)
    monkeypatch.setattr(doubles, "UUID", doubles.UUID[:-1] + "f")
    scene.left(undefined_xml="<domain/>")
    scene.host.errors["get_guest"] = ValueError("no number")
    scene.recovery.recover()
    assert scene.host.defined == ["<domain/>", "<domain/>"]
    del scene.host.errors["get_guest"]
    scene.guest.frozen = True
    scene.recovery.recover()
    assert (scene.guest.frozen, scene.leftovers()) == (False, [])


@pytest.fixture
def left_program(scene):
    """It has a disk open, and there is nothing of that in the journal."""
    path = scene.left()
    with open(os.path.join(path, "log"), "wb") as log:
        process = subprocess.Popen(["sleep", "600"], stderr=log)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("call", ["listdir", "pidfd_open"])
def test_program_that_cannot_be_ended_yet(scene, left_program, monkeypatch, call):
    """The directory is all that it is known by."""
    real = getattr(os, call)

    def full(what, *more):
        if what in ("/proc", left_program.pid):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(what, *more)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        scene.recovery.recover()
    assert left_program.poll() is None
    scene.recovery.recover()
    assert left_program.wait(10) == -signal.SIGKILL
    assert scene.leftovers() == []


def test_unforeseen_error_with_nothing_in_the_journal(scene):
    scene.left()
    scene.host.errors["get_guest"] = ValueError("no number")
    scene.recovery.recover()
    assert len(scene.leftovers()) == 1
    scene.host.errors.clear()
    scene.recovery.recover()
    assert scene.leftovers() == []


def test_what_another_host_has_noted_is_left_alone(scene, conf):
    """Its guests are not here; a container's service on the same machine has a host of its own."""
    scene.left(saving=True, frozen=True, undefined_xml="<domain/>")
    other = doubles.FakeGuest()
    other.name = other.uuid = "another"
    conf.set_override("host", "another")
    host = doubles.FakeHost(other)
    Recovery(conf, host, scene.images).recover()
    assert (host.defined, other.calls) == ([], [])
    assert len(scene.leftovers()) == 1


def test_copy_of_somebody_else_is_left_alone(scene):
    scene.left()
    scene.guest.job = BlockJob("copy", 1, 1)
    scene.guest.copied_to = "/elsewhere/delta"
    scene.recovery.recover()
    assert scene.guest.job is not None


def test_domain_that_is_gone(scene):
    scene.left(saving=True, frozen=True)
    scene.guest.name = "another"
    scene.guest.uuid = "another"
    scene.recovery.recover()
    assert scene.guest.changes() == []
    assert scene.leftovers() == []


@pytest.mark.parametrize("fails", ["thaw", "launch"])
def test_what_cannot_be_put_right_is_tried_again(scene, fails):
    error = exception.AgentError(domain="", operation="thaw", reason="it hangs")
    scene.guest.errors[fails] = error if fails == "thaw" else doubles.failed("create")
    scene.guest.frozen = True
    if fails == "launch":
        scene.guest.saved = True
        scene.guest.stop()
    path = scene.left(**({"frozen": True} if fails == "thaw" else {"saving": True}))
    scene.recovery.recover(doubles.UUID)
    assert scene.leftovers() == [os.path.basename(path)]
    scene.guest.errors.clear()
    scene.recovery.recover(doubles.UUID)
    assert scene.leftovers() == []
    assert not scene.guest.saved


def test_only_one_instance(scene):
    scene.left(frozen=True)
    scene.recovery.recover("another")
    assert scene.guest.calls == []
    assert len(scene.leftovers()) == 1


def test_libvirt_is_not_there(scene):
    scene.left(frozen=True)
    lost = exception.HypervisorUnavailable(uri="qemu:///system", reason="gone")
    scene.host.errors["get_guest"] = lost
    scene.recovery.recover()
    assert len(scene.leftovers()) == 1


@pytest.mark.parametrize(
    ("destination", "ended"),
    [("{parent}/x/delta", True), ("/elsewhere/delta", False), ("{parent}-not/delta", False)],
)
def test_stray_copy(scene, destination, ended):
    """There is no journal: where the copy goes tells whose it is."""
    scene.guest.job = BlockJob("copy", 1, 1)
    scene.guest.copied_to = destination.format(parent=scene.parent)
    scene.recovery.end_stray_copy(scene.guest)
    assert (scene.guest.job is None) == ended


def made_in_ceph():
    return Made("image-id", "vms/disk", "nova_snap-image-id", clone="images/image-id")


def test_what_may_be_an_image_by_now_stays_until_that_can_be_told(scene):
    """To remove it without asking would be to remove an image's only content."""
    scene.left(ceph=[made_in_ceph().facts()])
    scene.images.error = exception.ImageServiceUnavailable(endpoint="x", reason="down")
    scene.recovery.recover()
    assert len(scene.leftovers()) == 1


@pytest.mark.parametrize(
    ("status", "removed"),
    [("active", False), ("queued", True), ("killed", True), (None, True)],
)
def test_what_was_made_in_ceph(scene, tmp_path, monkeypatch, status, removed):
    """The snapshot of the disk goes in any case; the clone, unless the image service has it."""
    log = tmp_path / "log"
    command = tmp_path / "bin" / "rbd"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$*" >> {log}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    scene.images.status = status
    scene.left(ceph=[made_in_ceph().facts()])
    scene.recovery.recover()
    ran = log.read_text()
    assert "snap rm --no-progress --pool=vms --image=disk --snap=nova_snap-image-id" in ran
    assert ("rm --no-progress --pool=images --image=image-id\n" in ran) == removed
    assert scene.leftovers() == []
