# SPDX-License-Identifier: Apache-2.0
"""What a compute host does when it is asked for an image: the far end of the messages."""

import functools
import time
from typing import Any, Final

import oslo_messaging
from oslo_config import cfg
from oslo_log import log

from nova_snap import exception
from nova_snap.compute import recovery, rpc, snapshot_kinds, task_states, vm_states
from nova_snap.compute.backup import Rotation
from nova_snap.compute.in_hand import InHand
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.compute.leftovers import Leftovers
from nova_snap.compute.notifications import NoNotifications, Notifier
from nova_snap.compute.parking import Parking
from nova_snap.compute.periodic import Periodic
from nova_snap.compute.reaper import Reaper
from nova_snap.compute.rpcapi import ComputeAPI
from nova_snap.compute.snapshot_kinds import Kind
from nova_snap.compute.snapshot_queue import SnapshotQueue
from nova_snap.compute.snapshots import Images, Request, Snapshots
from nova_snap.context import RequestContext
from nova_snap.db.session import Database, retry_on_failover
from nova_snap.objects import primitive
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.virt.driver import ComputeDriver

LOG = log.getLogger(__name__)

_NOTIFICATIONS_SECONDS: Final = 5.0
# Between two looks at what waits for its place.
_QUEUE_SECONDS: Final = 5.0
# What a stop grants to snapshots that were cancelled, and to the requests that it puts off.
_CANCEL_SECONDS: Final = 25.0
_PARK_SECONDS: Final = 10.0


class ComputeManager:
    """The compute service of one host.

    :param image_api: such as :class:`nova_snap.image.glance.API`.
    :param driver: connected by :meth:`init_host`.
    :param notifier: whom else to tell of snapshots.
    :param locks: of this host's instances, shared with whoever else works on them.
    :param compute_rpcapi: sends messages to hosts: a stop puts off by it what has not begun.
    """

    target = oslo_messaging.Target(version=rpc.VERSION)

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        image_api: Images,
        driver: ComputeDriver,
        notifier: Notifier | None = None,
        locks: InstanceLocks | None = None,
        compute_rpcapi: ComputeAPI | None = None,
    ) -> None:
        self.host: str = conf.host
        self.driver = driver
        self._database = database
        # Messages inside of a process die with it.
        self._messages_survive = not str(conf.transport_url).startswith("fake:")
        self._image_api = image_api
        self._notifier = notifier or NoNotifications()
        self._in_hand = InHand()
        locks = locks or InstanceLocks()
        self._snapshots = Snapshots(
            self.host,
            image_api,
            driver,
            self._notifier,
            locks,
            conf.snapshot_timeout,
            self._in_hand,
        )
        self._queue = SnapshotQueue(
            conf.max_concurrent_snapshots,
            self.host,
            image_api,
            self._run,
            self._fail,
            conf.snapshot_timeout,
        )
        rpcapi = compute_rpcapi if self._messages_survive else None
        self._parking = Parking(self.host, rpcapi, self._fail)
        self._looking = Periodic(
            database, _QUEUE_SECONDS, {"look after what waits": self._queue.look}
        )
        self._reaping = Reaper(conf, image_api, self.host, self._in_hand).periodic(database)
        self._cleaning = Leftovers(self.host, driver, locks).periodic(database)

    def init_host(self) -> None:
        """Connect to the hypervisor and put right what a dead process left; then messages may
        come in.

        :raises nova_snap.exception.HypervisorUnavailable: if the hypervisor does not answer.
        """
        self.driver.init_host()
        recovery.recover(
            self._database,
            self._image_api,
            self.driver,
            self.host,
            messages_survive=self._messages_survive,
        )
        self._looking.start()
        self._reaping.start()
        self._cleaning.start()

    def park(self) -> None:
        """Begin nothing any more, and put off what has not begun: the first part of a stop."""
        self._looking.stop()
        self._reaping.stop()
        self._cleaning.stop()
        self._parking.park(self._queue.close(), _PARK_SECONDS)

    def stop(self, timeout: float) -> int:
        """End, letting running snapshots go on for ``timeout`` seconds; those that are not done
        by then are cancelled, which may take as long again as that takes: half a minute.

        :returns: how many still run; the next start ends them with a reason.
        """
        until = time.monotonic() + timeout
        self.park()
        left = self._queue.wait(timeout)
        if left:
            LOG.warning("%d snapshots did not end within %g s and are cancelled", left, timeout)
            self._snapshots.cancel(exception.ServiceStopping())
            left = self._queue.wait(_CANCEL_SECONDS)
        if left:
            LOG.error("%d snapshots cannot be ended; the next start puts them right", left)
        else:
            self.driver.close()
        self._notifier.close(min(_NOTIFICATIONS_SECONDS, max(1.0, until - time.monotonic())))
        return left

    # -- messages --------------------------------------------------------------------------

    @oslo_messaging.expose  # type: ignore[untyped-decorator]
    def snapshot_instance(self, context: RequestContext, instance: Any, image_id: str) -> None:
        """Take a snapshot; returns when it has its place in the queue.

        :param instance: see :func:`nova_snap.objects.primitive.instance_uuid`.
        :param image_id: an image in status ``queued``, which the snapshot becomes.
        """
        self._accept(context, instance, image_id, snapshot_kinds.SNAPSHOT)

    @oslo_messaging.expose  # type: ignore[untyped-decorator]
    def backup_instance(
        self,
        context: RequestContext,
        instance: Any,
        image_id: str,
        backup_type: str,
        rotation: int,
    ) -> None:
        """Take a backup, then rotate; returns when it has its place in the queue: the same queue,
        and so the same bound, as for snapshots.

        :param instance: see :func:`nova_snap.objects.primitive.instance_uuid`.
        :param image_id: an image in status ``queued``, which the backup becomes.
        :param backup_type: which backups count for ``rotation``.
        :param rotation: how many of them stay, this one included.
        """
        kept = Rotation(backup_type, rotation)
        self._accept(context, instance, image_id, snapshot_kinds.BACKUP, kept)

    def _accept(
        self,
        context: RequestContext,
        instance: Any,
        image_id: str,
        kind: Kind,
        rotation: Rotation | None = None,
    ) -> None:
        try:
            image_id = primitive.image_id(image_id)
        except exception.InvalidImageId as error:
            LOG.error("The %s is not obeyed: %s", kind.image_type, error)
            return
        own = context.elevated()
        own.db = self._database
        queued = False
        first = self._in_hand.enter(image_id)
        try:
            if not first:
                # The other one may be anywhere: before its claim, or after its end.
                _log_twice(image_id, kind)
                return
            queued = self._take_up(own, instance, image_id, kind, rotation)
        finally:
            if not queued:
                self._in_hand.leave(image_id)

    def _take_up(
        self,
        own: RequestContext,
        instance: Any,
        image_id: str,
        kind: Kind,
        rotation: Rotation | None,
    ) -> bool:
        """Whether it has its place in the queue."""
        uuid = found = None
        try:
            # Nobody sends the message again.
            uuid = primitive.instance_uuid(instance)
            found = retry_on_failover(Instance.get_by_uuid)(own, uuid)
            if rotation is not None:
                rotation.check()
            if not self._claim(own, found, image_id, kind):
                return False
        except exception.NovaSnapError as error:
            self._refuse(own, image_id, uuid, found, kind, error)
            return False
        action = _action_of(own, uuid) or InstanceAction.start(own, uuid, kind.action)
        self._queue.put(Request(own, kind, found, image_id, action, rotation))
        return True

    # -- from the queue ----------------------------------------------------------------------

    def _run(self, request: Request) -> None:
        try:
            self._snapshots.run(request)
        finally:
            self._in_hand.leave(request.image_id)

    def _fail(self, request: Request, error: Exception) -> None:
        try:
            self._snapshots.fail(request, error)
        finally:
            self._in_hand.leave(request.image_id)

    # -- taking a request up ---------------------------------------------------------------

    def _claim(self, context: RequestContext, found: Instance, image_id: str, kind: Kind) -> bool:
        """Bring the instance into task_state image_snapshot; ``False`` for a message that came
        twice, which is not obeyed again."""
        # A delete comes at any time, and leaves the image's id where it is.
        waits = found.task_state in task_states.SNAPSHOT_STATES
        if waits and found.snapshot_image_id == image_id:
            if found.task_state != kind.announced:
                _log_twice(image_id, kind)
                return False
        else:
            self._check_unannounced(context, found, image_id, kind)
        expected, claimed_for = found.task_state, found.snapshot_image_id
        found.task_state = task_states.IMAGE_SNAPSHOT
        found.snapshot_image_id = image_id
        found.save(expected_task_state=[expected], expected_image_id=claimed_for)
        return True

    def _check_unannounced(
        self, context: RequestContext, instance: Instance, image_id: str, kind: Kind
    ) -> None:
        """Whether a message may be obeyed that our API has not announced in the task_state."""
        refusal = functools.partial(
            exception.InstanceInvalidState,
            instance_uuid=instance.uuid,
            method=kind.action,
        )
        if instance.host != self.host:
            raise refusal(attr="host", state=instance.host)
        if instance.task_state is not None:
            raise refusal(attr="task_state", state=instance.task_state)
        if instance.vm_state not in vm_states.ALLOW_SNAPSHOT:
            raise refusal(attr="vm_state", state=instance.vm_state)
        status = self._image_api.get(context, image_id)["status"]
        if status != "queued":
            raise exception.ImageConflict(
                image_id=image_id, reason=f"its status is {status}, not queued"
            )

    def _refuse(
        self,
        context: RequestContext,
        image_id: str,
        uuid: str | None,
        instance: Instance | None,
        kind: Kind,
        error: exception.NovaSnapError,
    ) -> None:
        """Leave the instance as it is and no queued image; who asked finds the reason in the
        instance's actions, also if the instance is gone."""
        LOG.error("The %s to image %s is refused: %s", kind.image_type, image_id, error)
        recovery.delete_image(self._image_api, context, image_id, statuses=("queued",))
        action = None if uuid is None else _action_of(context, uuid)
        if action is None and instance is not None:
            action = InstanceAction.start(context, instance.uuid, kind.action)
        if action is not None and action.finish_time is None:
            action.finish(context, error.for_user())


def _action_of(context: RequestContext, uuid: str) -> InstanceAction | None:
    """The action that the request was recorded as, if it was."""
    return retry_on_failover(InstanceAction.get_by_request_id)(context, uuid, context.request_id)


def _log_twice(image_id: str, kind: Kind) -> None:
    LOG.warning("The %s to image %s was asked for twice", kind.image_type, image_id)
