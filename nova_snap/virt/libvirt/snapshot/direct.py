# SPDX-License-Identifier: Apache-2.0
"""The disk of one moment becomes an image within the Ceph cluster that both are in.

The disk gets a snapshot, the snapshot a clone in the image service's pool, and the image service
is told where that is. None of the data comes to this host, unless it has to flatten the clone
itself (``[libvirt] snapshot_direct_flatten``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import threading
import time
from collections.abc import Iterator
from typing import Final

from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import exception
from nova_snap.virt.libvirt import quiesce
from nova_snap.virt.libvirt.capabilities import Capabilities
from nova_snap.virt.libvirt.snapshot import ceph_made
from nova_snap.virt.libvirt.snapshot.base import Location, Point, Request
from nova_snap.virt.libvirt.snapshot.ceph_made import Made
from nova_snap.virt.libvirt.snapshot.direct_target import GLANCE_SNAPSHOT, Target

LOG = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 5.0


class Direct:
    """For guests in any state: the cluster does it, and does not ask what the guest does."""

    def __init__(self, conf: cfg.ConfigOpts, capabilities: Capabilities, target: Target) -> None:
        self._conf = conf
        self._target = target
        self._cluster = target.cluster
        self._quiescer = quiesce.Quiescer(conf, capabilities)

    @contextlib.contextmanager
    def open(self, request: Request) -> Iterator[Point]:
        """The clone becomes the image service's when the point is closed without an error; in all
        other cases nothing stays in the cluster.

        :raises nova_snap.exception.DirectUnavailable: if the cluster refuses something.
        :raises nova_snap.exception.CephFailed: if it does not answer.
        :raises nova_snap.exception.AgentError: if a required freeze failed.
        """
        work = _Work(request, Made.first(self._target))
        ceph_made.sweep(self._cluster, self._target.source)
        try:
            with _refusals():
                quiesced = self._take_snapshot(request, work)
            request.begin()
            with _refusals():
                self._clone(work)
                self._detach(work)
                self._cluster.create_snapshot(self._target.clone, GLANCE_SNAPSHOT)
                self._cluster.protect(self._target.clone, GLANCE_SNAPSHOT)
            yield Point([Location(self._target.url, self._target.size)], quiesced=quiesced)
        except BaseException:
            self._remove(work)
            raise
        work.settle()

    def _take_snapshot(self, request: Request, work: _Work) -> bool:
        """:returns: whether the guest's file systems were frozen at that moment."""
        request.monitor.check()
        work.note()
        if not request.quiesce:
            self._create_snapshot(work)
            return False
        with self._quiescer.frozen(
            request.guest,
            request.quiesce_required,
            lambda frozen: request.workdir.note(frozen=frozen),
        ) as quiesced:
            # The guest's writes wait for it.
            self._create_snapshot(work, self._conf.libvirt.agent_timeout)
        return quiesced

    def _create_snapshot(self, work: _Work, seconds: float | None = None) -> None:
        try:
            self._cluster.create_snapshot(self._target.source, self._target.snapshot, seconds)
        except exception.CephFailed as exc:
            if exc.exit_code is not None:
                # Refused: there is none to remove, and whoever may not make one may not look.
                work.settle()
            raise

    def _clone(self, work: _Work) -> None:
        target = self._target
        self._cluster.protect(target.source, target.snapshot)
        work.note(clone=str(target.clone))
        try:
            self._cluster.clone(target.source, target.snapshot, target.clone)
        except exception.CephFailed as exc:
            if exc.exit_code is not None:
                # Refused: there is none, or it is one that is not ours to remove.
                work.note(clone="")
            raise

    def _detach(self, work: _Work) -> None:
        """Make the clone independent of the disk, if it is to be, and drop the disk's snapshot.

        Where the clone stays one, Ceph removes the snapshot with it, if clones are of its second
        format; else the next snapshot of the disk does.
        """
        how = self._conf.libvirt.snapshot_direct_flatten
        if how != "never" and not self._flattened_by_manager(work, how == "auto"):
            self._cluster.flatten(
                self._target.clone,
                self._conf.libvirt.snapshot_direct_timeout,
                work.request.monitor.on_cancel,
                work.request.workdir.file("rbd.log"),
                lambda pid: work.request.workdir.note(reader_pids=[pid] if pid else []),
            )
        ceph_made.remove_snapshot(self._cluster, self._target.source, self._target.snapshot)

    def _flattened_by_manager(self, work: _Work, may_refuse: bool) -> bool:
        if self._conf.libvirt.snapshot_direct_flatten == "host":
            return False
        try:
            task = self._cluster.add_flatten_task(self._target.clone)
        except exception.CephFailed as exc:
            if not may_refuse:
                raise
            LOG.warning("All of %s will pass this host: %s", self._target.clone, exc)
            return False
        work.note(task=task)
        self._wait_for(task, work.request)
        work.note(task="")
        return True

    def _wait_for(self, task: str, request: Request) -> None:
        """:raises nova_snap.exception.CephFailed: if the task fails, or takes too long."""
        size = self._target.size
        seconds: float = self._conf.libvirt.snapshot_direct_timeout
        deadline = time.monotonic() + seconds
        cancelled = threading.Event()
        request.monitor.on_cancel(cancelled.set)
        pause = _FIRST_PAUSE
        while found := self._cluster.task(task):
            request.monitor.check()
            request.root.monitor.progress(int(found.get("progress", 0) * size), size)
            if found.get("retry_message"):
                raise _task_failed(errno.EIO, str(found["retry_message"]))
            if time.monotonic() >= deadline:
                raise _task_failed(None, f"it was not done within {seconds:g} s")
            cancelled.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        if self._cluster.info(self._target.clone).parent is not None:
            raise _task_failed(errno.EIO, "it has ended, and the image is still a clone")

    def _remove(self, work: _Work) -> None:
        """What cannot be removed now stays in the journal, for the next start or snapshot."""
        if work.is_settled:
            return
        try:
            ceph_made.remove(self._cluster, work.made)
        except exception.CephFailed as exc:
            LOG.error("Snapshot %s of %s is left behind: %s",
                      self._target.snapshot, self._target.source, exc)  # fmt: skip
            return
        work.settle()


class _Work:
    """A snapshot under way, and what the journal has of it."""

    def __init__(self, request: Request, made: Made) -> None:
        self.request = request
        self.made = made
        self.is_settled = True

    def note(self, **facts: str) -> None:
        self.made = dataclasses.replace(self.made, **facts)
        self.is_settled = False
        self.request.workdir.note(ceph=[self.made.facts()])

    def settle(self) -> None:
        """There is nothing to remove, or nothing that is ours."""
        self.is_settled = True
        self.request.workdir.note(ceph=())


def _task_failed(code: int | None, reason: str) -> exception.CephFailed:
    return exception.CephFailed(command="ceph rbd task flatten", exit_code=code, reason=reason)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What the cluster says no to, another method may be able to do. What it does not answer at
    all, no other method can do either: they need it too."""
    try:
        yield
    except exception.CephFailed as exc:
        if exc.exit_code is None:
            raise
        raise exception.DirectUnavailable(reason=str(exc)) from exc
