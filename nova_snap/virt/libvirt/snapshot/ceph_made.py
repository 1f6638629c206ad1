# SPDX-License-Identifier: Apache-2.0
"""What a snapshot has made in a Ceph cluster, how the journal keeps it, and how it is removed."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Mapping

from oslo_log import log as logging

from nova_snap import exception
from nova_snap.virt.libvirt import rbd
from nova_snap.virt.libvirt.snapshot.direct_target import GLANCE_SNAPSHOT, PREFIX, Target

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Made:
    """Each is written down before it is made.

    :ivar image_id: of the image service's record that the clone is for; empty where there is to be
        no clone.
    :ivar source: the disk, which stays.
    :ivar snapshot: name of the disk's snapshot.
    :ivar clone: the image in the image service's pool.
    :ivar task: by which Ceph's manager flattens the clone.
    """

    image_id: str
    source: str
    snapshot: str
    clone: str = ""
    task: str = ""
    conf_file: str = ""
    user: str = ""
    monitors: str = ""

    @classmethod
    def first(cls, target: Target) -> Made:
        """Of a snapshot that begins: only that of the disk."""
        access = target.cluster.access.facts()
        return cls(target.image_id, str(target.source), target.snapshot, **access)

    @property
    def access(self) -> rbd.Access:
        """How the cluster is reached."""
        return rbd.Access(self.conf_file, self.user, self.monitors)

    def facts(self) -> Mapping[str, str]:
        """For the journal; ``Made(**facts)`` is the way back."""
        return dataclasses.asdict(self)


def remove(cluster: rbd.Cluster, made: Made, keep_clone: bool = False) -> None:
    """Remove all of it. What is gone already is no error.

    :param keep_clone: the image service has it.
    :raises nova_snap.exception.CephFailed:
    """
    if made.task and not keep_clone:
        cluster.cancel_task(made.task)
    if made.clone and not keep_clone:
        clone = rbd.Image.parse(made.clone)
        remove_snapshot(cluster, clone, GLANCE_SNAPSHOT)
        with rbd.ignored(errno.ENOENT):
            cluster.remove(clone)
    source = rbd.Image.parse(made.source)
    if not remove_snapshot(cluster, source, made.snapshot):
        LOG.info(
            "Snapshot %s of %s stays as long as it has a clone: %s",
            made.snapshot, made.source, made.clone,
        )  # fmt: skip


def remove_snapshot(cluster: rbd.Cluster, image: rbd.Image, snapshot: str) -> bool:
    """Remove a snapshot, which may be protected and may be gone.

    :returns: ``False`` if it has clones that keep it.
    :raises nova_snap.exception.CephFailed:
    """
    try:
        # EINVAL: it is not protected.
        with rbd.ignored(errno.ENOENT, errno.EINVAL):
            cluster.unprotect(image, snapshot)
        with rbd.ignored(errno.ENOENT):
            cluster.remove_snapshot(image, snapshot)
    except exception.CephFailed as exc:
        if exc.exit_code == errno.EBUSY:
            return False
        raise
    return True


def sweep(cluster: rbd.Cluster, source: rbd.Image) -> None:
    """Remove our snapshots of a disk whose clones are gone by now. Failures are only logged.

    A clone has the name of the image that it is, and so has the snapshot.
    """
    try:
        ours = [name for name in cluster.snapshots(source) if name.startswith(PREFIX)]
        needed = {child.name for child in cluster.children(source)} if ours else set()
        for snapshot in ours:
            # One that something else was made of by now is refused, and stays.
            if snapshot.removeprefix(PREFIX) not in needed:
                LOG.info("Removing snapshot %s of %s, which nothing needs", snapshot, source)
                remove_snapshot(cluster, source, snapshot)
    except exception.CephFailed as exc:
        LOG.warning("Old snapshots of %s are not looked for: %s", source, exc)
