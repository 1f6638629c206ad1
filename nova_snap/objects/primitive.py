# SPDX-License-Identifier: Apache-2.0
"""Instances and images as other services put them into messages."""

import uuid
from typing import Any

from oslo_utils import uuidutils

from nova_snap import exception


def instance_uuid(instance: Any) -> str:
    """The uuid of an instance in a message.

    All that is taken from a serialised instance is its uuid: its state may be old by the time
    that the message arrives, and is read from the database.

    :param instance: a uuid; an object as oslo.versionedobjects serialises it, with any prefix,
        such as Nova's ``{"nova_object.name": "Instance", "nova_object.data": {"uuid": ...}}``; or
        a dictionary with the key ``uuid``.
    :raises nova_snap.exception.InvalidInstancePrimitive: if it is none of these.
    """
    if isinstance(instance, str):
        return _checked(instance)
    if not isinstance(instance, dict):
        raise exception.InvalidInstancePrimitive(reason=f"it is a {type(instance).__name__}")
    for key, name in instance.items():
        prefix, dot, field = str(key).rpartition(".")
        if dot and field == "name":
            if name != "Instance":
                raise exception.InvalidInstancePrimitive(reason=f"it is an object {name!r:.60}")
            data = instance.get(f"{prefix}.data")
            if not isinstance(data, dict):
                raise exception.InvalidInstancePrimitive(reason=f"it has no {prefix}.data")
            return _checked(data.get("uuid"))
    return _checked(instance.get("uuid"))


def image_id(image: Any) -> str:
    """The id of an image in a message: as a part of URLs it must be nothing else.

    :raises nova_snap.exception.InvalidImageId: if it is none.
    """
    try:
        if str(uuid.UUID(image)) == image.lower():
            return str(image)
    except (ValueError, TypeError, AttributeError):
        pass
    raise exception.InvalidImageId(image_id=f"{image!r:.60}")


def _checked(given: Any) -> str:
    if not isinstance(given, str) or not uuidutils.is_uuid_like(given):
        raise exception.InvalidInstancePrimitive(reason=f"{given!r:.60} is not a uuid")
    return given
