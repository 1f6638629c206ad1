# SPDX-License-Identifier: Apache-2.0
"""The shipped driver that has no hypervisor keeps to the contract."""

import dataclasses
import threading

import pytest

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.virt import driver, fake
from tests.fixtures.images import MemoryImages
from tests.functional.snapshot_parts import Instance, States

INSTANCE = Instance("3f1c8c1e-5e0b-4b2a-9a44-0d8f2f9f8c11", "instance-00000001")
PHASES = ["image_snapshot", "image_pending_upload", "image_uploading"]


class Scene:
    def __init__(self, conf, context):
        self.images = MemoryImages()
        self.driver = fake.FakeDriver(conf, self.images)
        self.context = context
        self.image_id = self.images.create(context, {"name": "snap"})["id"]
        self.states = States()
        self.driver.init_host()

    def snapshot(self):
        return self.driver.snapshot(self.context, INSTANCE, self.image_id, self.states)


@pytest.fixture
def scene(conf, context):
    return Scene(conf, context)


@pytest.mark.parametrize("size", [1, 65536, 100_001])
def test_snapshot(scene, conf, size):
    conf.set_override("snapshot_size", size, "fake")
    report = scene.snapshot()
    assert (report.method, report.uploaded_bytes, report.image_format) == ("fake", size, "raw")
    assert scene.states.seen == ["image_pending_upload", "image_uploading"]
    assert scene.images.data[scene.image_id] == fake.snapshot_data(INSTANCE.uuid, size)
    record = scene.images.records[scene.image_id]
    assert (record["status"], record["disk_format"]) == ("active", "raw")


def test_data_of_one_instance_is_always_the_same_and_never_another_s():
    assert fake.snapshot_data("a", 100) == fake.snapshot_data("a", 200)[:100]
    assert fake.snapshot_data("a", 100) != fake.snapshot_data("b", 100)


@pytest.mark.parametrize("phase", PHASES)
def test_failure_on_demand(scene, conf, phase):
    conf.set_override("fail_in", phase, "fake")
    with pytest.raises(exception.SnapshotFailed) as caught:
        scene.snapshot()
    assert (caught.value.phase, caught.value.method) == (phase, "fake")
    assert scene.states.current == phase
    assert scene.images.data == {}


def test_delay_ends_when_the_driver_is_closed(scene, conf):
    conf.set_override("snapshot_delay", 600.0, "fake")
    threading.Timer(0.05, scene.driver.close).start()
    with pytest.raises(exception.SnapshotFailed, match="the driver was closed"):
        scene.snapshot()


def test_image_that_is_gone(scene):
    del scene.images.records[scene.image_id]
    with pytest.raises(exception.ImageNotFound):
        scene.snapshot()


def test_image_that_goes_at_the_upload(scene):
    scene.images.fail["update"] = exception.ImageNotFound(image_id=scene.image_id)
    with pytest.raises(exception.ImageNotFound):
        scene.snapshot()


def test_image_service_that_fails(scene):
    scene.images.fail["update"] = exception.ImageTooLarge(reason="quota")
    with pytest.raises(exception.SnapshotFailed, match="quota") as caught:
        scene.snapshot()
    assert caught.value.phase == "image_uploading"


def test_instance_that_is_taken_away(scene):
    scene.states.current = "deleting"
    with pytest.raises(exception.UnexpectedTaskState):
        scene.snapshot()


def test_domains(scene):
    paused = driver.AdoptedDomain("u", "b", power_state.PAUSED, 1, 512)
    scene.driver.add_domain(paused)
    scene.driver.add_domain(driver.AdoptedDomain("v", "a", power_state.RUNNING, 1, 512))
    assert scene.driver.list_domains() == ["a", "b"]
    assert scene.driver.describe_domain("b") is paused
    assert scene.driver.get_info(Instance("u", "b")).state == power_state.PAUSED
    assert scene.driver.get_info(INSTANCE).state == power_state.RUNNING
    with pytest.raises(exception.DomainNotFound):
        scene.driver.describe_domain("c")


def test_nothing_to_clean_up(scene):
    scene.driver.clean_up_after_restart(INSTANCE)
    scene.driver.close()
    scene.driver.close()


REQUEST = driver.SpawnRequest("image", {}, 1, 512, 1, "none", "server", "m1.tiny")


class Stopped(Exception):
    pass


@pytest.fixture
def life(scene, conf, context):
    scene.request = dataclasses.replace(REQUEST, image_id=scene.image_id)
    scene.spawn = lambda check=lambda: None: scene.driver.spawn(
        context, INSTANCE, scene.request, check
    )
    scene.state = lambda: scene.driver.get_info(INSTANCE).state
    return scene


def test_life(life):
    life.spawn()
    steps = [
        (lambda: life.driver.pause(INSTANCE), power_state.PAUSED),
        (lambda: life.driver.unpause(INSTANCE), power_state.RUNNING),
        (lambda: life.driver.suspend(INSTANCE), power_state.SHUTDOWN),
        (lambda: life.driver.resume(INSTANCE), power_state.RUNNING),
        (lambda: life.driver.power_off(INSTANCE, 60), power_state.SHUTDOWN),
        (lambda: life.driver.power_on(INSTANCE), power_state.RUNNING),
        (lambda: life.driver.reboot(INSTANCE, True, 0), power_state.RUNNING),
    ]
    for step, state in steps:
        step()
        assert life.state() == state
    assert INSTANCE.uuid in life.driver.get_console_output(INSTANCE).decode()
    life.driver.destroy(INSTANCE)
    life.driver.destroy(INSTANCE)
    with pytest.raises(exception.DomainNotFound):
        life.state()
    with pytest.raises(exception.DomainNotFound):
        life.driver.power_on(INSTANCE)


def test_an_instance_that_is_not_wanted_any_more_is_not_made(life):
    def check():
        raise Stopped

    with pytest.raises(Stopped):
        life.spawn(check)


def test_an_instance_without_its_image_is_not_made(life):
    life.images.records.clear()
    with pytest.raises(exception.SpawnFailed) as caught:
        life.spawn()
    assert isinstance(caught.value.__cause__, exception.ImageNotFound)


ACTIONS = {
    "destroy": lambda made: made.destroy(INSTANCE),
    "power_on": lambda made: made.power_on(INSTANCE),
    "power_off": lambda made: made.power_off(INSTANCE, 0),
    "reboot": lambda made: made.reboot(INSTANCE, False, 0),
    "pause": lambda made: made.pause(INSTANCE),
    "unpause": lambda made: made.unpause(INSTANCE),
    "suspend": lambda made: made.suspend(INSTANCE),
    "resume": lambda made: made.resume(INSTANCE),
    "get_console_output": lambda made: made.get_console_output(INSTANCE),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_fails_on_demand_and_changes_nothing(life, conf, action):
    life.spawn()
    conf.set_override("fail_in", action, "fake")
    with pytest.raises(exception.FakeFailure, match=action):
        ACTIONS[action](life.driver)
    assert life.state() == power_state.RUNNING


def test_spawn_fails_on_demand(life, conf):
    conf.set_override("fail_in", "spawn", "fake")
    with pytest.raises(exception.SpawnFailed, match=r"says \*@spawn:fail"):
        life.spawn()


@pytest.mark.parametrize("option", ["spawn_delay", "action_delay"])
def test_delays_end_when_the_driver_is_closed(life, conf, option):
    conf.set_override(option, 600.0, "fake")
    threading.Timer(0.05, life.driver.close).start()
    with pytest.raises((exception.SpawnFailed, exception.FakeFailure)):
        life.spawn() if option == "spawn_delay" else life.driver.pause(INSTANCE)


def test_events(life):
    seen = []
    life.driver.on_lifecycle_event(lambda uuid, state: seen.append((uuid, state)))
    life.driver.change_power_state(INSTANCE.uuid, power_state.CRASHED)
    assert seen == [(INSTANCE.uuid, power_state.CRASHED)]
    assert life.state() == power_state.CRASHED


def test_host_resources(life, conf):
    conf.set_override("host", "compute-7")
    found = life.driver.host_resources()
    assert (found.hostname, found.hypervisor_type, found.running_vms) == ("compute-7", "fake", 0)
