# SPDX-License-Identifier: Apache-2.0
"""The image that a new server is made from: whether it fits, and what is kept of it."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from nova_snap import exception
from nova_snap.compute import image_properties
from nova_snap.context import RequestContext
from nova_snap.objects.block_device import BlockDeviceMapping
from nova_snap.objects.flavor import Flavor

_GIB: Final = 1024**3

# How the root disk is called on the buses that do not call it vda.
_ROOT_DEVICES: Final = {"ide": "hda", "scsi": "sda", "sata": "sda", "usb": "sda"}
_DEFAULT_BUS: Final = "virtio"


class Images(Protocol):
    """The image service, as far as it is read."""

    def get(self, context: RequestContext, image_id: str) -> Mapping[str, Any]:
        """:raises nova_snap.exception.ImageNotFound:"""


def get(context: RequestContext, images: Images, image_id: str, flavor: Flavor) -> dict[str, Any]:
    """The image's record, flat, if a server of this flavor can be made from it.

    :raises nova_snap.exception.RequestedImageNotFound: if there is no such image.
    :raises nova_snap.exception.ImageNotActive: if it has no data, or is deactivated.
    :raises nova_snap.exception.FlavorMemoryTooSmall: or FlavorDiskSmallerThanImage, or
        FlavorDiskSmallerThanMinDisk, if it does not fit.
    """
    try:
        image = dict(images.get(context, image_id))
    except exception.ImageNotFound as error:
        raise exception.RequestedImageNotFound(image_id=image_id) from error
    if image["status"] != "active":
        raise exception.ImageNotActive(image_id=image_id)
    _check_size(image, flavor)
    return image


def _check_size(image: Mapping[str, Any], flavor: Flavor) -> None:
    min_ram = int(image.get("min_ram") or 0)
    if flavor.memory_mb < min_ram:
        raise exception.FlavorMemoryTooSmall(memory_mb=flavor.memory_mb, min_ram=min_ram)
    disk = flavor.root_gb * _GIB
    if not disk:
        # As large as the image.
        return
    size = max(int(image.get("size") or 0), int(image.get("virtual_size") or 0))
    if size > disk:
        raise exception.FlavorDiskSmallerThanImage(flavor_size=disk, image_size=size)
    min_disk = int(image.get("min_disk") or 0) * _GIB
    if min_disk > disk:
        raise exception.FlavorDiskSmallerThanMinDisk(flavor_size=disk, image_min_disk=min_disk)


def system_metadata(context: RequestContext, image: Mapping[str, Any]) -> dict[str, str]:
    """What an instance remembers of its image and of who asked for it, as Nova does."""
    kept = image_properties.kept_with_instance(image)
    kept["base_image_ref"] = str(image["id"])
    kept["boot_roles"] = ",".join(context.roles)
    if context.project_name:
        kept["owner_project_name"] = context.project_name
    if context.user_name:
        kept["owner_user_name"] = context.user_name
    return kept


def root_disk(image: Mapping[str, Any]) -> BlockDeviceMapping:
    """The disk that is made from the image."""
    bus = str(image.get("hw_disk_bus") or _DEFAULT_BUS)
    return BlockDeviceMapping(
        source_type="image",
        destination_type="local",
        device_type="disk",
        disk_bus=bus,
        device_name=f"/dev/{_ROOT_DEVICES.get(bus, 'vda')}",
        boot_index=0,
        image_id=str(image["id"]),
        delete_on_termination=True,
    )
