# SPDX-License-Identifier: Apache-2.0
"""An instance's life through the API, messages and a compute host with the fake driver."""

import datetime
import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from oslo_config import cfg
from oslo_utils import timeutils

from nova_snap import exception
from nova_snap.compute import power_actions, snapshots, switching, task_states, vm_states
from nova_snap.compute.monitor import SnapshotMonitor
from nova_snap.context import get_admin_context
from nova_snap.objects.block_device import BlockDeviceMappingList
from nova_snap.objects.instance import Instance
from nova_snap.virt.fake import snapshot_data
from tests.fixtures.service import HOST, make_context
from tests.functional.compute_parts import SMALL, SOON, Cloud, compute_host, wait_until

__all__ = ["compute_host"]

FAILURE = exception.LibvirtOperationFailed(
    operation="create", domain="nova-snap-1", code=1, reason="no /dev/kvm"
)


class TestCreate:
    def test_a_server_is_made_and_runs(self, cloud: Cloud) -> None:
        instance = cloud.create(metadata={"role": "db"}, description="mine")
        assert (instance.vm_state, instance.host) == (vm_states.BUILDING, HOST)
        made = cloud.free(instance)
        assert cloud.state(made) == (vm_states.ACTIVE, None, "running")
        assert made.launched_at is not None
        assert made.name == f"nova-snap-{1:08x}"
        assert (made.display_name, made.hostname) == ("web", "web")
        assert made.metadata == {"role": "db"}
        action = cloud.action(made, "create")
        assert action.message is None
        assert cloud.steps(action) == [("compute__do_build_and_run_instance", HOST, "Success")]

    def test_the_driver_is_told_what_to_make(self, cloud: Cloud) -> None:
        cloud.running(network="lan")
        (request,) = cloud.driver.requests
        assert (request.image_id, request.image_meta["disk_format"]) == (cloud.image_id, "qcow2")
        assert (request.vcpus, request.memory_mb, request.root_gb) == (1, 512, 1)
        assert (request.network, request.display_name) == ("lan", "web")
        assert request.flavor_name == "m1.tiny"

    def test_an_open_network_is_that_of_the_configuration(self, cloud: Cloud) -> None:
        cloud.running(network="auto")
        assert cloud.driver.requests[0].network == "none"

    def test_what_a_snapshot_inherits_is_kept(self, cloud: Cloud) -> None:
        image_id = cloud.add_image(
            min_ram=64, min_disk=1, hw_qemu_guest_agent="yes", os_type="linux", owner="x"
        )
        made = cloud.running(image_ref=image_id)
        assert made.image_ref == image_id
        assert made.os_type == "linux"
        assert made.image_properties == {
            "min_ram": "64",
            "min_disk": "1",
            "hw_qemu_guest_agent": "yes",
            "os_type": "linux",
            "disk_format": "qcow2",
            "container_format": "bare",
        }
        assert made.system_metadata["base_image_ref"] == image_id
        (disk,) = BlockDeviceMappingList.get_by_instance_uuid(cloud.context, made.uuid)
        assert (disk.source_type, disk.destination_type) == ("image", "local")
        assert (disk.image_id, disk.boot_index) == (image_id, 0)
        assert disk.device_name == made.root_device_name == "/dev/vda"

    def test_a_snapshot_of_a_new_server(self, cloud: Cloud) -> None:
        made = cloud.running()
        image = cloud.snapshots.snapshot(cloud.new_context(), made, "snap")
        cloud.free(made)
        size = cloud.conf.fake.snapshot_size
        assert cloud.images.data[image["id"]] == snapshot_data(made.uuid, size)
        assert cloud.images.records[image["id"]]["base_image_ref"] == cloud.image_id

    def test_several_at_once_have_a_reservation_in_common(self, cloud: Cloud) -> None:
        instances, reservation = cloud.life.create(
            cloud.new_context(), cloud.request(name="Web One", min_count=2, max_count=3)
        )
        made = [cloud.free(instance) for instance in instances]
        assert [each.display_name for each in made] == ["Web One-1", "Web One-2", "Web One-3"]
        assert [each.hostname for each in made] == ["web-one-1", "web-one-2", "web-one-3"]
        assert [each.launch_index for each in made] == [0, 1, 2]
        assert {each.reservation_id for each in made} == {reservation}
        assert {each.vm_state for each in made} == {vm_states.ACTIVE}
        assert len({each.name for each in made}) == 3

    def test_a_driver_that_fails_leaves_error_and_the_reason(self, cloud: Cloud) -> None:
        cloud.driver.fail["spawn"] = exception.SpawnFailed(
            instance_uuid="u", phase="disk", reason="/var/lib: no room"
        )
        failed = cloud.running()
        assert (failed.vm_state, failed.launched_at) == (vm_states.ERROR, None)
        fault = cloud.fault(failed)
        action = cloud.action(failed, "create")
        assert fault is not None
        assert (fault.code, fault.host) == (500, HOST)
        assert fault.message == action.message
        assert "SpawnFailed" in (fault.details or "")
        assert cloud.steps(action)[0][2] == "Error"
        cloud.life.delete(cloud.new_context(), failed)
        cloud.gone(failed)

    def test_what_was_not_foreseen_is_not_told(self, cloud: Cloud) -> None:
        cloud.driver.fail["spawn"] = RuntimeError("secret")
        failed = cloud.running()
        fault = cloud.fault(failed)
        assert failed.vm_state == vm_states.ERROR
        assert fault is not None
        assert "secret" not in fault.message
        assert "secret" in (fault.details or "")

    def test_an_image_that_is_gone_by_then(self, cloud: Cloud) -> None:
        cloud.driver.gate.close()
        instance = cloud.create()
        assert cloud.driver.gate.reached.wait(SOON)
        cloud.images.delete(cloud.context, cloud.image_id)
        cloud.driver.gate.open()
        assert cloud.free(instance).vm_state == vm_states.ERROR

    def test_a_build_takes_no_longer_than_it_may(self, cloud: Cloud) -> None:
        cloud.lifecycle._builder._timeout = 0.2
        cloud.driver.gate.close()
        failed = cloud.running()
        fault = cloud.fault(failed)
        assert failed.vm_state == vm_states.ERROR
        assert fault is not None
        assert fault.message == "The build did not end within 0.2 s."

    def test_a_message_that_comes_twice_makes_one_guest(self, cloud: Cloud) -> None:
        cloud.driver.gate.close()
        instance = cloud.create()
        assert cloud.driver.gate.reached.wait(SOON)
        cloud.lifecycle.build_instance(cloud.context, instance.uuid, "none")
        cloud.driver.gate.open()
        cloud.free(instance)
        cloud.lifecycle.build_instance(cloud.context, instance.uuid, "none")
        # The pool has worked on it when it has worked on another that came after.
        cloud.running()
        assert cloud.driver.did(instance) == ["spawn"]
        assert cloud.state(instance)[0] == vm_states.ACTIVE

    def test_an_admin_who_resets_a_build_ends_it(self, cloud: Cloud) -> None:
        cloud.driver.gate.close()
        instance = cloud.create()
        assert cloud.driver.gate.reached.wait(SOON)
        cloud.life.reset_state(cloud.new_context(), cloud.now(instance), "error")
        action = cloud.action(instance, "create")
        assert action.message is not None
        assert cloud.state(instance)[:2] == (vm_states.ERROR, None)
        assert cloud.driver.guests == set()


class TestDelete:
    def test_a_server_that_runs(self, cloud: Cloud) -> None:
        made = cloud.running()
        cloud.life.delete(cloud.new_context(), made)
        cloud.gone(made)
        assert cloud.driver.guests == set()
        action = cloud.action(made, "delete")
        assert action.message is None
        assert cloud.steps(action) == [("compute_terminate_instance", HOST, "Success")]

    def test_while_it_is_being_made(self, cloud: Cloud) -> None:
        cloud.driver.gate.close()
        instance = cloud.create()
        assert cloud.driver.gate.reached.wait(SOON)
        cloud.life.delete(cloud.new_context(), instance)
        cloud.gone(instance)
        # The spawn ended because of it, before the gate was opened; the delete came after.
        assert cloud.driver.did(instance) == ["spawn", "destroy"]
        assert cloud.driver.guests == set()
        create = cloud.action(instance, "create")
        assert create.message == "The server was deleted while it was being made."
        assert cloud.fault(instance) is None

    def test_while_a_snapshot_is_being_taken(
        self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blind = functools.partial(SnapshotMonitor, seconds=10 * SOON)
        monkeypatch.setattr(snapshots, "SnapshotMonitor", blind)
        made = cloud.running()
        cloud.images.go_on.clear()
        image = cloud.snapshots.snapshot(cloud.new_context(), made, "snap")
        assert cloud.images.uploading.wait(SOON)
        cloud.life.delete(cloud.new_context(), made)
        # The guest stays until the snapshot has let go of it.
        assert cloud.state(made)[1] == task_states.DELETING
        assert made.uuid in cloud.driver.guests
        cloud.images.go_on.set()
        cloud.gone(made)
        assert cloud.driver.guests == set()
        # It was whole before anything had seen that its server goes, and goes with it all the same:
        # by whoever took the snapshot, which has let go of the guest before.
        wait_until(lambda: image["id"] not in cloud.images.records, "the end of the image")

    def test_twice(self, cloud: Cloud) -> None:
        made = cloud.running()
        cloud.driver.gate.close()
        cloud.life.stop(cloud.new_context(), made)
        assert cloud.driver.gate.reached.wait(SOON)
        stopping = cloud.now(made)
        cloud.life.delete(cloud.new_context(), stopping)
        cloud.life.delete(cloud.new_context(), cloud.now(made))
        cloud.driver.gate.open()
        cloud.gone(made)
        cloud.life.delete(cloud.new_context(), stopping)
        assert cloud.driver.did(made) == ["spawn", "power_off 60", "destroy"]

    def test_a_failure_leaves_error_and_can_be_tried_again(self, cloud: Cloud) -> None:
        made = cloud.running()
        cloud.driver.fail["destroy"] = FAILURE
        cloud.life.delete(cloud.new_context(), made)
        failed = cloud.free(made)
        fault = cloud.fault(failed)
        assert failed.vm_state == vm_states.ERROR
        assert fault is not None
        assert fault.message == FAILURE.for_user()
        assert "no /dev/kvm" in (fault.details or "")
        cloud.driver.fail.clear()
        cloud.life.delete(cloud.new_context(), failed)
        cloud.gone(made)

    def test_a_message_that_nothing_announces_is_not_obeyed(self, cloud: Cloud) -> None:
        made = cloud.running()
        cloud.lifecycle.terminate_instance(cloud.context, made.uuid)
        cloud.lifecycle.terminate_instance(cloud.context, "no uuid")
        other = cloud.running()
        cloud.life.delete(cloud.new_context(), other)
        cloud.gone(other)
        assert cloud.state(made) == (vm_states.ACTIVE, None, "running")


class TestSwitch:
    @pytest.mark.parametrize(
        ("name", "state", "power"),
        [
            ("stop", vm_states.STOPPED, "shutdown"),
            ("pause", vm_states.PAUSED, "paused"),
            ("suspend", vm_states.SUSPENDED, "shutdown"),
        ],
    )
    def test_there_and_back(self, cloud: Cloud, name: str, state: str, power: str) -> None:
        back = {"stop": "start", "pause": "unpause", "suspend": "resume"}[name]
        made = cloud.running()
        getattr(cloud.life, name)(cloud.new_context(), made)
        there = cloud.free(made)
        assert cloud.state(there) == (state, None, power)
        getattr(cloud.life, back)(cloud.new_context(), there)
        cloud.free(made)
        assert cloud.state(made) == (vm_states.ACTIVE, None, "running")
        for each in (name, back):
            action = cloud.action(made, each)
            assert action.message is None
            assert cloud.steps(action) == [(f"compute_{each}_instance", HOST, "Success")]

    @pytest.mark.parametrize(
        ("kind", "call"), [("SOFT", "reboot soft 60"), ("HARD", "reboot hard")]
    )
    def test_a_reboot(self, cloud: Cloud, kind: str, call: str) -> None:
        made = cloud.running()
        cloud.life.reboot(cloud.new_context(), made, kind)
        cloud.free(made)
        assert cloud.state(made) == (vm_states.ACTIVE, None, "running")
        assert cloud.driver.did(made) == ["spawn", call]
        assert cloud.steps(cloud.action(made, "reboot")) == [
            ("compute_reboot_instance", HOST, "Success")
        ]

    def test_the_image_says_how_long_a_guest_may_take(self, cloud: Cloud) -> None:
        made = cloud.running(image_ref=cloud.add_image(os_shutdown_timeout="7"))
        cloud.life.stop(cloud.new_context(), made)
        cloud.free(made)
        assert cloud.driver.did(made) == ["spawn", "power_off 7"]

    def test_a_failure_leaves_things_as_they_are_with_the_reason(self, cloud: Cloud) -> None:
        made = cloud.running()
        cloud.driver.fail["pause"] = FAILURE
        cloud.life.pause(cloud.new_context(), made)
        cloud.free(made)
        assert cloud.state(made) == (vm_states.ACTIVE, None, "running")
        action = cloud.action(made, "pause")
        assert action.message == FAILURE.for_user()
        assert cloud.steps(action)[0][2] == "Error"
        assert cloud.fault(made) is not None

    def test_a_guest_that_does_not_come_back_from_a_reboot_is_in_error(self, cloud: Cloud) -> None:
        made = cloud.running()
        cloud.life.stop(cloud.new_context(), made)
        stopped = cloud.free(made)
        cloud.driver.fail["reboot"] = FAILURE
        cloud.life.reboot(cloud.new_context(), stopped, "HARD")
        cloud.free(made)
        assert cloud.state(made) == (vm_states.ERROR, None, "shutdown")

    def test_a_message_that_comes_twice_is_obeyed_once(self, cloud: Cloud) -> None:
        made = cloud.running()
        cloud.driver.gate.close()
        cloud.life.stop(cloud.new_context(), made)
        assert cloud.driver.gate.reached.wait(SOON)
        cloud.lifecycle.stop_instance(cloud.context, made.uuid)
        cloud.driver.gate.open()
        cloud.free(made)
        cloud.life.start(cloud.new_context(), cloud.now(made))
        cloud.free(made)
        assert cloud.driver.did(made) == ["spawn", "power_off 60", "power_on"]
        assert cloud.state(made)[0] == vm_states.ACTIVE

    def test_who_waits_too_long_gives_up_unless_it_is_the_same(
        self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = cloud.running()
        cloud.driver.gate.close()
        cloud.life.stop(cloud.new_context(), made)
        assert cloud.driver.gate.reached.wait(SOON)
        # Not before: the build lets go of the instance a moment after it is free.
        monkeypatch.setattr(switching, "_LOCK_SECONDS", 0.1)
        # The same message again: what it asks for is being done.
        cloud.lifecycle._switcher.switch(cloud.new_context().elevated(), made.uuid, "stop_instance")
        assert cloud.state(made)[1] == task_states.POWERING_OFF
        # An administrator frees it, and asks for something else.
        cloud.life.reset_state(cloud.new_context(), cloud.now(made), "active")
        cloud.life.pause(cloud.new_context(), cloud.now(made))
        assert cloud.action(made, "pause").message == (
            f"What is being done to instance {made.uuid} did not end within 0.1 s"
        )
        cloud.free(made)
        cloud.driver.gate.open()
        assert cloud.action(made, "stop").message is None
        assert cloud.state(made)[:2] == (vm_states.ACTIVE, None)

    def test_a_message_that_was_lost_is_made_up_for(self, cloud: Cloud) -> None:
        lost, recent = cloud.running(), cloud.running()
        for instance, minutes in ((lost, 11), (recent, 9)):
            since = timeutils.utcnow() - datetime.timedelta(minutes=minutes)
            cloud.write(instance, task_state=task_states.PAUSING, updated_at=since)
        cloud.lifecycle._recovery.ask_again(get_admin_context(cloud.database))
        wait_until(lambda: cloud.state(lost) == (vm_states.PAUSED, None, "paused"))
        assert cloud.state(recent)[1] == task_states.PAUSING

    def test_a_hard_reboot_takes_over_from_what_hangs(self, cloud: Cloud) -> None:
        made = cloud.running()
        made.task_state = task_states.PAUSING
        made.save()
        cloud.life.reboot(cloud.new_context(), made, "HARD")
        cloud.free(made)
        assert cloud.state(made) == (vm_states.ACTIVE, None, "running")

    def test_of_actions_at_the_same_time_one_is_accepted(self, cloud: Cloud) -> None:
        made = cloud.running()
        together = threading.Barrier(4, timeout=SOON)

        def ask(name: str) -> str:
            own = cloud.now(made)
            together.wait()
            try:
                getattr(cloud.life, name)(cloud.new_context(), own)
            except exception.InstanceInvalidState as error:
                return str(error)
            return name

        cloud.driver.gate.close()
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(ask, ["stop", "pause", "suspend", "stop"]))
        cloud.driver.gate.open()
        refused = [answer for answer in answers if answer.startswith("Cannot '")]
        assert len(refused) == 3
        assert all(f"instance {made.uuid} while it is in task_state" in each for each in refused)
        cloud.free(made)
        (winner,) = set(answers).difference(refused)
        expected = {"stop": "stopped", "pause": "paused", "suspend": "suspended"}[winner]
        assert cloud.state(made)[0] == expected


class TestConsole:
    def test_all_of_it_or_its_end(self, cloud: Cloud) -> None:
        made = cloud.running()
        whole = cloud.life.get_console_output(cloud.new_context(), made, None)
        assert whole == f"console of {made.uuid}\n"
        assert cloud.life.get_console_output(cloud.new_context(), made, 2) == whole
        assert cloud.life.get_console_output(cloud.new_context(), made, 0) == ""

    def test_a_guest_that_is_not_there(self, cloud: Cloud) -> None:
        made = cloud.running()
        cloud.driver.destroy(made)
        with pytest.raises(exception.ConsoleNotAvailable) as caught:
            cloud.life.get_console_output(cloud.new_context(), made, None)
        assert caught.value.for_user() == "Guest does not have a console available."


def test_all_actions_are_messages(cloud: Cloud) -> None:
    for action in power_actions.ALL:
        assert callable(getattr(cloud.lifecycle, action.method))


def test_another_project_has_its_own_quota(cloud: Cloud, conf: cfg.ConfigOpts) -> None:
    conf.set_override("instances", 1, "quota")
    cloud.running()
    with pytest.raises(exception.QuotaExceeded):
        cloud.create()
    other = make_context(cloud.database, project_id="other")
    instances, _ = cloud.life.create(other, cloud.request(flavor=SMALL))
    assert len(instances) == 1
    wait_until(lambda: Instance.get_by_uuid(other, instances[0].uuid).task_state is None)
