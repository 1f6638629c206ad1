# SPDX-License-Identifier: Apache-2.0
"""A disk and its backing files, each with a format that was *said*, not guessed.

QEMU's tools find backing files and their formats by themselves, in headers that whoever made the
image has written. Here the chain is read first and checked, and the tools are then told all of
it, so that no header can make a snapshot read a file that the guest's disk is not made of.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any, Final

from nova_snap import exception
from nova_snap.virt.libvirt import backing as backings
from nova_snap.virt.libvirt import domain_disks, qcow2_header
from nova_snap.virt.libvirt.domain_disks import Encryption, NetworkSource, SecretReference

SUPPORTED_FORMATS: Final = ("qcow2", "raw")
SUPPORTED_ENCRYPTION: Final = "luks"

# libvirt refuses longer chains too.
MAX_DEPTH: Final = 200

# What a qcow2 image with clusters of 64 KiB can hold; to ask for the extents of more takes minutes.
MAX_SIZE: Final = 1 << 51

FILE: Final = "file"
HOST_DEVICE: Final = "host_device"
RBD: Final = "rbd"


@dataclasses.dataclass(frozen=True)
class Layer:
    """:ivar path: absolute; for an RBD image what to call it.

    :ivar virtual_size: bytes that the guest would see of this layer. 0 for an RBD image: only its
        cluster knows.
    :ivar driver: what QEMU reaches it with: ``file``, ``host_device`` or ``rbd``.
    :ivar network: of an RBD image.
    :ivar encryption: what it is decrypted with as it is read.
    """

    path: str
    format: str
    virtual_size: int
    driver: str = FILE
    network: NetworkSource | None = None
    encryption: Encryption | None = None


Chain = Sequence[Layer]
"""From the disk itself down to the base."""


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a layer is, before it is looked into."""

    path: str
    format: str
    driver: str = FILE
    encryption: Encryption | None = None


def read(disk: domain_disks.Disk) -> Chain:
    """The chain of a domain's disk.

    Whether an image may be made of a disk that is encrypted is not decided here.

    :raises nova_snap.exception.UnsafeDisk: if any layer is not a plain file of a known format; the
        disk itself may also be a block device, or an RBD image of the format raw.
    """
    if disk.sliced:
        raise exception.UnsafeDisk(path=disk.description, reason="it is only a slice of its file")
    if disk.encryption is not None:
        _check_encryption(disk.encryption, disk.description)
    if disk.network is not None and disk.is_rbd:
        return [_rbd_layer(disk, disk.network)]
    if disk.source_type not in ("file", "block") or disk.path is None:
        raise exception.UnsafeDisk(
            path=disk.description,
            reason=f"its source is of type {disk.source_type}; only files, block devices and RBD "
            "images can be read",
        )
    driver = HOST_DEVICE if disk.source_type == "block" else FILE
    return _read_chain(
        _Place(disk.path, disk.format, driver, disk.encryption), backings.Shown(disk)
    )


def read_file(path: str, image_format: str) -> Chain:
    """The chain of an image.

    :raises nova_snap.exception.UnsafeDisk: as :func:`read`.
    """
    return _read_chain(_Place(path, image_format), backings.Shown())


def _read_chain(top: _Place, shown: backings.Shown) -> Chain:
    layers: list[Layer] = []
    seen: set[tuple[int, int]] = set()
    following: _Place | None = top
    while following is not None:
        if len(layers) == MAX_DEPTH:
            raise exception.UnsafeDisk(
                path=top.path, reason=f"it has more than {MAX_DEPTH} backing files"
            )
        place = following
        layer, identity, backing = _read_layer(place)
        if layer.virtual_size > MAX_SIZE:
            reason = f"it claims to have {layer.virtual_size} bytes; at most {MAX_SIZE} can be read"
            raise exception.UnsafeDisk(path=place.path, reason=reason)
        following = None if backing is None else _following(top, place, backing, shown, len(layers))
        if identity in seen:
            raise exception.UnsafeDisk(
                path=top.path, reason=f"{place.path} is its own backing file"
            )
        seen.add(identity)
        layers.append(layer)
    return layers


def secrets(chain: Chain) -> Sequence[tuple[str, SecretReference]]:
    """What QEMU needs to read the chain, by the ids that :func:`blockdev` calls them."""
    needed = []
    for number, layer in enumerate(chain):
        if layer.encryption is not None and layer.encryption.secret is not None:
            needed.append((_key_id(number), layer.encryption.secret))
        if layer.network is not None and layer.network.secret is not None:
            needed.append((_auth_id(number), layer.network.secret))
    return needed


def _key_id(number: int) -> str:
    return f"layer{number}-key"


def _auth_id(number: int) -> str:
    return f"layer{number}-auth"


def blockdev(chain: Chain) -> dict[str, Any]:
    """The chain as QEMU's block layer describes it (``BlockdevOptions``)."""
    node: dict[str, Any] | None = None
    for number, layer in reversed(list(enumerate(chain))):
        described: dict[str, Any] = {"driver": layer.format, "file": _protocol_node(layer, number)}
        if layer.format != "raw":
            # An explicit null: what the header says of a backing file does not count.
            described["backing"] = node
        if layer.encryption is not None:
            key = {"key-secret": _key_id(number)}
            if layer.format == "raw":
                described |= {"driver": layer.encryption.format, **key}
            else:
                described["encrypt"] = {"format": layer.encryption.format, **key}
        node = described
    if node is None:
        raise ValueError("a chain has at least one layer")
    return node


def _protocol_node(layer: Layer, number: int) -> dict[str, Any]:
    source = layer.network
    if source is None:
        return {"driver": layer.driver, "filename": layer.path}
    node: dict[str, Any] = {"driver": RBD, "pool": source.pool, "image": source.image}
    optional = {
        "namespace": source.namespace,
        "snapshot": source.snapshot,
        "conf": source.config_file,
        "user": source.user,
    }
    node |= {key: value for key, value in optional.items() if value is not None}
    if source.hosts:
        # 6789 is what Ceph's monitors have, and what libvirt takes where the XML has no port.
        node["server"] = [{"host": name, "port": port or "6789"} for name, port in source.hosts]
    if source.secret is not None:
        node["key-secret"] = _auth_id(number)
        node["auth-client-required"] = ["cephx", "none"]
    return node


def filename(chain: Chain, exclusive: bool = False) -> str:
    """The chain as an argument for QEMU's tools that leaves nothing to be found out.

    :param exclusive: nobody may write to the disk as long as it is read, nor read it as long as
        somebody may write. That is QEMU's lock on the file; one on a block device is not seen by
        whoever has the device under another node, as libvirt's guests do (see
        :mod:`nova_snap.virt.libvirt.write_watch`), and RBD has none.
    """
    node = blockdev(chain)
    # QEMU's driver for qcow2 takes care of that itself. The one for raw does not when it only
    # reads, so that a guest could be started, and write, meanwhile. The filter passes everything
    # on; there is no other way to ask QEMU for the lock.
    if exclusive and chain[0].format == "raw" and chain[0].driver != RBD:
        node["file"] = {
            "driver": "blkdebug",
            "image": node["file"],
            "unshare-child-perms": ["write", "resize"],
        }
    return "json:" + json.dumps(node)


def _rbd_layer(disk: domain_disks.Disk, source: NetworkSource) -> Layer:
    if disk.format != "raw":
        raise exception.UnsafeDisk(
            path=disk.description,
            reason=f"its format is {disk.format}; an RBD image can be read as raw only",
        )
    source.check_config_file()
    return Layer(disk.description, disk.format, 0, RBD, source, disk.encryption)


def _check_encryption(encryption: Encryption, path: str) -> None:
    if encryption.format != SUPPORTED_ENCRYPTION:
        raise exception.UnsafeDisk(
            path=path,
            reason=f"its encryption is {encryption.format}; {SUPPORTED_ENCRYPTION} is supported",
        )
    if encryption.secret is None:
        raise exception.UnsafeDisk(path=path, reason="it is encrypted, and no secret is named")


def _read_layer(
    place: _Place,
) -> tuple[Layer, tuple[int, int], qcow2_header.Qcow2Header | None]:
    """:returns: the header too, if it names a backing file."""
    path, encryption = place.path, place.encryption
    if place.format not in SUPPORTED_FORMATS:
        raise exception.UnsafeDisk(
            path=path,
            reason=f"its format is {place.format}; supported are {' and '.join(SUPPORTED_FORMATS)}",
        )
    with backings.open_layer(path, place.driver == HOST_DEVICE) as file:
        status = os.fstat(file.fileno())
        identity = (status.st_dev, status.st_ino)
        if place.format == "raw":
            # The size of a block device is not in its status.
            size = os.lseek(file.fileno(), 0, os.SEEK_END)
            return Layer(path, "raw", size, place.driver, None, encryption), identity, None
        header = qcow2_header.read(file, path, encrypted=encryption is not None)
    layer = Layer(path, "qcow2", header.virtual_size, place.driver, None, encryption)
    return layer, identity, None if header.backing_file is None else header


def _following(
    top: _Place, place: _Place, header: qcow2_header.Qcow2Header, shown: backings.Shown, depth: int
) -> _Place:
    """Where the backing file is that a layer's header names."""
    path, name = place.path, header.backing_file or ""
    backing = backings.full_path(path, name)
    known = shown.find(path, backing, depth)
    if known is None:
        backings.check_location(top.path, top.driver == FILE, path, backing)
    encryption = None if known is None else known.encryption
    if encryption is not None:
        _check_encryption(encryption, backing)
    backing_format = backings.format_of(path, backing, header, known)
    return _Place(backing, backing_format, encryption=encryption)
