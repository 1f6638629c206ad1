# SPDX-License-Identifier: Apache-2.0
"""What a snapshot will do, decided before anything is done: of which disks, how, and into what."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from oslo_config import cfg

from nova_snap import exception
from nova_snap.virt.libvirt import (
    container,
    domain_xml,
    imagebackend,
    quiesce,
    snapshot_metadata,
)
from nova_snap.virt.libvirt.capabilities import Capabilities
from nova_snap.virt.libvirt.guest import Guest
from nova_snap.virt.libvirt.snapshot import disk_set
from nova_snap.virt.libvirt.snapshot.direct_target import Target
from nova_snap.virt.libvirt.snapshot.disk_set import DiskPlan, DiskSet
from nova_snap.virt.libvirt.snapshot.methods import Choice, GuestFacts, Method, choose_method

FindTarget = Callable[[domain_xml.Disk, str], Target]
"""Given the root disk and the format of its image."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """:ivar disks: the root disk first.

    :ivar direct: where the snapshot is made, if its method is ``direct``.
    :ivar left_out: why other disks are not taken, by target.
    :ivar quiesce: freeze the guest's file systems for the point in time.
    :ivar quiesce_required: fail rather than go on without.
    """

    domain: domain_xml.Domain
    facts: GuestFacts
    disks: Sequence[DiskPlan]
    left_out: Mapping[str, str]
    choice: Choice
    quiesce: bool
    quiesce_required: bool
    direct: Target | None = None


def make(
    conf: cfg.ConfigOpts,
    capabilities: Capabilities,
    guest: Guest,
    policy: quiesce.Policy,
    find_target: FindTarget,
    *,
    all_disks: bool,
) -> Plan:
    """Look at the guest and decide. Changes nothing.

    :param policy: of the instance's image.
    :param find_target: tells where a snapshot within the storage cluster can be made, and raises
        :class:`nova_snap.exception.DirectUnavailable` if it cannot be.
    :param all_disks: take every local disk, and not only the root disk.
    :raises nova_snap.exception.DiskNotFound: if there is no root disk.
    :raises nova_snap.exception.SnapshotMethodUnavailable: if no method can do it.
    :raises nova_snap.exception.QuiesceUnsupported: if it cannot be quiesced but has to be.
    """
    domain = guest.describe()
    wanted = disk_set.local_disks(domain) if all_disks else DiskSet([domain.root_disk()], {})
    disks = [_disk_plan(conf, disk) for disk in wanted.disks]
    mounted = container.look(disks[0].disk) if domain.virt_type == "lxc" else None
    active = guest.is_active()
    facts = GuestFacts(
        power_state=guest.power_state(),
        active=active,
        virt_type=domain.virt_type,
        has_managed_save=guest.has_managed_save(),
        quiesce_required=policy.required,
        may_decrypt=conf.libvirt.snapshot_encrypted_disks == "decrypt",
        host_devices=bool(domain.host_devices),
        job_lost=active and guest.has_lost_job(),
        copy_lost=active and any(guest.has_lost_copy(each.disk) for each in disks),
        mounted_writable=mounted is not None and not mounted.read_only,
        mounted_read_only=mounted is not None and mounted.read_only,
    )
    method: str = conf.libvirt.snapshot_method
    target = None
    if len(disks) == 1:
        (root,) = disks
        target, no_direct = _direct(find_target, root, method)
        choice = choose_method(capabilities, method, facts, root.disk, root.image_format, no_direct)
    else:
        choice = disk_set.choose(capabilities, method, facts, disks)
    return Plan(
        domain=domain,
        facts=facts,
        disks=disks,
        left_out=wanted.left_out,
        choice=choice,
        quiesce=quiesce.can_quiesce(policy, facts.power_state, domain),
        quiesce_required=policy.required,
        direct=target,
    )


def _direct(find: FindTarget, root: DiskPlan, method: str) -> tuple[Target | None, str | None]:
    """Where the storage cluster would make the image, or why it cannot."""
    if method not in ("auto", Method.DIRECT):
        return None, "[libvirt] snapshot_method asks for another"
    try:
        return find(root.disk, root.image_format), None
    except exception.DirectUnavailable as exc:
        return None, exc.reason


def _disk_plan(conf: cfg.ConfigOpts, disk: domain_xml.Disk) -> DiskPlan:
    configured = conf.libvirt.snapshot_image_format
    wanted = snapshot_metadata.image_format(configured, imagebackend.disk_type(disk))
    return DiskPlan(disk, wanted)
