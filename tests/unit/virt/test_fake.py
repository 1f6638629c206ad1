# SPDX-License-Identifier: Apache-2.0
"""The shipped driver that has no hypervisor keeps to the contract."""

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
