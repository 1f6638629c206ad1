# SPDX-License-Identifier: Apache-2.0
"""What a compute host does with the life of its instances when it is asked."""

import functools
import time
from collections.abc import Callable
from typing import Any, Final

import oslo_messaging
from oslo_config import cfg
from oslo_log import log

from nova_snap import exception
from nova_snap.compute import console, power_actions, rpc
from nova_snap.compute.building import Builder
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.compute.lifecycle_recovery import Recovery
from nova_snap.compute.long_tasks import LongTasks
from nova_snap.compute.periodic import Periodic
from nova_snap.compute.power_sync import PowerSync
from nova_snap.compute.recovery import ImageStore
from nova_snap.compute.switching import Switcher
from nova_snap.compute.termination import Terminator
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.objects import primitive
from nova_snap.virt.driver import ComputeDriver

LOG = log.getLogger(__name__)

# Threads of their own, so that neither builds nor guests that take their time to shut down hold
# up the rest.
_SWITCHES: Final = 16
_DELETES: Final = 8

_HOUSEKEEPING_SECONDS: Final = 60.0


class LifecycleManager:
    """The end of the messages that are not about snapshots.

    A message is only put into a queue here: what takes time runs in pools beside that of the
    snapshots, so that neither waits for the other.

    :param driver: connected before :meth:`init_host`.
    :param locks: shared with the snapshots.
    """

    target = oslo_messaging.Target(version=rpc.VERSION)

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        image_api: ImageStore,
        driver: ComputeDriver,
        locks: InstanceLocks,
    ) -> None:
        self._database = database
        self._driver = driver
        self._builder = Builder(conf, image_api, driver, locks)
        self._terminator = Terminator(conf.host, image_api, driver, locks)
        self._switcher = Switcher(conf, driver, locks)
        self._builds = LongTasks(conf.max_concurrent_builds, "build")
        self._switches = LongTasks(_SWITCHES, "switch")
        self._deletes = LongTasks(_DELETES, "delete")
        self._recovery = Recovery(
            conf,
            database,
            driver,
            self._switch,
            self._terminate,
            self._terminator.snapshot_discarder,
        )
        self._power_sync = PowerSync(conf, database, driver, locks, self._switch)
        self._housekeeping = Periodic(
            database,
            _HOUSEKEEPING_SECONDS,
            {
                "remove the guests of deleted instances": self._terminator.clean_up,
                "give up builds that nobody has begun": self._recovery.give_up_overdue,
                "make up for lost messages": self._recovery.ask_again,
            },
        )

    def init_host(self) -> None:
        """Put right what a dead process left; then messages may come in."""
        self._recovery.recover()
        self._power_sync.start()
        self._housekeeping.start()

    def stop(self, timeout: float) -> int:
        """End, letting what runs go on for ``timeout`` seconds.

        :returns: how many tasks still run; the next start puts right what they leave.
        """
        until = time.monotonic() + timeout
        self._housekeeping.stop()
        self._power_sync.stop()
        left = 0
        for pool in (self._builds, self._switches, self._deletes):
            left += pool.stop(max(0.0, until - time.monotonic()))
        if left:
            LOG.warning("%d tasks did not end within %g s", left, timeout)
        return left

    # -- messages --------------------------------------------------------------------------
    #
    # ``instance`` is always what nova_snap.objects.primitive.instance_uuid understands.

    @oslo_messaging.expose  # type: ignore[untyped-decorator]
    def build_instance(self, context: RequestContext, instance: Any, network: str) -> None:
        """Make an instance that is in task_state scheduling.

        :param network: see :class:`nova_snap.compute.server_request.ServerRequest`.
        """
        if not isinstance(network, str):
            LOG.error("A message is not obeyed: the network is %.60r, no text", network)
            return
        self._accept(context, instance, self._build, network)

    @oslo_messaging.expose  # type: ignore[untyped-decorator]
    def terminate_instance(self, context: RequestContext, instance: Any) -> None:
        """Remove an instance that is in task_state deleting."""
        self._accept(context, instance, self._terminate)

    @oslo_messaging.expose  # type: ignore[untyped-decorator]
    def start_instance(self, context: RequestContext, instance: Any) -> None:
        """Start an instance that is in task_state powering-on."""
        self._accept(context, instance, self._switch, power_actions.START.method)

    @oslo_messaging.expose  # type: ignore[untyped-decorator]
    def stop_instance(self, context: RequestContext, instance: Any) -> None:
        """Stop an instance that is in task_state powering-off."""
        self._accept(context, instance, self._switch, power_actions.STOP.method)

    @oslo_messaging.expose  # type: ignore[untyped-decorator]
    def pause_instance(self, context: RequestContext, instance: Any) -> None:
        """Pause an instance that is in task_state pausing."""
        self._accept(context, instance, self._switch, power_actions.PAUSE.method)

    @oslo_messaging.expose  # type: ignore[untyped-decorator]
    def unpause_instance(self, context: RequestContext, instance: Any) -> None:
        """Let an instance run on that is in task_state unpausing."""
        self._accept(context, instance, self._switch, power_actions.UNPAUSE.method)

    @oslo_messaging.expose  # type: ignore[untyped-decorator]
    def suspend_instance(self, context: RequestContext, instance: Any) -> None:
        """Suspend an instance that is in task_state suspending."""
        self._accept(context, instance, self._switch, power_actions.SUSPEND.method)

    @oslo_messaging.expose  # type: ignore[untyped-decorator]
    def resume_instance(self, context: RequestContext, instance: Any) -> None:
        """Let an instance run on that is in task_state resuming."""
        self._accept(context, instance, self._switch, power_actions.RESUME.method)

    @oslo_messaging.expose  # type: ignore[untyped-decorator]
    def reboot_instance(self, context: RequestContext, instance: Any) -> None:
        """Reboot an instance, softly in task_state rebooting, hard in rebooting_hard."""
        self._accept(context, instance, self._switch, power_actions.REBOOT_SOFT.method)

    @oslo_messaging.expose  # type: ignore[untyped-decorator]
    def get_console_output(
        self, context: RequestContext, instance: Any, length: int | None
    ) -> dict[str, str | None]:
        """The last lines of an instance's console.

        :param length: how many; ``None`` or -1 for all that there are.
        :returns: ``output``, and ``reason`` where that is ``None``.
        """
        if length is not None and type(length) is not int:
            return {"output": None, "reason": f"The length is {length!r:.60}, no number of lines."}
        try:
            uuid = primitive.instance_uuid(instance)
        except exception.InvalidInstancePrimitive as error:
            LOG.error("A message is not obeyed: %s", error)
            return {"output": None, "reason": error.for_user()}
        try:
            output = console.read(self._own(context), self._driver, uuid, length)
        except exception.NovaSnapError as error:
            LOG.warning("The console of instance %s cannot be read: %s", uuid, error)
            return {"output": None, "reason": error.for_user()}
        return {"output": output, "reason": None}

    # -- queues ----------------------------------------------------------------------------

    def _accept(
        self, context: RequestContext, instance: Any, submit: Callable[..., None], *given: str
    ) -> None:
        try:
            uuid = primitive.instance_uuid(instance)
        except exception.InvalidInstancePrimitive as error:
            LOG.error("A message is not obeyed: %s", error)
            return
        submit(self._own(context), uuid, *given)

    def _own(self, context: RequestContext) -> RequestContext:
        own = context.elevated()
        own.db = self._database
        return own

    def _build(self, context: RequestContext, uuid: str, network: str) -> None:
        self._builds.submit(functools.partial(self._builder.build, context, uuid, network))

    def _terminate(self, context: RequestContext, uuid: str) -> None:
        self._deletes.submit(functools.partial(self._terminator.terminate, context, uuid))

    def _switch(self, context: RequestContext, uuid: str, method: str) -> None:
        self._switches.submit(functools.partial(self._switcher.switch, context, uuid, method))
