# SPDX-License-Identifier: Apache-2.0
"""Devices are taken from a guest that runs, and given back, by QEMU and the guest's own kernel.

A port and a disk stand for devices of the host: only which devices are to be taken is pretended.
"""

import contextlib

import pytest

from nova_snap import exception
from nova_snap.virt.libvirt.guest import Guest as LibvirtGuest
from tests.fixtures import disk_image
from tests.functional import snapshot_parts as parts
from tests.functional.lifecycle_parts import until

MAC = "52:54:00:00:00:07"
PORT = f"<interface type='user'><mac address='{MAC}'/><model type='virtio'/></interface>"
MACHINES = ["pc", "q35"]


@pytest.fixture(scope="module")
def lab(_session_lab):
    yield _session_lab
    _session_lab.remove_guests()


@pytest.fixture(scope="module", params=MACHINES)
def guest(request, lab):
    """A guest with a port and a second disk, on both kinds of slots that x86 has."""
    second = lab.instances / "second"
    with second.open("wb") as file:
        file.truncate(8 << 20)
    disk = (
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
        f"<source file='{second}'/><target dev='vdb' bus='virtio'/></disk>"
    )
    machine = request.param
    made = lab.define_guest(
        f"devices-{machine}", lab.make_disk(), machine=machine, devices_xml=PORT + disk
    )
    made.start()
    made.wait_ready()
    made.hold_still()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def deaf_guest(lab):
    """A guest without a system: nobody in it lets go of a device, until QEMU is reset."""
    empty = lab.instances / "empty"
    with empty.open("wb") as file:
        file.truncate(1 << 20)
    made = lab.define_guest("deaf", empty, disk_format="raw", devices_xml=PORT)
    made.start()
    yield made
    made.remove()


@pytest.fixture
def world(lab, tmp_path):
    with parts.open_world(lab, tmp_path, "devices-managed_save") as made:
        yield made


def seen(guest) -> list[str]:
    """The PCI devices that the guest's kernel sees, and how many of them are disks to it."""

    def look() -> list[str]:
        return guest.run("cd /sys/bus/pci/devices; ls; ls -d */virtio*/block | wc -l").split()

    # The console prints a byte twice now and then.
    return until(lambda: (found := look()) == look() and found)


def assert_seen(guest, expected):
    """The guest's kernel takes a moment to find what was plugged in."""
    found = []

    def look() -> bool:
        found[:] = seen(guest)
        return found == expected

    try:
        until(look)
    finally:
        # Says in which of them they differ, which is what one has to know.
        assert found == expected


def instance_of(guest) -> parts.Instance:
    return parts.Instance(guest.uuid, guest.name)


@contextlib.contextmanager
def call_before(monkeypatch, call: str, action):
    """Do something each time just before a call is made to a guest."""
    real = getattr(LibvirtGuest, call)

    def wrapped(self, *arguments, **more):
        action()
        return real(self, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(LibvirtGuest, call, wrapped)
        yield


def fails_once():
    """Something that goes wrong, the first time."""
    attempts = []

    def act() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise exception.LibvirtOperationFailed(
                operation="something", domain="", code=1, reason="told to fail"
            )

    return act


def test_devices_are_back(guest, world, monkeypatch):
    before, at_save = seen(guest), []
    guest.run("echo kept > /dev/vdb")
    with call_before(monkeypatch, "managed_save", lambda: at_save.append(guest.xml())):
        taken = world.snapshot(guest)
    assert MAC not in at_save[0]
    assert "vdb" not in at_save[0]
    assert_seen(guest, before)
    # It may have another name now.
    until(lambda: guest.run("head -qn 1 /dev/vd[b-z]") == "kept")
    assert taken.report.warnings == []
    guest.suspend()
    assert parts.differences(taken, guest) == ""
    guest.resume()
    assert disk_image.check(taken.path, taken.format) == ""


def test_saving_fails(guest, world, monkeypatch):
    before = seen(guest)
    with (
        call_before(monkeypatch, "managed_save", fails_once()),
        pytest.raises(exception.SnapshotFailed, match="told to fail"),
    ):
        world.snapshot(guest)
    assert_seen(guest, before)


def test_restoring_fails_at_first(guest, world, monkeypatch):
    before = seen(guest)
    with call_before(monkeypatch, "launch", fails_once()):
        world.snapshot(guest)
    assert_seen(guest, before)


def test_streaming_takes_nothing_from_the_guest(guest, lab, tmp_path, monkeypatch):
    with (
        parts.open_world(lab, tmp_path, "devices-stream") as world,
        call_before(monkeypatch, "detach_device", fails_once()),
    ):
        before = guest.xml()
        world.images.on_update = lambda: None if MAC in guest.xml() else pytest.fail("no port")
        assert world.snapshot(guest).report.method == "stream"
        assert guest.xml() == before


def test_device_that_is_gone_from_the_host(guest, world, monkeypatch):
    """The guest runs without it, the user is told, and it is back when the host has it again."""
    before = seen(guest)
    device, away = guest.lab.instances / "second", guest.lab.instances / "away"
    with call_before(monkeypatch, "managed_save", lambda: device.rename(away)):
        report = world.driver.snapshot(world.context, instance_of(guest), "image", parts.States())
    assert report.warnings == [
        "Device vdb could not be given back to the server, which runs without it."
    ]
    assert guest.state()["state"] == "running"
    until(lambda: len(seen(guest)) == len(before) - 1)
    assert MAC in guest.xml()
    away.rename(device)
    world.driver.init_host()
    assert_seen(guest, before)
    assert world.leftovers() == []


def test_guest_that_lets_go_too_late(deaf_guest, world):
    """It keeps the device while it is asked to, and loses it when nobody looks any more."""
    world.set(operation_timeout=1)
    before = parts.steady(deaf_guest)
    with pytest.raises(exception.SnapshotFailed, match="has not let go of it within 1 s"):
        world.driver.snapshot(world.context, instance_of(deaf_guest), "image", parts.States())
    assert MAC in deaf_guest.xml()
    assert parts.steady(deaf_guest) == before

    deaf_guest.lab.connect().lookupByName(deaf_guest.name).reset()
    until(lambda: MAC not in deaf_guest.xml())
    world.driver.init_host()
    assert MAC in deaf_guest.xml()
    assert parts.steady(deaf_guest) == before
    assert world.leftovers() == []


def test_paused_guest_is_not_asked(deaf_guest, world):
    """It could not answer before it runs again: nobody would be there then."""
    deaf_guest.suspend()
    with pytest.raises(exception.SnapshotFailed, match="cannot let go of them while it is paused"):
        world.snapshot(deaf_guest)
    deaf_guest.resume()
    assert MAC in deaf_guest.xml()
