# SPDX-License-Identifier: Apache-2.0
"""Guests that are started, stopped, paused and so on."""

from typing import Final

from oslo_config import cfg
from oslo_log import log

from nova_snap import exception
from nova_snap.compute import power_actions, power_state, records, vm_states
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.compute.power_actions import PowerAction
from nova_snap.context import RequestContext
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceActionEvent
from nova_snap.virt.driver import ComputeDriver

LOG = log.getLogger(__name__)

_LOCK_SECONDS: Final = 120.0
_SHUTDOWN_PROPERTY: Final = "os_shutdown_timeout"
# Users set the property, and a guest that does not hear keeps a thread of the host that long.
_LONGEST_SHUTDOWN: Final = 600.0


class Switcher:
    """Switches the guests of one host.

    :param driver: connected by the time that :meth:`switch` is called.
    """

    def __init__(self, conf: cfg.ConfigOpts, driver: ComputeDriver, locks: InstanceLocks) -> None:
        self._host: str = conf.host
        self._shutdown_timeout: int = conf.shutdown_timeout
        self._driver = driver
        self._locks = locks
        # What each instance is in the middle of; written only by who holds its lock.
        self._running: dict[str, PowerAction] = {}

    def switch(self, context: RequestContext, uuid: str, method: str) -> None:
        """Do what the instance's task_state announces.

        Never raises what was foreseen: a failure leaves the instance free, with the reason.

        :param method: the message that came; one that the task_state does not announce, because
            it came twice or too late, is ignored.
        """
        context.update_store()
        try:
            with self._locks.hold(uuid, _LOCK_SECONDS):
                instance = Instance.get_by_uuid(context, uuid)
                action = power_actions.announced_by(instance.task_state)
                if action is not None and (instance.task_state, method) == (
                    action.task_state,
                    action.method,
                ):
                    self._switch(context, instance, action)
                    return
        except exception.InstanceNotFound:
            LOG.info("Instance %s is gone; %s has come too late", uuid, method)
            return
        except exception.InstanceBusy as error:
            self._too_busy(context, uuid, method, error)
            return
        LOG.warning(
            "Instance %s is in task_state %s: %s is not obeyed", uuid, instance.task_state, method
        )

    def _switch(self, context: RequestContext, instance: Instance, action: PowerAction) -> None:
        self._running[instance.uuid] = action
        try:
            self._carry_out(context, instance, action)
        finally:
            del self._running[instance.uuid]

    def _carry_out(self, context: RequestContext, instance: Instance, action: PowerAction) -> None:
        record = records.action_of(context, instance.uuid, action.name)
        state = action.task_state
        try:
            with InstanceActionEvent.record(context, record, action.event, self._host):
                if action.started is not None:
                    instance.task_state = action.started
                    instance.save(expected_task_state=[state])
                    state = action.started
                self._do(instance, action)
        except (exception.UnexpectedTaskState, exception.InstanceNotFound) as error:
            LOG.info("Instance %s is in other hands: %s", instance.uuid, error)
            record.finish(context, "Another request took the server over.")
        except Exception as error:
            LOG.exception("The %s of instance %s failed", action.name, instance.uuid)
            records.failed(context, instance.uuid, self._host, record, error)
            instance.power_state = self._power_state(instance)
            records.free(instance, expected=state, vm_state=_after_failure(instance, action))
        else:
            instance.power_state = self._power_state(instance)
            record.finish(context)
            records.free(instance, expected=state, vm_state=action.vm_state)
            LOG.info("Instance %s: %s is done", instance.uuid, action.name)

    def _do(self, instance: Instance, action: PowerAction) -> None:
        driver = self._driver
        if action is power_actions.START:
            driver.power_on(instance)
        elif action is power_actions.STOP:
            driver.power_off(instance, self._seconds_to_shut_down(instance))
        elif action is power_actions.PAUSE:
            driver.pause(instance)
        elif action is power_actions.UNPAUSE:
            driver.unpause(instance)
        elif action is power_actions.SUSPEND:
            driver.suspend(instance)
        elif action is power_actions.RESUME:
            driver.resume(instance)
        else:
            hard = action is power_actions.REBOOT_HARD
            driver.reboot(instance, hard, self._seconds_to_shut_down(instance))

    def _seconds_to_shut_down(self, instance: Instance) -> float:
        """As the image says, within reason; else as the configuration does."""
        given = instance.image_properties.get(_SHUTDOWN_PROPERTY, "")
        if given.isascii() and given.isdecimal():
            return min(float(given), _LONGEST_SHUTDOWN)
        return float(self._shutdown_timeout)

    def _power_state(self, instance: Instance) -> int:
        try:
            return self._driver.get_info(instance).state
        except exception.NovaSnapError as error:
            LOG.warning("The state of instance %s is not known: %s", instance.uuid, error)
            return power_state.NOSTATE

    def _too_busy(
        self, context: RequestContext, uuid: str, method: str, error: exception.InstanceBusy
    ) -> None:
        """Give up an action that never had its turn; not one whose message has come again."""
        try:
            instance = Instance.get_by_uuid(context, uuid)
        except exception.InstanceNotFound:
            return
        action = power_actions.announced_by(instance.task_state)
        if action is not None and action.method == method and action is not self._running.get(uuid):
            LOG.error("%s is given up: %s", method, error)
            record = records.action_of(context, uuid, action.name)
            records.failed(context, uuid, self._host, record, error)
            records.free(instance, expected=action.task_state)


def _after_failure(instance: Instance, action: PowerAction) -> str | None:
    """A guest that did not come back from a reboot is in error, as with Nova; otherwise nothing is
    known to have changed."""
    is_reboot = action in (power_actions.REBOOT_SOFT, power_actions.REBOOT_HARD)
    if is_reboot and instance.power_state != power_state.RUNNING:
        return vm_states.ERROR
    return None
