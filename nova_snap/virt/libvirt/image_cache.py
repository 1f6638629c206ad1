# SPDX-License-Identifier: Apache-2.0
"""Images on this host, each downloaded once and shared by the disks that are made from it.

``_base/<hash of the image's id>`` holds an image just as the image service sent it. A download goes
to a name of its own beside that (``.part``), and gets its name when it is complete and safe: what
bears the name can be used.
"""

import contextlib
import dataclasses
import errno
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from oslo_config import cfg
from oslo_log import log as logging
from oslo_utils import units

from nova_snap import context as nova_context
from nova_snap import exception
from nova_snap.virt import driver
from nova_snap.virt.libvirt import chain, file_lock, image_inspection
from nova_snap.virt.libvirt.instance_files import InstanceFiles

LOG = logging.getLogger(__name__)

PART: Final = ".part"

_FILE_MODE: Final = 0o644


@dataclasses.dataclass(frozen=True)
class CachedImage:
    """:ivar virtual_size: bytes that a guest sees of it."""

    path: str
    format: str
    virtual_size: int


def file_name(image_id: str) -> str:
    """What an image is called in the cache; it is Nova's name for it."""
    return hashlib.sha1(image_id.encode(), usedforsecurity=False).hexdigest()


class ImageCache:
    """The images of this host."""

    def __init__(
        self, conf: cfg.ConfigOpts, image_api: driver.ImageService, files: InstanceFiles
    ) -> None:
        self._conf = conf
        self._image_api = image_api
        self._files = files

    def get(
        self,
        context: nova_context.RequestContext,
        image_id: str,
        record: Mapping[str, Any],
        root_gb: int,
        check: Callable[[], None],
    ) -> CachedImage:
        """An image to make a disk from, downloaded if it is not here yet.

        :param record: the image service's, flat.
        :param root_gb: GiB that the disk is to have; 0 is as large as the image.
        :param check: called while downloading and while waiting for another download of the same.
        :raises nova_snap.exception.ImageUnacceptable: if it must not or cannot be used.
        :raises nova_snap.exception.HostDiskFull: if there is no room for it.
        :raises nova_snap.exception.WaitTimeout: if it takes longer than
            ``[libvirt] image_download_timeout``.
        """
        image_inspection.check_record(image_id, record)
        image_format = str(record["disk_format"])
        self._files.prepare()
        path = os.path.join(self._files.base, file_name(image_id))
        lock = os.path.join(self._files.locks, file_name(image_id))
        deadline = _Deadline(self._conf.libvirt.image_download_timeout, image_id, check)
        with file_lock.hold(lock, deadline.what, deadline.seconds, check):
            if not os.path.exists(path):
                self.remove_unused()
                self._download(context, image_id, path, record, deadline)
            # Each time: another flavor has another size, and the check costs next to nothing.
            size = image_inspection.check_file(image_id, path, image_format, root_gb)
            # Says that it is used, so that it stays until a disk refers to it.
            os.utime(path)
        return CachedImage(path, image_format, size)

    def _download(
        self,
        context: nova_context.RequestContext,
        image_id: str,
        path: str,
        record: Mapping[str, Any],
        deadline: "_Deadline",
    ) -> None:
        self._check_room(int(record["size"]))
        part = path + PART
        try:
            with open(part, "w+b") as file:
                os.fchmod(file.fileno(), _FILE_MODE)
                size = self._image_api.download(context, image_id, file, deadline.check)
                os.fsync(file.fileno())
            # Without a bound of the size, which is the flavor's affair and not the cache's.
            image_inspection.check_file(image_id, part, str(record["disk_format"]), 0)
            os.rename(part, path)
        except BaseException as exc:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
            if isinstance(exc, OSError) and exc.errno == errno.ENOSPC:
                raise self._full(int(record["size"])) from exc
            raise
        LOG.info("Downloaded image %s, %d bytes, to %s", image_id, size, path)

    def _check_room(self, size: int) -> None:
        needed = size + self._conf.reserved_host_disk_mb * units.Mi
        if self._free() < needed:
            raise self._full(needed)

    def _free(self) -> int:
        found = os.statvfs(self._files.base)
        return found.f_bavail * found.f_frsize

    def _full(self, needed: int) -> exception.HostDiskFull:
        return exception.HostDiskFull(
            path=self._files.base,
            free_mib=self._free() // units.Mi,
            needed_mib=-(-needed // units.Mi),
        )

    # -- what nobody needs any more --------------------------------------------------------

    def remove_unused(self) -> None:
        """Remove broken downloads, and images that no disk is made from and that are old enough.

        What cannot be removed is logged.
        """
        try:
            names = os.listdir(self._files.base)
            used = self._used() if self._conf.remove_unused_base_images else None
        except FileNotFoundError:
            return
        for name in names:
            try:
                self._remove_if_unused(name, used)
            except OSError as exc:
                LOG.warning("Image %s could not be removed from the cache: %s", name, exc)

    def _remove_if_unused(self, name: str, used: set[str] | None) -> None:
        path = os.path.join(self._files.base, name)
        with file_lock.hold_if_free(
            os.path.join(self._files.locks, name.removesuffix(PART))
        ) as mine:
            # If it is locked, it is being downloaded or a disk is being made from it.
            if not mine or not os.path.isfile(path):
                return
            if name.endswith(PART):
                os.unlink(path)
                return
            age = time.time() - os.stat(path).st_mtime
            old = age > self._conf.remove_unused_original_minimum_age_seconds
            if used is not None and old and path not in used:
                os.unlink(path)
                LOG.info("Removed %s: no instance is made from it any more", path)

    def _used(self) -> set[str] | None:
        """The files that disks are made from; ``None`` if they cannot all be told."""
        used: set[str] = set()
        for disk in self._files.disks():
            try:
                used.update(layer.path for layer in chain.read_file(disk, "qcow2"))
            except exception.UnsafeDisk as exc:
                LOG.warning("No image is removed from the cache: %s", exc)
                return None
        return used


class _Deadline:
    """A check that also fails when the time is over."""

    def __init__(self, seconds: float, image_id: str, check: Callable[[], None]) -> None:
        self.seconds = seconds
        self.what = f"the download of image {image_id}"
        self._check = check
        self._until = time.monotonic() + seconds

    def check(self) -> None:
        self._check()
        if time.monotonic() > self._until:
            raise exception.WaitTimeout(what=self.what, seconds=self.seconds)
