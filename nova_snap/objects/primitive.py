# SPDX-License-Identifier: Apache-2.0
"""Instances as other services put them into messages."""

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


def _checked(uuid: Any) -> str:
    if not isinstance(uuid, str) or not uuidutils.is_uuid_like(uuid):
        raise exception.InvalidInstancePrimitive(reason=f"{uuid!r:.60} is not a uuid")
    return uuid
