# SPDX-License-Identifier: Apache-2.0
"""What a process did not live to end is ended, or done again."""

import datetime
from collections.abc import Callable
from typing import Final

from oslo_config import cfg
from oslo_log import log
from oslo_utils import timeutils

from nova_snap import exception
from nova_snap.compute import (
    one_by_one,
    power_actions,
    power_state,
    records,
    task_states,
    vm_states,
)
from nova_snap.context import RequestContext, get_admin_context
from nova_snap.db.session import Database
from nova_snap.objects import instance_action
from nova_snap.objects.instance import Instance, InstanceFilters, InstanceList
from nova_snap.virt.driver import ComputeDriver

LOG = log.getLogger(__name__)

_STATES: Final = (
    *task_states.BUILD_STATES,
    *task_states.POWER_STATES,
    task_states.DELETING,
)

# What a host does when it hears of it.
_ASKED_FOR: Final = (
    *(action.task_state for action in power_actions.ALL),
    task_states.DELETING,
)
# Longer than a message takes, or a guest that is asked to shut itself down.
_PATIENCE_SECONDS: Final = 600.0

Discard = Callable[[RequestContext, Instance], None]


class Recovery:
    """Of one host.

    :param switch: queues what :meth:`nova_snap.compute.switching.Switcher.switch` does.
    :param terminate: queues what :meth:`nova_snap.compute.termination.Terminator.terminate` does.
    :param snapshot_discarder: such as that one's method of this name.
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        driver: ComputeDriver,
        switch: Callable[[RequestContext, str, str], None],
        terminate: Callable[[RequestContext, str], None],
        snapshot_discarder: Callable[[], Discard],
    ) -> None:
        self._host: str = conf.host
        self._build_timeout: int = conf.instance_build_timeout
        self._messages_survive = not str(conf.transport_url).startswith("fake:")
        self._database = database
        self._driver = driver
        self._switch = switch
        self._terminate = terminate
        self._snapshot_discarder = snapshot_discarder

    def recover(self) -> None:
        """Go through the instances that a process of before was busy with.

        What only has to be done is queued: a delete, and a switch that was asked for. Its message
        may still be with the broker; when it comes, the task_state does not announce it any more.
        """
        context = get_admin_context(self._database)
        discard = self._snapshot_discarder()
        filters = InstanceFilters(host=self._host, task_states=_STATES)
        for instance in InstanceList.get_by_filters(context, filters):
            with one_by_one.apart(LOG, "Instance %s could not be recovered", instance.uuid):
                self._recover_instance(instance, discard)

    def give_up_overdue(self, context: RequestContext) -> None:
        """Instances whose host was never told to make them: the message was lost."""
        if not self._build_timeout:
            return
        limit = timeutils.utcnow() - datetime.timedelta(seconds=self._build_timeout)
        filters = InstanceFilters(host=self._host, task_states=[task_states.SCHEDULING])
        for instance in InstanceList.get_by_filters(context, filters):
            if instance.created_at is not None and instance.created_at < limit:
                error = exception.LifecycleTimeout(action="build", seconds=self._build_timeout)
                self._give_up_build(context, instance, error)

    def ask_again(self, context: RequestContext) -> None:
        """Instances whose host was never told what their task_state announces, or that were lost
        from a queue of ours. To do it twice does no harm."""
        limit = timeutils.utcnow() - datetime.timedelta(seconds=_PATIENCE_SECONDS)
        filters = InstanceFilters(host=self._host, task_states=_ASKED_FOR)
        for instance in InstanceList.get_by_filters(context, filters):
            since = instance.updated_at or instance.created_at
            if since is None or since > limit:
                continue
            own = get_admin_context(self._database)
            action = power_actions.announced_by(instance.task_state)
            if action is None:
                self._terminate(own, instance.uuid)
            else:
                self._switch(own, instance.uuid, action.method)

    def _recover_instance(self, instance: Instance, discard: Discard) -> None:
        state = instance.task_state
        # A context for each: what is done again is recorded under a request of its own.
        context = get_admin_context(self._database)
        if state == task_states.SCHEDULING and self._messages_survive:
            return
        LOG.warning("Instance %s was left in task_state %s", instance.uuid, state)
        if state in task_states.BUILD_STATES:
            self._driver.destroy(instance)
            error = exception.LifecycleInterrupted(host=self._host, action=str(state))
            self._give_up_build(context, instance, error)
        elif state == task_states.DELETING:
            discard(context, instance)
            self._terminate(context, instance.uuid)
        else:
            self._recover_switch(context, instance)

    def _recover_switch(self, context: RequestContext, instance: Instance) -> None:
        action = power_actions.announced_by(instance.task_state)
        if action is None:
            raise exception.InvalidTransition(old=instance.task_state, new=None)
        if instance.task_state == action.started:
            if self._is_running(instance):
                instance.power_state = power_state.RUNNING
                records.free(instance, expected=action.started, vm_state=action.vm_state)
                return
            # It is down: only a hard reboot can bring it back.
            action = power_actions.REBOOT_HARD
            instance.task_state = action.task_state
            instance.save()
        self._switch(context, instance.uuid, action.method)

    def _is_running(self, instance: Instance) -> bool:
        try:
            return self._driver.get_info(instance).state == power_state.RUNNING
        except exception.DomainNotFound:
            return False

    def _give_up_build(
        self, context: RequestContext, instance: Instance, error: exception.NovaSnapError
    ) -> None:
        LOG.error("Instance %s is given up: %s", instance.uuid, error)
        action = records.action_of(context, instance.uuid, instance_action.CREATE)
        records.failed(context, instance.uuid, self._host, action, error)
        records.free(instance, expected=instance.task_state, vm_state=vm_states.ERROR)
