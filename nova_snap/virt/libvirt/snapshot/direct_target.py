# SPDX-License-Identifier: Apache-2.0
"""Whether a snapshot can be made within the Ceph cluster that the disk is in, and where in it."""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any, Final

from oslo_config import cfg

from nova_snap import exception
from nova_snap.virt.libvirt import domain_disks, rbd

GLANCE_SNAPSHOT: Final = "snap"
"""What Glance calls the snapshot of each of its images: it is what everybody clones."""

PREFIX: Final = "nova_snap-"
"""What the names of our snapshots of disks begin with."""

_SCHEME: Final = "rbd://"


@dataclasses.dataclass(frozen=True)
class Target:
    """Where a snapshot is made.

    :ivar fsid: of the cluster.
    :ivar source: the disk.
    :ivar size: of the disk, in bytes.
    :ivar pool: of the image service.
    """

    cluster: rbd.Cluster
    fsid: str
    source: rbd.Image
    size: int
    pool: str
    image_id: str

    @property
    def snapshot(self) -> str:
        """Name of the snapshot of the disk."""
        return PREFIX + self.image_id

    @property
    def clone(self) -> rbd.Image:
        """What the image service will take for its own."""
        return rbd.Image(self.pool, self.image_id)

    @property
    def url(self) -> str:
        """The image's location, as Glance's RBD store writes it."""
        parts = (self.fsid, self.clone.pool, self.clone.name, GLANCE_SNAPSHOT)
        return _SCHEME + "/".join(urllib.parse.quote(part, safe="") for part in parts)


def find(
    conf: cfg.ConfigOpts,
    disk: domain_disks.Disk,
    image_id: str,
    image_format: str,
    base: Mapping[str, Any],
) -> Target:
    """Where a snapshot of ``disk`` can be made.

    :param image_id: of the image to make.
    :param base: the record of the image that the instance was made from; empty if it is gone.
    :raises nova_snap.exception.DirectUnavailable: if it cannot be, with the reason.
    """
    source = disk.network
    if not disk.is_rbd or source is None:
        raise exception.DirectUnavailable(reason="the disk is not in Ceph RBD")
    reason = _obstacle(disk, source, image_format)
    if reason is not None:
        raise exception.DirectUnavailable(reason=reason)
    cluster = rbd.Cluster(conf, rbd.Access.of(conf, source))
    image = rbd.Image(source.pool, source.image, source.namespace or "")
    try:
        fsid, info = cluster.fsid(), cluster.info(image)
        pool = conf.libvirt.snapshot_direct_pool or _pool(fsid, info.parent, base)
    except exception.CephFailed as exc:
        raise exception.DirectUnavailable(reason=str(exc)) from exc
    return Target(cluster, fsid, image, info.size, pool, image_id)


def _obstacle(
    disk: domain_disks.Disk, source: domain_disks.NetworkSource, image_format: str
) -> str | None:
    if disk.format != "raw":
        return f"what is in RBD is of format {disk.format}"
    if disk.encrypted:
        return "the disk is encrypted, and so would the image be"
    if source.snapshot is not None:
        return f"the disk is the snapshot {source.snapshot} of an image"
    if image_format != "raw":
        return f"the image is to be {image_format}, and what is in RBD is raw"
    return None


def _pool(fsid: str, parent: rbd.Image | None, base: Mapping[str, Any]) -> str:
    """The image service's pool, by where the base image is.

    :param parent: what the disk is a clone of.
    """
    # A disk can be a clone of other things too, such as a volume's snapshot.
    if parent is not None and not parent.namespace and parent.name == base.get("id"):
        return parent.pool
    elsewhere = ""
    for found, pool in _locations(base):
        if found == fsid:
            return pool
        elsewhere = f"the base image is in another cluster ({found}) than the disk ({fsid})"
    raise exception.DirectUnavailable(
        reason=elsewhere
        or "nothing tells the image service's pool: neither the disk's parent, nor a location of "
        "the base image, nor [libvirt] snapshot_direct_pool"
    )


def _locations(base: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Cluster and pool of each location of an image in RBD; Glance shows them if it is told to
    (``show_multiple_locations``, ``show_image_direct_url``)."""
    urls = [location.get("url") for location in base.get("locations") or ()]
    for url in (*urls, base.get("direct_url")):
        if not url or not url.startswith(_SCHEME):
            continue
        parts = url.removeprefix(_SCHEME).split("/")
        if len(parts) == 4:
            yield urllib.parse.unquote(parts[0]), urllib.parse.unquote(parts[1])
