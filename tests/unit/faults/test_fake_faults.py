# SPDX-License-Identifier: Apache-2.0
"""The faults of the fake driver, through the REST API of the whole service."""

import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from oslo_config import cfg

from nova_snap.compute import power_state, vm_states
from nova_snap.context import RequestContext
from nova_snap.db import migration
from nova_snap.db.session import Database
from nova_snap.objects import flavor
from nova_snap.objects.instance import Instance
from nova_snap.virt.fake import snapshot_data
from tests.fixtures.service import configuration, make_context, make_instance
from tests.stand_ins.glance import GlanceStandIn
from tests.unit.faults.world import SOON, TOKEN, World

PHASES = ["image_snapshot", "image_pending_upload", "image_uploading"]


BUILD_SECONDS = 2
GRACE_SECONDS = 1


@pytest.fixture(scope="module")
def _world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with configuration(tmp_path_factory.mktemp("world")) as conf:
        conf.set_override("instance_build_timeout", BUILD_SECONDS)
        conf.set_override("instances", -1, "quota")
        with World(conf) as made:
            yield made


@pytest.fixture
def world(_world: World) -> Iterator[World]:
    yield _world
    _world.glance.heal()
    _world.conf.clear_override("faults", "fake")


def set_faults(world: World, *faults: str) -> None:
    world.conf.set_override("faults", list(faults), "fake")


def wait_for_phase(context: RequestContext, instance: Instance, state: str) -> None:
    until = time.monotonic() + SOON
    while Instance.get_by_uuid(context, instance.uuid).task_state != state:
        assert time.monotonic() < until, f"it was never {state}"
        threading.Event().wait(0.02)


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_fails_for_one_instance_only(world: World, phase: str) -> None:
    instance, other = world.add_instance(), world.add_instance()
    set_faults(world, f"{instance.uuid}@{phase}:fail")
    outcome = world.snapshot(instance)
    assert outcome.event == "Error"
    assert f"failed during {phase}" in (outcome.message or "")
    assert outcome.image_id not in world.glance.images.records
    spared = world.snapshot(other)
    assert spared.event == "Success"
    assert world.is_good(other, spared)
    world.conf.clear_override("faults", "fake")
    world.assert_next_one_works(instance)


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_that_stalls_is_ended_by_a_cancel(world: World, phase: str) -> None:
    instance = world.add_instance()
    set_faults(world, f"instance-*@{phase}:stall")
    began = time.monotonic()
    image_id = world.ask(instance).json["image_id"]
    wait_for_phase(world.context, instance, phase)
    world.glance.images.delete(image_id)
    outcome = world.outcome(instance, image_id, began)
    assert outcome.message == "The image was deleted while the snapshot was being taken."
    world.conf.clear_override("faults", "fake")
    world.assert_next_one_works(instance)


def test_a_snapshot_that_is_only_said_to_be_done(world: World) -> None:
    instance = world.add_instance()
    set_faults(world, "*@image_uploading:lie")
    outcome = world.snapshot(instance)
    assert outcome.event == "Error"
    assert outcome.message is not None
    assert "said to be done" in outcome.message
    assert outcome.message.endswith("is queued.")
    assert outcome.image_id not in world.glance.images.records
    assert not world.is_remembered(outcome.image_id)
    world.conf.clear_override("faults", "fake")
    world.assert_next_one_works(instance)


def act(world: World, instance: Instance, action: str) -> dict[str, Any]:
    """What the action has come to, when the instance is free again."""
    assert world.request("POST", f"/servers/{instance.uuid}/action", {action: None}).status_int in (
        200,
        202,
    )
    until = time.monotonic() + SOON
    while Instance.get_by_uuid(world.context, instance.uuid).task_state is not None:
        assert time.monotonic() < until, f"{action} goes on"
        threading.Event().wait(0.05)
    path = f"/servers/{instance.uuid}/os-instance-actions"
    (newest, *_) = world.request("GET", path).json["instanceActions"]
    found: dict[str, Any] = world.request("GET", f"{path}/{newest['request_id']}").json[
        "instanceAction"
    ]
    assert all(each["finish_time"] for each in found["events"])
    return found


def test_an_action_fails(world: World) -> None:
    instance = world.add_instance()
    set_faults(world, f"{instance.uuid}@pause:fail")
    found = act(world, instance, "pause")
    assert found["events"][-1]["result"] == "Error"
    assert found["message"]
    after = Instance.get_by_uuid(world.context, instance.uuid)
    assert (after.vm_state, after.task_state) == (vm_states.ACTIVE, None)


def test_an_action_that_is_only_said_to_be_done(world: World) -> None:
    """The guest is asked again, and it is its word that counts."""
    instance = world.add_instance()
    set_faults(world, f"{instance.uuid}@pause:lie")
    act(world, instance, "pause")
    assert world.driver.get_info(instance).state == power_state.RUNNING
    after = Instance.get_by_uuid(world.context, instance.uuid)
    assert after.power_state == power_state.RUNNING


def test_a_build_that_stalls_is_given_up(world: World) -> None:
    flavor.Flavor("1", "m1.tiny", 512, 1, 1).create(world.context)
    formats = {"disk_format": "raw", "container_format": "bare", "min_disk": 0, "min_ram": 0}
    image = world.glance.images.create({"name": "base", "visibility": "public", **formats})
    world.glance.images.keep(image["id"], bytes(512))
    set_faults(world, "*@spawn:stall")
    asked = {"name": "new", "imageRef": image["id"], "flavorRef": "1", "networks": "none"}
    began = time.monotonic()
    answer = world.request("POST", "/servers", {"server": asked})
    assert answer.status_int == 202, answer.text
    path = f"/servers/{answer.json['server']['id']}"
    until = began + SOON
    while (server := world.request("GET", path).json["server"])["status"] != "ERROR":
        assert time.monotonic() < until, server
        threading.Event().wait(0.05)
    assert time.monotonic() - began >= BUILD_SECONDS
    assert f"within {BUILD_SECONDS} s" in server["fault"]["message"]


@pytest.mark.parametrize(
    "fault", ["nowhere:fail", "spawn", "spawn:explode", "a@b@spawn:fail", ":fail", "@spawn:fail"]
)
def test_what_is_no_fault_is_refused(conf: cfg.ConfigOpts, fault: str) -> None:
    with pytest.raises(ValueError, match="doesn't match regex"):
        conf.set_override("faults", [fault], "fake")


class Process:
    """``nova-snap-all`` in a process of its own."""

    def __init__(self, directory: pathlib.Path, glance: GlanceStandIn) -> None:
        self._directory = directory
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self._settings = f"""
[DEFAULT]
state_path = {directory}
host = compute-1
compute_driver = fake.FakeDriver
osapi_compute_listen = 127.0.0.1
osapi_compute_listen_port = {self._port}
graceful_shutdown_timeout = {GRACE_SECONDS}
[glance]
api_servers = {glance.url}
[fake]
snapshot_size = 1000
"""

    def start(self, faults: str) -> "subprocess.Popen[bytes]":
        path = self._directory / "nova-snap.conf"
        path.write_text(f"{self._settings}faults = {faults}\n")
        command = [sys.executable, "-m", "tests.unit.faults.run_all", f"--config-file={path}"]
        log = (self._directory / "log").open("ab")
        with log:
            process = subprocess.Popen(command, stderr=log, stdout=log)
        until = time.monotonic() + 60
        while True:
            try:
                self.request("GET", "/servers")
                return process
            except requests.ConnectionError:
                assert process.poll() is None, (self._directory / "log").read_text()
                assert time.monotonic() < until
                threading.Event().wait(0.1)

    def request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        answer = requests.request(
            method,
            f"http://127.0.0.1:{self._port}/v2.1{path}",
            headers={"X-Auth-Token": TOKEN, "OpenStack-API-Version": "compute 2.79"},
            json=body,
            timeout=30,
        )
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


@pytest.mark.parametrize(
    ("kind", "phase"), [*(("die", phase) for phase in PHASES), ("hang", "image_uploading")]
)
def test_a_process_that_dies_or_hangs_is_recovered_from(
    conf: cfg.ConfigOpts, tmp_path: pathlib.Path, kind: str, phase: str
) -> None:
    """What hangs ends with its process, which does not wait for it when it is told to stop."""
    conf.set_override("state_path", str(tmp_path))
    database = Database(conf)
    migration.sync(database)
    context = make_context(database)
    instance = make_instance(context, host="compute-1", image_ref=None)
    ask = ("POST", f"/servers/{instance.uuid}/action", {"createImage": {"name": "snap"}})
    with GlanceStandIn() as glance:
        service = Process(tmp_path, glance)
        process = service.start(f"{instance.uuid}@{phase}:{kind}")
        image_id = service.request(*ask)["image_id"]
        if kind == "hang":
            wait_for_phase(context, instance, phase)
            process.terminate()
        assert process.wait(30) == (-signal.SIGKILL if kind == "die" else 0)
        left = Instance.get_by_uuid(context, instance.uuid)
        assert (left.task_state, glance.images.records[image_id]["status"]) == (phase, "queued")
        process = service.start("")
        try:
            assert Instance.get_by_uuid(context, instance.uuid).task_state is None
            assert image_id not in glance.images.records
            path = f"/servers/{instance.uuid}/os-instance-actions"
            (action,) = service.request("GET", path)["instanceActions"]
            assert f"restarted during {phase}" in action["message"]
            image_id = service.request(*ask)["image_id"]
            until = time.monotonic() + SOON
            while image_id not in glance.images.data:
                assert time.monotonic() < until
                threading.Event().wait(0.05)
            assert glance.images.data[image_id] == snapshot_data(instance.uuid, 1000)
        finally:
            process.kill()
            process.wait(30)
    database.close()
