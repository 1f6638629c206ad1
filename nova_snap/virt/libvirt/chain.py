# SPDX-License-Identifier: Apache-2.0
"""A disk and its backing files, each with a format that was *said*, not guessed.

QEMU's tools find backing files and their formats by themselves, in headers that whoever made the
image has written. Here the chain is read first and checked, and the tools are then told all of
it, so that no header can make a snapshot read a file that the guest's disk is not made of.
"""

import dataclasses
import json
import os
import re
import stat
from collections.abc import Sequence
from typing import Any, BinaryIO, Final

from nova_snap import exception
from nova_snap.virt.libvirt import domain_xml, qcow2_header

SUPPORTED_FORMATS: Final = ("qcow2", "raw")

# libvirt refuses longer chains too.
MAX_DEPTH: Final = 200

# A colon before any slash makes QEMU take what stands before it for a protocol.
_PROTOCOL = re.compile(r"[^/]*:")


@dataclasses.dataclass(frozen=True)
class Layer:
    """:ivar path: absolute.

    :ivar virtual_size: bytes that the guest would see of this layer.
    """

    path: str
    format: str
    virtual_size: int


Chain = Sequence[Layer]
"""From the disk itself down to the base."""


def read(disk: domain_xml.Disk) -> Chain:
    """The chain of a domain's disk.

    :raises nova_snap.exception.UnsafeDisk: if any layer is not a plain file of a known format.
    """
    if disk.source_type != "file" or disk.path is None:
        raise exception.UnsafeDisk(
            path=disk.path or disk.target,
            reason=f"its source is of type {disk.source_type}; only files can be read",
        )
    if disk.encrypted:
        raise exception.UnsafeDisk(path=disk.path, reason="it is encrypted")
    if disk.sliced:
        raise exception.UnsafeDisk(path=disk.path, reason="it is only a slice of its file")
    shown = {layer.path: layer.format for layer in disk.backing if layer.path is not None}
    return read_file(disk.path, disk.format, shown)


def read_file(path: str, image_format: str, shown: dict[str, str] | None = None) -> Chain:
    """The chain of an image.

    :param shown: formats of backing files that libvirt tells, for headers that do not.
    :raises nova_snap.exception.UnsafeDisk: as :func:`read`.
    """
    layers: list[Layer] = []
    seen: set[tuple[int, int]] = set()
    following: tuple[str, str] | None = (path, image_format)
    while following is not None:
        if len(layers) == MAX_DEPTH:
            raise exception.UnsafeDisk(
                path=path, reason=f"it has more than {MAX_DEPTH} backing files"
            )
        layer_path, layer_format = following
        layer, identity, following = _read_layer(layer_path, layer_format, shown or {})
        if identity in seen:
            raise exception.UnsafeDisk(path=path, reason=f"{layer_path} is its own backing file")
        seen.add(identity)
        layers.append(layer)
    return layers


def blockdev(chain: Chain) -> dict[str, Any]:
    """The chain as QEMU's block layer describes it (``BlockdevOptions``)."""
    node: dict[str, Any] | None = None
    for layer in reversed(chain):
        described: dict[str, Any] = {
            "driver": layer.format,
            "file": {"driver": "file", "filename": layer.path},
        }
        if layer.format != "raw":
            # An explicit null: what the header says of a backing file does not count.
            described["backing"] = node
        node = described
    if node is None:
        raise ValueError("a chain has at least one layer")
    return node


def filename(chain: Chain, exclusive: bool = False) -> str:
    """The chain as an argument for QEMU's tools that leaves nothing to be found out.

    :param exclusive: nobody may write to the disk as long as it is read, nor read it as long as
        somebody may write.
    """
    node = blockdev(chain)
    # QEMU's driver for qcow2 takes care of that itself. The one for raw does not when it only
    # reads, so that a guest could be started, and write, meanwhile. The filter passes everything
    # on; there is no other way to ask QEMU for the lock.
    if exclusive and chain[0].format == "raw":
        node["file"] = {
            "driver": "blkdebug",
            "image": node["file"],
            "unshare-child-perms": ["write", "resize"],
        }
    return "json:" + json.dumps(node)


def _read_layer(
    path: str, image_format: str, shown: dict[str, str]
) -> tuple[Layer, tuple[int, int], tuple[str, str] | None]:
    if image_format not in SUPPORTED_FORMATS:
        raise exception.UnsafeDisk(
            path=path,
            reason=f"its format is {image_format}; supported are {' and '.join(SUPPORTED_FORMATS)}",
        )
    with _open(path) as file:
        status = os.fstat(file.fileno())
        identity = (status.st_dev, status.st_ino)
        if image_format == "raw":
            return Layer(path, "raw", status.st_size), identity, None
        header = qcow2_header.read(file, path)
    layer = Layer(path, "qcow2", header.virtual_size)
    if header.backing_file is None:
        return layer, identity, None
    backing = _backing_path(path, header.backing_file)
    return layer, identity, (backing, _backing_format(path, backing, header, shown))


def _open(path: str) -> BinaryIO:
    if not os.path.isabs(path):
        raise exception.UnsafeDisk(path=path, reason="its path is not absolute")
    try:
        # Not to wait for a writer, should this be a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        raise exception.UnsafeDisk(path=path, reason=f"it cannot be read: {exc}") from exc
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise exception.UnsafeDisk(path=path, reason="it is not a regular file")
    return os.fdopen(descriptor, "rb")


def _backing_path(path: str, name: str) -> str:
    if _PROTOCOL.match(name):
        raise exception.UnsafeDisk(
            path=path, reason=f"its backing file {name!r} is not a plain file name"
        )
    return os.path.join(os.path.dirname(path), name)


def _backing_format(
    path: str, backing: str, header: qcow2_header.Qcow2Header, shown: dict[str, str]
) -> str:
    if header.backing_format is not None:
        return header.backing_format
    if backing in shown:
        return shown[backing]
    # libvirt takes such a backing file for raw, but newer versions look into it first. Where both
    # come to the same, raw it is; else one of them would read another disk than the other.
    with _open(backing) as file:
        if file.read(len(qcow2_header.MAGIC)) == qcow2_header.MAGIC:
            raise exception.UnsafeDisk(
                path=path,
                reason=f"its header does not name the format of its backing file {backing}, which "
                "looks like qcow2; name it with: qemu-img rebase -u -b FILE -F FORMAT",
            )
    return "raw"
