# SPDX-License-Identifier: Apache-2.0
"""Guests that change their state by themselves, or by somebody else's hand.

The hypervisor's events are looked at as they come, every instance of the host from time to time.
What becomes of an instance is Nova's rule: the database is right, and a guest that is off is an
instance that was stopped. Only of adopted instances the hypervisor is right: whoever has made the
guest, Nova itself perhaps, may switch it without asking here.
"""

import enum
import functools
import queue
import threading
import time
from collections.abc import Callable
from typing import Final

from oslo_config import cfg
from oslo_log import log

from nova_snap import exception
from nova_snap.compute import periodic, power_actions, power_state, task_states, vm_states
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.objects.instance import Instance, InstanceFilters, InstanceList
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.virt.driver import ComputeDriver

LOG = log.getLogger(__name__)

_DEFAULT_INTERVAL: Final = 600
_STOP_SECONDS: Final = 10.0
_LOCK_SECONDS: Final = 1.0
_OFF: Final = (power_state.SHUTDOWN, power_state.CRASHED)

# What an adopted instance is when its guest is in this state.
_FOLLOWED: Final = {
    power_state.RUNNING: vm_states.ACTIVE,
    power_state.PAUSED: vm_states.PAUSED,
    power_state.SHUTDOWN: vm_states.STOPPED,
    power_state.CRASHED: vm_states.STOPPED,
    power_state.SUSPENDED: vm_states.SUSPENDED,
}


class Verdict(enum.Enum):
    """What is to be done about an instance whose guest is in some state."""

    LEAVE = "leave"
    STOP = "stop"


def judge(vm_state: str, actual: int) -> Verdict:
    """Nova's rule for the instances that were made here.

    :param actual: the guest's power state.
    """
    if vm_state == vm_states.ACTIVE and actual in (*_OFF, power_state.SUSPENDED):
        return Verdict.STOP
    if vm_state == vm_states.PAUSED and actual in _OFF:
        return Verdict.STOP
    if vm_state == vm_states.STOPPED and actual not in (*_OFF, power_state.NOSTATE):
        return Verdict.STOP
    return Verdict.LEAVE


class PowerSync:
    """Compares, by a thread of its own.

    :param switch: queues what :meth:`nova_snap.compute.switching.Switcher.switch` does.
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        driver: ComputeDriver,
        locks: InstanceLocks,
        switch: Callable[[RequestContext, str, str], None],
    ) -> None:
        self._host: str = conf.host
        self._interval: int = conf.sync_power_state_interval or _DEFAULT_INTERVAL
        self._database = database
        self._driver = driver
        self._locks = locks
        self._switch = switch
        self._events: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="power-sync", daemon=True)

    def start(self) -> None:
        """Listen to the driver, compare once, then go on until :meth:`stop`."""
        self._driver.on_lifecycle_event(self._on_event)
        self._thread.start()

    def stop(self) -> None:
        """Look at nothing any more."""
        self._events.put(None)
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    # -- the thread ------------------------------------------------------------------------

    def _on_event(self, uuid: str, state: int) -> None:
        """Called by the driver's thread, which has to go on."""
        LOG.debug("Guest %s says that it is %s", uuid, power_state.NAMES.get(state, state))
        self._events.put(uuid)

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            if self._interval > 0 and time.monotonic() >= due:
                due = time.monotonic() + self._interval
                periodic.guarded(self._database, "compare all instances", self.sync_all)
            try:
                wait = max(0.0, due - time.monotonic()) if self._interval > 0 else None
                uuid = self._events.get(timeout=wait)
            except queue.Empty:
                continue
            if uuid is None:
                return
            self._guarded_sync(uuid)

    # -- comparing -------------------------------------------------------------------------

    def sync_all(self, context: RequestContext) -> None:
        """Every instance of this host."""
        for instance in InstanceList.get_by_filters(context, InstanceFilters(host=self._host)):
            if instance.task_state is None:
                self._guarded_sync(instance.uuid)

    def _guarded_sync(self, uuid: str) -> None:
        one = functools.partial(self.sync, uuid=uuid)
        periodic.guarded(self._database, f"compare instance {uuid}", one)

    def sync(self, context: RequestContext, uuid: str) -> None:
        """One instance; nothing is done while something else is being done to it."""
        try:
            instance = Instance.get_by_uuid(context, uuid)
            if instance.host != self._host or instance.task_state is not None:
                return
            # Held, so that nobody here switches the guest between the two looks.
            with self._locks.hold(uuid, _LOCK_SECONDS):
                instance.refresh()
                if instance.task_state is None:
                    self._compare(context, instance, self._actual(instance))
        except exception.InstanceNotFound:
            LOG.debug("%s is no instance", uuid)
        except (exception.InstanceBusy, exception.UnexpectedTaskState) as error:
            LOG.debug("Instance %s is in other hands: %s", uuid, error)

    def _actual(self, instance: Instance) -> int:
        try:
            return self._driver.get_info(instance).state
        except exception.DomainNotFound:
            if instance.vm_state not in (vm_states.BUILDING, vm_states.ERROR):
                LOG.warning("Instance %s is not to be found on this host", instance.uuid)
            return power_state.NOSTATE

    def _compare(self, context: RequestContext, instance: Instance, actual: int) -> None:
        before = (instance.power_state, instance.vm_state)
        instance.power_state = actual
        if instance.is_adopted:
            self._follow(instance, actual)
        if before != (instance.power_state, instance.vm_state):
            LOG.info(
                "Instance %s was %s and is %s, vm_state %s",
                instance.uuid,
                power_state.NAMES[before[0]],
                power_state.NAMES[actual],
                instance.vm_state,
            )
            instance.save(expected_task_state=[None])
        if not instance.is_adopted and judge(instance.vm_state, actual) is Verdict.STOP:
            self._stop(context, instance)

    def _follow(self, instance: Instance, actual: int) -> None:
        if instance.vm_state == vm_states.ERROR or actual not in _FOLLOWED:
            return
        if actual == power_state.SHUTDOWN and self._is_saved(instance):
            instance.vm_state = vm_states.SUSPENDED
        else:
            instance.vm_state = _FOLLOWED[actual]

    def _is_saved(self, instance: Instance) -> bool:
        """A guest whose memory lies on the disk is off, too."""
        return self._driver.describe_domain(instance.name).has_managed_save

    def _stop(self, context: RequestContext, instance: Instance) -> None:
        """Make it the same as if a user had stopped it."""
        LOG.warning(
            "Instance %s is in vm_state %s, but its guest is %s: it is stopped",
            instance.uuid,
            instance.vm_state,
            power_state.NAMES[instance.power_state],
        )
        instance.task_state = task_states.POWERING_OFF
        instance.save(expected_task_state=[None])
        InstanceAction.start(context, instance.uuid, power_actions.STOP.name)
        self._switch(context, instance.uuid, power_actions.STOP.method)
