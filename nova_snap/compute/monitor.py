# SPDX-License-Identifier: Apache-2.0
"""Watches over one snapshot while it runs: tells how far it is, and learns that nobody wants it.

The image service is asked and the database is written by a thread of its own, so that neither
can hold the data up.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Protocol, Self

from oslo_log import log

from nova_snap import exception
from nova_snap.compute import task_states
from nova_snap.context import RequestContext
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceActionEvent

LOG = log.getLogger(__name__)

# An image that is deleted must stop its snapshot within a second.
_LOOK_SECONDS: Final = 0.5
_STOP_SECONDS: Final = 5.0
_MIB: Final = 1024 * 1024

_GONE: Final = ("deleted", "pending_delete")


class Images(Protocol):
    """The image service, as far as it is watched."""

    def get(self, context: RequestContext, image_id: str) -> Mapping[str, Any]:
        """:raises nova_snap.exception.ImageNotFound:"""


class SnapshotMonitor:
    """A context manager around one snapshot; the driver is handed it.

    :param event: what the progress is written into, besides the instance.
    :param timeout: seconds after which it is cancelled; 0 for never.
    """

    def __init__(
        self,
        context: RequestContext,
        images: Images,
        instance_uuid: str,
        image_id: str,
        event: InstanceActionEvent,
        seconds: float = _LOOK_SECONDS,
        timeout: float = 0,
    ) -> None:
        self._context = context
        self._images = images
        self._uuid = instance_uuid
        self._image_id = image_id
        self._others: list[str] = []
        self._looks = 0
        self._event = event
        self._seconds = seconds
        self._progress: tuple[int, int] | None = None
        self._written: tuple[int, int] | None = None
        self._unwanted: exception.NovaSnapError | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshot-monitor", daemon=True)
        self._timer: threading.Timer | None = None
        if timeout:
            # Not by the thread that asks the image service, which may keep that waiting.
            error = exception.SnapshotTimeout(seconds=timeout)
            self._timer = threading.Timer(timeout, self.cancel, [error])
            self._timer.daemon = True

    # -- the driver's side -----------------------------------------------------------------

    def progress(self, done: int, total: int) -> None:
        """:param done: bytes of the image that were sent. :param total: its length in bytes."""
        self._progress = (done, total)

    def check(self) -> None:
        """Cheap enough for every piece of data.

        :raises nova_snap.exception.ImageNotFound: if the image was deleted.
        :raises nova_snap.exception.InstanceNotFound: if the instance was, or is being.
        :raises nova_snap.exception.SnapshotReplaced: if its state was reset.
        :raises nova_snap.exception.SnapshotCancelled: if it takes too long, or the service stops.
        """
        if self._unwanted is not None:
            raise self._unwanted

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call ``callback``, from another thread, when the snapshot is not wanted any more: at
        once if that is known already. It must return soon, and end what may be waiting."""
        with self._lock:
            self._callbacks.append(callback)
            known = self._unwanted is not None
        if known:
            callback()

    # -- whoever makes further images --------------------------------------------------------

    def watch(self, image_id: str) -> None:
        """Stop the snapshot also when this image is deleted."""
        self._others.append(image_id)

    # -- the manager's side ----------------------------------------------------------------

    def cancel(self, error: exception.NovaSnapError) -> None:
        """Have the snapshot end with ``error``, if it does not end otherwise before."""
        LOG.info("The snapshot of instance %s is cancelled: %s", self._uuid, error)
        with self._lock:
            if self._unwanted is not None:
                return
            self._unwanted = error
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            if self._timer is not None:
                self._timer.start()
        except BaseException:
            # The system has no more threads: nobody would tell the first one to end.
            self._end.set()
            self._thread.join(_STOP_SECONDS)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._end.set()
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        self._context.update_store()
        count = 0
        while not self._end.wait(self._seconds):
            try:
                self._look()
                if count % 2:
                    self._write()
            except Exception:
                # The snapshot itself will meet whatever is wrong, and say so.
                LOG.warning("Watching the snapshot of %s failed", self._uuid, exc_info=True)
            count += 1

    def _look(self) -> None:
        if self._unwanted is not None:
            return
        try:
            for image_id in self._watched():
                if self._images.get(self._context, image_id)["status"] in _GONE:
                    raise exception.ImageNotFound(image_id=image_id)
            instance = Instance.get_by_uuid(self._context, self._uuid)
            if instance.task_state == task_states.DELETING:
                raise exception.InstanceNotFound(instance_id=self._uuid)
            if instance.snapshot_image_id != self._image_id:
                raise exception.SnapshotReplaced(
                    instance_uuid=self._uuid,
                    expected=task_states.SNAPSHOT_STATES,
                    actual=instance.task_state,
                    image_id=instance.snapshot_image_id,
                )
        except (
            exception.ImageNotFound,
            exception.InstanceNotFound,
            exception.SnapshotReplaced,
        ) as error:
            self.cancel(error)
        except exception.NovaSnapError as error:
            LOG.debug("Image %s cannot be watched now: %s", self._image_id, error)

    def _watched(self) -> Sequence[str]:
        """The image that was asked for, and of the others one after the other: the image service
        is asked no more often for a guest with many disks."""
        others = list(self._others)
        if not others:
            return [self._image_id]
        self._looks += 1
        return [self._image_id, others[self._looks % len(others)]]

    def _write(self) -> None:
        progress = self._progress
        if progress is None or progress == self._written:
            return
        done, total = progress
        Instance.report_progress(self._context, self._uuid, self._image_id, done, total)
        self._event.note(self._context, f"{done // _MIB} of {total // _MIB} MiB sent")
        self._written = progress
