# SPDX-License-Identifier: Apache-2.0
"""Which disks belong to a snapshot of all of them, and how they are taken at one instant."""

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from nova_snap import exception
from nova_snap.virt.libvirt.capabilities import BACKUP_VERSION, Capabilities, version_text
from nova_snap.virt.libvirt.domain_disks import Disk
from nova_snap.virt.libvirt.domain_xml import Domain
from nova_snap.virt.libvirt.snapshot.methods import Choice, GuestFacts, Method, choose_method

AT_ONCE: Final[Collection[Method]] = (Method.STREAM, Method.OFFLINE, Method.MANAGED_SAVE)
"""The methods that can take several disks at one instant."""

# What Nova calls the disk with an instance's metadata where it is no CD.
_CONFIG_DRIVE: Final = "disk.config"
_REMOVABLE: Final = ("cdrom", "floppy")


@dataclasses.dataclass(frozen=True)
class DiskPlan:
    """A disk to take, and the format of its image."""

    disk: Disk
    image_format: str


@dataclasses.dataclass(frozen=True)
class DiskSet:
    """:ivar disks: the root disk, and then the others as the domain has them.

    :ivar left_out: why the others are not taken, by target. Of removable media nobody asks.
    """

    disks: Sequence[Disk]
    left_out: Mapping[str, str]


def local_disks(domain: Domain) -> DiskSet:
    """The instance's own disks, as a guest of Nova has them: root, ephemeral and swap.

    :raises nova_snap.exception.DiskNotFound: if there is no root disk.
    """
    root = domain.root_disk()
    disks, left_out = [root], {}
    for disk in domain.disks:
        if disk is root or disk.device in _REMOVABLE:
            continue
        # Whether a container's disk may be read depends on who has mounted it, and for others than
        # the root disk nobody has looked.
        reason = "a container's" if domain.virt_type == "lxc" else _why_not(disk)
        if reason is None:
            disks.append(disk)
        else:
            left_out[disk.target] = reason
    return DiskSet(disks, left_out)


def _why_not(disk: Disk) -> str | None:
    if disk.is_volume:
        return "a volume"
    if disk.device != "disk" or not disk.is_local:
        return "no local disk"
    if _file_name(disk).endswith(_CONFIG_DRIVE):
        return "the config drive"
    if disk.shareable:
        # A backup job sees what its own guest overwrites, and not what another one does.
        return "shared with other guests"
    if disk.readonly:
        return "read-only"
    return None


def _file_name(disk: Disk) -> str:
    return disk.network.name if disk.network is not None else os.path.basename(disk.path or "")


def choose(
    capabilities: Capabilities, config: str, guest: GuestFacts, disks: Sequence[DiskPlan]
) -> Choice:
    """Choose how to take several disks at one instant. Asks nobody and changes nothing.

    :param config: ``[libvirt] snapshot_method``.
    :raises nova_snap.exception.SnapshotMethodUnavailable: if there is a disk that no method can
        take, or no method that can take all of them.
    """
    choices = {}
    for each in disks:
        target = each.disk.target
        try:
            choices[target] = choose_method(
                capabilities, config, guest, each.disk, each.image_format
            )
        except exception.SnapshotMethodUnavailable as exc:
            reason = f"disk {target}: {exc.reason}"
            raise exception.SnapshotMethodUnavailable(method=config, reason=reason) from exc
    methods = {choice.method for choice in choices.values()}
    if len(methods) > 1:
        ways = ", ".join(f"{target} by {choice.method}" for target, choice in choices.items())
        reason = (
            f"[libvirt] snapshot_all_disks takes all disks in one way, but they can be taken {ways}"
        )
        raise exception.SnapshotMethodUnavailable(method=config, reason=reason)
    chosen = choices[disks[0].disk.target]
    if chosen.method not in AT_ONCE:
        raise exception.SnapshotMethodUnavailable(method=config, reason=_not_at_once(chosen))
    return Choice(chosen.method, f"{chosen.reason}; one instant of {', '.join(choices)}")


def _not_at_once(chosen: Choice) -> str:
    return (
        f"[libvirt] snapshot_all_disks needs one instant for all disks, and {chosen.method} has "
        f"one for each ({chosen.reason}). Use snapshot_method = auto with libvirt "
        f"{version_text(BACKUP_VERSION)} and images of format qcow2 or raw, or managed_save, which "
        "suspends the guest"
    )
