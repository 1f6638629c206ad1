# SPDX-License-Identifier: Apache-2.0
"""Servers as clients see them, by microversion.

What an instance here never has (tags, addresses, a lock, ...) is shown as Nova shows it when there
is none.
"""

import dataclasses
import datetime
import enum
from collections.abc import Sequence
from typing import Any, Final

from nova_snap.api.microversion import Microversion
from nova_snap.api.views import server_status
from nova_snap.api.views.hosts import host_id
from nova_snap.api.views.links import Links
from nova_snap.objects.block_device import BlockDeviceMapping
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_fault import InstanceFault

# Until 2.75 the answer to a change of a server has less in it.
_NOT_AFTER_UPDATE: Final = (
    "OS-EXT-",
    "OS-SRV-USG:",
    "os-extended-volumes:",
    "config_drive",
    "host_status",
    "key_name",
    "security_groups",
)

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
    """An instance with what is read apart from it.

    :ivar host_status: of its compute service; empty if it is on no host.
    :ivar zone: the availability zone of its host; empty if it is on none.
    """

    instance: Instance
    disks: Sequence[BlockDeviceMapping] = ()
    fault: InstanceFault | None = None
    host_status: str = ""
    zone: str = ""


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

    def create(self, instance: Instance) -> View:
        """What the answer to ``POST /servers`` shows."""
        return {
            "id": instance.uuid,
            "links": self._links.of("servers", instance.uuid),
            "OS-DCF:diskConfig": _disk_config(instance),
        }

    def update(self, shown: Shown, visible: Visibility) -> View:
        """What the answer to ``PUT /servers/{server_id}`` shows."""
        view = self.show(shown, visible)
        if self._version.at_least(75):
            return view
        return {
            name: value for name, value in view.items() if not name.startswith(_NOT_AFTER_UPDATE)
        }

    def detail(self, shown: Shown, visible: Visibility) -> View:
        """What ``/servers/detail`` shows."""
        instance = shown.instance
        view = self.basic(instance)
        view.update(
            {
                "accessIPv4": instance.access_ip_v4 or "",
                "accessIPv6": instance.access_ip_v6 or "",
                "addresses": {},
                "config_drive": "",
                "created": _seconds(instance.created_at),
                "updated": _seconds(instance.updated_at or instance.created_at),
                "flavor": self._flavor(instance, visible),
                "hostId": host_id(instance.project_id, instance.host),
                "image": self._image(instance),
                "key_name": instance.key_name,
                "metadata": dict(instance.metadata),
                "status": server_status.of(instance),
                "tenant_id": instance.project_id,
                "user_id": instance.user_id,
                "OS-DCF:diskConfig": _disk_config(instance),
                "OS-EXT-AZ:availability_zone": instance.availability_zone or shown.zone,
                "OS-EXT-STS:power_state": instance.power_state,
                "OS-EXT-STS:task_state": instance.task_state,
                "OS-EXT-STS:vm_state": instance.vm_state,
                "OS-SRV-USG:launched_at": _microseconds(instance.launched_at),
                "OS-SRV-USG:terminated_at": _microseconds(instance.terminated_at),
                "os-extended-volumes:volumes_attached": self._volumes(shown.disks),
            }
        )
        progress = instance.snapshot_progress
        if progress is not None or view["status"] in server_status.WITH_PROGRESS:
            view["progress"] = progress or 0
        if view["status"] in server_status.WITH_FAULT and shown.fault is not None:
            view["fault"] = _fault(shown.fault, visible)
        if visible.extended_attributes:
            view.update(self._extended_attributes(instance))
        view.update(self._later(shown, visible))
        return view

    def _later(self, shown: Shown, visible: Visibility) -> View:
        """What microversions above 2.3 added."""
        version, instance = self._version, shown.instance
        view: View = {}
        if version.at_least(9):
            view["locked"] = False
        if version.at_least(16) and (
            visible.host_status is HostStatus.ANY
            or (visible.host_status is HostStatus.UNKNOWN_ONLY and shown.host_status == "UNKNOWN")
        ):
            view["host_status"] = shown.host_status
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
            # What the client has asked for; whoever was adopted has asked nothing here.
            zone = None if instance.is_adopted else instance.availability_zone
            view["pinned_availability_zone"] = zone
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
                launch_index=instance.launch_index,
                ramdisk_id=instance.ramdisk_id,
                reservation_id=instance.reservation_id,
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


def _disk_config(instance: Instance) -> str:
    return "AUTO" if instance.auto_disk_config else "MANUAL"


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
