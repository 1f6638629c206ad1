# SPDX-License-Identifier: Apache-2.0
"""Where the snapshots of a host wait for their place, in sight of whoever asked for them.

One that has to wait has a step of its own in the server's actions, which says its position.
"""

import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from oslo_log import log

from nova_snap import exception
from nova_snap.compute import task_states
from nova_snap.compute.fair_queue import FairQueue, QueueClosed, Ticket
from nova_snap.compute.snapshots import Request
from nova_snap.context import RequestContext
from nova_snap.objects import snapshot_request
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceActionEvent
from nova_snap.objects.snapshot_request import SnapshotRequest

LOG = log.getLogger(__name__)

EVENT: Final = "compute_queue_snapshot"

STUCK_SECONDS: Final = 900.0
"""What a snapshot that was cancelled may take to put its guest right."""

# So many of those that wait are looked after in one round: the image service is asked for each.
_LOOKED_AFTER: Final = 10

_GONE: Final = ("deleted", "pending_delete")


class Images(Protocol):
    """The image service, as far as it is looked into."""

    def get(self, context: RequestContext, image_id: str) -> Mapping[str, Any]:
        """:raises nova_snap.exception.ImageNotFound:"""


@dataclasses.dataclass
class _Entry:
    request: Request
    since: float
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    event: InstanceActionEvent | None = None
    told: int = 0
    begun: bool = False


class SnapshotQueue:
    """The queue of one host, fair to the projects that the instances belong to.

    :param size: how many run at the same time.
    :param run: takes a snapshot.
    :param fail: ends one that has not begun, with a reason.
    :param timeout: seconds that a snapshot may take; 0 for as long as it wants.
    """

    def __init__(
        self,
        size: int,
        host: str,
        images: Images,
        run: Callable[[Request], None],
        fail: Callable[[Request, Exception], None],
        timeout: float = 0,
    ) -> None:
        self._queue = FairQueue(size, "snapshot")
        self._host = host
        self._images = images
        self._run = run
        self._fail = fail
        self._timeout = timeout
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._looks = 0

    def put(self, request: Request) -> None:
        """Have the snapshot taken when its turn has come.

        :raises nova_snap.compute.fair_queue.QueueClosed: after :meth:`close`.
        """
        key = request.image_id
        entry = _Entry(request, time.monotonic())
        with self._lock:
            self._entries[key] = entry
        task = functools.partial(self._begin, entry)
        try:
            before = self._queue.submit(Ticket(key, request.instance.project_id, task))
        except QueueClosed:
            self._forget(key)
            raise
        if before:
            LOG.info(
                "The snapshot of instance %s to image %s is queued: position %d",
                request.instance.uuid,
                key,
                before,
            )
            self._tell(entry, before)

    def look(self, context: RequestContext) -> None:
        """Have begin what there was no thread for, say how far those are that wait, and end those
        that nobody wants any more. Those that hang have no place any more; see the reaper for what
        becomes of their instances."""
        if self._timeout:
            for stuck in self._queue.give_up(self._timeout + STUCK_SECONDS):
                LOG.error("The snapshot to image %s hangs; its place is another's now", stuck)
        self._queue.fill()
        keys = [str(key) for key in self._queue.waiting()]
        for before, key in enumerate(keys, start=1):
            entry = self._entry(key)
            # Far from the front a step is no news: each is written to the database.
            if entry is not None and abs(entry.told - before) >= max(1, before // 10):
                self._tell(entry, before)
        for key in self._some(keys):
            entry = self._entry(key)
            error = None if entry is None else self._unwanted(context, entry.request)
            if entry is not None and error is not None and self._queue.remove(key):
                self._leave(entry, f"nobody wants it any more: {error}")
                self._fail(entry.request, error)

    def close(self) -> list[Request]:
        """Begin nothing any more.

        :returns: what has not begun, for the caller to end.
        """
        left = []
        for key in self._queue.close():
            entry = self._entry(str(key))
            if entry is not None:
                self._leave(entry, "the compute service was stopped")
                left.append(entry.request)
        return left

    def wait(self, timeout: float) -> int:
        """Until nothing runs.

        :param timeout: seconds.
        :returns: how many snapshots still run at its end.
        """
        return self._queue.wait(timeout)

    # -- one of them -----------------------------------------------------------------------

    def _begin(self, entry: _Entry) -> None:
        with entry.lock:
            entry.begun = True
        request = entry.request
        self._leave(entry, f"waited {time.monotonic() - entry.since:.0f} s for its place")
        self._note(request, snapshot_request.RUNNING)
        self._run(request)

    def _tell(self, entry: _Entry, before: int) -> None:
        """Never raises: that a snapshot waits must not end it."""
        request = entry.request
        said = f"queued: position {before} on this host"
        with entry.lock:
            if entry.begun:
                return
            try:
                if entry.event is None:
                    entry.event = InstanceActionEvent.begin(
                        request.context, request.action, EVENT, self._host
                    )
                    self._note(request, snapshot_request.QUEUED)
                entry.event.note(request.context, said)
                entry.told = before
            except Exception:
                LOG.warning("That image %s waits is not said", request.image_id, exc_info=True)

    def _leave(self, entry: _Entry, said: str) -> None:
        """It waits no more."""
        self._forget(entry.request.image_id)
        with entry.lock:
            event, entry.event = entry.event, None
        if event is None:
            return
        try:
            event.succeed(entry.request.context, said)
        except Exception:
            LOG.warning("That image %s waits no more is not said", entry.request.image_id)

    def _note(self, request: Request, phase: str) -> None:
        try:
            SnapshotRequest.advance(
                request.context,
                request.image_id,
                request.instance.uuid,
                self._host,
                request.kind.action,
                phase,
            )
        except Exception:
            LOG.warning("The journal of image %s is not kept", request.image_id, exc_info=True)

    def _unwanted(
        self, context: RequestContext, request: Request
    ) -> exception.NovaSnapError | None:
        """Why nobody waits for it any more; ``None`` if somebody may."""
        try:
            if self._images.get(request.context, request.image_id)["status"] in _GONE:
                return exception.ImageNotFound(image_id=request.image_id)
            instance = Instance.get_by_uuid(context, request.instance.uuid)
            if instance.task_state == task_states.DELETING:
                return exception.InstanceNotFound(instance_id=instance.uuid)
        except (exception.ImageNotFound, exception.InstanceNotFound) as error:
            return error
        except exception.NovaSnapError as error:
            LOG.debug("Image %s cannot be looked at now: %s", request.image_id, error)
        return None

    # -- all of them -----------------------------------------------------------------------

    def _entry(self, key: str) -> _Entry | None:
        with self._lock:
            return self._entries.get(key)

    def _forget(self, key: str) -> None:
        with self._lock:
            self._entries.pop(key, None)

    def _some(self, keys: list[str]) -> list[str]:
        """The next few of them, so that all have their turn."""
        if not keys:
            return []
        start = self._looks * _LOOKED_AFTER % len(keys)
        self._looks += 1
        return (keys[start:] + keys[:start])[:_LOOKED_AFTER]
