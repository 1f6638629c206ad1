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
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.compute.long_tasks import LongTasks
from nova_snap.compute.lost_requests import LostRequests
from nova_snap.compute.notifications import NoNotifications, Notifier
from nova_snap.compute.snapshot_kinds import Kind
from nova_snap.compute.snapshots import Images, Request, Snapshots
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.objects import primitive
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.virt.driver import ComputeDriver

LOG = log.getLogger(__name__)

_NOTIFICATIONS_SECONDS: Final = 5.0


class ComputeManager:
    """The compute service of one host.

    :param image_api: such as :class:`nova_snap.image.glance.API`.
    :param driver: connected by :meth:`init_host`.
    :param notifier: whom else to tell of snapshots.
    :param locks: of this host's instances, shared with whoever else works on them.
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
    ) -> None:
        self.host: str = conf.host
        self.driver = driver
        self._database = database
        self._transport_url = str(conf.transport_url)
        self._image_api = image_api
        self._notifier = notifier or NoNotifications()
        self._long_tasks = LongTasks(conf.max_concurrent_snapshots)
        self._lost_requests = LostRequests(database, image_api, self.host)
        self._snapshots = Snapshots(
            self.host, image_api, driver, self._notifier, locks or InstanceLocks()
        )

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
            messages_survive=not self._transport_url.startswith("fake:"),
        )
        self._lost_requests.start()

    def stop(self, timeout: float) -> int:
        """End, letting running snapshots go on for ``timeout`` seconds.

        :returns: how many still run; the next start ends them with a reason.
        """
        until = time.monotonic() + timeout
        self._lost_requests.stop()
        left = self._long_tasks.stop(timeout)
        if left:
            LOG.warning("%d snapshots did not end within %g s", left, timeout)
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
        own = context.elevated()
        own.db = self._database
        found = None
        try:
            found = Instance.get_by_uuid(own, primitive.instance_uuid(instance))
            if rotation is not None:
                rotation.check()
            if not self._claim(own, found, image_id, kind):
                return
        except exception.NovaSnapError as error:
            self._refuse(own, image_id, found, kind, error)
            return
        action = self._action(own, found, kind)
        request = Request(own, kind, found, image_id, action, rotation)
        self._long_tasks.submit(functools.partial(self._snapshots.run, request))

    # -- taking a request up ---------------------------------------------------------------

    def _claim(self, context: RequestContext, found: Instance, image_id: str, kind: Kind) -> bool:
        """Bring the instance into task_state image_snapshot; ``False`` for a message that came
        twice, which is not obeyed again."""
        if found.task_state is not None and found.snapshot_image_id == image_id:
            if found.task_state != kind.announced:
                LOG.warning(
                    "The %s of instance %s to image %s was asked for twice",
                    kind.image_type,
                    found.uuid,
                    image_id,
                )
                return False
        else:
            self._check_unannounced(context, found, image_id, kind)
        expected = found.task_state
        found.task_state = task_states.IMAGE_SNAPSHOT
        found.snapshot_image_id = image_id
        found.save(expected_task_state=[expected])
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

    def _action(self, context: RequestContext, instance: Instance, kind: Kind) -> InstanceAction:
        action = InstanceAction.get_by_request_id(context, instance.uuid, context.request_id)
        if action is None:
            action = InstanceAction.start(context, instance.uuid, kind.action)
        return action

    def _refuse(
        self,
        context: RequestContext,
        image_id: str,
        instance: Instance | None,
        kind: Kind,
        error: exception.NovaSnapError,
    ) -> None:
        """Leave the instance as it is and no queued image; who asked finds the reason in the
        instance's actions."""
        LOG.error("The %s to image %s is refused: %s", kind.image_type, image_id, error)
        recovery.delete_image(self._image_api, context, image_id, statuses=("queued",))
        if instance is not None:
            action = self._action(context, instance, kind)
            if action.finish_time is None:
                action.finish(context, error.for_user())
