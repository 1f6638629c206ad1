# SPDX-License-Identifier: Apache-2.0
"""Ends what nobody else will: so that no instance waits, and no image is left, for ever.

- A request that its host has not taken up: the host is down, or the broker has lost the message.
- A snapshot whose host has gone down with it.
- A snapshot that nothing on its own host works on any more, because the database failed, say.
- An image that was made for a request of which there is nothing else: its API process died.

Every API and compute process looks for the first, second and last of them, on all the hosts. None
leads: each case is taken with one statement of SQL, for so long that another one takes over should
the first die, too.
"""

import contextlib
import datetime
import functools
import time
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Final

from oslo_config import cfg
from oslo_db import exception as db_exception
from oslo_log import log
from oslo_utils import timeutils

from nova_snap import exception
from nova_snap.compute import endings, recovery, snapshot_kinds, task_states, volume_leftovers
from nova_snap.compute.image_pass import ImagePass, Images
from nova_snap.compute.periodic import Periodic, Task
from nova_snap.compute.snapshot_queue import STUCK_SECONDS
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.objects.instance import Instance, InstanceFilters, InstanceList
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.objects.service import Service
from nova_snap.objects.snapshot_request import QUEUED, RUNNING, SnapshotRequest

LOG = log.getLogger(__name__)

TAKEN_UP: Final = tuple(
    state for state in task_states.SNAPSHOT_STATES if state not in snapshot_kinds.ANNOUNCED
)
"""The task_states of snapshots that a host has taken up."""

# How long one process has a case for itself: longer than it takes to delete an image.
_LEASE_SECONDS: Final = 300.0
# Longer than an API process takes from the record in the journal to the claim of the instance.
_ORPHAN_SECONDS: Final = 600.0
# An image that the service may not delete is not looked at for ever.
_FORGET_SECONDS: Final = 7 * 24 * 3600.0
# At most; a short snapshot_pending_timeout is looked after more often.
_LOOK_SECONDS: Final = 60.0


class Reaper:
    """Looks for what is left.

    :param image_api: such as :class:`nova_snap.image.glance.API`.
    :param host: of this process, if it is a compute service.
    :param in_hand: images that this process itself works for.
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        image_api: Images,
        host: str | None = None,
        in_hand: Container[str] = (),
    ) -> None:
        self._timeout: int = conf.snapshot_pending_timeout
        self._snapshot_timeout: int = conf.snapshot_timeout
        self._down_time: int = conf.service_down_time
        self._image_api = image_api
        self._host = host
        self._in_hand = in_hand
        self._blind = False
        self._patient_until = 0.0

    def periodic(self, database: Database, others: Mapping[str, Task] | None = None) -> Periodic:
        """A thread that looks from time to time, not yet started.

        :param others: what else it does.

        It does not begin at once: when everything has been down, the messages that wait for this
        process, or another, come first.
        """
        seconds = min(_LOOK_SECONDS, max(1.0, self._timeout / 10 or _LOOK_SECONDS))
        return Periodic(database, seconds, {**self.tasks(), **(others or {})}, delay=seconds)

    def tasks(self) -> Mapping[str, Task]:
        """What it does, by what to call that in the log."""
        tasks: dict[str, Task] = {
            "end requests that no host takes up": self.end_overdue,
            "end snapshots of hosts that are down": self.end_lost,
            "delete images that nobody fills": self.delete_orphans,
        }
        if self._host is not None:
            tasks["end snapshots that nothing works on"] = self.end_dropped
        return tasks

    # -- what it looks for -----------------------------------------------------------------

    def end_overdue(self, context: RequestContext) -> None:
        """Requests that wait for their host for longer than snapshot_pending_timeout."""
        if not self._timeout:
            return
        images = ImagePass(self._image_api)
        for instance in self._overlooked(context, snapshot_kinds.ANNOUNCED):
            since = _waits_since(context, instance)
            if since is None or _age(since) <= self._timeout:
                continue
            # One of a volume-backed server waits for no host: see VolumeLeftovers.
            if not volume_leftovers.volumes_of(context, instance):
                error = exception.RequestLost(host=instance.host or "-", seconds=self._timeout)
                self._end(context, images, instance, error)

    def end_lost(self, context: RequestContext) -> None:
        """Snapshots of hosts that have not reported for longer than that."""
        if not self._timeout:
            return
        images = ImagePass(self._image_api)
        down: dict[str | None, bool] = {self._host: False}
        for instance in self._overlooked(context, TAKEN_UP):
            host = instance.host
            if host not in down:
                down[host] = self._is_lost(context, instance)
            if down[host]:
                error = exception.HostLost(
                    host=host, phase=instance.task_state, seconds=self._timeout
                )
                still = functools.partial(self._is_lost, context, instance)
                self._end(context, images, instance, error, still)

    def end_dropped(self, context: RequestContext) -> None:
        """Snapshots of this host that no thread of this process works on, or only one that
        hangs: in a file system that does not answer, say."""
        images = ImagePass(self._image_api)
        filters = InstanceFilters(host=self._host, task_states=TAKEN_UP)
        for instance in InstanceList.get_by_filters(context, filters):
            image_id = instance.snapshot_image_id
            if image_id is None:
                continue
            error: exception.NovaSnapError
            if image_id not in self._in_hand:
                error = exception.SnapshotDropped(host=self._host or "-", phase=instance.task_state)
            elif self._is_stuck(context, image_id):
                error = exception.SnapshotTimeout(seconds=self._snapshot_timeout)
            else:
                continue
            with contextlib.suppress(exception.InstanceNotFound):
                # It may have ended between the list and the look at what is in hand.
                instance.refresh()
                if instance.task_state in TAKEN_UP and instance.snapshot_image_id == image_id:
                    self._end(context, images, instance, error)

    def delete_orphans(self, context: RequestContext) -> None:
        """Images, and actions without an end, of requests of which there is nothing else."""
        images = ImagePass(self._image_api)
        for request in SnapshotRequest.get_unchanged(context, _ORPHAN_SECONDS):
            if images.away:
                # The journal keeps them.
                return
            if request.image_id in self._in_hand or endings.is_wanted(context, request):
                continue
            action = endings.without_end(context, request)
            if action is not None and _age(_changed(action)) <= _ORPHAN_SECONDS:
                # Its host may only be rotating backups.
                continue
            if self._is_being_cancelled(context, request):
                continue
            if SnapshotRequest.reap(context, request.image_id, _LEASE_SECONDS):
                self._clear(context, images, request, action)

    def _is_being_cancelled(self, context: RequestContext, request: SnapshotRequest) -> bool:
        """Whether the instance was taken from another host's snapshot only now, by a delete or a
        reset: that host has yet to see it, and says why the snapshot has ended."""
        if request.phase not in (QUEUED, RUNNING) or request.host in (None, self._host):
            return False
        try:
            instance = Instance.get_by_uuid(context, request.instance_uuid)
            service = Service.get_by_host(context, request.host or "")
        except (exception.InstanceNotFound, exception.HostBinaryNotFound):
            return False
        lives = not service.forced_down and _age(service.last_sign) <= self._down_time
        changed = instance.updated_at or instance.created_at
        return lives and changed is not None and _age(changed) <= _ORPHAN_SECONDS

    def _clear(
        self,
        context: RequestContext,
        images: Images,
        request: SnapshotRequest,
        action: InstanceAction | None,
    ) -> None:
        """:param action: the request's, if it is without an end."""
        LOG.warning(
            "Image %s was made for a %s of instance %s that has ended, and may be left",
            request.image_id,
            request.action,
            request.instance_uuid,
        )
        if action is None or endings.end(context, images, request, action):
            # Forgotten there, if it is gone.
            recovery.delete_left(images, context, request.image_id)
        if _age(request.created_at) > _FORGET_SECONDS:
            LOG.error("Image %s is looked for no more: delete it by hand", request.image_id)
            SnapshotRequest.forget(context, request.image_id)

    def _overlooked(self, context: RequestContext, states: Sequence[str]) -> list[Instance]:
        """Instances of any host; none for service_down_time after the database was away: until
        then nobody's silence means anything."""
        try:
            found = InstanceList.get_by_filters(context, InstanceFilters(task_states=states))
        except db_exception.DBError:
            self._blind = True
            raise
        if self._blind:
            self._blind = False
            self._patient_until = time.monotonic() + self._down_time
        return found if time.monotonic() >= self._patient_until else []

    def _is_stuck(self, context: RequestContext, image_id: str) -> bool:
        """Whether it was cancelled for its timeout long ago, and has not ended."""
        if not self._snapshot_timeout:
            return False
        request = SnapshotRequest.get(context, image_id)
        return (
            request is not None
            and request.phase == RUNNING
            and _age(request.phase_since) > self._snapshot_timeout + STUCK_SECONDS
        )

    # -- ending ----------------------------------------------------------------------------

    def _end(
        self,
        context: RequestContext,
        images: Images,
        instance: Instance,
        error: exception.NovaSnapError,
        still: Callable[[], bool] = lambda: True,
    ) -> None:
        """No image, a reason, task_state None: by one process, and none if the host is faster.

        :param still: whether there is still a reason to, asked last: ``instance`` may be of a list
            whose first ones took long to end.
        """
        left_in, image_id = instance.task_state, instance.snapshot_image_id
        # Before the looks: of a request that comes after this one it would be the wrong one.
        action = recovery.unfinished_action(context, instance)
        if not _is_unchanged(instance):
            return
        if image_id is not None and not self._is_ours(context, instance, image_id):
            return
        if not _is_unchanged(instance) or not still():
            return
        if left_in in snapshot_kinds.ANNOUNCED:
            # As the host does when the message comes: which it may, after all.
            try:
                instance.task_state = task_states.IMAGE_SNAPSHOT
                instance.save(expected_task_state=[left_in], expected_image_id=image_id)
            except (exception.UnexpectedTaskState, exception.InstanceNotFound):
                return
        LOG.error("Instance %s was left in task_state %s: %s", instance.uuid, left_in, error)
        for event in action.events(context) if action is not None else ():
            if event.finish_time is None:
                event.fail(context, error.for_user())
        host = instance.host or "-"
        recovery.give_up(context, images, instance, image_id, host, action, error)

    def _is_ours(self, context: RequestContext, instance: Instance, image_id: str) -> bool:
        if SnapshotRequest.get(context, image_id) is None:
            action = snapshot_kinds.SNAPSHOT.action
            with contextlib.suppress(db_exception.DBDuplicateEntry):
                SnapshotRequest.record(context, image_id, instance.uuid, instance.host, action)
        return SnapshotRequest.reap(context, image_id, _LEASE_SECONDS)

    def _is_lost(self, context: RequestContext, instance: Instance) -> bool:
        """Whether the instance's host has been down for so long, and does not just end its work."""
        try:
            service = Service.get_by_host(context, instance.host or "")
        except exception.HostBinaryNotFound:
            changed = instance.updated_at or instance.created_at
            return changed is not None and _age(changed) > self._timeout
        if service.is_up(self._down_time):
            return False
        return service.forced_down or _age(service.last_sign) > max(self._timeout, self._down_time)


def _age(moment: datetime.datetime) -> float:
    return (timeutils.utcnow() - moment).total_seconds()


def _changed(action: InstanceAction) -> datetime.datetime:
    return action.updated_at or action.start_time


def _is_unchanged(instance: Instance) -> bool:
    """Whether it is still in the same task_state, for the same image; reads it again."""
    before = instance.task_state, instance.snapshot_image_id
    try:
        instance.refresh()
    except exception.InstanceNotFound:
        return False
    return (instance.task_state, instance.snapshot_image_id) == before


def _waits_since(context: RequestContext, instance: Instance) -> datetime.datetime | None:
    """When the request was sent, for the last time."""
    if instance.snapshot_image_id is not None:
        request = SnapshotRequest.get(context, instance.snapshot_image_id)
        if request is not None:
            return request.phase_since
    action = recovery.unfinished_action(context, instance)
    return instance.updated_at if action is None else action.start_time
