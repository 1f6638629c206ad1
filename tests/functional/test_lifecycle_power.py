# SPDX-License-Identifier: Apache-2.0
"""An instance is switched in every way, ends behind our back, and is removed, on real QEMU."""

import os
import queue
import signal
import threading
import time
import uuid

import pytest

from nova_snap import exception
from nova_snap.compute import power_state
from tests.functional import lifecycle_parts as parts
from tests.functional import snapshot_parts

MIB = 1 << 20


@pytest.fixture
def world(libvirt_lab, tmp_path):
    with parts.open_world(libvirt_lab, tmp_path) as made:
        yield made


@pytest.fixture
def guest(world):
    """An instance that boots."""
    made = world.spawn(world.guest_image())
    assert made.wait_ready() == 1
    return made


@pytest.fixture
def blank(world, tmp_path):
    """An instance that hears no power button: there is nothing to boot."""
    (tmp_path / "blank").write_bytes(bytes(MIB))
    return world.spawn(world.images.add(tmp_path / "blank", "raw"), memory_mb=64)


def test_a_life(guest):
    driver, instance = guest.driver, guest.instance
    assert guest.state() == power_state.RUNNING
    guest.run("echo alive > /run/memory")

    driver.pause(instance)
    assert guest.state() == power_state.PAUSED
    driver.unpause(instance)
    assert guest.state() == power_state.RUNNING

    driver.suspend(instance)
    assert guest.state() == power_state.SHUTDOWN
    assert guest.domain().hasManagedSaveImage()
    driver.resume(instance)
    assert guest.state() == power_state.RUNNING
    # Its memory is what it was: it has not booted.
    assert guest.run("cat /run/memory") == "alive"

    driver.power_off(instance, 60)
    assert guest.state() == power_state.SHUTDOWN
    # It was asked, and did it by itself.
    assert "nova-snap-guest: poweroff" in guest.console()
    driver.power_off(instance, 60)
    driver.power_on(instance)
    assert guest.wait_ready() == 2
    driver.power_on(instance)

    driver.reboot(instance, hard=False, timeout=60)
    assert guest.wait_ready() == 3
    driver.reboot(instance, hard=True, timeout=0)
    assert guest.wait_ready() == 4

    driver.destroy(instance)
    guest.world.assert_gone(instance)
    driver.destroy(instance)


def test_guest_that_does_not_listen_is_stopped_when_its_time_is_over(blank):
    began = time.monotonic()
    blank.driver.power_off(blank.instance, 1.5)
    assert 1.5 <= time.monotonic() - began < 20
    assert blank.state() == power_state.SHUTDOWN


def test_guest_that_does_not_listen_is_rebooted_hard(blank):
    before = blank.domain().ID()
    blank.driver.reboot(blank.instance, hard=False, timeout=1)
    assert blank.state() == power_state.RUNNING
    assert blank.domain().ID() != before


def test_paused_guest_is_not_waited_for(blank):
    blank.driver.pause(blank.instance)
    began = time.monotonic()
    blank.driver.power_off(blank.instance, 60)
    assert time.monotonic() - began < 20
    assert blank.state() == power_state.SHUTDOWN


def test_hard_reboot_of_a_suspended_guest_forgets_its_memory(blank):
    blank.driver.suspend(blank.instance)
    blank.driver.reboot(blank.instance, hard=True, timeout=0)
    assert blank.state() == power_state.RUNNING
    assert not blank.domain().hasManagedSaveImage()


def test_guest_that_was_paused_runs_when_it_is_resumed(blank):
    blank.driver.pause(blank.instance)
    blank.driver.suspend(blank.instance)
    blank.driver.resume(blank.instance)
    assert blank.state() == power_state.RUNNING


@pytest.mark.parametrize("action", ["pause", "suspend", "unpause"])
def test_what_does_not_run_cannot_be_switched(blank, action):
    blank.driver.power_off(blank.instance, 0)
    with pytest.raises(exception.LibvirtOperationFailed):
        getattr(blank.driver, action)(blank.instance)
    assert blank.state() == power_state.SHUTDOWN


@pytest.mark.parametrize(
    "action",
    ["power_on", "pause", "unpause", "suspend", "resume", "get_console_output"],
)
def test_what_is_not_there_cannot_be_switched(world, action):
    with pytest.raises(exception.DomainNotFound):
        getattr(world.driver, action)(world.instance())


# -- events ------------------------------------------------------------------------------------


class Events:
    """What a driver tells."""

    def __init__(self, driver):
        self.queue = queue.SimpleQueue()
        driver.on_lifecycle_event(lambda *event: self.queue.put(event))

    def expect(self, instance, state):
        """Wait for this event, and drop all before it."""
        while self.queue.get(timeout=60) != (instance.uuid, state):
            pass


def pid_of(world, instance):
    return int((world.lab.root / "run/qemu" / f"{instance.name}.pid").read_text())


def test_guest_that_is_killed_is_told_of(world, blank):
    events = Events(world.driver)
    os.kill(pid_of(world, blank.instance), signal.SIGKILL)
    events.expect(blank.instance, power_state.SHUTDOWN)
    assert blank.state() == power_state.SHUTDOWN
    world.driver.power_on(blank.instance)
    events.expect(blank.instance, power_state.RUNNING)


def test_guest_that_powers_itself_off_is_told_of(world, guest):
    events = Events(world.driver)
    guest.run("(sleep 1; shutdown) > /dev/null 2>&1 &")
    events.expect(guest.instance, power_state.SHUTDOWN)
    assert guest.state() == power_state.SHUTDOWN


def test_what_others_do_is_told_of(world, blank):
    events = Events(world.driver)
    blank.domain().suspend()
    events.expect(blank.instance, power_state.PAUSED)
    blank.domain().resume()
    events.expect(blank.instance, power_state.RUNNING)
    blank.domain().managedSave(0)
    events.expect(blank.instance, power_state.SHUTDOWN)


def test_callback_that_fails_or_takes_its_time_holds_nothing_up(world, blank):
    def fail(*event):
        raise RuntimeError("told to")

    called = queue.SimpleQueue()
    go_on = queue.SimpleQueue()

    def wait(*event):
        called.put(event)
        go_on.get(timeout=60)

    world.driver.on_lifecycle_event(fail)
    world.driver.on_lifecycle_event(wait)
    world.driver.pause(blank.instance)
    assert called.get(timeout=60)[1] == power_state.PAUSED
    # libvirt's own loop is free: this needs an answer of the guest's monitor.
    world.driver.unpause(blank.instance)
    assert blank.state() == power_state.RUNNING
    go_on.put(None)
    assert called.get(timeout=60)[1] == power_state.RUNNING
    go_on.put(None)


def test_no_event_comes_after_the_end(world, blank):
    events = Events(world.driver)
    world.driver.close()
    world.driver.pause(blank.instance)
    time.sleep(0.5)
    assert events.queue.empty()


# -- the end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["power_off", "pause", "suspend"])
def test_nothing_is_left_of_it(world, blank, before):
    arguments = (0,) if before == "power_off" else ()
    getattr(world.driver, before)(blank.instance, *arguments)
    world.driver.destroy(blank.instance)
    world.assert_gone(blank.instance)


def test_nothing_is_left_of_it_when_it_is_removed_during_a_snapshot(world, tmp_path):
    (tmp_path / "data").write_bytes(os.urandom(4 * MIB))
    made = world.spawn(world.images.add(tmp_path / "data", "raw"), memory_mb=64)
    uploading, go_on = threading.Event(), threading.Event()

    def on_update():
        uploading.set()
        assert go_on.wait(60)

    world.images.on_update = on_update
    failures = []

    def snapshot():
        try:
            world.driver.snapshot(
                world.context, made.instance, str(uuid.uuid4()), snapshot_parts.States()
            )
        except Exception as exc:
            failures.append(exc)

    thread = threading.Thread(target=snapshot)
    thread.start()
    assert uploading.wait(60)
    world.driver.destroy(made.instance)
    world.assert_gone(made.instance)
    go_on.set()
    thread.join(120)
    assert [type(failure) for failure in failures] == [exception.SnapshotFailed]
    assert world.leftovers() == []


def test_it_is_removed_although_its_domain_or_its_files_are_gone(world, blank):
    blank.domain().destroy()
    blank.domain().undefine()
    world.driver.destroy(blank.instance)
    world.assert_gone(blank.instance)


def test_files_elsewhere_are_left(libvirt_lab, world):
    disk = libvirt_lab.make_disk("qcow2")
    adopted = libvirt_lab.define_guest("instance-0000abcd", disk)
    adopted.start()
    world.driver.destroy(snapshot_parts.Instance(adopted.uuid, adopted.name))
    assert libvirt_lab.step("names") == []
    assert disk.path.exists()


def test_directory_that_is_a_link_is_not_followed(world, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("precious")
    instance = snapshot_parts.Instance(str(uuid.uuid4()), "instance-0000dead")
    world.instances.mkdir(exist_ok=True)
    (world.instances / instance.uuid).symlink_to(victim)
    with pytest.raises(exception.FilesNotRemoved):
        world.driver.destroy(instance)
    assert (victim / "file").read_text() == "precious"


# -- the console and the host ------------------------------------------------------------------


def test_console_of_a_domain_that_keeps_none(libvirt_lab, world):
    guest = libvirt_lab.define_guest("plain", libvirt_lab.make_disk("qcow2"))
    xml = guest.xml(inactive=True)
    start, end = xml.index("<log "), xml.index("/>", xml.index("<log ")) + 2
    libvirt_lab.connect().defineXML(xml[:start] + xml[end:])
    console = xml[xml.index("<console") : xml.index("</console>") + len("</console>")]
    libvirt_lab.connect().defineXML((xml[:start] + xml[end:]).replace(console, ""))
    with pytest.raises(exception.ConsoleNotAvailable):
        world.driver.get_console_output(snapshot_parts.Instance(guest.uuid, guest.name))


def test_host(world, blank):
    found = world.driver.host_resources()
    assert found.hypervisor_type == "QEMU"
    assert found.hypervisor_version > 7_000_000
    assert (found.running_vms, found.vcpus_used) == (1, 1)
    assert found.vcpus == os.cpu_count()
    assert 0 < found.memory_mb_used < found.memory_mb
    assert 0 < found.local_gb_used <= found.local_gb
    # The disk of 1 GiB is empty yet.
    world.driver.power_off(blank.instance, 0)
    assert world.driver.host_resources().running_vms == 0
    assert found.cpu_info["arch"] == os.uname().machine
    assert found.hostname
    assert " up " in found.uptime
    assert "load average: " in found.uptime
