# SPDX-License-Identifier: Apache-2.0
"""What the image service is told of a snapshot that becomes an image."""

from collections.abc import Mapping
from typing import Any, Final

from oslo_utils import units

from nova_snap.virt.driver import InstanceLike, data_properties

# Disks that are no files become images of their plain content.
_SAVED_AS_RAW: Final = ("lvm", "rbd")

# A machine image is a set of a kernel, a ramdisk and a disk: the image service knows its disk by
# a format of its own, and accepts it in no other container.
_AMI: Final = "ami"


def image_format(configured: str | None, source_format: str) -> str:
    """The format of the file that a snapshot becomes.

    :param configured: ``[libvirt] snapshot_image_format``.
    :param source_format: of the disk, as its domain's XML has it.
    """
    chosen = configured or source_format
    return "raw" if chosen in _SAVED_AS_RAW else chosen


def further(instance: InstanceLike, file_format: str, disk_size: int) -> dict[str, Any]:
    """What to set of the image of a disk that nobody boots from.

    :param file_format: of the data.
    :param disk_size: bytes that a disk made from it has at least.
    """
    return {
        "min_disk": -(-disk_size // units.Gi),
        "disk_format": file_format,
        "container_format": "bare",
        "properties": data_properties(instance),
    }


def create(
    base: Mapping[str, Any], instance: InstanceLike, file_format: str, name: str
) -> dict[str, Any]:
    """The attributes to set; properties without a value are left out.

    :param base: the record of the image that the instance was made from; empty if it is gone.
    :param file_format: of the data.
    :param name: of the new image.
    """
    is_ami = base.get("disk_format") == _AMI
    properties = {
        **data_properties(instance),
        "kernel_id": instance.kernel_id,
        "ramdisk_id": instance.ramdisk_id,
        "os_type": instance.os_type,
    }
    return {
        "name": name,
        "disk_format": _AMI if is_ami else file_format,
        # Whatever container the base image came in: this data is in none.
        "container_format": _AMI if is_ami else "bare",
        "properties": {key: value for key, value in properties.items() if value},
    }


def missing(metadata: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """What of the attributes to set an image does not have yet.

    :param metadata: as from :func:`create`.
    :param record: the image's, flat as the image service has it.
    """
    properties = {
        key: value for key, value in metadata["properties"].items() if record.get(key) != value
    }
    lacking = {
        key: value
        for key, value in metadata.items()
        if key != "properties" and record.get(key) != value
    }
    return lacking | ({"properties": properties} if properties else {})
