# SPDX-License-Identifier: Apache-2.0
"""Disks in Ceph RBD that are read where they lie.

RBD has no lock that a guest would meet whose disk is only read. What is read is therefore a
snapshot of the disk: a guest that is started meanwhile does not write to that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Iterator, Sequence

from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import exception
from nova_snap.virt.libvirt import domain_disks, rbd
from nova_snap.virt.libvirt.snapshot import ceph_made
from nova_snap.virt.libvirt.snapshot.base import ImageRequest, Request
from nova_snap.virt.libvirt.snapshot.ceph_made import Made
from nova_snap.virt.libvirt.snapshot.direct_target import PREFIX
from nova_snap.virt.libvirt.snapshot.workdir import WorkDir

LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def held(conf: cfg.ConfigOpts, request: Request) -> Iterator[Request]:
    """The same request, its disks in RBD replaced by snapshots of them, which go at the end.

    A disk that the cluster makes no snapshot of stays what it is: its guest must not be started.

    :raises nova_snap.exception.CephFailed: if the cluster does not answer.
    :raises nova_snap.exception.DiskChanged: if the guest was started before there were snapshots of
        all of its disks.
    """
    instants = _Instants(conf, request.workdir)
    try:
        images = [_at(image, instants.take(image.disk)) for image in request.images]
        if len(images) > 1 and instants.made and request.guest.is_active():
            raise exception.DiskChanged(path=request.root.disk.description)
        yield dataclasses.replace(request, images=images)
    finally:
        instants.remove()


def may_change(source: domain_disks.NetworkSource | None) -> bool:
    """Whether it is a disk in RBD, and no snapshot of one."""
    return source is not None and source.protocol == domain_disks.RBD and source.snapshot is None


def _at(image: ImageRequest, snapshot: str | None) -> ImageRequest:
    if snapshot is None or image.disk.network is None:
        return image
    network = dataclasses.replace(image.disk.network, snapshot=snapshot)
    disk = dataclasses.replace(image.disk, network=network)
    return dataclasses.replace(image, disk=disk, backend=image.backend.of(disk))


class _Instants:
    """Snapshots of disks, in the journal as long as there are any."""

    def __init__(self, conf: cfg.ConfigOpts, workdir: WorkDir) -> None:
        self._conf = conf
        self._workdir = workdir
        self.made: Sequence[Made] = ()

    def take(self, disk: domain_disks.Disk) -> str | None:
        """:returns: the name of the disk's snapshot; ``None`` if it has none."""
        source = disk.network
        if source is None or not may_change(source):
            return None
        image = rbd.Image(source.pool, source.image, source.namespace or "")
        cluster = rbd.Cluster(self._conf, rbd.Access.of(self._conf, source))
        made = Made("", str(image), PREFIX + str(uuid.uuid4()), **cluster.access.facts())
        before = self.made
        self._note([*before, made])
        try:
            cluster.create_snapshot(image, made.snapshot)
        except exception.CephFailed as exc:
            if exc.exit_code is None:
                raise
            LOG.warning("Disk %s is read without a snapshot of it: %s", image, exc)
            self._note(before)
            return None
        return made.snapshot

    def remove(self) -> None:
        """What cannot be removed stays in the journal."""
        for made in self.made:
            try:
                ceph_made.remove(rbd.Cluster(self._conf, made.access), made)
            except exception.CephFailed as exc:
                LOG.error("Snapshot %s of %s is left behind: %s", made.snapshot, made.source, exc)
                continue
            self._note([each for each in self.made if each is not made])

    def _note(self, made: Sequence[Made]) -> None:
        self.made = made
        self._workdir.note(ceph=[each.facts() for each in made])
