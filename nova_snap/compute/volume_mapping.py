# SPDX-License-Identifier: Apache-2.0
"""The disks of an instance, as the image of a volume-backed server lists them for the next one.

The shape is Nova's (``bdm_v2``): a server that is made from the image gets a volume from each
snapshot, and the same ephemeral and swap disks.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from nova_snap.objects.block_device import BlockDeviceMapping

# What each disk has, whatever it is; what nova_snap does not know is null, as Nova writes it.
_EMPTY: Final[Mapping[str, Any]] = {
    "guest_format": None,
    "image_id": None,
    "no_device": None,
    "snapshot_id": None,
    "tag": None,
    "volume_id": None,
    "volume_type": None,
}
_OF_EVERY_DISK: Final = (
    "boot_index",
    "delete_on_termination",
    "device_name",
    "device_type",
    "disk_bus",
    "volume_size",
)


def build(
    disks: Iterable[BlockDeviceMapping], snapshots: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One entry for each disk, the local ones first, as Nova has them.

    :param disks: of the instance.
    :param snapshots: the snapshot of each volume, by the volume's id.
    """
    disks = list(disks)
    local = [_local(disk) for disk in disks if not disk.is_volume]
    volumes = [_volume(disk, snapshots) for disk in disks if disk.is_volume]
    return local + volumes


def properties(
    disks: Iterable[BlockDeviceMapping],
    snapshots: Mapping[str, str],
    root_device_name: str | None,
) -> dict[str, str]:
    """What the image says of the disks; properties of images are text."""
    found = {
        "block_device_mapping": json.dumps(build(disks, snapshots)),
        "bdm_v2": "True",
    }
    if root_device_name:
        found["root_device_name"] = root_device_name
    return found


def _local(disk: BlockDeviceMapping) -> dict[str, Any]:
    return {
        **_EMPTY,
        **_common(disk),
        "source_type": disk.source_type,
        "destination_type": disk.destination_type,
        "guest_format": disk.guest_format,
        "image_id": disk.image_id,
    }


def _volume(disk: BlockDeviceMapping, snapshots: Mapping[str, str]) -> dict[str, Any]:
    return {
        **_EMPTY,
        **_common(disk),
        "source_type": "snapshot",
        "destination_type": "volume",
        "snapshot_id": snapshots[disk.volume_id or ""],
    }


def _common(disk: BlockDeviceMapping) -> dict[str, Any]:
    return {name: getattr(disk, name) for name in _OF_EVERY_DISK}
