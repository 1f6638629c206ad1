# SPDX-License-Identifier: Apache-2.0
"""What notifications say, in the two forms that Nova's have.

A versioned payload is an object of Nova's, as oslo.versionedobjects serialises it. Names, versions
and fields are those of Nova's InstanceActionSnapshotPayload 1.9; what an instance here never has
(addresses, a lock, ...) is there with the value that it has in Nova when there is none.
"""

import datetime
import traceback
from typing import Any, Final

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.context import RequestContext
from nova_snap.objects.instance import Instance

Payload = dict[str, Any]

_PAYLOAD_VERSION: Final = "1.9"
_FLAVOR_VERSION: Final = "1.4"
_EXCEPTION_VERSION: Final = "1.1"


def versioned(
    context: RequestContext, instance: Instance, image_id: str, error: Exception | None
) -> Payload:
    """The payload of ``instance.snapshot.*``."""
    return _object(
        "InstanceActionSnapshotPayload",
        _PAYLOAD_VERSION,
        {
            **_instance(instance),
            "request_id": context.request_id,
            "action_initiator_user": context.user_id,
            "action_initiator_project": context.project_id,
            "fault": None if error is None else _fault(error),
            "snapshot_image_id": image_id,
        },
    )


def unversioned(instance: Instance, image_id: str, error: Exception | None) -> Payload:
    """The payload of ``compute.instance.snapshot.*``."""
    flavor = instance.flavor
    payload: Payload = {
        "tenant_id": instance.project_id,
        "user_id": instance.user_id,
        "instance_id": instance.uuid,
        "display_name": instance.display_name,
        "hostname": instance.hostname,
        "host": instance.host,
        "node": instance.host,
        "availability_zone": instance.availability_zone,
        "instance_type": flavor.name,
        "instance_flavor_id": flavor.flavorid,
        "memory_mb": flavor.memory_mb,
        "vcpus": flavor.vcpus,
        "root_gb": flavor.root_gb,
        "ephemeral_gb": flavor.ephemeral_gb,
        "disk_gb": flavor.root_gb + flavor.ephemeral_gb,
        "architecture": instance.architecture,
        "os_type": instance.os_type,
        "kernel_id": instance.kernel_id or "",
        "ramdisk_id": instance.ramdisk_id or "",
        "created_at": _legacy_time(instance.created_at),
        "launched_at": _legacy_time(instance.launched_at),
        "terminated_at": _legacy_time(instance.terminated_at),
        "deleted_at": _legacy_time(instance.deleted_at),
        "state": instance.vm_state,
        "state_description": instance.task_state or "",
        "progress": instance.snapshot_progress or "",
        "image_meta": dict(instance.image_properties),
        "metadata": dict(instance.metadata),
        "snapshot_image_id": image_id,
    }
    if error is not None:
        payload["exception"] = _message(error)
    return payload


def _instance(instance: Instance) -> Payload:
    return {
        "uuid": instance.uuid,
        "user_id": instance.user_id,
        "tenant_id": instance.project_id,
        "reservation_id": instance.reservation_id,
        "display_name": instance.display_name,
        "display_description": instance.display_description,
        "host_name": instance.hostname,
        "host": instance.host,
        "node": instance.host,
        "os_type": instance.os_type,
        "architecture": instance.architecture,
        "availability_zone": instance.availability_zone,
        "flavor": _flavor(instance),
        "image_uuid": instance.image_ref,
        "key_name": instance.key_name,
        "kernel_id": instance.kernel_id or "",
        "ramdisk_id": instance.ramdisk_id or "",
        "created_at": _time(instance.created_at),
        "launched_at": _time(instance.launched_at),
        "terminated_at": _time(instance.terminated_at),
        "deleted_at": _time(instance.deleted_at),
        "updated_at": _time(instance.updated_at),
        "state": instance.vm_state,
        "power_state": power_state.NAMES.get(instance.power_state),
        "task_state": instance.task_state,
        "progress": instance.snapshot_progress or 0,
        "ip_addresses": [],
        "block_devices": [],
        "metadata": dict(instance.metadata),
        "locked": False,
        "locked_reason": None,
        "auto_disk_config": "AUTO" if instance.auto_disk_config else "MANUAL",
    }


def _flavor(instance: Instance) -> Payload:
    flavor = instance.flavor
    return _object(
        "FlavorPayload",
        _FLAVOR_VERSION,
        {
            "flavorid": flavor.flavorid,
            "name": flavor.name,
            "memory_mb": flavor.memory_mb,
            "vcpus": flavor.vcpus,
            "root_gb": flavor.root_gb,
            "ephemeral_gb": flavor.ephemeral_gb,
            "swap": flavor.swap,
            "extra_specs": dict(flavor.extra_specs),
            "rxtx_factor": 1.0,
            "vcpu_weight": 0,
            "disabled": False,
            "is_public": True,
            "projects": None,
            "description": None,
        },
    )


def _fault(error: Exception) -> Payload:
    module, function = _origin(error)
    return _object(
        "ExceptionPayload",
        _EXCEPTION_VERSION,
        {
            "module_name": module,
            "function_name": function,
            "exception": type(error).__name__,
            "exception_message": _message(error),
            "traceback": "".join(traceback.format_exception(error)),
        },
    )


def _origin(error: Exception) -> tuple[str, str]:
    """Module and function that raised the error."""
    trace = error.__traceback__
    if trace is None:
        return "unknown", "unknown"
    while trace.tb_next is not None:
        trace = trace.tb_next
    frame = trace.tb_frame
    return frame.f_globals.get("__name__", "unknown"), frame.f_code.co_name


def _message(error: Exception) -> str:
    """All that is known: whoever reads notifications is no user but an operator's tool."""
    return str(error) if isinstance(error, exception.NovaSnapError) else repr(error)


def _object(name: str, version: str, data: Payload) -> Payload:
    return {
        "nova_object.name": name,
        "nova_object.namespace": "nova",
        "nova_object.version": version,
        "nova_object.data": data,
    }


def _time(time: datetime.datetime | None) -> str | None:
    return None if time is None else time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _legacy_time(time: datetime.datetime | None) -> str:
    """Plain dictionaries have times in another form, and the empty string where there is none."""
    return "" if time is None else time.strftime("%Y-%m-%d %H:%M:%S")
