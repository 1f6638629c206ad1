# SPDX-License-Identifier: Apache-2.0
"""What a compute host does when it is asked: the far end of the messages."""

import functools
from collections.abc import Mapping
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_log import log

from nova_snap import exception
from nova_snap.compute import power_state, recovery, rpc, task_states, vm_states
from nova_snap.compute.long_tasks import LongTasks
from nova_snap.compute.monitor import SnapshotMonitor
from nova_snap.compute.recovery import ImageStore
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.objects import instance_action, primitive
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction, InstanceActionEvent
from nova_snap.virt.driver import ComputeDriver, SnapshotReport

LOG = log.getLogger(__name__)


class ComputeManager:
    """The compute service of one host.

    :param image_api: such as :class:`nova_snap.image.glance.API`.
    :param driver: connected by :meth:`init_host`.
    """

    target = oslo_messaging.Target(version=rpc.VERSION)

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        image_api: ImageStore,
        driver: ComputeDriver,
    ) -> None:
        self.host: str = conf.host
        self.driver = driver
        self._database = database
        self._transport_url = str(conf.transport_url)
        self._image_api = image_api
        self._long_tasks = LongTasks(conf.max_concurrent_snapshots)

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

    def stop(self, timeout: float) -> int:
        """End, letting running snapshots go on for ``timeout`` seconds.

        :returns: how many still run; the next start ends them with a reason.
        """
        left = self._long_tasks.stop(timeout)
        if left:
            LOG.warning("%d snapshots did not end within %g s", left, timeout)
        else:
            self.driver.close()
        return left

    # -- messages --------------------------------------------------------------------------

    @oslo_messaging.expose  # type: ignore[untyped-decorator]
    def snapshot_instance(self, context: RequestContext, instance: Any, image_id: str) -> None:
        """Take a snapshot; returns when it has its place in the queue.

        :param instance: see :func:`nova_snap.objects.primitive.instance_uuid`.
        :param image_id: an image in status ``queued``, which the snapshot becomes.
        """
        own = context.elevated()
        own.db = self._database
        found = None
        try:
            found = Instance.get_by_uuid(own, primitive.instance_uuid(instance))
            if not self._claim(own, found, image_id):
                return
        except exception.NovaSnapError as error:
            self._refuse(own, image_id, found, error)
            return
        self._long_tasks.submit(
            functools.partial(
                self._snapshot_instance, own, image_id, found, self._action(own, found)
            )
        )

    # -- taking a request up ---------------------------------------------------------------

    def _claim(self, context: RequestContext, found: Instance, image_id: str) -> bool:
        """Bring the instance into task_state image_snapshot; ``False`` for a message that came
        twice, which is not obeyed again."""
        if found.task_state is not None and found.snapshot_image_id == image_id:
            if found.task_state != task_states.IMAGE_SNAPSHOT_PENDING:
                LOG.warning(
                    "The snapshot of instance %s to image %s was asked for twice",
                    found.uuid,
                    image_id,
                )
                return False
        else:
            self._check_unannounced(context, found, image_id)
        expected = found.task_state
        found.task_state = task_states.IMAGE_SNAPSHOT
        found.snapshot_image_id = image_id
        found.save(expected_task_state=[expected])
        return True

    def _check_unannounced(
        self, context: RequestContext, instance: Instance, image_id: str
    ) -> None:
        """Whether a message may be obeyed that our API has not announced in the task_state."""
        refusal = functools.partial(
            exception.InstanceInvalidState,
            instance_uuid=instance.uuid,
            method=instance_action.CREATE_IMAGE,
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

    def _action(self, context: RequestContext, instance: Instance) -> InstanceAction:
        action = InstanceAction.get_by_request_id(context, instance.uuid, context.request_id)
        if action is None:
            action = InstanceAction.start(context, instance.uuid, instance_action.CREATE_IMAGE)
        return action

    def _refuse(
        self,
        context: RequestContext,
        image_id: str,
        instance: Instance | None,
        error: exception.NovaSnapError,
    ) -> None:
        """Leave the instance as it is and no queued image; who asked finds the reason in the
        instance's actions."""
        LOG.error("The snapshot to image %s is refused: %s", image_id, error)
        recovery.delete_image(self._image_api, context, image_id, statuses=("queued",))
        if instance is not None:
            action = self._action(context, instance)
            if action.finish_time is None:
                action.finish(context, error.for_user())

    # -- the snapshot ----------------------------------------------------------------------

    def _snapshot_instance(
        self,
        context: RequestContext,
        image_id: str,
        instance: Instance,
        action: InstanceAction,
        expected_task_state: str = task_states.IMAGE_SNAPSHOT,
    ) -> None:
        """The snapshot from its place in the pool to its end, whatever the end is."""
        context.update_store()
        try:
            with InstanceActionEvent.record(
                context, action, "compute_snapshot_instance", self.host
            ) as event:
                report = self._take(context, image_id, instance, expected_task_state, event)
                event.details = f"{report.method}: {report.reason}"
        except Exception as error:
            self._failed(context, image_id, instance, action, error)
        else:
            action.finish(context)

    def _take(
        self,
        context: RequestContext,
        image_id: str,
        instance: Instance,
        expected_task_state: str,
        event: InstanceActionEvent,
    ) -> SnapshotReport:
        instance.power_state = self._get_power_state(context, instance)
        instance.save()
        LOG.info(
            "Snapshot of instance %s (%s) to image %s begins",
            instance.uuid,
            power_state.NAMES[instance.power_state],
            image_id,
        )

        def update_task_state(task_state: str, expected_state: str = expected_task_state) -> None:
            instance.task_state = task_state
            instance.save(expected_task_state=expected_state)

        with SnapshotMonitor(context, self._image_api, instance.uuid, image_id, event) as monitor:
            report = self.driver.snapshot(context, instance, image_id, update_task_state, monitor)

        # The progress was written behind this object's back.
        instance.refresh()
        instance.end_snapshot()
        instance.save(expected_task_state=task_states.IMAGE_UPLOADING)
        LOG.info(
            "Snapshot of instance %s to image %s is done: method %s, %d bytes of %s",
            instance.uuid,
            image_id,
            report.method,
            report.uploaded_bytes,
            report.image_format,
        )
        return report

    def _get_power_state(self, context: RequestContext, instance: Instance) -> int:  # noqa: ARG002
        return self.driver.get_info(instance).state

    def _failed(
        self,
        context: RequestContext,
        image_id: str,
        instance: Instance,
        action: InstanceAction,
        error: Exception,
    ) -> None:
        """Leave the instance free, no image behind, and the reason where it will be looked for."""
        facts: Mapping[str, Any] = {
            "uuid": instance.uuid,
            "image": image_id,
            "method": getattr(error, "method", "-"),
            "phase": getattr(error, "phase", instance.task_state),
            "error": error,
        }
        LOG.error(
            "Snapshot of instance %(uuid)s to image %(image)s failed "
            "(method %(method)s, phase %(phase)s): %(error)s",
            facts,
            exc_info=not isinstance(error, exception.NotFound),
        )
        recovery.give_up(context, self._image_api, instance, image_id, self.host, action, error)
