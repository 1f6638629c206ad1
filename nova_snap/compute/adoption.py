# SPDX-License-Identifier: Apache-2.0
"""Domains that somebody else has made become instances."""

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any, Final, Protocol

from oslo_log import log
from oslo_utils import timeutils, uuidutils

from nova_snap import exception
from nova_snap.compute import image_properties, power_state, vm_states
from nova_snap.context import RequestContext
from nova_snap.objects.block_device import BlockDeviceMapping, BlockDeviceMappingList
from nova_snap.objects.instance import IMAGE_PREFIX, Flavor, Instance
from nova_snap.virt.driver import AdoptedDisk, AdoptedDomain, ComputeDriver

LOG = log.getLogger(__name__)

_VM_STATES: Final = {
    power_state.RUNNING: vm_states.ACTIVE,
    power_state.NOSTATE: vm_states.ACTIVE,
    power_state.PAUSED: vm_states.PAUSED,
    power_state.SHUTDOWN: vm_states.STOPPED,
    power_state.CRASHED: vm_states.STOPPED,
    power_state.SUSPENDED: vm_states.SUSPENDED,
}


_LONGEST: Final = 255
_UUID_LENGTH: Final = 36

# What every image has, and no domain tells of.
_OF_EVERY_IMAGE: Final = f"{IMAGE_PREFIX}min_disk"


class Images(Protocol):
    """The image service, as far as adopting reads it."""

    def get(self, context: RequestContext, image_id: str) -> Mapping[str, Any]:
        """:raises nova_snap.exception.ImageNotFound:"""


@dataclasses.dataclass(frozen=True)
class Owner:
    """Whom a domain belongs to that does not say so itself."""

    project_id: str | None
    user_id: str | None


def adopt(
    context: RequestContext,
    driver: ComputeDriver,
    image_api: Images,
    host: str,
    domain_name: str,
    owner: Owner,
) -> tuple[Instance, bool]:
    """Make the domain an instance of this host; a domain that is one already stays as it is, but
    that its disks are those that it has now, and that what its image says is asked for again if it
    could not be had before.

    What Nova's metadata in the domain's XML says wins over ``owner``.

    :returns: the instance, and whether it is new.
    :raises nova_snap.exception.DomainNotFound: if there is no such domain.
    :raises nova_snap.exception.InvalidDomain: if nobody says whose it is, or it has no disk.
    :raises nova_snap.exception.AlreadyAdopted: if another host has it.
    """
    domain = driver.describe_domain(domain_name)
    try:
        known = Instance.get_by_uuid(context, domain.uuid)
    except exception.InstanceNotFound:
        pass
    else:
        if known.host != host:
            raise exception.AlreadyAdopted(instance_uuid=known.uuid, host=known.host)
        _complete(context, image_api, known)
        if known.is_adopted:
            _update_disks(context, known, domain)
        return known, False
    instance = _instance(domain, host, owner)
    instance.system_metadata = _system_metadata(context, image_api, domain)
    mappings = _mappings(domain)
    _check_lengths(domain, instance)
    instance.create(context)
    BlockDeviceMappingList(mappings).create(context, instance.uuid)
    return instance, True


def _instance(domain: AdoptedDomain, host: str, owner: Owner) -> Instance:
    project_id = domain.project_id or owner.project_id
    user_id = domain.user_id or owner.user_id
    if not project_id or not user_id:
        raise exception.InvalidDomain(
            domain=domain.name,
            reason="its XML does not say whose it is; give --project and --user",
        )
    root = _root_disk(domain)
    display_name = domain.display_name or domain.name
    return Instance(
        uuid=domain.uuid,
        name=domain.name,
        display_name=display_name,
        hostname=display_name,
        project_id=project_id,
        user_id=user_id,
        host=host,
        flavor=Flavor(
            name=domain.flavor_name or "adopted",
            vcpus=domain.vcpus,
            memory_mb=domain.memory_mb,
            root_gb=domain.root_gb if domain.root_gb is not None else root.size_gb or 0,
            ephemeral_gb=domain.ephemeral_gb or 0,
            swap=domain.swap_mb or 0,
        ),
        image_ref=domain.image_ref,
        os_type=domain.os_type,
        architecture=domain.architecture,
        root_device_name=f"/dev/{root.device_name}",
        vm_state=_vm_state(domain),
        power_state=domain.state,
        launched_at=_when(domain.created_at),
    )


def _check_lengths(domain: AdoptedDomain, instance: Instance) -> None:
    """Refuse what the database cannot hold, before a part of it is there."""
    texts = {
        "name": instance.name,
        "display name": instance.display_name,
        "project": instance.project_id,
        "user": instance.user_id,
        "flavor's name": instance.flavor.name,
        "architecture": instance.architecture,
    }
    _refuse_longer(domain, texts)


def _refuse_longer(domain: AdoptedDomain, texts: Mapping[str, str | None]) -> None:
    for what, text in texts.items():
        if text is not None and len(text) > _LONGEST:
            reason = f"its {what} is {len(text)} characters long, and {_LONGEST} are the most"
            raise exception.InvalidDomain(domain=domain.name, reason=reason)


def _vm_state(domain: AdoptedDomain) -> str:
    if domain.state == power_state.SHUTDOWN and domain.has_managed_save:
        return vm_states.SUSPENDED
    return _VM_STATES[domain.state]


def _when(created_at: str | None) -> datetime.datetime:
    """Nova's creationTime, which is in UTC; now if there is none that can be read."""
    if created_at is not None:
        try:
            return datetime.datetime.strptime(created_at, "%Y-%m-%d %H:%M:%S")
        except ValueError:
            LOG.warning("%r is no time; the instance counts as launched now", created_at)
    return timeutils.utcnow()


def _root_disk(domain: AdoptedDomain) -> AdoptedDisk:
    for disk in domain.disks:
        if disk.device_type == "disk":
            return disk
    raise exception.InvalidDomain(domain=domain.name, reason="it has no disk")


def _mappings(domain: AdoptedDomain) -> list[BlockDeviceMapping]:
    root = _root_disk(domain)
    for disk in domain.disks:
        names = {"disk's name": f"/dev/{disk.device_name}", "disk's bus": disk.bus}
        _refuse_longer(domain, names)
    return [
        _mapping(disk, domain.image_ref, is_root=disk is root)
        for disk in domain.disks
        if disk.device_type in ("disk", "lun")
    ]


def _update_disks(context: RequestContext, instance: Instance, domain: AdoptedDomain) -> None:
    """What was attached or detached since. A disk that is the same stays as it is known."""
    known = BlockDeviceMappingList.get_by_instance_uuid(context, instance.uuid)
    by_place = {(disk.device_name, disk.volume_id): disk for disk in known}
    found = [by_place.get((disk.device_name, disk.volume_id), disk) for disk in _mappings(domain)]
    if found != list(known):
        LOG.info("The disks of instance %s are others by now", instance.uuid)
        BlockDeviceMappingList(found).replace(context, instance.uuid)


def _mapping(disk: AdoptedDisk, image_ref: str | None, *, is_root: bool) -> BlockDeviceMapping:
    # Nova writes the uuid of a Cinder volume into the disk's serial number, and only that.
    is_volume = _is_uuid(disk.serial)
    source_type = "volume" if is_volume else "image" if is_root and image_ref else "blank"
    return BlockDeviceMapping(
        source_type=source_type,
        destination_type="volume" if is_volume else "local",
        device_type="disk",
        disk_bus=disk.bus,
        device_name=f"/dev/{disk.device_name}",
        boot_index=0 if is_root else -1,
        image_id=image_ref if source_type == "image" else None,
        volume_id=disk.serial if is_volume else None,
        volume_size=disk.size_gb,
        delete_on_termination=not is_volume,
    )


def _is_uuid(text: str | None) -> bool:
    """Whether it is written as Cinder writes it; there are other ways, none as short."""
    return uuidutils.is_uuid_like(text) and len(text or "") == _UUID_LENGTH


def _system_metadata(
    context: RequestContext, image_api: Images, domain: AdoptedDomain
) -> dict[str, str]:
    """What Nova keeps of the image with the instance, and who the owner is by name."""
    kept: dict[str, str] = {}
    if domain.image_ref:
        kept |= _image_metadata(context, image_api, domain.image_ref)
        kept["base_image_ref"] = domain.image_ref
    kept |= {f"{IMAGE_PREFIX}{key}": value for key, value in domain.image_properties.items()}
    if domain.project_name:
        kept["owner_project_name"] = domain.project_name
    if domain.user_name:
        kept["owner_user_name"] = domain.user_name
    return kept


def _complete(context: RequestContext, image_api: Images, instance: Instance) -> None:
    """Ask for the image's properties, if there was no answer when the instance was adopted."""
    known = instance.system_metadata
    if not instance.image_ref or _OF_EVERY_IMAGE in known:
        return
    found = _image_metadata(context, image_api, instance.image_ref)
    if found:
        # What the domain says of itself, and what an administrator has set, wins as before.
        instance.system_metadata = {**found, **known}
        instance.save()


def _image_metadata(context: RequestContext, image_api: Images, image_ref: str) -> dict[str, str]:
    """Properties of the image, prefixed; none if it cannot be asked for: it may be gone."""
    try:
        image = image_api.get(context, image_ref)
    except exception.NovaSnapError as error:
        LOG.warning("The properties of image %s are not known: %s", image_ref, error)
        return {}
    return image_properties.kept_with_instance(image)
