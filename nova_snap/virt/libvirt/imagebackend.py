# SPDX-License-Identifier: Apache-2.0
"""How each kind of disk is read when no guest has it open: one class per kind."""

import abc
from collections.abc import Mapping
from typing import ClassVar, Final

from nova_snap import exception
from nova_snap.virt.libvirt import chain as chains
from nova_snap.virt.libvirt import domain_xml, qemu_img


class ImageBackend(abc.ABC):
    """A disk of one kind.

    :ivar source_type: the ``<disk type>`` that it is for.
    :ivar format: the ``<driver type>`` that it is for.
    """

    source_type: ClassVar[str] = "file"
    format: ClassVar[str]

    def __init__(
        self, disk: domain_xml.Disk, tool: qemu_img.QemuImg, compress: bool = False
    ) -> None:
        """:param compress: whether qcow2 images are made compressed."""
        self._disk = disk
        self._tool = tool
        self._compress = compress

    @abc.abstractmethod
    def snapshot_extract(
        self, target: str, out_format: str, on_cancel: qemu_img.OnCancel = qemu_img.never
    ) -> None:
        """Write the disk's content into one flat file.

        :param target: path of the file, which is overwritten.
        :param out_format: one of :data:`nova_snap.virt.libvirt.qemu_img.OUTPUT_FORMATS`.
        :param on_cancel: see :meth:`nova_snap.virt.libvirt.qemu_img.QemuImg.convert`.
        :raises nova_snap.exception.QemuImgFailed:
        :raises nova_snap.exception.UnsafeDisk:
        """


class Qcow2(ImageBackend):
    """A qcow2 file, alone or over backing files."""

    format = "qcow2"

    def snapshot_extract(
        self, target: str, out_format: str, on_cancel: qemu_img.OnCancel = qemu_img.never
    ) -> None:
        self._tool.convert(chains.read(self._disk), target, out_format, self._compress, on_cancel)


class Raw(ImageBackend):
    """A flat file. What its content looks like is the guest's business: it is never looked at."""

    format = "raw"

    def snapshot_extract(
        self, target: str, out_format: str, on_cancel: qemu_img.OnCancel = qemu_img.never
    ) -> None:
        self._tool.convert(chains.read(self._disk), target, out_format, self._compress, on_cancel)


BACKENDS: Final[Mapping[tuple[str, str], type[ImageBackend]]] = {
    (backend.source_type, backend.format): backend for backend in (Qcow2, Raw)
}


def is_supported(disk: domain_xml.Disk) -> bool:
    """Whether there is a backend for this disk."""
    return (disk.source_type, disk.format) in BACKENDS


def snapshot_backend(
    disk: domain_xml.Disk, tool: qemu_img.QemuImg, compress: bool = False
) -> ImageBackend:
    """The backend for a disk, by what the domain's XML says of it.

    :raises nova_snap.exception.UnsafeDisk: if there is none.
    """
    try:
        backend = BACKENDS[disk.source_type, disk.format]
    except KeyError:
        known = ", ".join(f"{image_format} in a {source}" for source, image_format in BACKENDS)
        raise exception.UnsafeDisk(
            path=disk.path or disk.target,
            reason=f"no image backend reads {disk.format} in a {disk.source_type}; known: {known}",
        ) from None
    return backend(disk, tool, compress)
