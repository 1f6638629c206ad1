# SPDX-License-Identifier: Apache-2.0
"""What guests do by themselves, and what a host finds when it comes back."""

from collections.abc import Callable

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute import power_state, task_states, vm_states
from nova_snap.objects.instance import Instance
from nova_snap.objects.service import Service
from nova_snap.virt.driver import AdoptedDomain
from tests.fixtures.service import HOST, make_instance
from tests.functional.compute_parts import Cloud, compute_host, wait_until

__all__ = ["compute_host"]


class TestBehindOurBack:
    def test_a_guest_that_shuts_itself_down_is_stopped(self, cloud: Cloud) -> None:
        made = cloud.running()
        cloud.driver.change_power_state(made.uuid, power_state.SHUTDOWN)
        wait_until(lambda: cloud.state(made) == (vm_states.STOPPED, None, "shutdown"))
        assert cloud.action(made, "stop").message is None

    def test_a_guest_that_somebody_starts_is_stopped_again(self, cloud: Cloud) -> None:
        made = cloud.running()
        cloud.life.stop(cloud.new_context(), made)
        cloud.free(made)
        cloud.driver.change_power_state(made.uuid, power_state.RUNNING)
        wait_until(lambda: len(cloud.driver.did(made)) == 3)
        wait_until(lambda: cloud.state(made) == (vm_states.STOPPED, None, "shutdown"))

    def test_an_adopted_guest_may_be_switched_by_others(self, cloud: Cloud) -> None:
        adopted = make_instance(cloud.context)
        for power, expected in [
            (power_state.SHUTDOWN, vm_states.STOPPED),
            (power_state.RUNNING, vm_states.ACTIVE),
            (power_state.PAUSED, vm_states.PAUSED),
        ]:
            _describe(cloud, adopted, power)
            cloud.driver.change_power_state(adopted.uuid, power)
            wait_until(lambda expected=expected: cloud.state(adopted)[0] == expected)  # type: ignore[misc]
        assert cloud.driver.did(adopted) == []

    def test_an_adopted_guest_that_was_suspended(self, cloud: Cloud) -> None:
        adopted = make_instance(cloud.context)
        _describe(cloud, adopted, power_state.SHUTDOWN, saved=True)
        cloud.driver.change_power_state(adopted.uuid, power_state.SHUTDOWN)
        wait_until(lambda: cloud.state(adopted)[0] == vm_states.SUSPENDED)


def _describe(cloud: Cloud, instance: Instance, state: int, *, saved: bool = False) -> None:
    domain = AdoptedDomain(instance.uuid, instance.name, state, 1, 512, saved)
    cloud.driver.add_domain(domain)


class TestRestart:
    """What the process before was busy with."""

    @pytest.fixture
    def restart(self, cloud: Cloud) -> Callable[[], None]:
        """Stops the host; what is returned starts it again."""
        made = [cloud.running() for _ in range(2)]
        assert {each.vm_state for each in made} == {vm_states.ACTIVE}
        assert cloud.stop() == 0

        def start() -> None:
            cloud.build_service()
            cloud.start()

        return start

    def left(self, cloud: Cloud, task_state: str, **values: object) -> Instance:
        """An instance as a process left it that has died: the table of steps is not asked."""
        instance = cloud.all_instances()[0]
        cloud.write(instance, task_state=task_state, **values)
        return instance

    def test_a_build_is_given_up(self, cloud: Cloud, restart: Callable[[], None]) -> None:
        instance = self.left(cloud, task_states.SPAWNING, vm_state=vm_states.BUILDING)
        restart()
        cloud.free(instance)
        fault = cloud.fault(instance)
        assert cloud.state(instance)[0] == vm_states.ERROR
        assert fault is not None
        assert fault.message == "The compute service was restarted during spawning."
        assert instance.uuid not in cloud.driver.guests

    def test_a_delete_is_finished(self, cloud: Cloud, restart: Callable[[], None]) -> None:
        instance = self.left(cloud, task_states.DELETING)
        restart()
        cloud.gone(instance)
        assert instance.uuid not in cloud.driver.guests

    def test_a_delete_in_the_middle_of_a_snapshot_is_finished(
        self, cloud: Cloud, restart: Callable[[], None]
    ) -> None:
        queued = cloud.images.create(cloud.context, {"name": "snap"})["id"]
        instance = self.left(cloud, task_states.DELETING, snapshot_image_id=queued)
        restart()
        cloud.gone(instance)
        assert queued not in cloud.images.records

    @pytest.mark.parametrize(
        ("task_state", "expected"),
        [
            (task_states.POWERING_OFF, vm_states.STOPPED),
            (task_states.PAUSING, vm_states.PAUSED),
            (task_states.REBOOTING, vm_states.ACTIVE),
            (task_states.REBOOT_STARTED, vm_states.ACTIVE),
        ],
    )
    def test_a_switch_is_done_again(
        self, cloud: Cloud, restart: Callable[[], None], task_state: str, expected: str
    ) -> None:
        instance = self.left(cloud, task_state)
        restart()
        cloud.free(instance)
        assert cloud.state(instance)[0] == expected

    def test_a_guest_that_ended_meanwhile_is_stopped(
        self, cloud: Cloud, restart: Callable[[], None]
    ) -> None:
        instance = cloud.all_instances()[0]
        cloud.driver.change_power_state(instance.uuid, power_state.SHUTDOWN)
        restart()
        wait_until(lambda: cloud.state(instance) == (vm_states.STOPPED, None, "shutdown"))

    def test_what_was_deleted_meanwhile_is_removed(
        self, cloud: Cloud, restart: Callable[[], None], conf: cfg.ConfigOpts
    ) -> None:
        instance, other = cloud.all_instances()
        conf.set_override("service_down_time", 1)
        _be_down(cloud)
        cloud.life.delete(cloud.new_context(), instance)
        assert [each.uuid for each in cloud.all_instances()] == [other.uuid]
        assert instance.uuid in cloud.driver.guests
        conf.clear_override("service_down_time")
        restart()
        wait_until(lambda: instance.uuid not in cloud.driver.guests)
        assert other.uuid in cloud.driver.guests

    def test_a_host_that_is_down_is_not_asked(
        self, cloud: Cloud, restart: Callable[[], None]
    ) -> None:
        instance = cloud.all_instances()[0]
        _be_down(cloud)
        with pytest.raises(exception.MessagingUnavailable):
            cloud.life.stop(cloud.new_context(), instance)
        with pytest.raises(exception.MessagingUnavailable):
            cloud.life.get_console_output(cloud.new_context(), instance, None)
        assert cloud.state(instance) == (vm_states.ACTIVE, None, "running")
        lost = cloud.create()
        fault = cloud.fault(lost)
        assert cloud.state(lost)[:2] == (vm_states.ERROR, None)
        assert fault is not None
        assert fault.message == ("No valid host was found. There are not enough hosts available.")
        cloud.life.delete(cloud.new_context(), cloud.now(lost))
        assert lost.uuid not in [each.uuid for each in cloud.all_instances()]
        restart()


def _be_down(cloud: Cloud) -> None:
    service = Service.get_by_host(cloud.context, HOST)
    service.forced_down = True
    service.save(cloud.context)
