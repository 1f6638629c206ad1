# SPDX-License-Identifier: Apache-2.0
"""What the driver asks of a snapshot method, and what it gets."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Protocol

from nova_snap.virt.driver import ImageData, NoMonitor, SnapshotMonitor
from nova_snap.virt.libvirt import domain_xml, imagebackend
from nova_snap.virt.libvirt.guest import Guest
from nova_snap.virt.libvirt.snapshot.workdir import WorkDir
from nova_snap.virt.libvirt.watched_file import WatchedFile


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
    :ivar monitor: is told of the progress, and stops the snapshot.
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
    monitor: SnapshotMonitor = dataclasses.field(default_factory=NoMonitor)


@dataclasses.dataclass(frozen=True)
class Extract:
    """The finished file. :ivar quiesced: the file systems in it were frozen."""

    path: str
    quiesced: bool = False


@dataclasses.dataclass(frozen=True)
class Content:
    """The bytes of the image, which may be read more than once while it is open.

    :ivar size: how many there are; ``None`` where only the end of the data tells.
    :ivar quiesced: the guest's file systems were frozen at the point in time.
    :ivar temp_bytes: tells how many bytes of temporary files there are, or were, on the host.
    """

    data: ImageData
    size: int | None
    quiesced: bool = False
    temp_bytes: Callable[[], int] = lambda: 0


class SnapshotMethod(Protocol):
    """A way to get a guest's disk into an image."""

    def open(self, request: Request) -> contextlib.AbstractContextManager[Content]:
        """Leave the guest as it was found, at the latest when the content is closed, whatever
        happens; temporary files may stay in the request's directory.

        :raises nova_snap.exception.NovaSnapError:
        """


@contextlib.contextmanager
def file_content(extract: Extract, request: Request) -> Iterator[Content]:
    """The content of a file that is finished."""
    with open(extract.path, "rb") as file:
        status = os.fstat(file.fileno())
        yield Content(
            WatchedFile(file, status.st_size, request.monitor),
            status.st_size,
            quiesced=extract.quiesced,
            temp_bytes=lambda: status.st_blocks * 512,
        )
