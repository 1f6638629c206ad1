# SPDX-License-Identifier: Apache-2.0
"""Servers as clients see them, by microversion.

What an instance here never has (a key pair, tags, addresses, a lock, ...) is shown as Nova shows
it when there is none.
"""

import dataclasses
import datetime
import enum
from collections.abc import Mapping, Sequence
from typing import Any, Final

from nova_snap.api.microversion import Microversion
from nova_snap.api.views.hosts import host_id
from nova_snap.api.views.links import Links
from nova_snap.compute import vm_states
from nova_snap.objects.block_device import BlockDeviceMapping
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_fault import InstanceFault

UNKNOWN: Final = "UNKNOWN"

STATUS: Final[Mapping[str, str]] = {
    vm_states.ACTIVE: "ACTIVE",
    vm_states.BUILDING: "BUILD",
    vm_states.PAUSED: "PAUSED",
    vm_states.SUSPENDED: "SUSPENDED",
    vm_states.STOPPED: "SHUTOFF",
    vm_states.ERROR: "ERROR",
    vm_states.DELETED: "DELETED",
}

# Nova shows a fault, and a progress, of servers in these states only; here the progress of a
# snapshot is shown in every state.
FAULT_STATUSES: Final = ("ERROR", "DELETED")
_PROGRESS_STATUSES: Final = ("ACTIVE", "BUILD")

View = dict[str, Any]


class HostStatus(enum.Enum):
    """Which status of a compute host the client may see."""

    ANY = "any"
    UNKNOWN_ONLY = "unknown-only"
    NONE = "none"


@dataclasses.dataclass(frozen=True)
class Visibility:
    """What the policies let the client see."""

    extended_attributes: bool
    extra_specs: bool
    host_status: HostStatus
    fault_details: bool


@dataclasses.dataclass(frozen=True)
class Shown:
    """An instance with what is read apart from it."""

    instance: Instance
    disks: Sequence[BlockDeviceMapping] = ()
    fault: InstanceFault | None = None


def status_of(instance: Instance) -> str:
    """Nova's word for the state of an instance."""
    if instance.deleted:
        return "DELETED"
    return STATUS.get(instance.vm_state, UNKNOWN)


class ViewBuilder:
    """Makes the views of one request."""

    def __init__(self, links: Links, version: Microversion) -> None:
        self._links = links
        self._version = version

    def basic(self, instance: Instance) -> View:
        """What ``/servers`` shows."""
        return {
            "id": instance.uuid,
            "name": instance.display_name,
            "links": self._links.of("servers", instance.uuid),
        }

    def show(self, shown: Shown, visible: Visibility) -> View:
        """What ``/servers/{server_id}`` shows."""
        view = self.detail(shown, visible)
        if self._version.at_least(71):
            view["server_groups"] = []
        return view

    def detail(self, shown: Shown, visible: Visibility) -> View:
        """What ``/servers/detail`` shows."""
        instance = shown.instance
        view = self.basic(instance)
        view.update(_constants())
        view.update(
            {
                "created": _seconds(instance.created_at),
                "updated": _seconds(instance.updated_at or instance.created_at),
                "flavor": self._flavor(instance, visible),
                "hostId": host_id(instance.project_id, instance.host),
                "image": self._image(instance),
                "metadata": dict(instance.metadata),
                "status": status_of(instance),
                "tenant_id": instance.project_id,
                "user_id": instance.user_id,
                "OS-EXT-AZ:availability_zone": instance.availability_zone or "",
                "OS-EXT-STS:power_state": instance.power_state,
                "OS-EXT-STS:task_state": instance.task_state,
                "OS-EXT-STS:vm_state": instance.vm_state,
                "OS-SRV-USG:launched_at": _microseconds(instance.launched_at),
                "OS-SRV-USG:terminated_at": _microseconds(instance.terminated_at),
                "os-extended-volumes:volumes_attached": self._volumes(shown.disks),
            }
        )
        progress = instance.snapshot_progress
        if progress is not None or view["status"] in _PROGRESS_STATUSES:
            view["progress"] = progress or 0
        if view["status"] in FAULT_STATUSES and shown.fault is not None:
            view["fault"] = _fault(shown.fault, visible)
        if visible.extended_attributes:
            view.update(self._extended_attributes(instance))
        view.update(self._later(instance, visible))
        return view

    def _later(self, instance: Instance, visible: Visibility) -> View:
        """What microversions above 2.3 added."""
        version = self._version
        view: View = {}
        if version.at_least(9):
            view["locked"] = False
        if version.at_least(16):
            # No record is kept here of which compute services are up.
            status = UNKNOWN if instance.host else ""
            if visible.host_status is HostStatus.ANY or (
                visible.host_status is HostStatus.UNKNOWN_ONLY and status == UNKNOWN
            ):
                view["host_status"] = status
        if version.at_least(19):
            view["description"] = instance.display_description
        if version.at_least(26):
            view["tags"] = []
        if version.at_least(63):
            view["trusted_image_certificates"] = None
        if version.at_least(73):
            view["locked_reason"] = None
        if version.at_least(90):
            view["OS-EXT-SRV-ATTR:hostname"] = instance.hostname or ""
        if version.at_least(96):
            view["pinned_availability_zone"] = None
        return view

    def _extended_attributes(self, instance: Instance) -> View:
        view: View = {
            "host": instance.host,
            "hypervisor_hostname": instance.host,
            "instance_name": instance.name,
        }
        if self._version.at_least(3):
            view.update(
                hostname=instance.hostname or "",
                kernel_id=instance.kernel_id,
                launch_index=0,
                ramdisk_id=instance.ramdisk_id,
                reservation_id=None,
                root_device_name=instance.root_device_name,
                user_data=None,
            )
        return {f"OS-EXT-SRV-ATTR:{name}": value for name, value in view.items()}

    def _flavor(self, instance: Instance, visible: Visibility) -> View:
        flavor = instance.flavor
        if not self._version.at_least(47):
            identifier = flavor.flavorid or flavor.name
            return {"id": identifier, "links": self._links.bookmark("flavors", identifier)}
        view: View = {
            "original_name": flavor.name,
            "vcpus": flavor.vcpus,
            "ram": flavor.memory_mb,
            "disk": flavor.root_gb,
            "ephemeral": flavor.ephemeral_gb,
            "swap": flavor.swap,
        }
        if visible.extra_specs:
            view["extra_specs"] = dict(flavor.extra_specs)
        return view

    def _image(self, instance: Instance) -> View | str:
        """Of an instance that was made from none, Nova shows the empty string."""
        if not instance.image_ref:
            return ""
        # Nova once kept the URL of the image here.
        identifier = instance.image_ref.rsplit("/", 1)[-1]
        return {"id": identifier, "links": self._links.bookmark("images", identifier)}

    def _volumes(self, disks: Sequence[BlockDeviceMapping]) -> list[View]:
        volumes: list[View] = []
        for disk in disks:
            if disk.volume_id:
                volume: View = {"id": disk.volume_id}
                if self._version.at_least(3):
                    volume["delete_on_termination"] = disk.delete_on_termination
                volumes.append(volume)
        return volumes


def _constants() -> View:
    return {
        "accessIPv4": "",
        "accessIPv6": "",
        "addresses": {},
        "config_drive": "",
        "key_name": None,
        "OS-DCF:diskConfig": "MANUAL",
    }


def _fault(fault: InstanceFault, visible: Visibility) -> View:
    view: View = {
        "code": fault.code,
        "created": _seconds(fault.created_at),
        "message": fault.message,
    }
    # The details of an internal error are a traceback: for administrators.
    if fault.details and (visible.fault_details or fault.code != 500):
        view["details"] = fault.details
    return view


def _seconds(time: datetime.datetime | None) -> str | None:
    return None if time is None else time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _microseconds(time: datetime.datetime | None) -> str | None:
    """Nova shows these two times in another form than all others."""
    return None if time is None else time.strftime("%Y-%m-%dT%H:%M:%S.%f")
