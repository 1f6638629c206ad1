# SPDX-License-Identifier: Apache-2.0
"""What the image record of a snapshot says, worked out from the instance and the request."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.objects.instance import IMAGE_PREFIX, Instance

SNAPSHOT: Final = "snapshot"
BACKUP: Final = "backup"

BACKUP_TYPE: Final = "backup_type"
"""The property of a backup that says which rotation it belongs to, such as ``daily``."""

SET: Final = "nova_snap_set"
"""The property that ties the images of one instant together: the id of the root disk's image."""

SET_DISK: Final = "nova_snap_disk"
"""The property that says which disk an image of such a set is of, such as ``vdb``."""

_VALUE_LENGTH: Final = 255

# system_metadata of these names is about the image although Nova gives it no prefix.
_INHERITED_AS_THEY_ARE: Final = (
    "base_image_ref",
    "boot_roles",
    "old_vm_state",
    "owner_project_name",
    "owner_user_name",
)

# True of the base image's bytes, or of volumes; never of a snapshot.
_NEVER_INHERITED: Final = frozenset(
    {
        SET,
        SET_DISK,
        "bdm_v2",
        "block_device_mapping",
        "cinder_encryption_key_deletion_policy",
        "cinder_encryption_key_id",
        "root_device_name",
    }
)
_NEVER_INHERITED_PREFIXES: Final = ("img_signature", "os_glance")

# Of the inherited ones, what is as true of a disk that nobody boots from.
_OF_ALL: Final = frozenset({"owner_project_name", "owner_user_name"})

# The base image's formats are not the snapshot's: those are known when it is uploaded.
_TOP_LEVEL: Final = ("min_ram", "min_disk", "disk_format", "container_format")

# What an image has by nature (Image API v2, schema "image"). A property of such a name would
# overwrite it.
ATTRIBUTES: Final = frozenset(
    {
        "checksum",
        "container_format",
        "created_at",
        "direct_url",
        "disk_format",
        "file",
        "id",
        "locations",
        "min_disk",
        "min_ram",
        "name",
        "os_hash_algo",
        "os_hash_value",
        "os_hidden",
        "owner",
        "protected",
        "schema",
        "self",
        "size",
        "status",
        "stores",
        "tags",
        "updated_at",
        "virtual_size",
        "visibility",
    }
)


# Of the image's own attributes, those that Nova keeps with the instance.
_KEPT_ATTRIBUTES: Final = ("min_ram", "min_disk", "disk_format", "container_format")


def kept_with_instance(image: Mapping[str, Any]) -> dict[str, str]:
    """What an instance keeps of the image that it is made from, for its system_metadata.

    :param image: the record, flat as the image service has it.
    """
    return {
        f"{IMAGE_PREFIX}{key}": str(value)[:_VALUE_LENGTH]
        for key, value in image.items()
        if value is not None and (key in _KEPT_ATTRIBUTES or key not in ATTRIBUTES)
    }


def build(
    context: RequestContext,
    instance: Instance,
    name: str,
    image_type: str,
    extra_properties: Mapping[str, str],
    non_inheritable: Collection[str],
) -> dict[str, Any]:
    """The image record of a snapshot, as :meth:`nova_snap.image.glance.API.create` takes it.

    :param image_type: ``snapshot`` or ``backup``.
    :param extra_properties: the user's own; they win over every other property.
    :param non_inheritable: names of ``[DEFAULT] non_inheritable_image_properties``.
    :raises nova_snap.exception.InvalidImageProperty: if the user names an attribute of the image.
    """
    _check_not_reserved(extra_properties)
    inherited = _inherited(instance, non_inheritable)
    min_disk = _number(inherited.pop("min_disk", None))
    record: dict[str, Any] = {
        "name": name,
        "min_ram": _number(inherited.pop("min_ram", None)),
        "min_disk": max(min_disk, instance.flavor.root_gb),
        "visibility": "private" if context.project_id == instance.project_id else "shared",
    }
    for key in _TOP_LEVEL:
        inherited.pop(key, None)
    properties = {
        key: str(value)[:_VALUE_LENGTH] for key, value in inherited.items() if key not in ATTRIBUTES
    }
    properties |= {"instance_uuid": instance.uuid, "image_type": image_type}
    if context.user_id:
        properties["user_id"] = context.user_id
    record["properties"] = properties | dict(extra_properties)
    return record


def _check_not_reserved(extra_properties: Mapping[str, str]) -> None:
    reserved = sorted(ATTRIBUTES.intersection(extra_properties))
    if reserved:
        raise exception.InvalidImageProperty(
            reason=f"{', '.join(reserved)} cannot be set as metadata: "
            "every image has such an attribute of its own"
        )
    reserved = sorted({SET, SET_DISK}.intersection(extra_properties))
    if reserved:
        raise exception.InvalidImageProperty(
            reason=f"{', '.join(reserved)} cannot be set as metadata: "
            "it tells which images are of one instant, and are deleted together"
        )


def build_further(
    root: Mapping[str, Any], instance: Instance, disk: str, context: RequestContext
) -> dict[str, Any]:
    """The image record of a disk beside the root disk, as
    :meth:`nova_snap.image.glance.API.create` takes it.

    It has the root image's name, owner and visibility, what the user wants to be found with it,
    and nothing of what makes an image one to boot from.

    :param root: the record of the root disk's image, flat as the image service has it.
    :param disk: such as ``vdb``.
    """
    suffix = f" ({disk})"
    record: dict[str, Any] = {
        "name": (root.get("name") or "")[: _VALUE_LENGTH - len(suffix)] + suffix,
        "visibility": root.get("visibility") or "private",
    }
    owner = root.get("owner")
    if owner and owner != context.project_id:
        record["owner"] = owner
    booting = {*instance.image_properties, *_INHERITED_AS_THEY_ARE, *_NEVER_INHERITED} - _OF_ALL
    record["properties"] = {
        key: str(value)
        for key, value in root.items()
        if key not in ATTRIBUTES
        and key not in booting
        and not key.startswith(_NEVER_INHERITED_PREFIXES)
        and value is not None
    } | {SET: root["id"], SET_DISK: disk}
    return record


def _inherited(instance: Instance, non_inheritable: Collection[str]) -> dict[str, str]:
    found: dict[str, str] = {
        key: instance.system_metadata[key]
        for key in _INHERITED_AS_THEY_ARE
        if key in instance.system_metadata
    }
    found |= instance.image_properties
    if instance.image_ref:
        found.setdefault("base_image_ref", instance.image_ref)
    return {
        key: value
        for key, value in found.items()
        if value is not None
        and key not in non_inheritable
        and key not in _NEVER_INHERITED
        and not key.startswith(_NEVER_INHERITED_PREFIXES)
    }


def _number(value: str | None) -> int:
    """A number out of the metadata; what is none counts as no demand."""
    try:
        return max(int(value or 0), 0)
    except ValueError:
        return 0
