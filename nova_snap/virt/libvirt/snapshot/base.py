# SPDX-License-Identifier: Apache-2.0
"""What the driver asks of a snapshot method, and what it gets."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

from nova_snap.virt.libvirt import domain_xml, imagebackend
from nova_snap.virt.libvirt.guest import Guest
from nova_snap.virt.libvirt.snapshot.workdir import WorkDir


@dataclasses.dataclass(frozen=True)
class Request:
    """One snapshot to take.

    :ivar domain: the guest's XML when the snapshot began.
    :ivar power_state: of the guest then; it has to have the same when the method returns.
    :ivar disk: the disk to take.
    :ivar backend: reads that disk when no guest has it open.
    :ivar image_format: format of the file to make.
    :ivar quiesce: freeze the guest's file systems for the point in time, if the method can.
    :ivar quiesce_required: fail rather than go on without.
    :ivar begin: to be called once, when the method begins to take the disk's content. It raises
        if the snapshot is not wanted any more.
    """

    guest: Guest
    domain: domain_xml.Domain
    power_state: int
    disk: domain_xml.Disk
    backend: imagebackend.ImageBackend
    image_format: str
    workdir: WorkDir
    begin: Callable[[], None]
    quiesce: bool = False
    quiesce_required: bool = False


@dataclasses.dataclass(frozen=True)
class Extract:
    """The finished file. :ivar quiesced: the file systems in it were frozen."""

    path: str
    quiesced: bool = False


class SnapshotMethod(Protocol):
    """A way to get a guest's disk into one flat file."""

    def take(self, request: Request) -> Extract:
        """Leave the guest as it was found, whatever happens; temporary files may stay in the
        request's directory.

        :raises nova_snap.exception.NovaSnapError:
        """
