# SPDX-License-Identifier: Apache-2.0
"""A domain described for whoever wants to adopt it as an instance."""

from typing import Final

from oslo_log import log as logging
from oslo_utils import units

from nova_snap import exception
from nova_snap.virt import driver
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt.guest import Guest

LOG = logging.getLogger(__name__)

_SIZED: Final = ("disk", "lun")


def describe(guest: Guest) -> driver.AdoptedDomain:
    """:raises nova_snap.exception.InvalidDomain: if its XML makes no sense."""
    domain = guest.describe()
    nova = domain.nova
    disks = tuple(_disk(guest, disk) for disk in domain.disks)
    return driver.AdoptedDomain(
        uuid=domain.uuid,
        name=domain.name,
        state=guest.power_state(),
        vcpus=nova.vcpus or domain.vcpus,
        memory_mb=nova.memory_mb or domain.memory_mb,
        has_managed_save=guest.has_managed_save(),
        disks=disks,
        os_type=domain.os_type,
        architecture=domain.architecture,
        display_name=nova.display_name,
        project_id=nova.project_id,
        project_name=nova.project_name,
        user_id=nova.user_id,
        user_name=nova.user_name,
        image_ref=nova.image_ref,
        flavor_name=nova.flavor_name,
        root_gb=nova.root_gb,
        ephemeral_gb=nova.ephemeral_gb,
        swap_mb=nova.swap_mb,
        created_at=nova.created_at,
        image_properties=_image_properties(domain),
    )


def _disk(guest: Guest, disk: domain_xml.Disk) -> driver.AdoptedDisk:
    return driver.AdoptedDisk(
        device_name=disk.target,
        bus=disk.bus,
        source_type=disk.source_type,
        source=disk.path,
        format=disk.format,
        serial=disk.serial,
        device_type=disk.device,
        size_gb=_size_gb(guest, disk),
    )


def _size_gb(guest: Guest, disk: domain_xml.Disk) -> int | None:
    if disk.device not in _SIZED or disk.path is None:
        return None
    try:
        return -(-guest.disk_capacity(disk.target) // units.Gi)
    except exception.LibvirtOperationFailed as exc:
        LOG.warning("The size of disk %s of %s is unknown: %s", disk.target, guest.name, exc)
        return None


def _image_properties(domain: domain_xml.Domain) -> dict[str, str]:
    """What Nova noted of the image, and what the domain itself shows of it.

    A domain has a channel for an agent because its image says that there is one.
    """
    shown = {} if domain.agent_channel is None else {"hw_qemu_guest_agent": "yes"}
    return {**shown, **domain.nova.image_properties}
