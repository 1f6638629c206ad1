# SPDX-License-Identifier: Apache-2.0
"""A snapshot or backup from its place in the pool to its end, whatever the end is."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Container, Iterator, Mapping
from typing import Any, Final, Protocol

from oslo_log import log

from nova_snap import exception
from nova_snap.compute import backup, image_sets, outcomes, power_state, recovery, task_states
from nova_snap.compute.backup import Rotation
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.compute.monitor import SnapshotMonitor
from nova_snap.compute.notifications import Notifier, Phase
from nova_snap.compute.recovery import ImageStore
from nova_snap.compute.snapshot_kinds import Kind
from nova_snap.context import RequestContext
from nova_snap.db.session import retry_on_failover
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction, InstanceActionEvent
from nova_snap.objects.snapshot_request import SnapshotRequest
from nova_snap.virt.driver import ComputeDriver, SnapshotReport

LOG = log.getLogger(__name__)

# What the task_state shuts out ends at once; this is for a delete that is under way.
_LOCK_SECONDS: Final = 300.0


class Images(ImageStore, backup.Images, image_sets.Images, Protocol):
    """The image service, as snapshots and backups use it."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What was asked for, and taken up.

    :ivar context: with administrator's rights and a database.
    :ivar instance: in task_state image_snapshot for this request.
    :ivar image_id: an image in status queued, which the snapshot becomes.
    :ivar rotation: what becomes of older backups; ``None`` for a snapshot.
    """

    context: RequestContext
    kind: Kind
    instance: Instance
    image_id: str
    action: InstanceAction
    rotation: Rotation | None = None


class Snapshots:
    """Takes the snapshots of one host.

    :param driver: connected by the time that :meth:`run` is called.
    :param locks: of this host's instances: a delete waits until the snapshot has let go.
    :param timeout: seconds that a snapshot may take; 0 for as long as it wants.
    :param in_hand: images that this process works for.
    """

    def __init__(
        self,
        host: str,
        image_api: Images,
        driver: ComputeDriver,
        notifier: Notifier,
        locks: InstanceLocks,
        timeout: float = 0,
        in_hand: Container[str] = (),
    ) -> None:
        self._host = host
        self._in_hand = in_hand
        self._locks = locks
        self._image_api = image_api
        self._driver = driver
        self._notifier = notifier
        self._timeout = timeout
        self._lock = threading.Lock()
        self._monitors: set[SnapshotMonitor] = set()
        self._cancelled: exception.NovaSnapError | None = None

    def cancel(self, error: exception.NovaSnapError) -> None:
        """Have every snapshot that runs, or has yet to begin, end with ``error``."""
        with self._lock:
            self._cancelled = error
            monitors = list(self._monitors)
        for monitor in monitors:
            monitor.cancel(error)

    def run(self, request: Request) -> None:
        """Take the snapshot and, for a backup, delete the oldest that are too many.

        Never raises what was foreseen: the instance is left free, and the reason of a failure
        where it will be looked for.
        """
        context, action = request.context, request.action
        context.update_store()
        began = time.monotonic()
        try:
            with (
                InstanceActionEvent.record(
                    context, action, request.kind.event, self._host
                ) as event,
                self._locks.hold(request.instance.uuid, _LOCK_SECONDS),
            ):
                report = self._take(request, event)
                event.details = _details(report)
        except Exception as error:
            self.fail(request, error)
            self._count(request, began, error)
            return
        self._count(request, began, report)
        self._notify(request, Phase.END)
        reasons = list(report.warnings)
        if request.rotation is not None:
            reasons += self._rotate(request, request.rotation)
        action.finish(context, " ".join(reasons) or None)
        SnapshotRequest.forget(context, request.image_id)

    # -- the snapshot ----------------------------------------------------------------------

    def _take(self, request: Request, event: InstanceActionEvent) -> SnapshotReport:
        context, instance, image_id = request.context, request.instance, request.image_id
        instance.power_state = self._driver.get_info(instance).state
        # It may have waited for long: the claim must still be this one's.
        instance.save(expected_image_id=image_id)
        LOG.info(
            "Snapshot of instance %s (%s) to image %s begins",
            instance.uuid,
            power_state.NAMES[instance.power_state],
            image_id,
        )
        self._notify(request, Phase.START)

        def update_task_state(
            task_state: str, expected_state: str = task_states.IMAGE_SNAPSHOT
        ) -> None:
            instance.task_state = task_state
            instance.save(expected_task_state=expected_state, expected_image_id=image_id)

        with self._monitor(request, event) as monitor:
            further = image_sets.FurtherImages(
                context, self._image_api, instance, image_id, monitor.watch
            )
            report = self._driver.snapshot(
                context, instance, image_id, update_task_state, monitor, further
            )
        for each in (image_id, *report.images.values()):
            self._confirm(context, each)

        # The progress was written behind this object's back.
        retry_on_failover(instance.refresh)()
        instance.end_snapshot()
        instance.save(expected_task_state=task_states.IMAGE_UPLOADING, expected_image_id=image_id)
        LOG.info(
            "Snapshot of instance %s to image %s is done: method %s, %d bytes of %s",
            instance.uuid,
            image_id,
            report.method,
            report.uploaded_bytes,
            report.image_format,
        )
        return report

    def _confirm(self, context: RequestContext, image_id: str) -> None:
        """See that there is an image: a driver's word for it is not enough.

        :raises nova_snap.exception.SnapshotIncomplete: if there is none.
        """
        try:
            status = self._image_api.get(context, image_id)["status"]
        except (exception.ImageServiceError, exception.IdentityError) as error:
            # Whoever sent it has compared it.
            LOG.warning("Image %s cannot be looked at once more: %s", image_id, error)
            return
        if status != "active":
            raise exception.SnapshotIncomplete(image_id=image_id, status=status)

    @contextlib.contextmanager
    def _monitor(self, request: Request, event: InstanceActionEvent) -> Iterator[SnapshotMonitor]:
        with SnapshotMonitor(
            request.context,
            self._image_api,
            request.instance.uuid,
            request.image_id,
            event,
            timeout=self._timeout,
        ) as monitor:
            with self._lock:
                self._monitors.add(monitor)
                cancelled = self._cancelled
            try:
                if cancelled is not None:
                    monitor.cancel(cancelled)
                yield monitor
            finally:
                with self._lock:
                    self._monitors.discard(monitor)

    def _notify(self, request: Request, phase: Phase, error: Exception | None = None) -> None:
        self._notifier.snapshot(request.context, request.instance, request.image_id, phase, error)

    def _count(self, request: Request, began: float, outcome: SnapshotReport | Exception) -> None:
        seconds = time.monotonic() - began
        outcomes.count(request.context, self._host, request.kind.action, seconds, outcome)

    # -- after it --------------------------------------------------------------------------

    def _rotate(self, request: Request, rotation: Rotation) -> list[str]:
        """Why the backups could not be rotated; empty if they were."""
        context, action = request.context, request.action
        try:
            with InstanceActionEvent.record(context, action, backup.EVENT, self._host) as event:
                rotated = backup.rotate_backups(
                    context,
                    self._image_api,
                    request.instance.uuid,
                    request.image_id,
                    rotation,
                    self._in_hand,
                )
                event.details = str(rotated)
        except Exception as error:
            LOG.error(
                "The backup of instance %s to image %s is done, but older ones were not rotated",
                request.instance.uuid,
                request.image_id,
                exc_info=True,
            )
            why = recovery.reason(error)
            return [f"The backup is done, but older ones were not rotated: {why}"]
        return []

    def fail(self, request: Request, error: Exception) -> None:
        """End one, which need not have begun: no image is left, the instance is free, and the
        reason is where it will be looked for."""
        instance = request.instance
        facts: Mapping[str, Any] = {
            "uuid": instance.uuid,
            "image": request.image_id,
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
        self._notify(request, Phase.ERROR, error)
        recovery.give_up(
            request.context,
            self._image_api,
            instance,
            request.image_id,
            self._host,
            request.action,
            error,
        )


def _details(report: SnapshotReport) -> str:
    said = f"{report.method}: {report.reason}"
    images = image_sets.describe(report.images, report.left_out)
    return "; ".join(part for part in (said, images, *report.warnings) if part)
