# SPDX-License-Identifier: Apache-2.0
"""How each kind of disk is read when no guest has it open: one class per kind."""

import abc
import contextlib
from collections.abc import Sequence
from typing import ClassVar, Final

from nova_snap import exception
from nova_snap.virt.libvirt import chain as chains
from nova_snap.virt.libvirt import domain_disks, lvm, qemu_img, secrets, write_watch


def no_secrets(reference: domain_disks.SecretReference) -> bytes:
    """A :data:`nova_snap.virt.libvirt.secrets.Lookup` that knows none."""
    raise exception.SecretUnavailable(secret=str(reference), reason="there is nobody to ask")


class ImageBackend(abc.ABC):
    """A disk of one kind.

    :ivar name: what the kind is called, as in ``[libvirt] images_type`` of Nova.
    :ivar source_type: the ``<disk type>`` that it is for.
    :ivar formats: the ``<driver type>`` that it is for.
    """

    name: ClassVar[str]
    source_type: ClassVar[str] = "file"
    formats: ClassVar[Sequence[str]]

    def __init__(
        self,
        disk: domain_disks.Disk,
        tool: qemu_img.QemuImg,
        compress: bool = False,
        lookup: secrets.Lookup = no_secrets,
    ) -> None:
        """:param compress: whether qcow2 images are made compressed.

        :param lookup: tells the secrets that the disk needs to be read.
        """
        self._disk = disk
        self._tool = tool
        self._compress = compress
        self._lookup = lookup

    def of(self, disk: domain_disks.Disk) -> "ImageBackend":
        """The same for another disk of the kind."""
        return type(self)(disk, self._tool, self._compress, self._lookup)

    @classmethod
    def handles(cls, disk: domain_disks.Disk) -> bool:
        """Whether it is for this disk."""
        return disk.source_type == cls.source_type and disk.format in cls.formats

    def snapshot_extract(
        self, target: str, out_format: str, on_cancel: qemu_img.OnCancel = qemu_img.never
    ) -> None:
        """Write the disk's content into one flat file.

        :param target: path of the file, which is overwritten.
        :param out_format: one of :data:`nova_snap.virt.libvirt.qemu_img.OUTPUT_FORMATS`.
        :param on_cancel: see :meth:`nova_snap.virt.libvirt.qemu_img.QemuImg.convert`.
        :raises nova_snap.exception.QemuImgFailed:
        :raises nova_snap.exception.UnsafeDisk:
        :raises nova_snap.exception.DiskChanged: if something wrote to it meanwhile.
        """
        chain = self.chain()
        watch = write_watch.watch(chain)
        with self.keys(chain) as keys:
            self._tool.convert(chain, target, out_format, self._compress, on_cancel, keys)
        if watch is not None:
            watch.check()

    def chain(self) -> chains.Chain:
        """The disk and its backing files.

        :raises nova_snap.exception.UnsafeDisk:
        """
        return chains.read(self._disk)

    def keys(self, chain: chains.Chain) -> contextlib.AbstractContextManager[secrets.Keys]:
        """What QEMU's tools need to read the chain: see
        :func:`nova_snap.virt.libvirt.secrets.key_files`."""
        return secrets.key_files(chain, self._lookup, self._tool.user)


class Qcow2(ImageBackend):
    """A qcow2 file, alone or over backing files."""

    name = "qcow2"
    formats = ("qcow2",)


class Raw(ImageBackend):
    """A flat file. What its content looks like is the guest's business: it is never looked at."""

    name = "raw"
    formats = ("raw",)


class Lvm(ImageBackend):
    """A logical volume, or any other block device of the host."""

    name = "lvm"
    source_type = "block"
    formats = ("raw", "qcow2")

    def chain(self) -> chains.Chain:
        """:raises nova_snap.exception.LogicalVolumeUnavailable: if its device is not there."""
        if self._disk.path is not None:
            lvm.check_device(self._disk.path)
        return super().chain()


class Rbd(ImageBackend):
    """An image in a Ceph cluster."""

    name = "rbd"
    source_type = "network"
    formats = ("raw",)

    @classmethod
    def handles(cls, disk: domain_disks.Disk) -> bool:
        return disk.is_rbd and super().handles(disk)


BACKENDS: Final[Sequence[type[ImageBackend]]] = (Qcow2, Raw, Lvm, Rbd)


def is_supported(disk: domain_disks.Disk) -> bool:
    """Whether there is a backend for this disk."""
    return any(backend.handles(disk) for backend in BACKENDS)


def disk_type(disk: domain_disks.Disk) -> str:
    """What kind of disk it is: a backend's name, or its format if there is no backend for it."""
    return next((backend.name for backend in BACKENDS if backend.handles(disk)), disk.format)


def snapshot_backend(
    disk: domain_disks.Disk,
    tool: qemu_img.QemuImg,
    compress: bool = False,
    lookup: secrets.Lookup = no_secrets,
) -> ImageBackend:
    """The backend for a disk, by what the domain's XML says of it.

    :raises nova_snap.exception.UnsafeDisk: if there is none.
    """
    for backend in BACKENDS:
        if backend.handles(disk):
            return backend(disk, tool, compress, lookup)
    known = ", ".join(
        f"{image_format} in a {backend.source_type}"
        for backend in BACKENDS
        for image_format in backend.formats
    )
    raise exception.UnsafeDisk(
        path=disk.description,
        reason=f"no image backend reads {disk.format} in a {disk.source_type}; known: {known}",
    )
